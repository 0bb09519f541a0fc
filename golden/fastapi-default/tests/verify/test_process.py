"""The program as a process: how it starts, and how it ends."""

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock, Mock

import pytest
import uvicorn
from fastapi import FastAPI

from app import CommandError, serve
from app.nopool import Database, parse
from app.settings import Settings
from tests.conftest import MakeDatabase
from tests.verify.load import Call, hammer, mixed
from tests.verify.process import Process
from tests.verify.program import make_app
from tests.verify.servers import SOON, within
from tests.verify.standin import Client, Reply, Standin

ABSENT = "postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable"
HEALTH = [("GET", "/health", b"")]
THING = [("POST", "/things", b'{"title": "a"}')]


@pytest.mark.rule("NP09", "NP24")
@pytest.mark.parametrize(
    ("url", "settings", "text"),
    [
        (ABSENT, {"DB_STARTUP_TIMEOUT": "600ms"}, "gave up after 0.6s (DB_STARTUP_TIMEOUT)"),
        ("posgres://app:s3cret@h/db", {}, "the scheme must be postgres://"),
        ("postgres://app:12/s3cret@h/db", {}, "malformed"),
        (ABSENT, {"DB_LOCK_TIMEOUT": "soon", "DB_REPLICAS": "0"}, "DB_LOCK_TIMEOUT"),
    ],
)
def test_fails_at_start(url: str, settings: dict[str, str], text: str) -> None:
    """It exits with a status and a clear line for each problem, and the password nowhere."""
    with Process(url, **settings) as program:
        assert program.wait() == 1
        assert text in program.stderr
        assert all("error: " in line for line in program.errors())
        assert len(program.errors()) == (2 if len(settings) == 2 else 1)
        assert "s3cret" not in program.stderr


@pytest.mark.rule("NP09", "NP20")
def test_wrong_password() -> None:
    """A refused password is given once more, as Supavisor's cache wants it, and the end comes slowly."""
    refused: list[float] = []

    def refuse(_: int) -> tuple[str, str]:
        refused.append(time.monotonic())
        return "28P01", 'password authentication failed for user "app"'

    with Standin(refuse=refuse) as pooler, Process(pooler.url) as program:
        assert program.wait() == 1
        assert len(refused) == 2
        assert time.monotonic() - refused[-1] >= 3
        assert "percent-encoded" in program.stderr


@pytest.mark.rule("NP09")
def test_database_comes_late() -> None:
    """It listens when a whole session was answered, and not before."""
    starting = ("57P03", "the database system is starting up")
    with Standin(refuse=lambda n: starting if n < 5 else None) as pooler, Process(pooler.url) as program:
        assert hammer(program.port(), 1, HEALTH) == {"200": 1}
        assert any("version()" in said for said in pooler.statements)
        assert program.stop() == 0
        assert pooler.within(lambda: pooler.open == 0)


@pytest.mark.rule("NP09")
@pytest.mark.parametrize(("fails", "said"), [(True, "did not start"), (False, "has ended")])
def test_ends_by_itself(
    fails: bool, said: str, standin: Standin, make_db: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that does not start, or calls sys.exit(), is no service that has ended well."""
    app = make_app(make_db(standin.url))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if fails:
            raise LookupError
        asyncio.get_running_loop().call_later(0.1, sys.exit)
        yield

    app.router.lifespan_context = lifespan
    monkeypatch.setattr(serve, "create_app", lambda *_: app)
    target = parse(standin.url, allow_plaintext=True, allow_plain_auth=True)
    with pytest.raises(CommandError, match=said):
        serve.serve(Settings(database_url=target, http_addr="127.0.0.1:0"))


@pytest.mark.rule("NP10")
def test_uvicorn_ends(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does so by itself, which closes the listener, sessions are waited for as at a signal, and the status tells."""
    monkeypatch.setattr(uvicorn.Server, "main_loop", AsyncMock())
    close = Mock(return_value=True)
    monkeypatch.setattr(Database, "close", close)
    target = parse(standin.url, allow_plaintext=True, allow_plain_auth=True)
    with pytest.raises(CommandError, match="by itself"):
        serve.serve(Settings(database_url=target, http_addr="127.0.0.1:0"))
    close.assert_called_once()


@pytest.mark.rule("NP10")
def test_signal_in_session() -> None:
    """A request under way is answered, and its session has ended at the server before the program exits."""
    asked = threading.Event()

    def answer(_: Client, sql: str) -> Reply | None:
        if sql.startswith("insert"):
            asked.set()
            return Reply("INSERT 0 1", after=1)
        return None

    with Standin(answer=answer) as pooler, Process(pooler.url) as program:
        pooler.release_lag = 0.5
        port = program.port()
        with ThreadPoolExecutor() as pool:
            caller = pool.submit(hammer, port, 1, THING)
            assert asked.wait(SOON)
            assert program.stop() == 0
        assert caller.result() == {"201": 1}
        assert pooler.open == 0
        assert pooler.rows == 1
        assert {client.end for client in pooler.clients} == {"terminated"}


@pytest.mark.rule("NP04", "NP10")
@pytest.mark.parametrize(
    ("call", "said", "times"),
    [
        (THING[0], "insert", 1),
        (("GET", "/sleep/100", b""), "select version", 2),  # the first is of the start
        (("GET", "/rest/100", b""), "select version", 2),
    ],
)
def test_request_without_end(call: Call, said: str, times: int) -> None:
    """One that is still under way when the time is over is cut, and so is its session; nothing waits for its thread."""
    with (
        Standin(answer=lambda _, sql: Reply(hang=True) if sql.startswith("insert") else None) as pooler,
        Process(pooler.url, SHUTDOWN_TIMEOUT="1900ms") as program,
    ):
        port = program.port()
        with ThreadPoolExecutor() as pool:
            pool.submit(hammer, port, 1, [call])
            assert pooler.within(lambda: sum(sql.startswith(said) for sql in pooler.statements) == times)
            assert program.stop() == 1
        assert "cut short" in program.stderr
        assert "lifespan" not in program.stderr  # it ends as at any other stop


@pytest.mark.rule("NP04")
def test_client_leaves_a_stream() -> None:
    """The session of a generator that nobody goes on with ends."""
    with Standin() as pooler, Process(pooler.url) as program:
        # Within its answer others leave.
        pooler._answer = lambda _, sql: Reply(after=0.3) if sql.lower() == "rollback" else None
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", program.port())) as client:
                client.sendall(b"GET /rows HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(1000)
                assert client.recv(1000)  # the first can be the head alone
            time.sleep(0.15)
        assert pooler.within(lambda: pooler.open == 0)


@pytest.mark.rule("NP11")
def test_client_leaves_within_its_body() -> None:
    """The log does not call that a malformed body, as FastAPI does."""
    with Standin() as pooler, Process(pooler.url) as program:
        with socket.create_connection(("127.0.0.1", program.port())) as client:
            client.sendall(b"POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert within(SOON, lambda: program.records("request"))
        assert program.records("request")[0]["status"] == 499


@pytest.mark.rule("NP10")
def test_time_to_notice_and_a_second_signal() -> None:
    with Standin() as pooler, Process(pooler.url, SHUTDOWN_DELAY="5m") as program:
        port = program.port()
        program.child.send_signal(signal.SIGTERM)
        assert within(SOON, lambda: hammer(port, 1, [("GET", "/ready", b"")])["503"])
        assert hammer(port, 1, HEALTH) == {"200": 1}
        assert program.stop() == 130


@pytest.mark.rule("NP10", "NP17")
def test_signal_under_load() -> None:
    """Every request that was accepted is answered, and the program ends with 0."""
    with Standin(size=15) as pooler, Process(pooler.url, DB_MAX_SESSIONS="8") as program:
        port = program.port()
        with ThreadPoolExecutor() as pool:
            load = pool.submit(hammer, port, 32, mixed(100_000))
            assert within(SOON, lambda: pooler.rows > 30)
            assert program.stop() == 0
        counts = load.result()
        assert set(counts) <= {"200", "201", "refused"}, counts
        assert counts["201"] == pooler.rows
        assert pooler.within(lambda: pooler.open == 0)
