"""What happens when the pooler is full, broken or says no."""

import math
import os
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import localpg, nopool
from app.nopool import Database, Tx, breaker, refusals, wire
from app.nopool.slots import Slots
from tests.conftest import MakeDatabase, missing
from tests.verify.servers import SOON, within
from tests.verify.standin import FULL, Client, Reply, Standin

# What poolers say to a client that opens a connection: what it means, SQLSTATE and text. They are Supavisor's
# (lib/supavisor/errors, client_handler.ex, auth_query.ex; 2.9), older ones where the versions in service differ,
# PgBouncer's (client.c, objects.c, janitor.c, proto.c; 1.25) and those of Postgres that they pass on.
TEXTS = """
lasting 08P01 (ESTARTUPMESSAGE) Invalid startup message: :bad_startup_payload
lasting XX000 (EINVALIDUSERINFO) Authentication error, reason: "Invalid format for user or db_name"
lasting XX000 (ENOTFOUND) tenant/user app.ref not found
lasting XX000 Tenant or user not found
lasting XX000 (ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)
lasting XX000 (EMULTIPLEUSERS) multiple users matched for app.ref, check tenant configuration
lasting XX000 (EBANNED) tenant is banned: x
lasting XX000 (ESSLREQUIRED) SSL connection is required for user: app
lasting XX000 SSL connection is required
lasting XX000 (EADDRNOTALLOWED) address not in tenant allow_list: {1, 2, 3, 4}
full XX000 (EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15
full XX000 MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size
full XX000 Max client connections reached
full XX000 (EMAXCONN) max client connections reached, limit: 200
password XX000 (ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked
passing XX000 what nobody has met yet
password XX000 (EAUTHQUERY) user not found in the database
password XX000 (EAUTHQUERY) no auth_query configured for this tenant
password XX000 (EAUTHQUERY) authentication query returned wrong format
password XX000 (EAUTHQUERY) unsupported or invalid secret format
password XX000 (EAUTHQUERY) failed to parse SCRAM secret
password XX000 (EAUTHQUERY) MD5 secrets are not supported for auth_query, use require_user instead
unasked XX000 (EAUTHQUERY) authentication query failed: connection to database not available
unasked XX000 (EAUTHQUERY) authentication query failed: permission denied for view pg_shadow
unasked XX000 (EAUTHQUERY) auth_query secret check timed out
unasked XX000 (ECIRCUITBREAKER) failed to retrieve database credentials after multiple attempts
unasked XX000 (ECIRCUITBREAKER) too many failed attempts to connect to the database
unasked XX000 (EJITREQUESTFAILED) failed to reach JIT provider for user "app"
unasked XX000 Internal error (handshake): :no_auth_config
unasked 08P01 (EAUTHPROTOCOL) protocol violation during authentication
unasked 08006 (EAUTHTIMEOUT) timeout while waiting for message
password 28P01 password authentication failed for user "app"
lasting 28P01 Authentication credentials are invalid. Please reconnect with fresh credentials to restore pool functionality.
full XX000 (ECHECKOUTTIMEOUT) unable to check out connection from the pool after 15000ms in Session mode
full XX000 (ECHECKOUTRETRIES) failed to check out a connection after multiple retries
full XX000 (EPOOLCHECKOUT) pool checkout failed: {:noproc, ...}
full XX000 (ESUBSCRIBERETRIES) failed to subscribe to tenant after multiple retries. Terminating
passing XX000 (EMAXPOOLSREACHED) max pools count reached
passing XX000 (EPROXYSTARTFAILED) failed to start proxy connection
passing XX000 (EDBHANDLEREXITED) DbHandler exited. Check logs for more information
passing 08006 Failed to connect to database: {:error, :econnrefused}
passing 08006 Failed to connect to database: {:error, {:tls_alert, {:unknown_ca, "bad certificate"}}}
passing 57P03 the database system is starting up
full 53300 too many connections for role "app"
full 53300 sorry, too many clients already
full 53300 remaining connection slots are reserved for roles with the SUPERUSER attribute
lasting 3D000 database "app" does not exist
lasting 42501 permission denied for database "app"
lasting 22023 invalid value for parameter "x"
lasting 28000 no pg_hba.conf entry for host
full 08P01 no more connections allowed (max_client_conn)
full 08P01 client connections exceeded (max_db_client_connections)
passing 08P01 client_login_timeout
passing 08P01 server shutting down
passing 08P01 pooler is shutting down
passing 08P01 database "app" is disabled
passing 08P01 admin forced disconnect
passing 08P01 bouncer config error
lasting 08P01 no such database: app
lasting 08P01 no such user
lasting 08P01 SSL required
lasting 08P01 no username supplied
lasting 08P01 login rejected
lasting 08P01 unix socket login rejected
lasting 08P01 not allowed
lasting 08P01 username too long
lasting 08P01 no authentication method is found
lasting 08P01 ldap is not supported by this build
lasting 08P01 unsupported startup parameter: statement_timeout
lasting 08P01 client selected an invalid SASL authentication mechanism
lasting 08P01 password too long
lasting 08P01 empty password returned by client
password 08P01 SASL authentication failed
password 08P01 password authentication failed
password 08P01 PAM authentication failed
password 08P01 certificate authentication failed
passing 08P01 server login failed: wrong password type
passing 08P01 server login failed: none of the server's SASL authentication mechanisms are supported
"""
KINDS = {
    "full": nopool.PoolerFull,
    "passing": nopool.Unavailable,
    "unasked": nopool.Unavailable,
    "lost": nopool.Unavailable,
}


def select_one(db: Database) -> None:
    with db.session(Tx(read_only=True)) as session:
        session.execute(text("select 1"))


def together(count: int, work: Callable[[], None]) -> list[BaseException]:
    """Do something in many threads at once, and return what went wrong."""
    with ThreadPoolExecutor(count) as pool:
        ends = [pool.submit(work) for _ in range(count)]
    return [err for end in ends if (err := end.exception())]


@pytest.mark.rule("NP20")
@pytest.mark.parametrize("line", TEXTS.strip().splitlines())
def test_texts(line: str, make_db: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is understood by its text alone, and repeated only where that helps."""
    monkeypatch.setattr("app.nopool.opening.FULL_PAUSE", 0.01)  # a busy machine gets to a second attempt too
    meaning, state, said = line.split(" ", 2)
    with Standin(refuse=lambda _: (state, said)) as pooler:
        db = make_db(pooler.url, connect_timeout=0.6)
        with pytest.raises(nopool.DatabaseError) as raised:
            select_one(db)
        dials = len(pooler.clients)
    assert type(raised.value) is KINDS.get(meaning, nopool.Misconfigured)
    assert (dials == 1) == (meaning in ("lasting", "password", "unasked"))
    refusal = refusals.Refusal(said, answered=True)
    assert refusals.is_password(refusal) == (meaning == "password")
    assert refusals.is_unasked(refusal) == (meaning == "unasked")


@pytest.mark.rule("NP12", "NP20")
def test_refused_by_libpq(make_db: MakeDatabase, standin: Standin) -> None:
    """A server that asks for the password itself does not get it, and is not asked again."""
    standin.cleartext = True
    with pytest.raises(nopool.Misconfigured, match="authentication method requirement"):
        select_one(make_db(f"{standin.url}&require_auth=scram-sha-256"))
    assert len(standin.clients) == 1
    at = 'connection failed: connection to server at "h" (::1), port 5432 failed: '
    said = "SSL error: certificate verify failed: CRL has expired"
    refusal = refusals.Refusal.of(psycopg.OperationalError(at + said))
    assert (refusal.text, refusals.kind_of(refusal)) == (said, nopool.Misconfigured)


@pytest.mark.rule("NP20", "NP31")
@pytest.mark.parametrize(
    ("said", "again"),
    [("query_wait_timeout", True), ("server login has been failing, cached error: connect failed", False)],
)
def test_refused_at_begin(said: str, again: bool, make_db: MakeDatabase, standin: Standin) -> None:
    """A pooler that says no at BEGIN is asked again with the same statement, unless it may have run."""
    db = make_db(standin.url)
    db.version()
    standin._answer = lambda client, sql: Reply(error=("08P01", said), fatal=True) if client.number == 2 else None
    if again:
        select_one(db)
        assert len(standin.clients) == 3
        assert db.snapshot().open_retries == 1
    else:
        with pytest.raises(nopool.Unavailable):
            select_one(db)
        assert len(standin.clients) == 2


@pytest.mark.rule("NP04", "NP11", "NP19", "NP20")
def test_lost_at_begin(make_db: MakeDatabase, standin: Standin, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing runs twice: where the connection is lost with the first statement on its way, it may have run."""
    db = make_db(standin.url)
    db.version()
    standin._answer = lambda _, sql: Reply(drop=True) if sql.startswith("begin") else None
    with pytest.raises(nopool.Unavailable):
        select_one(db)
    assert len(standin.clients) == 2
    assert "database session error" in caplog.text


@pytest.mark.rule("NP17", "NP20", "NP21", "NP22")
def test_full_pooler(make_db: MakeDatabase, standin: Standin) -> None:
    """A pooler that admits fewer than we may open, and frees its places late, fails nobody."""
    standin.size, standin.release_lag = 5, 0.02
    db = make_db(standin.url, max_sessions=8, max_waiting=100, session_wait=20)
    db._core.addresses.get = lambda deadline: ["127.0.0.1"] * 2  # type: ignore[method-assign]
    assert together(60, lambda: select_one(db)) == []
    now = db.snapshot()
    assert now.opened == 60
    assert now.dials == len(standin.clients)
    assert standin.refused == now.open_retries


@pytest.mark.rule("NP20")
def test_draining_pooler(make_db: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that drains refuses everybody for seconds, which are waited out."""
    monkeypatch.setattr("app.nopool.opening.FULL_PAUSE", 0.01)
    said = ("57P01", "terminating connection due to administrator command")
    with Standin(refuse=lambda number: said if number <= 8 else None) as pooler:
        select_one(make_db(pooler.url))


@pytest.mark.rule("NP17", "NP22")
def test_never_more_than_the_bound(make_db: MakeDatabase, standin: Standin) -> None:
    """A slot is held until the server has closed: it never counts more connections than we may have."""
    standin.release_lag = 0.03
    db = make_db(standin.url, max_sessions=4, max_waiting=100, session_wait=20)
    assert together(40, lambda: select_one(db)) == []
    assert standin.most <= 4
    assert standin.refused == 0


@pytest.mark.rule("NP17")
def test_queue(make_db: MakeDatabase, standin: Standin) -> None:
    """The queue is bounded, in length and in time, and who comes first is served first."""
    db = make_db(standin.url, max_sessions=1, max_waiting=2, session_wait=0.3)
    db.version()
    standin._answer = lambda _, sql: Reply(after=1) if sql == "select 1" else None
    began = time.monotonic()
    errors = together(5, lambda: select_one(db))
    assert [type(err) for err in errors] == [nopool.Busy] * 4
    assert db.snapshot().rejected == 4
    slots, served = Slots(1, 3), []
    slots.acquire(1, 1e9)

    def wait(number: int) -> None:
        slots.acquire(20, 1e9)
        served.append(number)
        slots.release()

    with ThreadPoolExecutor(3) as pool:
        for number in range(3):
            pool.submit(wait, number)
            assert standin.within(lambda: slots.waiting == number + 1)  # noqa: B023
        with pytest.raises(nopool.Busy):
            slots.acquire(20, 1e9)
        assert time.monotonic() - began < 15
        slots.release()
    assert served == [0, 1, 2]


@pytest.mark.rule("NP18", "NP01")
def test_lazy(make_db: MakeDatabase, standin: Standin) -> None:
    """A session that asks nothing opens nothing, and each that asks has a connection of its own."""
    db = make_db(standin.url)
    with db.session():
        pass
    assert standin.clients == []
    for _ in range(3):
        select_one(db)
    assert [client.statements[-1].lower() for client in standin.clients] == ["commit"] * 3


@pytest.mark.rule("NP03", "NP04", "NP17", "NP19")
def test_two_threads(make_db: MakeDatabase, standin: Standin) -> None:
    """The second in one session is told so, the session fails, and its slot is free in the end."""
    db = make_db(standin.url)
    db.version()
    standin._answer = lambda _, sql: Reply(after=0.5) if sql.startswith("begin") else None

    def ask() -> None:
        used.execute(text("select 1"))

    with pytest.raises(nopool.SessionBusy), db.session() as session:
        used = session.connection()
        assert [type(err) for err in together(2, ask)] == [nopool.SessionBusy]
    with ThreadPoolExecutor() as pool, pytest.raises(nopool.SessionBusy), db.session() as session:
        used = session.connection()
        pool.submit(ask)
        assert standin.within(lambda: len(standin.clients) == 3)


@pytest.mark.rule("NP31", "NP13")
def test_one_flight(make_db: MakeDatabase, standin: Standin) -> None:
    """BEGIN, the timeouts and the first statement travel together; COMMIT is the only other flight."""
    db = make_db(standin.url, statement_timeout=7, lock_timeout=3, idle_in_transaction_timeout=4)
    db.version()
    with db.session() as session:
        session.execute(text("insert into things values (:a)"), {"a": 1})
    client = standin.clients[-1]
    assert client.flights == [3, 1]
    assert [sql.split(" ")[0].lower() for sql in client.statements] == ["begin", "select", "insert", "commit"]
    for setting in ("statement_timeout', '7000'", "lock_timeout', '3000'", "session_timeout', '4000'"):
        assert setting in client.statements[1]


@pytest.mark.rule("NP31")
def test_many_rows_first(make_db: MakeDatabase, standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their answers are read while they are sent: a server that cannot write stops reading."""

    def dup(fd: int) -> int:
        with socket.socket(fileno=os.dup(fd)) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)  # which is soon full
        return os.dup(fd)

    monkeypatch.setattr(socket, "dup", dup)
    db = make_db(standin.url, connect_timeout=2)
    db.version()
    standin._answer = lambda _, sql: Reply(f"INSERT 0 1{' ' * 25_000}") if sql.startswith("insert") else None
    with db.session() as session:
        session.execute(text("insert into things values (:a)"), [{"a": "x" * 10_000}] * 2000)
    assert standin.rows == 2000


@pytest.mark.rule("NP13")
@pytest.mark.parametrize("silent_at", ["begin", "select 1", "commit"])
def test_silent_server(
    silent_at: str, make_db: MakeDatabase, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer is waited for without a bound of our own, whatever the server's timeouts would do."""
    monkeypatch.setattr("app.nopool.opening.STATEMENT_MARGIN", 0.2)
    monkeypatch.setattr("app.nopool.dbapi.FINISH_TIMEOUT", 0.4)
    db = make_db(standin.url, statement_timeout=0.2, connect_timeout=0.5)
    db.version()
    standin._answer = lambda _, sql: Reply(hang=True) if sql.startswith(silent_at) else None
    began = time.monotonic()
    kind = nopool.CommitUnknown if silent_at == "commit" else Exception
    with pytest.raises(kind), db.session() as session:
        session.execute(text("select 1"))
    assert time.monotonic() - began < 3
    assert standin.within(lambda: db.snapshot().in_use == 0)


@pytest.mark.rule("NP13", "NP21")
def test_silent_login(make_db: MakeDatabase) -> None:
    """The deadline of an opening covers all of it, from the dial on."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        db = make_db(f"postgres://app:x@127.0.0.1:{silent.getsockname()[1]}/app?sslmode=disable", connect_timeout=0.3)
        with pytest.raises(nopool.Unavailable):
            select_one(db)


@pytest.mark.rule("NP20")
@pytest.mark.parametrize(("before", "replicas", "most"), [(0, 1, 3), (1, 1, 6), (1, 4, 2)])
def test_refused_passwords(before: int, replicas: int, most: int, make_db: MakeDatabase) -> None:
    """Ten refused passwords block an address: a burst leaves three, at most six where it was right until then.

    Of four processes each leaves two.
    """

    def refuse(number: int) -> tuple[str, str] | None:
        time.sleep(0.1)  # so that many are under way
        return ("28P01", 'password authentication failed for user "app"') if number > before else None

    with Standin(refuse=refuse) as pooler:
        db = make_db(pooler.url, max_sessions=20, replicas=replicas)
        for _ in range(before):
            select_one(db)
        errors = together(40, lambda: select_one(db))
        assert len(errors) == 40
        assert {type(err) for err in errors} == {nopool.Misconfigured}
        assert len(pooler.clients) - before <= most


@pytest.mark.rule("NP17")
def test_logins_in_order() -> None:
    """The one that has waited longest goes first, and who comes later does not go ahead."""
    only, entered = breaker.Breaker(), []

    def log_in(number: int) -> None:
        only.enter(time.monotonic() + SOON)
        entered.append(number)

    def waits(logins: int) -> bool:
        return len(only._queue) == logins

    def goes(logins: int) -> bool:
        return entered == list(range(logins))

    for _ in range(breaker.MAX_DOUBTFUL):
        only.enter(math.inf)
    with ThreadPoolExecutor() as pool:
        for number in range(3):
            pool.submit(log_in, number)
            assert within(SOON, partial(waits, number + 1))
        for left in range(3):
            only.leave()
            with pytest.raises(nopool.Unavailable):
                only.enter(time.monotonic() + 0.1)
            assert within(SOON, partial(goes, left + 1))


@pytest.mark.rule("NP20")
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("ours", [False, True])
def test_password_of_the_pooler(ours: bool, tls: bool, make_db: MakeDatabase, tmp_path: Path) -> None:
    """What a pooler passes on of its own login, when ours had succeeded, shuts nobody out; a refusal of ours does."""
    refusals = iter([("28P01", 'password authentication failed for user "app"')] * breaker.MAX_REFUSED)
    with Standin(refuse=lambda _: next(refusals, None)) as pooler:
        pooler.scram, pooler.believes = True, not ours
        if tls:
            if not localpg.Server._make_certificate(tmp_path):
                missing("openssl")
            pooler.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            pooler.tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
        db = make_db(pooler.url.replace("disable", "require") if tls else pooler.url)
        for _ in range(breaker.MAX_REFUSED):
            with pytest.raises(nopool.Misconfigured, match="for user"):
                select_one(db)
        if ours:
            with pytest.raises(nopool.Misconfigured, match=f"failed {breaker.MAX_REFUSED} times"):
                select_one(db)
        else:
            select_one(db)
        assert len(pooler.clients) == breaker.MAX_REFUSED + (not ours)


@pytest.mark.rule("NP20")
def test_unasked(make_db: MakeDatabase) -> None:
    """After an answer that secrets cannot be asked for nobody dials for a while."""
    said = ("XX000", "(EAUTHQUERY) authentication query failed: connection to database not available")
    with Standin(refuse=lambda _: said) as pooler:
        db = make_db(pooler.url)
        for _ in range(5):
            with pytest.raises(nopool.Unavailable):
                select_one(db)
        assert len(pooler.clients) == 1


@pytest.mark.rule("NP21")
def test_out_of_reach(make_db: MakeDatabase) -> None:
    """A database out of reach is tried a few times, then spaced out."""
    db = make_db("postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable")
    for _ in range(8):
        with pytest.raises(nopool.Unavailable):
            select_one(db)
    assert db.snapshot().dials <= breaker.FAILURES + 2


@pytest.mark.rule("NP22")
def test_close_not_seen(make_db: MakeDatabase, standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot whose close the server never confirms is free after a bound, counted and logged."""
    monkeypatch.setattr(wire, "CLOSE_TIMEOUT", 0.3)
    db = make_db(standin.url, max_sessions=1)
    standin.release_lag = 1.0
    select_one(db)
    assert standin.within(lambda: db.snapshot().close_timeouts == 1)
    assert standin.within(lambda: db.snapshot().in_use == 0)


@pytest.mark.rule("NP20")
def test_advice() -> None:
    assert "postgres.PROJECTREF" in refusals.advice("(ENOIDENTIFIER) no tenant identifier provided")
    assert "percent-encoded" in refusals.advice('password authentication failed for user "app"')
    assert refusals.advice(FULL[1]) == ""


@pytest.mark.rule("NP04", "NP07")
def test_background_work(make_db: MakeDatabase, standin: Standin) -> None:
    """A block that raises is rolled back, one that ends is committed, and both are closed."""
    db = make_db(standin.url)
    with pytest.raises(ZeroDivisionError), db.session() as session:
        session.execute(text("insert into things values (1)"))
        session.scalars(text(str(1 // 0)))
    assert standin.rows == 0
    assert db.run(lambda session: session.execute(text("insert into things values (1)"))) is not None
    assert standin.rows == 1
    assert standin.within(lambda: db.snapshot().in_use == 0)
    with pytest.raises(nopool.SessionDone):
        session.execute(text("select 1"))


@pytest.mark.rule("NP17")
def test_nested(make_db: MakeDatabase, standin: Standin) -> None:
    """Who holds a connection cannot wait for a second one."""
    db = make_db(standin.url)
    with db.session() as outer:
        outer.execute(text("select 1"))
        with pytest.raises(nopool.NestedSession):
            select_one(db)


@pytest.mark.rule("NP29")
@pytest.mark.parametrize(
    ("state", "commits", "times"),
    [("40001", False, 3), ("40P01", False, 3), ("23505", False, 1), ("57014", False, 1), ("40001", True, 1)],
)
def test_retry(state: str, commits: bool, times: int, make_db: MakeDatabase, standin: Standin) -> None:
    """A whole function is repeated, by its caller's word, on two SQLSTATEs, at most three times in all; not what it committed."""

    def answer(client: Client, sql: str) -> Reply | None:
        return Reply(error=(state, "x")) if sql.startswith("update") else None

    db = make_db(standin.url)
    db.version()
    standin._answer = answer
    calls: list[int] = []

    def work(session: Session) -> None:
        calls.append(1)
        if commits:
            session.execute(text("select 1"))
            session.commit()
        session.execute(text("update t set a = 1"))

    with pytest.raises(DBAPIError):
        db.run_with_retry(work)
    assert len(calls) == times
