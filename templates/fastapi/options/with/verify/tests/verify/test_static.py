"""The checks of the source find nothing in this project."""

import pytest

from tests.verify.static import findings

RULES = ("NP03", "NP04", "NP05", "NP14", "NP15", "NP16", "NP19", "NP24", "NP29")


@pytest.mark.parametrize("rule", [pytest.param(rule, marks=pytest.mark.rule(rule)) for rule in RULES])
def test_project(rule: str) -> None:
    assert [finding for finding in findings() if finding.rule == rule] == []
