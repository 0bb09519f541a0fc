"""The report that "python -m app verify" prints."""

import json
import re
from collections.abc import Callable

import pytest

from app.settings import Settings
from app.verify import live
from app.verify.report import Report, Result
from app.verify.rules import RULES
from tests.servers import Postgres
from tests.verify.servers import pgbouncer, query
from tests.verify.standin import Standin


def test_rules() -> None:
    assert {rule.id for rule in RULES} == {f"NP{number:02}" for number in range(1, 32)}
    assert Report("x").summary() == "areas 0/6, checks 0/15, further 0/16, 31 not run"


def test_healthy(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("APP_ENV", "local")
    monkeypatch.setenv("DB_MAX_SESSIONS", "4")
    settings = Settings()
    report = live.check(settings)
    assert {rule: result.status for rule, result in report.results.items() if result.status == "failed"} == {}, (
        report.text()
    )
    assert re.fullmatch("areas 1/1, checks 5/5, further 3/3(, . warned)?; 23 are.*", report.summary())
    assert live.verify(settings, as_json=True, strict=False) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"summary", "counts", "title", "rules", "exceptions"}
    assert [rule["id"] for rule in document["rules"]] == [rule.id for rule in RULES]
    assert max(map(len, report.text().splitlines())) <= 80


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """What is said of NP30 with a URL."""
    monkeypatch.setenv("APP_ENV", "local")

    def see(url: str) -> Result:
        monkeypatch.setenv("DATABASE_URL", url)
        return live.check(Settings()).results["NP30"]

    return see


RLS = "alter table t enable row level security; alter table t force row level security"


@pytest.mark.parametrize(
    ("policy", "shut"),
    [
        ("", True),
        ("create policy p on t using (false)", True),
        ("create policy p on t to pg_monitor using (true)", True),
        ("create policy p on t using (current_user not in ('anon', 'authenticated'))", False),
    ],
)
def test_row_level_security(policy: str, shut: bool, database_url: str, migrated: Callable[[str], Result]) -> None:
    """A role that sees no row of its tables is told so."""
    query(database_url, f"create table t (x int); {RLS}; {policy}")
    found = migrated(database_url)
    assert (found.status == "failed") == shut == ("shuts this role out" in found.detail), found


def test_public_api(postgres: Postgres, database_url: str, migrated: Callable[[str], Result]) -> None:
    """Tables that Supabase's public API can read are named, unless row-level security guards them."""
    if postgres.server is None:
        pytest.skip("TEST_DATABASE_URL need not let us make roles")
    admin = postgres.server.admin_url("postgres")
    for role in ("anon", "authenticated"):
        if not query(admin, f"select true from pg_roles where rolname = '{role}'"):
            query(admin, f"create role {role}")
    query(database_url, "create table bare (x int); create table kept (x int); grant select on bare, kept to anon")
    query(database_url, "alter table kept enable row level security")
    found = migrated(database_url)
    assert found.status == "warned"
    assert found.detail.endswith("security: bare"), found


def test_transaction_mode(
    pooled_url: str, database_url: str, postgres: Postgres, migrated: Callable[[str], Result]
) -> None:
    """A pooler that hands each transaction to another connection is no place for migrations."""
    assert migrated(pooled_url).status != "failed"
    assert postgres.server
    with pgbouncer(postgres.server, database_url, 15, "transaction") as url:
        assert "transaction mode" in migrated(url).detail


def test_unreachable(monkeypatch: pytest.MonkeyPatch, standin: Standin) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable")
    monkeypatch.setenv("APP_ENV", "local")
    report = live.check(Settings())
    assert report.results["NP09"].status == "failed"
    assert "s3cret" not in report.text() + report.json()
    report.results["NP09"].status = "warned"
    report.strict()
    assert report.failed
