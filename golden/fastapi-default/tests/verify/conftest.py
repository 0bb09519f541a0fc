"""What the proof's tests share. The report of the rules is printed after them, and written where --report says."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import NAME
from app.verify.report import Report
from tests.conftest import MakeClient, missing
from tests.servers import Postgres
from tests.verify.program import make_app
from tests.verify.servers import pgbouncer
from tests.verify.standin import Standin
from tests.verify.static import exemptions

TITLE = f"self-verification of {NAME}"


class Proof:
    """Collects what became of each rule's tests."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)
        self.details: dict[str, list[str]] = defaultdict(list)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: "pytest.CallInfo[None]") -> "object":
        """Note how a test ended: by its worst phase."""
        outcome = yield
        found = outcome.get_result()  # type: ignore[attr-defined]
        for mark in item.iter_markers("rule"):
            for rule in mark.args:
                if found.outcome != "passed" or found.when == "call":
                    ranks = ["passed", "skipped", "failed"]
                    before = self.outcomes[rule].get(item.name, "passed")
                    self.outcomes[rule][item.name] = max(before, found.outcome, key=ranks.index)
                if found.outcome == "failed":
                    text = str(call.excinfo.value).splitlines() if call.excinfo else []
                    self.details[rule].append(f"{item.name}: {text[0] if text else 'failed'}")
                elif found.outcome == "skipped" and call.excinfo:
                    self.details[rule].append(f"{item.name}: {call.excinfo.value}")

    def report(self) -> Report:
        """Return the report."""
        report = Report(TITLE, exceptions=exemptions())
        for rule in report.results:
            tests = self.outcomes.get(rule, {})
            detail = "\n".join(dict.fromkeys(self.details.get(rule, [])))
            if "failed" in tests.values():
                report.set(rule, "failed", detail)
            elif not tests:
                report.set(rule, "not run", "no test of it was selected")
            elif "skipped" in tests.values():
                report.set(rule, "not run", detail)
            else:
                report.set(rule, "passed")
        return report

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Print the report."""
        if not self.outcomes:
            return
        report = self.report()
        terminalreporter.write_line("")
        terminalreporter.write_line(report.text())
        path = config.getoption("--report", default=None)
        if path:
            Path(path).write_text(report.json() + "\n", encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where the report goes."""
    parser.addoption("--report", metavar="FILE", help="write the report of the rules, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Watch the tests."""
    config.pluginmanager.register(Proof(), "proof")


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
def client_of() -> Iterator[MakeClient]:
    """Make clients of the application with the routes of tests."""
    with ExitStack() as opened:
        yield lambda db: opened.enter_context(TestClient(make_app(db), raise_server_exceptions=False))
