"""What tests share. A test that needs a database is skipped where there is none, and fails where CI is set."""

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from app import migrations
from app.api.app import create_app
from app.localpg import NotFound
from app.nopool import Database, Limits, parse
from app.settings import Settings
from tests.servers import Postgres

# Settings that the shell has exported, as the README says for Alembic, would have tests migrate the database that they name.
for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
    del os.environ[name]

MakeDatabase = Callable[..., Database]


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
def client(database_url: str, make_db: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of the application on a new database, migrated."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("APP_ENV", "local")
    migrations.run(Settings(), "up", io.StringIO())
    with TestClient(create_app(Settings(), make_db(database_url))) as client:
        yield client


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="app")
