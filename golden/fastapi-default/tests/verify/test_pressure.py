"""What happens when the pooler is full, broken or says no."""

import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

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
from tests.verify.standin import FULL, Reply, Standin

TEXTS = [line for line in (Path(__file__).parent / "refusals.txt").read_text().splitlines() if line[0] != "#"]
KINDS = {"full": nopool.PoolerFull, "passing": nopool.Unavailable, "unasked": nopool.Unavailable}


def select_one(db: Database) -> None:
    with db.session(Tx(read_only=True)) as session:
        session.execute(text("select 1"))


def together(count: int, work: Callable[[], None]) -> list[BaseException]:
    """Do something in many threads at once, and return what went wrong."""
    with ThreadPoolExecutor(count) as pool:
        ends = [pool.submit(work) for _ in range(count)]
    return [err for end in ends if (err := end.exception())]


@pytest.mark.rule("NP20")
@pytest.mark.parametrize("line", TEXTS)
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
def test_refused_at_begin(said: str, again: bool, db: Database, standin: Standin) -> None:
    """A pooler that says no at BEGIN is asked again with the same statement, unless it may have run."""
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
def test_lost_at_begin(db: Database, standin: Standin, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing runs twice: where the connection is lost with the first statement on its way, it may have run."""
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


@pytest.mark.rule("NP01", "NP17", "NP22")
def test_never_more_than_the_bound(make_db: MakeDatabase, standin: Standin) -> None:
    """Each session has a connection of its own, its slot until the server has closed that: never are there more."""
    standin.release_lag = 0.03
    db = make_db(standin.url, max_sessions=4, max_waiting=100, session_wait=20)
    assert together(40, lambda: select_one(db)) == []
    assert len(standin.clients) == 40
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


@pytest.mark.rule("NP03", "NP04", "NP17", "NP19")
def test_two_threads(db: Database, standin: Standin) -> None:
    """The second in one session is told so, the session fails, and its slot is free in the end."""
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
def test_many_rows_take_long(make_db: MakeDatabase, standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is of one statement, as the server's is, not of all that are sent together."""
    monkeypatch.setattr("app.nopool.opening.STATEMENT_MARGIN", 0.2)
    db = make_db(standin.url, statement_timeout=0.2)
    standin._answer = lambda _, sql: Reply("INSERT 0 1", after=0.1) if sql.startswith("insert") else None
    with db.session() as session:
        session.execute(text("insert into things values (:a)"), [{"a": 1}] * 8)
    assert standin.rows == 8


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
    """The deadline of an opening covers all of it, from the wait for other logins on."""
    over = threading.Event()

    def refuse(number: int) -> None:
        if number > 1:
            over.wait(SOON)

    with Standin(refuse=refuse) as silent:
        db = make_db(silent.url, connect_timeout=1, max_sessions=20)
        select_one(db)
        began = time.monotonic()
        with ThreadPoolExecutor(breaker.FAILURES) as pool:
            ends = [pool.submit(select_one, db) for _ in range(breaker.FAILURES)]
            assert within(SOON, lambda: len(db._core.breaker._queue) == breaker.FAILURES - breaker.MAX_LOGINS)
            with pytest.raises(nopool.DeadlineExceeded), db.session(deadline=time.monotonic() + 0.1) as session:
                session.execute(text("select 1"))
        assert time.monotonic() - began < SOON
        over.set()
        assert {type(end.exception()) for end in ends} == {nopool.Unavailable}
        assert db._core.breaker._failures >= breaker.FAILURES  # so those that come next are refused at once


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

    only.opened(only.enter(math.inf))
    for _ in range(breaker.MAX_LOGINS - 1):
        only.enter(math.inf)
    with ThreadPoolExecutor() as pool:
        for number in range(3):
            pool.submit(log_in, number)
            assert within(SOON, partial(waits, number + 1))
        for left in range(3):
            only.leave(0)
            with pytest.raises(TimeoutError):
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


@pytest.mark.rule("NP20")
def test_unasked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers to logins that went together are one, after which one goes first; the third in a row has a longer pause."""
    now = 1000.0
    monkeypatch.setattr(breaker, "time", SimpleNamespace(monotonic=lambda: now))
    only = breaker.Breaker()
    only.opened(only.enter(now))
    only.leave(now)
    together = [only.enter(now) for _ in range(breaker.MAX_LOGINS)]
    for pause in (breaker.UNASKED_PAUSE, breaker.UNASKED_PAUSE, breaker.LONG_PAUSE):
        for began in together:
            now += 0.1
            only.leave(began, refusals.Refusal("(EAUTHQUERY) connection to database not available", answered=True))
        now += pause - 1
        with pytest.raises(nopool.Unavailable):
            only.enter(now)
        now += 1
        together = [only.enter(now)]
        now += breaker.PAUSE
        with pytest.raises(TimeoutError):
            only.enter(now)


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
def test_background_work(db: Database, standin: Standin) -> None:
    """A block that raises is rolled back, one that ends is committed, and both are closed."""
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
def test_nested(db: Database) -> None:
    """Who holds a connection cannot wait for a second one."""
    with db.session() as outer:
        outer.execute(text("select 1"))
        with pytest.raises(nopool.NestedSession):
            select_one(db)


@pytest.mark.rule("NP29")
@pytest.mark.parametrize(
    ("state", "commits", "times"),
    [("40001", False, 3), ("40P01", False, 3), ("23505", False, 1), ("57014", False, 1), ("40001", True, 1)],
)
def test_retry(state: str, commits: bool, times: int, db: Database, standin: Standin) -> None:
    """A whole function is repeated, by its caller's word, on two SQLSTATEs, at most three times in all; not what it committed."""
    standin._answer = lambda _, sql: Reply(error=(state, "x")) if sql.startswith("update") else None
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
