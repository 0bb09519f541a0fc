"""The ways in which a request's session can end, each on a stand-in that hears what is said."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import nopool
from app.api.deps import DbSession, session_with
from app.nopool import Database
from app.nopool.unit import Tx
from tests.conftest import MakeDatabase
from tests.verify.program import make_app
from tests.verify.standin import Client, Reply, Standin

INSERT = text("insert into things values ('x')")


def plain(_: Session) -> object:
    return {}


def streams(_: Session) -> object:
    return StreamingResponse(iter(["a", "b"]))


def raises(_: Session) -> object:
    raise HTTPException(418, "short and stout")


def panics(_: Session) -> object:
    raise ValueError("s3cret")


def swallows(session: Session) -> object:
    with contextlib.suppress(Exception):  # as careless code does
        session.execute(text("select broken"))
    return {}


def commits_and_ignores(session: Session) -> object:
    with contextlib.suppress(Exception):
        session.commit()
    return {}


def ends_it(session: Session) -> object:
    session.execute(text("rollback"))
    return {}


def lingers(session: Session) -> object:
    session.execute(text("select leave"))
    time.sleep(0.2)
    return {}


@dataclass(frozen=True)
class End:
    """What a handler does behind its INSERT, what the server does at COMMIT, and what must come of it."""

    name: str
    then: Callable[[Session], object] | None
    status: int
    code: str = ""
    commit: Reply | None = None
    last: str = "commit"  # what the server is told in the end
    polite: bool = True  # the connection ends by Terminate, outside a transaction


LOST = Reply(drop=True)
ENDS = (
    End("kept", plain, 200),
    End("an error status", raises, 418, "i'm_a_teapot", last="rollback"),
    End("a panic", panics, 500, "internal_error", last="rollback"),
    End("a response of 422", lambda _: JSONResponse({}, 422), 422, last="rollback"),
    End("a stream", streams, 200),
    End("COMMIT lost", plain, 500, "commit_unknown", LOST, polite=False),
    End("COMMIT lost, a stream", streams, 500, "commit_unknown", LOST, polite=False),
    End("COMMIT refused", plain, 409, "already_exists", Reply(error=("23505", "s3cret"))),
    End("COMMIT refused for now", plain, 503, "concurrent_change", Reply(error=("40001", "s3cret"))),
    End(
        "COMMIT ends the connection",
        plain,
        500,
        "commit_unknown",
        Reply(error=("57P01", "x"), fatal=True),
        polite=False,
    ),
    End("COMMIT answered by ROLLBACK", plain, 500, "internal_error", Reply("ROLLBACK")),
    End("an ignored error", swallows, 500, "internal_error"),
    End("its own commit", Session.commit, 200),
    End("its own commit lost", Session.commit, 500, "commit_unknown", LOST, polite=False),
    End("its own commit lost and ignored", commits_and_ignores, 500, "commit_unknown", LOST, polite=False),
    End("its own rollback, as a statement", ends_it, 500, "internal_error", last="rollback"),
    End("lost before COMMIT", lingers, 503, "database_unavailable", last="select leave", polite=False),
    End("no statement", None, 200, last=""),
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
@pytest.mark.rule("NP04", "NP05", "NP06", "NP08", "NP18", "NP19", "NP23", "NP24", "NP28")
def test_ends(
    end: End, standin: Standin, db: Database, app: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(client: Client, sql: str) -> Reply | None:
        if sql == "select broken":
            return Reply(error=("42703", "s3cret"))
        if sql == "select leave":
            return Reply(leave=True)
        return end.commit if sql == "commit" else None

    standin._answer = answer

    @app.post("/end", response_model=None)
    def route(session: DbSession) -> object:
        if end.then is None:
            return {}
        session.execute(INSERT)
        return end.then(session)

    response = client.post("/end")
    assert response.status_code == end.status, response.text
    assert response.status_code < 400 or not end.code or response.json()["code"] == end.code
    assert "s3cret" not in response.text + str(response.headers) + caplog.text.replace("server_message", "")
    assert standin.within(lambda: db.snapshot().in_use == 0)
    if end.status == 200 and end.last:
        assert standin.rows == 1
    if not end.last:
        assert len(standin.clients) == 1
        return
    (client_seen,) = standin.clients[1:]
    assert standin.within(lambda: client_seen.end)
    assert client_seen.statements[-1].lower() == end.last
    assert (client_seen.end == "terminated" and client_seen.status == "I") == end.polite
    now = db.snapshot()
    assert now.commit_unknown == (end.code == "commit_unknown")
    assert now.opened == now.closed == 2
    assert now.close_timeouts == 0


@pytest.mark.rule("NP19")
@pytest.mark.parametrize("then", ["execute", "commit", "rollback", "close"])
def test_swallowed_opening(then: str, make_db: MakeDatabase) -> None:
    """What could not be begun is no success, whatever a handler does about it."""
    app = make_app(make_db("postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable"))

    @app.post("/swallow")
    def swallow(session: DbSession) -> None:
        for _ in range(2):
            with contextlib.suppress(nopool.Unavailable):
                session.execute(INSERT)
        if then != "execute":
            getattr(session, then)()

    with TestClient(app) as client:
        assert client.post("/swallow").status_code == 503


@pytest.mark.rule("NP05", "NP22", "NP28")
@pytest.mark.parametrize("handler", [plain, streams], ids=["returned", "streamed"])
def test_commit_comes_first(
    handler: Callable[[Session], object], standin: Standin, db: Database, app: FastAPI, client: TestClient
) -> None:
    """Nothing of a response leaves before COMMIT is acknowledged; the server's close is not waited for."""
    standin.release_lag = 1
    standin._answer = lambda _, sql: Reply("COMMIT", after=0.3) if sql == "commit" else None

    @app.post("/slow", response_model=None)
    def slow(session: DbSession) -> object:
        session.execute(INSERT)
        return handler(session)

    began = time.monotonic()
    with client.stream("POST", "/slow") as response:
        assert response.status_code == 200
        assert time.monotonic() - began >= 0.3
        assert db.snapshot().in_use == 1


@pytest.mark.rule("NP16", "NP19", "NP31")
@pytest.mark.parametrize(
    ("tx", "waits"),
    [(None, False), (Tx(True, wait_for_commit=True), True), (Tx(True, "serializable"), True)],
    ids=["read", "waits", "serializable"],
)
def test_reads_do_not_wait(
    tx: Tx | None, waits: bool, standin: Standin, db: Database, app: FastAPI, client: TestClient
) -> None:
    """The answer to a read leaves before its COMMIT is acknowledged, unless it can fail or is to wait."""

    def answer(client: Client, sql: str) -> Reply | None:
        level = "serializable" if "serializable" in client.statements[0] else "read committed"
        if "set_config" in sql:
            return Reply("SELECT 1", (level, *[""] * 10))
        return Reply("COMMIT", after=1) if sql == "commit" else None

    standin._answer = answer

    @app.get("/read")
    def read(session: Annotated[Session, session_with(tx)] if tx else DbSession) -> object:  # type: ignore[valid-type]
        return session.scalar(text("select 1"))

    assert client.get("/read").status_code == 200
    assert (db.snapshot().committed == 2) == waits
    assert standin.within(lambda: standin.clients[-1].end == "terminated")
    assert standin.clients[-1].statements[0].endswith("read only")
    assert standin.statements[-1] == "commit"


@pytest.mark.rule("NP28")
def test_session_of_stream_is_over(standin: Standin, app: FastAPI, client: TestClient) -> None:
    """A stream that asks the database behind its first byte is cut short, and not answered from another session."""

    def rows(session: Session) -> Iterator[str]:
        yield "first"
        standin.within(lambda: standin.clients[1].end)
        yield str(session.scalar(text("select 1")))

    @app.get("/late")
    def late(session: DbSession) -> StreamingResponse:
        session.execute(text("select 1"))
        return StreamingResponse(rows(session))

    assert "1" not in client.get("/late").text
    assert len(standin.clients) == 2


@pytest.mark.rule("NP16")
def test_transaction_is_what_was_asked_for(standin: Standin, db: Database) -> None:
    tx = Tx(read_only=True, isolation="serializable", settings=(("request.jwt.claims", "{}"),))
    with db.session(Tx(settings=(("role", "ann"),))), db.session(tx) as session:
        session.execute(text("select 1"))
    first, settings, *_ = standin.clients[-1].statements
    assert first == "begin isolation level serializable read only"
    assert settings.count("set_config(") == 12
    assert settings.count(", true)") == 12
    assert not [said for said in standin.statements if said.startswith("set ")]
