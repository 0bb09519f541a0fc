"""What the service tells its clients, its operators and its probes."""

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import psycopg
import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app import nopool
from app.api.deps import Db, DbSession, get_tx, session_with, within
from app.api.problems import answer
from app.logs import Formatter, correlation_id
from app.nopool import Database, Tx
from tests.conftest import MakeDatabase
from tests.verify.program import Thing, make_app
from tests.verify.servers import SOON
from tests.verify.standin import Reply, Standin

STATES = (
    ("23505", 409, "already_exists"), ("23P01", 409, "conflict"), ("23503", 409, "reference"), ("23001", 409, "reference"),
    ("23514", 422, "constraint"), ("23502", 422, "missing_value"), ("22012", 500, "internal_error"),
    ("22003", 400, "invalid_value"), ("40001", 503, "concurrent_change"), ("40P01", 503, "concurrent_change"),
    ("40003", 500, "commit_unknown"), ("25006", 503, "read_only"),
    ("55P03", 503, "locked"), ("57014", 504, "timeout"), ("25P03", 504, "timeout"), ("53200", 503, "busy"), ("54000", 422, "constraint"),
    ("44000", 422, "constraint"), ("42501", 500, "internal_error"),
    ("57P01", 503, "database_unavailable"), ("08006", 503, "database_unavailable"), ("42703", 500, "internal_error"),
)  # fmt: skip
GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
KINDS = (
    (nopool.Busy(), 503, "busy"), (nopool.PoolerFull("x"), 503, "busy"), (nopool.Unavailable("x"), 503, "database_unavailable"),
    (nopool.Misconfigured("s3cret"), 503, "database_unavailable"), (nopool.Closed(), 503, "shutting_down"),
    (nopool.CommitUnknown("x"), 500, "commit_unknown"), (nopool.DeadlineExceeded(), 504, "timeout"),
    (psycopg.OperationalError("s3cret"), 503, "database_unavailable"), (ValueError("s3cret"), 500, "internal_error"),
)  # fmt: skip


@pytest.mark.rule("NP25", "NP24")
@pytest.mark.parametrize(("err", "status", "code"), KINDS, ids=lambda value: getattr(value, "text", None))
def test_kinds(err: Exception, status: int, code: str) -> None:
    told = answer(err)
    assert (told.status_code, told.code) == (status, code)
    assert "s3cret" not in told.detail


@pytest.mark.rule("NP24", "NP25", "NP26")
@pytest.mark.parametrize(("state", "status", "code"), STATES)
def test_states(
    state: str, status: int, code: str, standin: Standin, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Each SQLSTATE has a status, and nothing of the server's words reaches the client."""
    standin._answer = lambda _, sql: Reply(error=(state, "s3cret")) if sql.startswith("insert") else None
    response = client.post("/things", json={"title": "a"})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert "s3cret" not in response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.headers.get("retry-after") == "1") == (status == 503)
    assert problem["correlation_id"] == response.headers["x-request-id"]
    (logged,) = [record for record in caplog.records if record.message == "database session error"]
    assert (logged.levelno == logging.ERROR) == (status >= 500)


@pytest.mark.rule("NP25")
def test_read_that_writes(standin: Standin, client: TestClient) -> None:
    """It is a mistake of ours, not a database that takes no writes."""
    standin._answer = lambda _, sql: Reply(error=("25006", "x")) if sql == "select 1" else None
    assert client.get("/things/1").json()["code"] == "internal_error"


@pytest.mark.rule("NP11", "NP25")
def test_row_refused_by_a_policy(standin: Standin, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """A row that a row-level policy does not let in is its client's fault, a missing right is ours."""
    refusal = ("42501", "s3cret", "ExecWithCheckOptions")
    standin._answer = lambda _, sql: Reply(error=refusal) if sql.startswith("insert") else None
    response = client.post("/things", json={"title": "a"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.rule("NP20", "NP25")
@pytest.mark.parametrize(
    ("setting", "title", "status"),
    [("a\0", "a", 400), ("\ud800", "a", 400), ("x", "a\0", 400), ("x", "\ud800", 400), ("nope", "a", 500)],
)
def test_what_cannot_be_sent(
    setting: str,
    title: str,
    status: int,
    standin: Standin,
    db: Database,
    app: FastAPI,
    client: TestClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A value is its client's fault, a setting that the server refuses is ours, whatever it says, and neither fails others."""
    nope = Reply(error=("22023", 'role "EMAXCONN" does not exist'))
    standin._answer = lambda _, sql: nope if setting == "nope" and "set_config" in sql else None

    @app.post("/set")
    def route(session: Annotated[Session, session_with(Tx(settings=(("role", setting),)))]) -> None:
        session.execute(text("insert into things values (:title)"), {"title": title})

    assert client.post("/set").status_code == status
    assert any(record.levelno >= logging.ERROR for record in caplog.records) == (status == 500)
    assert db._core.breaker._failures == 0


@pytest.mark.rule("NP25")
def test_what_cannot_be_read(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """A stored value that Python does not have is no fault of the client's."""
    forever = Reply("SELECT 1", ("infinity",), (1184,))
    standin._answer = lambda _, sql: forever if sql == "select 1" else None

    @app.get("/read")
    def read(session: DbSession) -> object:
        return session.scalar(text("select 1"))

    assert client.get("/read").status_code == 500


@pytest.mark.rule("NP24")
def test_logs_tell_no_values(standin: Standin, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """At info, nothing that a user typed and nothing that the server said is in the log."""
    caplog.set_level(logging.INFO, logger="app")
    standin._answer = lambda _, sql: Reply(error=("23505", "s3cret")) if sql.startswith("insert") else None
    client.post("/things?s3cret=1", json={"title": "s3cret"})
    ours = [record for record in caplog.records if record.name.startswith(("app", "uvicorn", "sqlalchemy"))]
    assert ours
    assert "s3cret" not in str([vars(record) for record in ours])


@pytest.mark.rule("NP26", "NP11")
def test_correlation(
    standin: Standin,
    db: Database,
    client: TestClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every line of a request has its id, those of its session in other threads too."""
    standin._answer = lambda _, sql: Reply(error=("42703", "x")) if sql.startswith("insert") else None
    monkeypatch.setattr(caplog.handler, "formatter", Formatter(for_people=False))
    caplog.clear()
    assert client.get("/things/1", headers={"X-Request-ID": "good-one"}).status_code == 200
    assert client.post("/things", json={"title": "a"}, headers={"X-Request-ID": "bad-one"}).status_code == 500
    trace = client.get("/health", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    odd = client.get("/health", headers={"X-Request-ID": "no spaces, please"})
    assert standin.within(lambda: db.snapshot().in_use == 0)
    lines = caplog.text.splitlines()
    assert trace.headers["x-request-id"] == "a" * 32
    assert len(odd.headers["x-request-id"]) == 26
    assert all('"correlation_id"' in line for line in lines)
    for message in ("database session opened", "database session closed", "request"):
        assert any(message in line and "good-one" in line for line in lines), message
    assert any("database session error" in line and "bad-one" in line and "42703" in line for line in lines)
    now = db.snapshot()
    assert (now.opened, now.closed, now.dials) == (3, 3, 3)
    assert (now.committed, now.rolled_back) == (2, 1)


@pytest.mark.rule("NP27")
def test_probes(standin: Standin, client: TestClient) -> None:
    """Probes ask at most once in three seconds, those at the same time together, and /health never."""
    standin._answer = lambda _, sql: Reply(after=0.3) if sql == "select 1" else None
    for _ in range(5):
        assert client.get("/health").json() == {"status": "ok"}
    assert len(standin.clients) == 1
    with ThreadPoolExecutor(5) as pool:
        answers = pool.map(lambda _: client.get("/ready").json(), range(5))
        assert list(answers) == [{"status": "ready"}] * 5
    assert len(standin.clients) == 2


@pytest.mark.rule("NP27")
def test_ready_when_busy(standin: Standin, make_db: MakeDatabase) -> None:
    """A service that is only busy is ready, without another connection."""
    db = make_db(standin.url, max_sessions=1)
    with db.session() as session, TestClient(make_app(db)) as client:
        session.execute(text("select 1"))
        assert client.get("/ready").status_code == 200
    assert len(standin.clients) == 1


@pytest.mark.rule("NP27")
def test_ready_far_away(standin: Standin, make_db: MakeDatabase) -> None:
    """A database is far away whose sessions take long to open, and no more."""
    standin._answer = lambda _, sql: Reply(after=1.5) if sql == "select 1" else None
    with TestClient(make_app(make_db(standin.url))) as client:
        assert client.get("/ready").status_code == 200


@pytest.mark.rule("NP27")
def test_not_ready_behind_queue(standin: Standin, make_db: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue for a database that has not answered for long is no load."""
    db = make_db(standin.url, max_sessions=1, max_waiting=0, connect_timeout=SOON / 2)
    db.version()
    assert standin.within(lambda: db.snapshot().in_use == 0)
    monkeypatch.setattr("app.api.health.BUSY_FOR", 0.0)  # that was long ago
    standin._answer = lambda _, sql: Reply(hang=True)
    with TestClient(make_app(db)) as client, ThreadPoolExecutor(1) as pool:
        pool.submit(db.version)
        assert standin.within(lambda: db.snapshot().in_use == 1)
        assert client.get("/ready").status_code == 503
        assert db.snapshot().rejected == 1


@pytest.mark.rule("NP27", "NP25")
def test_not_ready(make_db: MakeDatabase) -> None:
    with TestClient(make_app(make_db("postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable"))) as client:
        response = client.get("/ready")
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")


@pytest.mark.rule("NP13")
def test_request_timeout(standin: Standin, db: Database) -> None:
    """A request that is out of time is answered with 504, and its session ends."""
    standin._answer = lambda _, sql: Reply(hang=True) if sql.startswith("insert") else None
    with TestClient(make_app(db, request_timeout=0.5)) as client:
        began = time.monotonic()
        response = client.post("/things", json={"title": "a"})
    assert time.monotonic() - began < 15
    assert (response.status_code, response.json()["code"]) == (504, "timeout")
    assert standin.within(lambda: db.snapshot().in_use == 0)


@pytest.mark.rule("NP06", "NP13")
@pytest.mark.parametrize(
    ("method", "path", "status", "bound"),
    [("POST", "/sleep", 504, 0.3), ("GET", "/sleep", 504, 0.3), ("GET", "/stream", 504, 0.3), ("POST", "/sleep/long", 200, 2)],
)  # fmt: skip
def test_handler_takes_too_long(
    method: str, path: str, status: int, bound: float, standin: Standin, db: Database
) -> None:
    """What a handler did whose time was over is not committed, nor answered; a route may have a time of its own."""
    app = make_app(db, request_timeout=bound, db_session_wait="100ms", db_connect_timeout="100ms")

    @app.api_route("/sleep", methods=["GET", "POST"], response_model=None)
    @app.post("/sleep/long", dependencies=[within(20)])
    def sleep(session: DbSession) -> None:
        session.execute(text("insert into things values (1)"))
        time.sleep(1.5 * bound)

    @app.get("/stream")
    def stream(session: DbSession) -> StreamingResponse:
        sleep(session)
        return StreamingResponse(iter("a"))

    with TestClient(app) as client:
        assert client.request(method, path).status_code == status
    assert standin.rows == (status == 200)


class Base(DeclarativeBase):
    """The models of this file."""


class Row(Base):
    """A row."""

    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.rule("NP05", "NP17")
@pytest.mark.parametrize("way", ["inserted", "added"])
def test_finish_needs_no_thread_of_a_handler(way: str, standin: Standin, make_db: MakeDatabase) -> None:
    """Handlers that wait for a slot cannot keep one that has it from ending, nor can sessions that open by their flush."""
    db = make_db(standin.url, max_sessions=2, max_waiting=60, session_wait=10)
    db.version()
    app = make_app(db)

    @app.post("/inserted/{number}")
    def inserted(number: int, session: DbSession) -> None:
        session.execute(text("insert into things values (1)"))

    @app.post("/added/{number}")
    def added(number: int, session: DbSession) -> None:
        session.add(Row(id=number))

    with TestClient(app) as client, ThreadPoolExecutor(50) as pool:
        statuses = pool.map(lambda number: client.post(f"/{way}/{number}").status_code, range(50))
        assert list(statuses) == [200] * 50
    assert standin.rows == 50


@pytest.mark.rule("NP28")
def test_stream_with_sessions_of_its_own(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """Behind a read, while its COMMIT is under way, and in a generator that many threads take steps of."""
    standin._answer = lambda _, sql: Reply("COMMIT", after=0.2) if sql == "commit" else None

    @app.get("/stream")
    def stream(session: DbSession, own: Db) -> StreamingResponse:
        session.execute(text("select 1"))

        def rows() -> Iterator[str]:
            with own.session() as further:
                yield str(further.scalar(text("select 1")))
                yield str(further.scalar(text("select 1")))

        return StreamingResponse(rows())

    assert client.get("/stream").text == "11"
    assert standin.within(lambda: standin.open == 0)


@pytest.mark.rule("NP19", "NP23")
def test_commit_near_the_end_of_the_time(standin: Standin, make_db: MakeDatabase) -> None:
    """What a COMMIT has done is told, also when it is acknowledged after the request's time."""
    db = make_db(standin.url, session_wait=0.2, connect_timeout=0.2, statement_timeout=0.5)
    db.version()
    standin._answer = lambda _, sql: Reply("COMMIT", after=1) if sql == "commit" else None
    app = make_app(db, request_timeout="500ms", db_session_wait="200ms", db_connect_timeout="200ms")
    with TestClient(app) as client:
        assert client.post("/things", json={"title": "a"}).status_code == 201
    assert standin.rows == 1


@pytest.mark.rule("NP07", "NP26")
def test_sessions_of_their_own(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """Those that a WebSocket or a handler opens begin with their caller's settings, such as the role."""
    app.dependency_overrides[get_tx] = lambda: Tx(settings=(("role", "caller"),))

    @app.websocket("/socket")
    async def socket(socket: WebSocket, own: Db) -> None:
        await socket.accept()
        await socket.send_text(await asyncio.to_thread(own.version) + correlation_id.get())
        await socket.close()

    @app.get("/own")
    def handler(own: Db) -> str:
        return own.version()

    with client.websocket_connect("/socket", headers={"X-Request-ID": "one"}) as there:
        assert there.receive_text() == "PostgreSQL 17.0one"
    assert client.get("/own").json() == "PostgreSQL 17.0"
    assert sum("set_config($1, $2, true)" in sql for sql in standin.statements) == 2


@pytest.mark.rule("NP11")
def test_background_task_fails(app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """The log says where."""

    def mistake() -> None:
        raise LookupError

    @app.get("/later")
    def later(tasks: BackgroundTasks) -> None:
        tasks.add_task(mistake)

    assert client.get("/later").status_code == 200
    (record,) = [record for record in caplog.records if "had begun" in record.message]
    assert "mistake" in vars(record)["stack"]


@pytest.mark.rule("NP05")
def test_mounted_application(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """An application inside the application has the request's session, too."""
    inside = FastAPI()

    @inside.post("/things")
    def create(session: DbSession) -> None:
        session.execute(text("insert into things values (1)"))

    app.mount("/inside", inside)
    assert client.post("/inside/things").status_code == 200
    assert standin.rows == 1


@pytest.mark.rule("NP19")
def test_second_commit(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """A COMMIT that failed is forgotten when it succeeds at the second try."""
    answers = iter([Reply(error=("40001", "x"))])
    standin._answer = lambda _, sql: next(answers, None) if sql == "commit" else None

    @app.post("/twice")
    def twice(session: DbSession) -> None:
        for _ in range(2):
            session.execute(text("insert into things values (1)"))
            try:
                session.commit()
            except DBAPIError:
                session.rollback()
            else:
                return

    assert client.post("/twice").status_code == 200
    assert standin.rows == 1


@pytest.mark.rule("NP04", "NP06")
@pytest.mark.parametrize("path", ["/two", "/unread"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_client_gone(path: str, cancelled: bool, standin: Standin, db: Database, app: FastAPI) -> None:
    """A write whose client has left before it could be answered is rolled back, one that is cancelled cut off."""
    standin._answer = lambda _, sql: Reply(hang=True) if cancelled and sql.startswith("insert") else None
    sent: list[Any] = []

    @app.post("/two")
    def two(_: Thing, session: DbSession) -> None:
        session.execute(text("select 1"))
        session.execute(text("insert into things values (1)"))

    @app.post("/unread")
    def unread(session: DbSession) -> None:
        session.execute(text("insert into things values (1)"))

    async def call() -> None:
        body = [{"type": "http.request", "body": b'{"title": "a"}'}, {"type": "http.disconnect"}]
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
            "server": ("x", 80), "client": ("y", 1),
        }  # fmt: skip

        async def receive() -> Any:
            return body.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(app(scope, receive, send))
        if cancelled:
            said = lambda: any(sql.startswith("insert") for sql in standin.statements)  # noqa: E731
            assert await asyncio.to_thread(standin.within, said)
            task.cancel()
        await asyncio.wait([task])

    asyncio.run(call())
    assert standin.within(lambda: db.snapshot().in_use == 0)
    assert standin.rows == 0
    assert cancelled or standin.clients[-1].statements[-1] == "rollback"
    assert sent == []


@pytest.mark.rule("NP08")
def test_problems_everywhere(standin: Standin, client: TestClient) -> None:
    """Every error is a problem."""
    cases = (
        (client.get("/nothing"), 404, "not_found"),
        (client.post("/health"), 405, "method_not_allowed"),
        (client.put("/things"), 405, "method_not_allowed"),
        (client.post("/things", content=b'{"title": '), 415, "unsupported_media_type"),
        (client.post("/things", content=b'{"title": ', headers={"Content-Type": "application/json"}), 400, "bad_json"),
        (client.post("/things", json=[]), 400, "bad_json"),
        (client.post("/things", json={"title": "a", "more": 1}), 400, "bad_json"),
        (client.post("/things", json={"title": 5}), 400, "bad_json"),
        (client.post("/things", json={"title": ""}), 422, "invalid_thing"),
        (client.get("/things/1?limit=0"), 400, "bad_query"),
        (client.get("/things/x"), 404, "not_found"),
        (client.post("/things", content=b"\xff", headers={"Content-Type": "application/json"}), 400, "bad_json"),
        (client.post("/things", content=b"\x1f\x8b", headers=GZIP), 415, "unsupported_media_type"),
        (client.post("/things", json={"title": "x" * 2_000_000}), 413, "body_too_large"),
        (client.post("/things", content=iter([b"x" * 2_000_000])), 413, "body_too_large"),
    )
    for response, status, code in cases:
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        assert response.headers["content-type"] == "application/problem+json"
    assert cases[1][0].headers["allow"] == "GET, HEAD"
    assert client.head("/health").status_code == 200
    described = client.get("/openapi.json").json()["paths"]["/things"]["post"]["responses"]["default"]
    assert list(described["content"]) == ["application/problem+json"]
    assert len(standin.clients) == 1


@pytest.mark.rule("NP08", "NP19")
@pytest.mark.parametrize("status", [500, 200])
def test_handlers_of_the_application(status: int, standin: Standin, app: FastAPI) -> None:
    """One for an exception is asked where that is of COMMIT, too, and makes no success of it."""

    @app.exception_handler(nopool.CommitUnknown)
    def look(*_: object) -> JSONResponse:
        return JSONResponse({"code": "mine"}, status)

    standin._answer = lambda _, sql: Reply(drop=True) if sql == "commit" else None
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.post("/things", json={"title": "a"})
    assert response.status_code == 500
    assert ("mine" in response.text) == (status == 500)


@pytest.mark.rule("NP17")
def test_no_session_in_the_event_loop(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """It would stop the loop that the ends of all others need."""

    @app.get("/loop")
    async def loop(session: DbSession) -> object:
        return session.scalar(text("select 1"))

    assert client.get("/loop").status_code == 500
    assert len(standin.clients) == 1
