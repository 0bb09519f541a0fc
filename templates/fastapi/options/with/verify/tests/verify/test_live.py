"""The report that "python -m app verify" prints."""

import json

import pytest

from app.settings import Settings
from app.verify import live
from app.verify.report import Report
from app.verify.rules import RULES
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
    assert live.verify(settings, as_json=True, strict=False) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"summary", "counts", "title", "rules", "exceptions"}
    assert [rule["id"] for rule in document["rules"]] == [rule.id for rule in RULES]
    assert max(map(len, report.text().splitlines())) <= 80


def test_unreachable(monkeypatch: pytest.MonkeyPatch, standin: Standin) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable")
    monkeypatch.setenv("APP_ENV", "local")
    report = live.check(Settings())
    assert report.results["NP09"].status == "failed"
    assert "s3cret" not in report.text() + report.json()
    report.results["NP09"].status = "warned"
    report.strict()
    assert report.failed
