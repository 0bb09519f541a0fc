"""Break golden/fastapi-default in one place at a time, and want the report of its proof to say which rule fails.

    python generator/testdata/fastapi_mutations.py [PART OF A NAME]...

runs them, two at a time, with the python that runs this, which needs what the project's requirements.lock pins. "apply"
as the argument only looks whether each still applies, and whether the static checks find those in the owner's code, which
takes seconds; "harmless" makes all edits that must not be noticed, and runs all tests.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "fastapi-default"
sys.path.insert(0, str(GOLDEN))
sys.dont_write_bytecode = True

from tests.verify import static  # noqa: E402

# What the broken copy gets beside its tests: those of one rule run, and one that hangs has failed.
ONLY = """
import signal
import pytest

def late(*_):
    raise TimeoutError("the test hangs")

def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if any("RULE" in mark.args for mark in item.iter_markers("rule"))]

@pytest.fixture(autouse=True)
def bounded():
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 60, 20)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
"""
LONGEST = 400  # seconds, for all tests of a rule


@dataclass(frozen=True)
class Mutation:
    """An edit that breaks a rule, or none."""

    name: str
    fails: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("connections are pooled", "NP01", "app/nopool/database.py", "poolclass=NullPool,", ""),
    Mutation(
        "the lock of migrations is not taken", "NP30", "app/migrations.py",
        "while not connection.scalar(", "while False and not connection.scalar(",
    ),
    Mutation("an engine beside the engine", "NP03", "app/notes/queries.py",
             "from sqlalchemy import delete,", "from sqlalchemy import create_engine, delete,"),
    Mutation("a pool", "NP14", "app/notes/queries.py",
             "from app.notes.models import Note", "from sqlalchemy.pool import QueuePool\n\nfrom app.notes.models import Note"),
    Mutation("a session that is kept", "NP15", "app/api/notes.py",
             "    created = queries.create(", "    router.last = session\n    created = queries.create("),
    Mutation("sessions are not closed", "NP04", "app/nopool/database.py",
             "        finally:\n            unit.ended = True\n            _close(session)\n\n    @staticmethod",
             "        finally:\n            unit.ended = True\n\n    @staticmethod"),
    Mutation("the response leaves before the commit", "NP05", "app/api/exchange.py",
             "            await asyncio.wrap_future(self.db.finish(session, self.unit, keep))", "            self.db.finish(session, self.unit, keep)"),
    Mutation("error statuses are committed", "NP06", "app/api/exchange.py",
             'keep=message["status"] < 400', "keep=True"),
    Mutation("a client that has gone is ignored", "NP06", "app/api/exchange.py",
             '            while (message := await self._receive())["type"] != "http.disconnect":\n                self._unread.append(message)\n            return True\n', "            pass\n"),
    Mutation("background work is committed whatever happens", "NP07", "app/nopool/database.py",
             "            self.log(err)\n            session.rollback()\n            raise",
             "            self.log(err)\n            session.commit()\n            raise"),
    Mutation("exceptions escape", "NP08", "app/api/exchange.py",
             "        except Exception as err:\n            await self._failed(self._error or err)", "        except TimeoutError as err:\n            await self._failed(err)"),
    Mutation("no check at the start", "NP09", "app/serve.py", "    _check_database(settings, db)\n", ""),
    Mutation("sessions are not waited for at the end", "NP10", "app/serve.py",
             "await asyncio.get_running_loop().run_in_executor(_Threads(1), db.close, left)", "True"),
    Mutation("the process ends by the signal", "NP10", "app/serve.py",
             "        stopping.set_result(None)", "        signal.signal(signal.SIGTERM, signal.SIG_DFL)\n        signal.raise_signal(signal.SIGTERM)"),
    Mutation("closed sessions are not counted", "NP11", "app/nopool/dbapi.py", '        core.events.count("closed")\n', ""),
    Mutation("plaintext everywhere", "NP12", "app/nopool/url.py",
             "if not (allow_plaintext and is_local(host)):", "if False:"),
    Mutation("any method of authentication", "NP12", "app/nopool/url.py",
             '        params["require_auth"] = ONLY_SCRAM\n    name', "        pass\n    name"),
    Mutation("no statement_timeout", "NP13", "app/nopool/opening.py",
             '            "statement_timeout": _ms(limits.statement_timeout),\n', ""),
    Mutation("answers are waited for without end", "NP13", "app/nopool/wire.py",
             "return min(self.deadline, started + self.patience)", "return math.inf"),
    Mutation("the bound of a statement is that of many", "NP13", "app/nopool/wire.py",
             "                    started = time.monotonic()  # it", "                    pass  # it"),
    Mutation("a request's own sessions have no settings", "NP07", "app/api/deps.py",
             "    _exchange(connection).inherit(tx)\n", ""),
    Mutation("a value that cannot be sent is an alarm", "NP25", "app/nopool/events.py",
             'server_error(err), sqlstate(err)', 'server_error(err), getattr(server_error(err), "sqlstate", "") or ""'),
    Mutation("a GET that writes is an outage", "NP25", "app/api/exchange.py",
             'ours = self.unit.tx.read_only and', 'ours = False and'),
    Mutation("settings outlive the transaction", "NP16", "app/nopool/opening.py",
             '", set_config(%s, %s, true)"', '", set_config(%s, %s, false)"'),
    Mutation("the queue has no end", "NP17", "app/nopool/slots.py",
             "if len(self._queue) >= self._max_waiting:", "if False:"),
    Mutation("COMMIT's tag is not looked at", "NP19", "app/nopool/dbapi.py", 'if tag != "COMMIT":', "if False:"),
    Mutation("an unknown outcome is an outage", "NP19", "app/nopool/dbapi.py",
             "raise CommitUnknown(describe(err)) from err", "raise Unavailable(describe(err)) from err"),
    Mutation("a full pooler is not asked again", "NP20", "app/nopool/opening.py",
             '        if full:\n            return FULL_PAUSE\n', ''),
    Mutation("a pooler that drains is given up", "NP20", "app/nopool/opening.py",
             '        if "terminating connection', '        if "no such text'),
    Mutation("refused passwords are not counted", "NP20", "app/nopool/breaker.py",
             "if refusal is not None and is_password(refusal):", "if False:"),
    Mutation("a pooler's own login is taken for ours", "NP20", "app/nopool/refusals.py",
             'passed_on = refusal.admitted and " for user " in refusal.text', "passed_on = False"),
    Mutation("any answer is taken for a verdict on our password", "NP20", "app/nopool/wire.py",
             "start.startswith(VERDICTS)", "bool(start)"),
    Mutation("a verdict inside TLS is not seen", "NP20", "app/nopool/wire.py", r', b"\x17\x03\x03\0\x48")', ")"),
    Mutation("what a setting quotes is taken for the pooler's words", "NP20", "app/nopool/refusals.py",
             "if refusal.fatal and re.search(", "if re.search("),
    Mutation("why the pooler could not ask is taken for its own words", "NP20", "app/nopool/refusals.py",
             r'    ("unasked", r"EAUTH|EJIT|Internal error \(handshake\)|ECIRCUITBREAKER"),' "\n", ""),
    Mutation("what may have run is sent again", "NP20", "app/nopool/opening.py",
             'lost = "has been failing" in refusal.text or not (refusal.answered or refusal.before_begin)', "lost = False"),
    Mutation("a slot is free before the server has closed", "NP22", "app/nopool/dbapi.py",
             "        core.hang_up(line)\n        core.events", "        core.slots.release()\n        core.hang_up(line)\n        core.slots.acquire(9, 9e9)\n        core.events"),
    Mutation("connections are dropped in their transaction", "NP23", "app/nopool/dbapi.py",
             '            self._say(real, "rollback")\n', "            real.close()\n"),
    Mutation("errors are logged with the server's text", "NP24", "app/nopool/errors.py",
             'return f"SQLSTATE {cause.sqlstate}" +', 'return f"SQLSTATE {cause.sqlstate} {cause}" +'),
    Mutation("a conflict is a 500", "NP25", "app/api/problems.py",
             '    ("23505", (409, "already_exists", "It exists already")),\n', ""),
    Mutation("threads have no correlation id", "NP26", "app/nopool/opening.py",
             ".submit(copy_context().run, work, *args)", ".submit(work, *args)"),
    Mutation("each probe asks the database", "NP27", "app/api/health.py", "READY_FOR = 3.0", "READY_FOR = 0.0"),
    Mutation("unique violations are repeated", "NP29", "app/nopool/database.py",
             'not in ("40001", "40P01")', 'not in ("40001", "40P01", "23505")'),
    Mutation("BEGIN travels alone", "NP31", "app/nopool/opening.py",
             '            more = "".join(',
             '            real._pipeline.sync()\n            more = "".join('),
    # -- by somebody who had not seen the checks: the engine --
    Mutation("the pool goes by another name", "NP01", "app/nopool/database.py",
             "from sqlalchemy.pool import NullPool", "from sqlalchemy.pool import QueuePool as NullPool"),
    Mutation("a migration asks over a second connection", "NP02", "app/migrations.py",
             "        applied = applied_to(connection, scripts)\n",
             "        with connected(settings) as second:\n            applied = applied_to(second, scripts)\n"),
    Mutation("a slot is lost when an opening fails", "NP04", "app/nopool/opening.py",
             "        core.spawn(core.give_back, opening.line)\n        raise", "        raise"),
    Mutation("a request that is cancelled keeps its session", "NP04", "app/api/exchange.py",
             "if self._session is not None and not self.unit.ended:  #", "if False:  #"),
    Mutation("a first statement is not cut off", "NP04", "app/nopool/opening.py",
             "real, tx, unit.line = line.real, unit.tx, line", "real, tx = line.real, unit.tx"),
    Mutation("what failed is committed too", "NP06", "app/nopool/database.py",
             "            if keep:\n                self._commit", "            if True:\n                self._commit"),
    Mutation("what took too long is committed", "NP06", "app/api/exchange.py",
             "        if keep and self._time.cancel_called:\n            raise TimeoutError\n", ""),
    Mutation("a read that took too long is answered", "NP13", "app/api/exchange.py",
             "if keep and self._time.cancel_called:", "if keep and not self.unit.tx.read_only and self._time.cancel_called:"),
    Mutation("background work is not committed", "NP07", "app/nopool/database.py",
             "            yield session\n            self._commit(session, unit)\n", "            yield session\n"),
    Mutation("a session inside a session waits for a slot", "NP17", "app/nopool/dbapi.py",
             "            raise NestedSession", "            pass"),
    Mutation("HTTP errors are answered by FastAPI", "NP08", "app/api/app.py",
             "        exception_handlers={HTTPException: on_http_error, RequestValidationError: on_invalid_request},\n", ""),
    Mutation("a wrong configuration is tried until the end", "NP09", "app/serve.py",
             "        except Misconfigured:\n            raise\n", ""),
    Mutation("a database that is late ends the start", "NP09", "app/serve.py", "time.monotonic() + pause >= deadline:", "True:"),
    Mutation("a lifespan that fails is an end like any other", "NP09", "app/serve.py", "if not server.started:", "if False:"),
    Mutation("an end by sys.exit() is an end like any other", "NP09", "app/serve.py", "    except SystemExit as err:", "    except TimeoutError as err:"),
    Mutation("a failed start exits with 0", "NP09", "app/__main__.py",
             "        time.sleep(AUTHENTICATION_DELAY)\n    return FAILED", "        time.sleep(AUTHENTICATION_DELAY)\n    return DONE"),
    Mutation("a second signal is ignored", "NP10", "app/serve.py", "            os._exit(130)", "            return"),
    Mutation("a service that stops is ready", "NP10", "app/serve.py", "    app.state.draining = True\n", ""),
    Mutation("requests are cut at the end", "NP10", "app/serve.py",
             "settings.shutdown_delay + settings.shutdown_timeout", "settings.shutdown_delay"),
    Mutation("sessions that cannot open are not logged", "NP11", "app/nopool/opening.py",
             "            core.events.error(err)\n        core.spawn", "            pass\n        core.spawn"),
    Mutation("commits are counted as rollbacks", "NP11", "app/nopool/dbapi.py",
             '        self._how = "committed"', '        self._how = "rolled_back"'),
    Mutation("plaintext to this machine in production", "NP12", "app/nopool/url.py",
             "if not (allow_plaintext and is_local(host)):", "if not is_local(host):"),
    Mutation("names that begin with localhost are local", "NP12", "app/nopool/url.py",
             'host == "localhost"', 'host.startswith("localhost")'),
    Mutation("a server without TLS is spoken to", "NP12", "app/nopool/url.py",
             'not host.startswith("/"):\n        return mode', 'not host.startswith("/"):\n        return "prefer" if mode == "require" else mode'),
    Mutation("no lock_timeout", "NP13", "app/nopool/opening.py", '            "lock_timeout": _ms(limits.lock_timeout),\n', ""),
    Mutation("no idle_in_transaction_session_timeout", "NP13", "app/nopool/opening.py",
             '            "idle_in_transaction_session_timeout": _ms(limits.idle_in_transaction_timeout),\n', ""),
    Mutation("the request has no end", "NP13", "app/api/exchange.py",
             "anyio.CancelScope(deadline=anyio.current_time() + of.request_timeout)", "anyio.CancelScope()"),
    Mutation("a statement outlives its request", "NP13", "app/nopool/opening.py",
             "heard, begin_by, unit.deadline", 'heard, begin_by, float("inf")'),
    Mutation("GET may write", "NP16", "app/api/deps.py",
             'return READ if connection.scope.get("method") in ("GET", "HEAD") else WRITE', "return WRITE"),
    Mutation("the isolation that was asked for is dropped", "NP16", "app/nopool/opening.py",
             'isolation = f" isolation level {tx.isolation}" if tx.isolation else ""', 'isolation = ""'),
    Mutation("statements are prepared", "NP16", "app/nopool/wire.py", "        self.real.prepare_threshold = None\n", ""),
    Mutation("one session more than allowed", "NP17", "app/nopool/opening.py",
             "Slots(limits.max_sessions, ", "Slots(limits.max_sessions + 1, "),
    Mutation("the last to come is served first", "NP17", "app/nopool/slots.py",
             "self._queue.popleft().set_result(now)", "self._queue.pop().set_result(now)"),
    Mutation("the wait for a slot has no end", "NP17", "app/nopool/slots.py",
             "waiter.result(max(0.0, min(wait, left)))", "waiter.result(1e6)"),
    Mutation("a refusal has no Retry-After", "NP25", "app/api/problems.py",
             '    if problem.status_code == 503:\n        headers["Retry-After"] = "1"\n', ""),
    Mutation("a session opens when it is asked for", "NP18", "app/api/exchange.py",
             "            self._session = self.db.new_session(self.unit)\n",
             '            self._session = self.db.new_session(self.unit)\n            self._session.connection().exec_driver_sql("select")\n'),
    Mutation("a write need not wait", "NP19", "app/nopool/dbapi.py", "            tx.read_only\n            and not tx.wait_for_commit", "            not tx.wait_for_commit"),
    Mutation("wait_for_commit is ignored", "NP19", "app/nopool/dbapi.py", "            and not tx.wait_for_commit\n", ""),
    Mutation("a handler of exceptions makes a success of a failed COMMIT", "NP19", "app/api/exchange.py",
             "            if keep and self.unit.failure is not None:\n                raise self.unit.failure\n", ""),
    Mutation("a route has no time of its own", "NP13", "app/api/exchange.py", "        self._time.deadline = anyio.current_time() + seconds\n", ""),
    Mutation("serializable reads do not wait", "NP19", "app/nopool/dbapi.py",
             'self.isolation not in ("", "serializable")', 'self.isolation != ""'),
    Mutation("a swallowed COMMIT is forgotten", "NP19", "app/nopool/dbapi.py",
             "            self.unit.failure = err\n            raise", "            raise"),
    Mutation("a connection lost before COMMIT leaves doubt", "NP19", "app/nopool/dbapi.py",
             "unsent = real.closed or (not self.unit.tx.read_only and _is_lost(real))", "unsent = False"),
    Mutation("a wrong password is tried again", "NP20", "app/nopool/opening.py",
             "if not isinstance(error, Unavailable) or is_unasked", "if is_unasked"),
    Mutation("PgBouncer's text is not known", "NP20", "app/nopool/refusals.py", "no more connections allowed|", ""),
    Mutation("Supavisor's text is not known", "NP20", "app/nopool/refusals.py", "MaxClientsInSessionMode|", ""),
    Mutation("libpq's own words are cut", "NP20", "app/nopool/refusals.py",
             '_WHERE.sub("", text.split("\\n", 1)[0])', 'text.split("\\n", 1)[0].rsplit(" failed: ", 1)[-1]'),
    Mutation("as many logins as there are slots", "NP20", "app/nopool/breaker.py", "MAX_LOGINS = 6 ", "MAX_LOGINS = 9000 "),
    Mutation("each of several processes takes all the logins", "NP20", "app/nopool/breaker.py", "max(2, 9 // replicas)", "9"),
    Mutation("logins that went together count each", "NP20", "app/nopool/breaker.py", "if began > self._unasked:  # else it", "if began:  # else it"),
    Mutation("all go at once where the last attempt failed", "NP20", "app/nopool/breaker.py",
             "if self._failures and self._logins > (time", "if self._failures < 0 and self._logins > (time"),
    Mutation("a refused password ends the process at once", "NP20", "app/__main__.py",
             "        time.sleep(AUTHENTICATION_DELAY)\n", "        pass\n"),
    Mutation("a refusal is asked of every address", "NP21", "app/nopool/wire.py",
             "                if self.reached:\n                    break\n", ""),
    Mutation("a login has no end", "NP21", "app/nopool/opening.py",
             "line.connect(core.addresses.get(self._deadline), self._deadline)", 'line.connect(core.addresses.get(self._deadline), float("inf"))'),
    Mutation("several hosts are taken", "NP21", "app/nopool/url.py", '    if "," in host + params.get("port", ""):\n        raise _invalid("names several hosts; name one")\n', ""),
    Mutation("the server's close is not waited for", "NP22", "app/nopool/wire.py",
             "                while wait_for(tap.fileno(), Wait.R, deadline) is not None:\n                    if not tap.recv(1 << 16):\n                        return True",
             "                return True"),
    Mutation("the answer waits for the close", "NP22", "app/nopool/dbapi.py",
             "self._core.spawn(self._hang_up, line, time.monotonic())", "self._hang_up(line, time.monotonic())"),
    Mutation("COMMIT and ROLLBACK have the caller's time", "NP23", "app/nopool/dbapi.py",
             "        real.patience, real.deadline = FINISH_TIMEOUT, math.inf\n", ""),
    Mutation("the client reads what went wrong", "NP24", "app/api/problems.py",
             "            return ApiError(*told)\n    return ApiError(*_INTERNAL)", '            return ApiError(*told)\n    return ApiError(500, "internal_error", str(err))'),
    Mutation("the password is printed", "NP24", "app/nopool/url.py", "dict[str, str] = field(repr=False)", "dict[str, str] = field()"),
    Mutation("a URL that cannot be read is quoted", "NP24", "app/nopool/url.py",
             "    except psycopg.Error:  # whose text quotes the string\n        raise _invalid(MALFORMED) from None", "    except psycopg.Error as err:\n        raise _invalid(str(err)) from None"),
    Mutation("the server's detail is always logged", "NP24", "app/nopool/events.py",
             "if log.isEnabledFor(logging.DEBUG):", "if True:"),
    Mutation("queries are logged", "NP24", "app/api/exchange.py",
             'path = self._scope["path"]', 'path = f"{self._scope[\'path\']}?{self._scope[\'query_string\'].decode()}"'),
    Mutation("a deadlock is a 500", "NP25", "app/api/problems.py",
             '    ("40", (503, "concurrent_change", "Changed by somebody else at the same time; try again")),\n', ""),
    Mutation("a statement that took too long is a 500", "NP25", "app/api/problems.py", '    ("57014", _TIMEOUT),\n', ""),
    Mutation("any id of a request is taken", "NP26", "app/api/exchange.py", r'''re.compile(r"[A-Za-z0-9._-]{1,64}")''', '''re.compile(r".{1,9999}")'''),
    Mutation("the response has no id", "NP26", "app/api/exchange.py", "            headers[HEADER] = correlation_id.get()\n", ""),
    Mutation("problems have no id", "NP26", "app/api/problems.py", "correlation_id=correlation_id.get(),", 'correlation_id="",'),
    Mutation("/health asks the database", "NP27", "app/api/health.py",
             'async def health() -> dict[str, str]:', 'def health(request: Request) -> dict[str, str]:\n    request.app.state.readiness._reach()'),
    Mutation("probes ask side by side", "NP27", "app/api/health.py", "        with self._lock:", "        if True:"),
    Mutation("a busy service is not ready", "NP27", "app/api/health.py",
             "        if busy and now.in_use >= now.max_sessions:\n            return None\n", "        if now.in_use >= now.max_sessions:\n            return Busy()\n"),
    Mutation("the commit follows the body", "NP28", "app/api/exchange.py",
             '            try:\n                await self._end_session(keep=message["status"] < 400)\n            except Exception as err:\n                self._error = err\n                raise\n            self._status = CLIENT_GONE if gone else message["status"]  # what FastAPI takes for a malformed body\n            headers = MutableHeaders(scope=message)\n            headers[HEADER] = correlation_id.get()\n            if self._app.state.draining:\n                headers["Connection"] = "close"\n        elif message["type"] == "http.response.body":\n',
             '            self._status = CLIENT_GONE if gone else message["status"]  # what FastAPI takes for a malformed body\n            headers = MutableHeaders(scope=message)\n            headers[HEADER] = correlation_id.get()\n            if self._app.state.draining:\n                headers["Connection"] = "close"\n        elif message["type"] == "http.response.body":\n            if not message.get("more_body", False):\n                await self._end_session(keep=self._status < 400)\n'),
    Mutation("a session goes on after its end", "NP28", "app/nopool/dbapi.py", "if self.unit.ended or self._closed.locked():", "if self._closed.locked():"),
    Mutation("work is repeated thirty times", "NP29", "app/nopool/database.py", "RETRIES = 3 ", "RETRIES = 30 "),
    Mutation("a transaction-mode pooler is taken for migrations", "NP30", "app/migrations.py",
             "if pooler and not settings.migration_allow_pooler:", "if False:"),
    Mutation("migrations have the role's timeouts", "NP30", "app/migrations.py", "    connection.execute(SESSION)\n", ""),
    Mutation("migrations wait for each other without end", "NP30", "app/migrations.py",
             "        if time.monotonic() > deadline:\n            raise CommandError", "        if False:\n            raise CommandError"),
    Mutation("the lock of migrations blocks", "NP30", "app/migrations.py",
             "select pg_try_advisory_lock(:key)", "select pg_advisory_lock(:key) is not null"),
    Mutation("what Alembic did is not committed", "NP30", "app/migrations.py",
             "            connection.commit()  # Alembic", "            # Alembic"),
    Mutation("the first statement travels alone", "NP31", "app/nopool/opening.py",
             "            first(cursor)\n    except BaseException", "        first(cursor)\n    except BaseException"),
    Mutation("many rows travel with BEGIN", "NP31", "app/nopool/dbapi.py", "        _ = self.connection.real  #", "        #"),
    Mutation("a read waits for its COMMIT", "NP31", "app/nopool/database.py",
             "early = not keep or _nothing_to_lose(session, unit)", "early = not keep"),
)  # fmt: skip

# By somebody who had not seen the checks: the owner's code. What finds these is in static.py, which "apply" asks as well.
OWNER = (
    Mutation("psycopg is called beside the engine", "NP03", "app/notes/queries.py",
             "    return session.scalars(insert(", "    import psycopg\n\n    psycopg.connect(\"\")\n    return session.scalars(insert("),
    Mutation("sessions of the owner's own", "NP03", "app/models.py",
             "\n\nclass Base(", '\nfrom sqlalchemy.orm import sessionmaker\n\nSessionLocal = sessionmaker()\n\n\nclass Base('),
    Mutation("an engine by its module's name", "NP03", "app/models.py",
             "\n\nclass Base(", '\nimport sqlalchemy as sa\n\nengine = sa.create_engine("postgresql+psycopg://")\n\n\nclass Base('),
    Mutation("an asynchronous engine", "NP03", "app/notes/queries.py",
             "    return session.scalars(insert(", "    from sqlalchemy.ext.asyncio import create_async_engine\n    return session.scalars(insert("),
    Mutation("Alembic's own engine", "NP03", "migrations/env.py",
             "from sqlalchemy import Connection", "from sqlalchemy import Connection, engine_from_config"),
    Mutation("an asynchronous handler with the session", "NP03", "app/api/notes.py", "\ndef create_note(", "\nasync def create_note("),
    Mutation("a pool of psycopg", "NP14", "app/notes/queries.py",
             "    return session.scalars(insert(", "    from psycopg_pool import ConnectionPool\n    return session.scalars(insert("),
    Mutation("the engine of migrations has a pool", "NP14", "app/migrations.py", "poolclass=NullPool, ", ""),
    Mutation("a session in a dictionary", "NP15", "app/api/notes.py",
             "    created = queries.create(", "    SESSIONS[note.title] = session\n    created = queries.create("),
    Mutation("a session in a global", "NP15", "app/notes/queries.py",
             "    return session.scalars(insert(", "    global last\n    last = session\n    return session.scalars(insert("),
    Mutation("sessions in a list", "NP15", "app/api/notes.py",
             "    created = queries.create(", "    router.tags.append(session)\n    created = queries.create("),
    Mutation("a background task has the request's session", "NP15", "app/api/notes.py",
             "    created = queries.create(", "    tasks.add_task(queries.page, session, 1, 0)\n    created = queries.create("),
    Mutation("a failed commit is swallowed", "NP19", "app/api/notes.py",
             "    response.headers[\"Location\"]", "    try:\n        session.commit()\n    except Exception:\n        pass\n    response.headers[\"Location\"]"),
    Mutation("a handler answers with the text of an error", "NP24", "app/api/notes.py",
             "    return queries.get(session, note_id)", "    try:\n        return queries.get(session, note_id)\n    except Exception as err:\n        raise HTTPException(400, str(err)) from err"),
    Mutation("a handler quotes the error", "NP24", "app/api/notes.py",
             "    return queries.get(session, note_id)", "    try:\n        return queries.get(session, note_id)\n    except Exception as err:\n        raise ApiError(400, \"bad\", f\"cannot read: {err}\") from err"),
    Mutation("a thread has the session", "NP03", "app/api/notes.py",
             "    created = queries.create(", "    threading.Thread(target=queries.page, args=(session, 1, 0)).start()\n    created = queries.create("),
    Mutation("a function that has the session runs elsewhere", "NP03", "app/api/notes.py", "    created = queries.create(",
             "    def later() -> None:\n        queries.page(session, 1, 0)\n\n    POOL.submit(later)\n    created = queries.create("),
    Mutation("a second Database", "NP03", "app/api/app.py", "Readiness(db)", "Readiness(Database(settings.database_url, settings.limits))"),
    Mutation("a Database by its module's name", "NP03", "app/notes/queries.py", "    return session.scalars(insert(",
             '    from app import nopool\n\n    nopool.Database(nopool.parse("postgres://h/db"))\n    return session.scalars(insert('),
    Mutation("a session is returned from its block", "NP15", "app/notes/queries.py", "\n\ndef get(",
             "\n\ndef opened(db):\n    with db.session() as session:\n        return session\n\n\ndef get("),
    Mutation("a session goes on behind its block", "NP15", "app/notes/queries.py", "\n\ndef get(",
             "\n\ndef count(db):\n    with db.session() as session:\n        session.execute(select(1))\n    return session.scalar(select(func.count()))\n\n\ndef get("),
    Mutation("a dependency commits behind the response", "NP05", "app/api/deps.py", "\n\ndef session_with(",
             "\n\ndef get_own(db: Db) -> Any:\n    with db.session() as session:\n        yield session\n\n\ndef session_with("),
    Mutation("so does one with a finally", "NP05", "app/api/deps.py", "\n\ndef session_with(",
             "\n\nasync def get_own(db: Db) -> Any:\n    with db.session(WRITE) as own:\n        try:\n            yield own\n        finally:\n            own.close()\n\n\ndef session_with("),
    Mutation("COMMIT as a statement", "NP16", "app/notes/queries.py",
             "    session.scalars(delete(Note)", "    session.execute(text(\"commit\"))\n    session.scalars(delete(Note)"),
    Mutation("a transaction of one's own", "NP16", "app/notes/queries.py", "    session.scalars(delete(Note)",
             "    session.connection().exec_driver_sql(\"START TRANSACTION READ WRITE\")\n    session.scalars(delete(Note)"),
    Mutation("an error's text by way of a variable", "NP24", "app/api/notes.py", "    return queries.get(session, note_id)",
             "    told = \"\"\n    try:\n        return queries.get(session, note_id)\n    except Exception as err:\n        told = str(err)\n    raise HTTPException(400, told)"),
    Mutation("an error's arguments", "NP24", "app/api/notes.py", "    return queries.get(session, note_id)",
             "    try:\n        return queries.get(session, note_id)\n    except Exception as err:\n        return {\"error\": err.args[0]}"),
    Mutation("a handler of exceptions says what went wrong", "NP24", "app/api/app.py", "    return app",
             "    @app.exception_handler(ValueError)\n    def on_value_error(request: object, exc: Exception) -> object:\n        return JSONResponse({\"detail\": str(exc)}, 400)\n\n    return app"),
    Mutation("a loop repeats until it succeeds", "NP29", "app/notes/queries.py",
             "    return session.scalars(insert(Note).values(title=title, body=body).returning(Note)).one()",
             "    for _ in range(3):\n        try:\n            return session.scalars(insert(Note).returning(Note)).one()\n        except Exception:\n            session.rollback()\n    raise RuntimeError"),
    Mutation("a library repeats", "NP29", "app/notes/queries.py", "    return session.scalars(insert(",
             "    import tenacity\n\n    @tenacity.retry(stop=tenacity.stop_after_attempt(3))\n    def again() -> None:\n        session.flush()\n\n    again()\n    return session.scalars(insert("),
)  # fmt: skip

# Small sources in which static.py must find what is broken, and others in which it must find nothing.
BROKEN = (
    ("NP03", "import psycopg\npsycopg.connect('x')"),
    ("NP03", "from psycopg import connect as c\nc('x')"),
    ("NP03", "import sqlalchemy as sa\ne = sa.create_engine('x')"),
    ("NP03", "from sqlalchemy.ext.asyncio import create_async_engine"),
    ("NP03", "import asyncpg"),
    ("NP03", "import psycopg2"),
    ("NP03", "from sqlalchemy.orm import sessionmaker"),
    ("NP03", "from app.nopool.wire import Line"),
    ("NP03", "async def f(session: DbSession):\n    session.execute(1)"),
    ("NP03", "from threading import Thread\ndef f(session: DbSession):\n    Thread(target=g, args=(session,)).start()"),
    ("NP03", "def f(session: Session):\n    pool.submit(lambda: session.execute(1))"),
    ("NP03", "def f(session: Session):\n    def work():\n        session.execute(1)\n    asyncio.to_thread(work)"),
    ("NP03", "from app.nopool import Database\ndb = Database(target)"),
    ("NP05", "def own(db: Db):\n    with db.session() as session:\n        yield session"),
    ("NP14", "from psycopg_pool import ConnectionPool"),
    ("NP14", "from sqlalchemy.pool import QueuePool"),
    ("NP14", "import sqlalchemy\np = sqlalchemy.pool.QueuePool"),
    ("NP15", "session = db.new_session(unit)"),
    ("NP15", "kept = {}\ndef f(session: DbSession):\n    kept['a'] = session"),
    ("NP15", "def f(session: Session):\n    app.state.session = session"),
    ("NP15", "def f(session: DbSession, tasks: BackgroundTasks):\n    tasks.add_task(work, session)"),
    ("NP15", "last = None\ndef f(session: DbSession):\n    global last\n    last = session"),
    ("NP15", "def f(db):\n    with db.session() as session:\n        return session"),
    ("NP15", "def f(self, db):\n    with db.session() as session:\n        self.session = session"),
    ("NP15", "def f(db):\n    with db.session() as session:\n        pass\n    session.execute(1)"),
    ("NP04", "def f(db):\n    s = db.session()\n    s.execute(1)"),
    ("NP16", "session.execute(text('set search_path to x'))"),
    ("NP16", "session.execute(text(\"select set_config('role', 'x', false)\"))"),
    ("NP16", "session.execute(text('commit'))"),
    ("NP16", "session.connection().exec_driver_sql('BEGIN')"),
    ("NP19", "try:\n    session.commit()\nexcept Exception:\n    pass"),
    ("NP19", "import contextlib\nwith contextlib.suppress(Exception):\n    session.commit()"),
    ("NP24", "try:\n    f()\nexcept ValueError as err:\n    raise HTTPException(400, str(err))"),
    ("NP24", "try:\n    f()\nexcept Exception as err:\n    x = JSONResponse({'error': f'{err}'})"),
    ("NP24", "def g():\n    try:\n        f()\n    except Exception as err:\n        return {'error': str(err)}"),
    ("NP24", "def g():\n  try: f()\n  except Exception as err: told = f'{err}'\n  raise ApiError(400, 'bad', told)"),
    ("NP24", "def g():\n    try:\n        f()\n    except Exception as err:\n        return {'error': err.args[0]}"),
    ("NP24", "@app.exception_handler(E)\ndef on(request, exc):\n    return JSONResponse({'detail': str(exc)}, 400)"),
    ("NP24", "log.exception('failed')"),
    ("NP24", "log.error('x', exc_info=True)"),
    ("NP24", "log.info('url %s', settings.database_url)"),
    ("NP29", "while True:\n  try:\n    db.run(work)\n    break\n  except Exception:\n    time.sleep(1)"),
    ("NP29", "from tenacity import retry\n@retry\ndef f(session: Session):\n    session.execute(1)"),
    ("NP24", "def g():\n  try: f()\n  except E as err:\n    return {'error': str(err).splitlines()[0]}"),
    ("NP24", "def g():\n  try: f()\n  except E as err:\n    raise ApiError(400, 'bad', err.orig.diag.message_primary)"),
    ("NP24", "from fastapi import HTTPException as H\ntry: f()\nexcept E as err:\n  raise H(400, err)"),
    ("NP29", "while True:\n  try:\n    with db.session() as s:\n      work(s)\n      break\n  except Exception:\n"
             "    sleep(1)"),
    ("NP29", "while True:\n  try:\n    with get_session() as session:\n      return f(session)\n"
             "  except Exception: sleep(1)"),
    ("NP29", "while True:\n  try: return f(session)\n  except (OperationalError, IntegrityError): continue"),
    ("NP15", "def f(db):\n  if x:\n    with db.session() as session:\n      g()\n  session.execute(1)"),
    ("NP15", "def f(session: Session, tasks):\n    tasks.add_task(session.delete, note)"),
    ("NP03", "def f(session: Session):\n    pool.submit(session.execute, 1)"),
    ("NP03", "def f(session: Session):\n    pool.submit(partial(session.execute, 1))"),
    ("NP03", "from sqlalchemy.orm import Session as S\nasync def f(session: S):\n    session.execute(1)"),
    ("NP16", "import sqlalchemy as sa\nBEGIN = sa.text('begin isolation level serializable;')"),
    ("NP16", "session.execute(text('COMMIT AND CHAIN'))"),
    ("NP16", "session.execute(text(\"prepare transaction 'x'\"))"),
    ("NP16", "session.execute(text(f'set role {role}'))"),
    ("NP16", "op.execute('set search_path to ' + schema)"),
)  # fmt: skip

SOUND = (
    "from sqlalchemy import select, text",
    "from app.api.deps import DbSession\ndef f(session: DbSession):\n    return session.scalars(select(Note)).all()",
    "def f(session: DbSession):\n    found = session.execute(text('select 1'))\n    return found",
    "class Notes:\n    def __init__(self, session: Session) -> None:\n        self.session = session",
    "with db.session() as session:\n    session.execute(text('set local role x'))",
    "try:\n    session.commit()\nexcept IntegrityError as err:\n    raise Conflict from err",
    "try:\n    n = int(text)\nexcept ValueError:\n    raise HTTPException(400, 'no number')",
    "log.info('request', extra={'path': path})",
    "for row in rows:\n    session.execute(insert(Note), row)",
    "names = ['session', 'set things right']",
    "def f(db):\n    with db.session() as session:\n        yield str(session.scalar(1))\n    db.run(lambda session: session.execute(1))",
    "@contextmanager\ndef f(db):\n    with db.session() as session:\n        yield session",
    "def f(session: Session):\n    found.append(session.get(Note, 1))\n    return list(map(lambda row: row.id, found))",
    "def f(session: Session):\n    session.execute(text('rollback to here'))\n    return {'end': 'begin'}",
    "for slug in slugs:\n    try:\n        return create(session, slug)\n    except IntegrityError:\n        continue",
    "def f():\n    try:\n        g()\n    except Odd as err:\n        raise ApiError(err.status_code, 'odd', 'No') from err",
    "def f():\n  try: g()\n  except SoldOut as err: raise ApiError(409, 'sold_out', f'{err.left} left') from err",
    "try: f()\nexcept ValidationError as err: raise HTTPException(422, [one['loc'] for one in err.errors()])",
    "@app.exception_handler(E)\nasync def on(request, exc):\n"
    "  return JSONResponse({'message': f'Oops! {exc.name}'}, 418)",
    "@app.exception_handler(E)\nasync def on(request, exc):\n"
    "  return PlainTextResponse(str(exc.detail), exc.status_code)",
    "@app.exception_handler(E)\nasync def on(request, exc):\n  print(repr(exc))\n"
    "  return await http_exception_handler(request, exc)",
    "def f(entries):\n  try: g()\n  except KeyError as e: raise NotFound from e\n"
    "  return [str(e) + e.name for e in entries]",
    "def f():\n  try: g()\n  except E as err:\n    return 'unique' in str(err.orig)",
    "try: f()\nexcept E as err:\n  state = getattr(err.orig, 'sqlstate', None)\n"
    "  raise ApiError(status_of(err), CODES[state], 'No')",
    "for _ in range(5):\n  code = token_hex(4)\n  try:\n    with session.begin_nested():\n"
    "      session.add(Link(code=code))\n    return code\n  except IntegrityError: continue",
    "while True:\n  try:\n    code = token_hex(4)\n    create(session, code)\n    return code\n"
    "  except IntegrityError: continue",
    "while True:\n  try:\n    with db.session() as s:\n      if not take(s):\n        return\n"
    "  except Exception: sleep(1)",
    "while True:\n  try:\n    with requests.Session() as session:\n      return session.get(url)\n"
    "  except Timeout: sleep(1)",
    "from tenacity import retry\n@retry\nasync def f():\n  async with ClientSession() as session:\n"
    "    return await session.get(url)",
    "def f(db, session=None):\n  if session is None:\n    with db.session() as session:\n      return g(session)\n"
    "  else:\n    return g(session)",
    "def f(db):\n  session = now()\n  if not session:\n    with db.session() as session:\n      return g(session)\n"
    "  return g(session)",
    "def f(db):\n  with db.session() as session:\n    found = g(session)\n"
    "  return [session.title for session in found]",
    "def f(db):\n  def a():\n    with db.session() as session:\n      g(session)\n"
    "  async def b(session): return session.url\n  return a, b",
    "def f(session: Session):\n    out.append({'dialect': session.bind.dialect.name})",
    "def f(work: Callable[[Session], None], tasks):\n    JOBS['x'] = work\n    tasks.add_task(db.run, work)",
    "import requests\ndef f(http: requests.Session):\n    pool.submit(fetch, http)",
    "from app.logins.models import Session\ndef f(session: Session):\n    rows.append(session)",
    "from sqlalchemy import text\nselect(Slot).where(text('begin < now()')).order_by(text('end desc'))",
    "pdf.text('End of invoice')\npdf.text('End')\nFPDF().text('Begin')",
    "def f(title):\n  'Set title to what was asked.'\n  log.info('set status to %s', title)\n"
    "  return {'summary': 'Discard draft'}",
    "session.execute(text(f'update {table} set a = 1'))\nsession.execute(insert(Note).values(title='begin'))",
    "# verify: allow NP03 listens for notifications\nimport asyncpg",
)  # fmt: skip

# What an owner may well do. No check may mind.
HARMLESS = (
    Mutation("a comment about engines", "", "app/notes/queries.py", "\n\ndef create(", "\n# create_engine and QueuePool are not for here\n\n\ndef create("),
    Mutation("a function named as a pool", "", "app/notes/queries.py", "\n\ndef get(",
             "\n\ndef pool(numbers: Sequence[int]) -> int:\n    return sum(numbers)\n\n\ndef get("),
    Mutation("a class that has the session", "", "app/notes/queries.py", "\n\ndef replace(",
             "\n\nclass Notes:\n    def __init__(self, session: Session) -> None:\n        self.session = session\n\n"
             "    def count(self) -> int:\n        return self.session.scalar(select(func.count()).select_from(Note)) or 0\n\n\ndef replace("),
    Mutation("a note by add and flush", "", "app/notes/queries.py",
             "    return session.scalars(insert(Note).values(title=title, body=body).returning(Note)).one()",
             "    note = Note(title=title, body=body)\n    with session.begin_nested():\n        session.add(note)\n    session.refresh(note)\n    return note"),
    Mutation("a log line and a cache of values", "", "app/api/notes.py", "    response.headers[",
             "    TITLES[created.id] = created.title\n    log.info(\"created\", extra={\"id\": created.id})\n    response.headers["),
    Mutation("what they need", "", "app/api/notes.py", "MAX_ID = 2**63 - 1\n",
             "MAX_ID = 2**63 - 1\nTITLES: dict[int, str] = {}\nlog = logging.getLogger(\"app.notes\")\n"),
    Mutation("and import", "", "app/api/notes.py", "from typing import Annotated\n\nfrom fastapi import APIRouter, Path, Query, Response\n",
             "import logging\nfrom typing import Annotated\n\nfrom fastapi import APIRouter, BackgroundTasks, Path, Query, Response\n"
             "from sqlalchemy.exc import NoResultFound\n\nfrom app.api.deps import Db\nfrom app.api.problems import ApiError\n"),
    Mutation("an error that becomes another", "", "app/api/notes.py", "    return queries.get(session, note_id)",
             "    try:\n        return queries.get(session, note_id)\n    except NoResultFound as err:\n        raise ApiError(404, \"not_found\", \"There is nothing here\") from err"),
    Mutation("a route, and work behind its answer", "", "app/api/notes.py", '@router.put("/{note_id}"',
             '@router.post("/count", status_code=202)\ndef count(own: Db, tasks: BackgroundTasks) -> None:\n    """Count behind the answer."""\n'
             '    tasks.add_task(own.run, lambda session: queries.Notes(session).count())\n\n\n@router.put("/{note_id}"'),
    Mutation("further middleware", "", "app/api/app.py", "    app.add_middleware(\n",
             '    app.add_middleware(CORSMiddleware, allow_origins=["https://example.com"])\n    app.add_middleware(\n'),
    Mutation("and its import", "", "app/api/app.py", "from fastapi.exceptions", "from fastapi.middleware.cors import CORSMiddleware\nfrom fastapi.exceptions"),
    Mutation("a helper that opens sessions, a loop that skips, an error that is looked at", "", "app/notes/queries.py", "\n\ndef remove(",
             "\n\n@contextmanager\ndef opened(db: Database) -> Iterator[Session]:\n    with db.session() as session:\n        yield session\n\n\n"
             "def store(db: Database, titles: Sequence[str]) -> list[str]:\n    kept = []\n    with opened(db) as session:\n        for title in titles:\n"
             "            try:\n                with session.begin_nested():\n                    kept.append(create(session, title, \"\").title)\n"
             "            except IntegrityError as err:\n                state = getattr(err.orig, \"sqlstate\", None)\n                if state != \"23505\":\n                    raise\n"
             "    return kept\n\n\ndef remove("),
    Mutation("and what it needs", "", "app/notes/queries.py",
             "from collections.abc import Sequence\n\nfrom sqlalchemy import delete, func, insert, select, update\n",
             "from collections.abc import Iterator, Sequence\nfrom contextlib import contextmanager\n\n"
             "from sqlalchemy import delete, func, insert, select, update\nfrom sqlalchemy.exc import IntegrityError\n"),
    Mutation("and of the engine", "", "app/notes/queries.py", "from app.notes.models import Note",
             "from app.nopool import Database\nfrom app.notes.models import Note"),
    Mutation("other numbers", "", "app/api/health.py", "READY_FOR = 3.0", "READY_FOR = 5.0"),
    Mutation("a text of its own", "", "app/api/problems.py", '"The service is busy"', '"Many are here; come back soon"'),
)  # fmt: skip


def apply(mutation: Mutation, folder: Path) -> None:
    """Edit a copy of the project."""
    file = folder / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: its text is {text.count(mutation.old)} times in {mutation.file}")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


def look(folder: Path, mutations: tuple[Mutation, ...]) -> None:
    """Want static.py to find what is broken in the owner's code, and nothing in what an owner may do."""
    for mutation in mutations:
        text = (folder / mutation.file).read_text(encoding="utf-8")
        found = {finding.rule for finding in static.check(text, mutation.file)}
        if (mutation in OWNER and mutation.fails not in found) or (mutation in HARMLESS and found):
            raise SystemExit(f"{mutation.name}: static.py finds {found or 'nothing'}")


def look_at_sources() -> None:
    """Want static.py to find each kind in a module of the owner's."""
    for rule, source in (*BROKEN, *(("", source) for source in SOUND)):
        found = {finding.rule for finding in static.check(source, "app/api/orders.py")}
        if (rule not in found) if rule else found:
            raise SystemExit(f"static.py finds {found or 'nothing'} in:\n{source}")


def prove(folder: Path, rule: str) -> dict[str, str]:
    """Run the tests of a rule, or all, and return the status of each rule."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "--report", str(report)]
    command += ["tests/verify", "-x" if rule else "tests"]
    if rule:
        (folder / "conftest.py").write_text(ONLY.replace("RULE", rule), encoding="utf-8")
    with (folder / "output").open("w") as output:
        child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        try:
            status = child.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            status = child.wait()
    if not report.exists() or (status and not rule):
        print((folder / "output").read_text(encoding="utf-8")[-3000:])
    if not report.exists():
        return {}
    return {rule["id"]: rule["status"] for rule in json.loads(report.read_text(encoding="utf-8"))["rules"]}


def right(name: str, mutations: tuple[Mutation, ...], rule: str) -> bool:
    """Edit a copy, and report whether its proof says what it must: that the rule fails, or that none does."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "project")
        shutil.copytree(GOLDEN, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        for mutation in mutations:
            apply(mutation, folder)
        found = prove(folder, rule)
    ok = found.get(rule) == "failed" if rule else set(found.values()) == {"passed"}
    print(f"{'noticed' if rule and ok else 'passed' if ok else 'WRONG':8} {rule:5} {name}", flush=True)
    return ok


def main() -> int:
    """Run those whose name has an argument in it, or whose rule is one."""
    parts = sys.argv[1:] or [""]
    every = MUTATIONS + OWNER
    if parts == ["apply"]:
        with tempfile.TemporaryDirectory() as temporary:
            for mutations in (*((mutation,) for mutation in every), HARMLESS):
                folder = Path(tempfile.mkdtemp(dir=temporary))
                for name in ("app", "migrations"):
                    shutil.copytree(GOLDEN / name, folder / name)
                for mutation in mutations:
                    apply(mutation, folder)
                look(folder, mutations)
        look_at_sources()
        print(f"{len(every)} mutations and {len(HARMLESS)} harmless edits apply")
        return 0
    with ThreadPoolExecutor(2) as pool:
        chosen = [one for one in every if one.fails in parts or any(part in one.name for part in parts)]
        runs = [pool.submit(right, one.name, (one,), one.fails) for one in chosen]
        if {"", "harmless"} & set(parts):
            runs.append(pool.submit(right, "harmless edits", HARMLESS, ""))
        results = [run.result() for run in runs]
    print(f"{results.count(True)} as they must, {results.count(False)} not")
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
