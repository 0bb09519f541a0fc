"""The settings: every one has a default and a bound, and every problem is reported at once."""

import asyncio
import contextlib
import errno
import logging
import re
import socket
from pathlib import Path

import pytest
from fastapi import FastAPI
from uvicorn import Config
from uvicorn.server import ServerState

from app import CommandError, serve
from app.logs import Formatter
from app.serve import listen
from app.settings import Settings, load

URL = "postgres://app:s3cret@db.example.com/shop?sslmode=require"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)


def test_defaults() -> None:
    settings = load()
    assert (settings.max_sessions, settings.limits.max_waiting, settings.budget_guessed) == (10, 40, True)
    assert settings.listen_at == ("", 8080)
    assert settings.migrations_url is settings.database_url
    assert settings.database_url.host == "db.example.com"
    assert "s3cret" not in f"{settings!r} {settings} {settings.database_url}"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("REQUEST_TIMEOUT", "1m30s", 90.0), ("SHUTDOWN_DELAY", "0", 0.0), ("DB_LOCK_TIMEOUT", "1.5s", 1.5),
        ("DB_CONNECT_TIMEOUT", " 500ms ", 0.5), ("MIGRATION_ALLOW_POOLER", "TRUE", True), ("LOG_LEVEL", "WARN", "warn"),
        ("HTTP_ADDR", "[::1]:80", "[::1]:80"), ("DB_MAX_WAITING", "0", 0),
    ],
)  # fmt: skip
def test_accepted(name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(load(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REQUEST_TIMEOUT", "60"), ("REQUEST_TIMEOUT", "25h"), ("SHUTDOWN_DELAY", "-1s"), ("DB_LOCK_TIMEOUT", "0s"),
        ("DB_REPLICAS", "0"), ("DB_REPLICAS", "1.5"), ("APP_NAME", "two words"), ("LOG_FORMAT", "xml"), ("HTTP_ADDR", "8080"),
        ("HTTP_ADDR", ":99999"), ("DB_ALLOW_PLAIN_AUTH", "maybe"), ("MIGRATION_DATABASE_URL", "mysql://x"),
        ("LOG_LEVEL", URL), ("PORT", "70000"), ("PORT", ":8080"), ("DB_MAXSESSIONS", "5"),
    ],
)  # fmt: skip
def test_refused(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(CommandError) as refused:
        load()
    assert str(refused.value).startswith(f"{name}: ")
    assert "s3cret" not in str(refused.value)


def test_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("DATABASE_URL", ""), ("DB_REPLICAS", "x"), ("LOG_LEVEL", "loud")):
        monkeypatch.setenv(name, text)
    with pytest.raises(CommandError) as refused:
        load()
    names = {line.split(":")[0] for line in str(refused.value).splitlines()}
    assert names == {"DATABASE_URL", "DB_REPLICAS", "LOG_LEVEL"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"REQUEST_TIMEOUT": "15s"}, "more than DB_SESSION_WAIT"),
        ({"DB_STATEMENT_TIMEOUT": "2m"}, "at least DB_STATEMENT_TIMEOUT"),
        ({"DATABASE_URL": f"'{URL}'"}, "in quotes"),
        ({"DB_POOL_SIZE": "15", "DB_MAX_SESSIONS": "14"}, "which is 16"),
    ],
)
def test_contradictions(given: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=text):
        load()


def test_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DB_POOL_SIZE", "15"), ("DB_REPLICAS", "4"), ("DB_RESERVE", "3")):
        monkeypatch.setenv(name, value)
    assert (load().max_sessions, load().limits.replicas) == (3, 4)


def test_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is almost that of a setting is a slip only where that is not set."""
    monkeypatch.setenv("DATABASE_URI", "x")
    assert load().database_url.host == "db.example.com"


def test_listens_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_ADDR", "no.invalid:0")
    with pytest.raises(CommandError, match=r"(?i)cannot listen on no.invalid:0: .*name"):
        listen(load())


def test_log_line_is_one_line() -> None:
    record = logging.makeLogRecord({"msg": "a", "path": "/\x1b[2J\r\x85"})
    assert Formatter(for_people=True).format(record).isprintable()


def test_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform's PORT is listened on, unless HTTP_ADDR says otherwise."""
    monkeypatch.setenv("PORT", "10000")
    assert load().listen_at == ("", 10000)
    monkeypatch.setenv("HTTP_ADDR", "127.0.0.1:9000")
    assert load().listen_at == ("127.0.0.1", 9000)


def test_responses_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a body would wait for the acknowledgement of its head."""
    monkeypatch.setenv("HTTP_ADDR", "127.0.0.1:0")
    with listen(load()) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has a bound for it")
def test_client_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends, and with it what is held of the response."""
    monkeypatch.setattr(serve, "CLIENT_TIMEOUT", 0.5)
    monkeypatch.setenv("HTTP_ADDR", "127.0.0.1:0")
    with listen(load()) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        accepted.settimeout(20)
        with accepted, pytest.raises(TimeoutError) as timeout:
            accepted.sendall(bytes(1 << 26))
        assert timeout.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: 1", b"GET / HTTP/1.1\r\nX: " + b"1" * 1_000_000])
def test_head(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not send it to its end is cut off, at once where it sends too much."""
    monkeypatch.setattr(serve, "CLIENT_TIMEOUT", 0.5 if len(sent) < 100 else 60)

    async def served() -> None:
        config, loop = Config(FastAPI(), log_config=None), asyncio.get_running_loop()
        async with await loop.create_server(lambda: serve._Protocol(config, ServerState(), {}), "127.0.0.1") as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()

    asyncio.run(served())


def test_documented() -> None:
    """Each setting stands in .env.example and in the README, and no other."""
    root = Path(__file__).parent.parent
    example = set(re.findall(r"^#?([A-Z_]+)=", (root / ".env.example").read_text(encoding="utf-8"), re.M))
    readme = set(re.findall(r"^\| `([A-Z_]+)` \|", (root / "README.md").read_text(encoding="utf-8"), re.M))
    assert example == readme == {name.upper() for name in Settings.model_fields}
