"""What tests share. A test that needs a database is skipped where there is none, and fails where CI is set."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from app.api.app import create_app
from app.localpg import NotFound
from app.nopool import Database, Limits, parse
from app.settings import Settings
from tests.servers import Postgres

# Settings that the shell has exported, as the README says for Alembic, would have tests migrate the database that they name.
for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
    del os.environ[name]

MakeDatabase = Callable[..., Database]
MakeClient = Callable[[Database], TestClient]


def missing(what: str) -> None:
    """Skip a test for want of a server."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, which CI must have")
    pytest.skip(f"no {what} here")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The Postgres of all tests."""
    try:
        server = Postgres()
    except NotFound:
        missing("Postgres")
        raise
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def make_db() -> Iterator[MakeDatabase]:
    """Make databases from URLs, and want all their sessions to be gone in the end."""
    with ExitStack() as made:

        def make(url: str, **limits: float) -> Database:
            target = parse(url, allow_plaintext=True, allow_plain_auth=True)
            chosen = replace(Limits(max_sessions=4, max_waiting=100), **limits)  # type: ignore[arg-type]
            db = Database(target, chosen)
            made.callback(lambda: db.close(10) or pytest.fail(f"sessions were left: {db.snapshot()}"))
            return db

        yield make


@pytest.fixture
def client_of() -> Iterator[MakeClient]:
    """Make clients of the application."""
    target = parse("postgres://h/db?sslmode=require")  # of no use: the database is given
    with ExitStack() as opened:
        yield lambda db: opened.enter_context(TestClient(create_app(Settings(database_url=target), db)))


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="app")
