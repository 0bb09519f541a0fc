"""The report of a self-verification: every rule, in order, with what its check found."""

import json
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from app.verify.rules import FURTHER, RULES, Rule

# A warning counts as passed, unless it is strict. A check that could not run never does.
Status = Literal["passed", "warned", "failed", "not run"]


@dataclass
class Result:
    """One rule with what was seen, what failed, or why the check did not run. It holds no secret."""

    rule: Rule
    status: Status = "not run"
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Report whether the rule holds."""
        return self.status in ("passed", "warned")

    def advice(self) -> str:
        """Say why the rule exists and what to do, if it failed or warned."""
        return f"why: {self.rule.why}\ndo: {self.rule.do}" if self.status in ("failed", "warned") else ""


ELSEWHERE = "cannot be seen here"  # the detail of a rule that is not counted for that


@dataclass(frozen=True)
class Exemption:
    """A finding that the owner of the code has allowed by a comment such as "# verify: allow NP15 reason"."""

    rule: str
    where: str  # file:line
    reason: str


@dataclass
class Report:
    """The outcome."""

    title: str
    results: dict[str, Result] = field(default_factory=lambda: {rule.id: Result(rule) for rule in RULES})
    exceptions: list[Exemption] = field(default_factory=list)

    def set(self, rule: str, status: Status, detail: str = "") -> None:
        """Record the outcome of a rule."""
        self.results[rule].status, self.results[rule].detail = status, detail

    def strict(self) -> None:
        """Make failures of all warnings."""
        for result in self.results.values():
            if result.status == "warned":
                result.status = "failed"

    @property
    def failed(self) -> bool:
        """Report whether any check failed. One that was not run has not."""
        return any(result.status == "failed" for result in self.results.values())

    def counts(self) -> dict[str, Any]:
        """Return the last line of the report as numbers."""

        def tally(passed: list[bool]) -> dict[str, int]:
            return {"passed": sum(passed), "total": len(passed)}

        every = list(self.results.values())
        seen = [result for result in every if result.detail != ELSEWHERE]
        areas = {result.rule.area for result in every} - {FURTHER}
        whole = areas - {result.rule.area for result in every if result.detail == ELSEWHERE}
        statuses = [result.status for result in every]
        return {
            "areas": tally([all(one.passed for one in seen if one.rule.area == area) for area in whole]),
            "checks": tally([one.passed for one in seen if one.rule.area in areas]),
            "further": tally([one.passed for one in seen if one.rule.area == FURTHER]),
            "warned": statuses.count("warned"),
            "not_run": statuses.count("not run"),
            "elsewhere": len(every) - len(seen),
        }

    def summary(self) -> str:
        """Return the last line of the report, such as "areas 6/6, checks 15/15, further 16/16"."""
        counts = self.counts()
        line = ", ".join(
            f"{kind} {counts[kind]['passed']}/{counts[kind]['total']}" for kind in ("areas", "checks", "further")
        )
        warned = f", {counts['warned']} warned" if counts["warned"] else ""
        left = counts["not_run"] - counts["elsewhere"]
        not_run = f", {left} not run" if left else ""
        elsewhere = f"; {counts['elsewhere']} are for the tests to see" if counts["elsewhere"] else ""
        return line + warned + not_run + elsewhere

    def json(self) -> str:
        """Return the report as docs/verification.md describes it."""
        rules = [
            {**asdict(result.rule), "status": result.status} | ({"detail": result.detail} if result.detail else {})
            for result in self.results.values()
        ]
        document = {
            "summary": self.summary(),
            "counts": self.counts(),
            "title": self.title,
            "rules": rules,
            "exceptions": [asdict(exception) for exception in self.exceptions],
        }
        return json.dumps(document, indent=2, ensure_ascii=False)

    def text(self) -> str:
        """Return the report for people, at most 80 columns wide."""
        lines, area = self.title.splitlines(), ""
        for result in self.results.values():
            rule = result.rule
            if rule.area != area:  # rules of an area follow one another
                area = rule.area
                lines += ["", area]
            lines.append(f"  {rule.id}  {result.status:7}  {rule.title}")
            lines += _wrap(rule.limitation) + _wrap(result.detail) + _wrap(result.advice())
        for exception in self.exceptions:
            lines += ["", f"allowed by the owner: {exception.rule} at {exception.where}", *_wrap(exception.reason)]
        return "\n".join([*lines, "", self.summary()])


def _wrap(text: str) -> list[str]:
    indent = " " * 17  # under a rule's title
    return [indent + line for part in text.splitlines() for line in textwrap.wrap(part, 63)]
