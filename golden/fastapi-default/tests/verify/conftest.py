"""What the proof's tests share. The report of the rules is printed after them, and written where --report says."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import NAME
from app.nopool import Database
from app.verify.report import Report, Status
from tests.conftest import MakeDatabase, missing
from tests.servers import Postgres
from tests.verify.program import make_app
from tests.verify.servers import pgbouncer
from tests.verify.standin import Standin
from tests.verify.static import exemptions

# What pytest says of a test, and what the report says of its rules: the worse follows the better.
STATUSES: dict[str, Status] = {"passed": "passed", "skipped": "not run", "failed": "failed", "error": "failed"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where the report goes."""
    parser.addoption("--report", metavar="FILE", help="write the report of the rules, as JSON")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each test's outcome say which rules it proves."""
    for item in items:
        item.user_properties += [("rule", rule) for mark in item.iter_markers("rule") for rule in mark.args]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report: of each rule, what became of the worst of its tests."""
    seen: defaultdict[str, dict[Status, list[str]]] = defaultdict(dict)
    for outcome, status in STATUSES.items():
        for test in terminalreporter.getreports(outcome):
            for name, rule in getattr(test, "user_properties", ()):
                if name == "rule":
                    seen[rule].setdefault(status, []).append(_why(test))
    if not seen:
        return
    report = Report(f"self-verification of {NAME}", exceptions=exemptions())
    for rule in report.results:
        status, why = list(seen[rule].items())[-1] if rule in seen else ("not run", ["no test of it was selected"])
        report.set(rule, status, "\n".join(filter(None, why)))
    terminalreporter.write_line("")
    terminalreporter.write_line(report.text())
    path = config.getoption("--report", default=None)
    if path:
        Path(path).write_text(report.json() + "\n", encoding="utf-8")


def _why(test: Any) -> str:
    """Return why a test was skipped, or the first line of what it failed with."""
    if test.passed:
        return ""
    crash = getattr(test.longrepr, "reprcrash", None)
    text = str(crash.message if crash else test.longrepr[-1])
    return f"{test.head_line}: " + text.partition("\n")[0]


@pytest.fixture
def pooled_url(postgres: Postgres, database_url: str) -> Iterator[str]:
    """A new database behind a PgBouncer that admits 15 clients."""
    if postgres.server is None or not (shutil.which("pgbouncer") or os.access("/usr/sbin/pgbouncer", os.X_OK)):
        missing("PgBouncer before a Postgres of the tests' own")
    assert postgres.server
    with pgbouncer(postgres.server, database_url, 15) as url:
        yield url


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A pooler that admits everybody, until told otherwise."""
    with Standin() as running:
        yield running


@pytest.fixture
def db(standin: Standin, make_db: MakeDatabase) -> Database:
    """A database on the stand-in. SQLAlchemy asks its first connection for more than the others: that one is gone."""
    made = make_db(standin.url)
    made.version()
    assert standin.within(lambda: made.snapshot().in_use == 0)
    return made


@pytest.fixture
def app(db: Database) -> FastAPI:
    """The application on it, with the routes of tests."""
    return make_app(db)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Its client."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
