"""The report of a dataset check: findings, and the pages and labels of each set."""

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from receipt_layoutlm.errors import UserError

MAX_EXAMPLES = 10  # of one finding

SET_TITLES: Final = {"train": "training", "evaluation": "validation", "test": "test", "all": "in all"}
"""Titles of the sets, by their keys in a report."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Finding(_Record):
    """One problem. `check` is its kind, for programs; `examples` are pages, groups, labels or lines."""

    severity: Literal["error", "warning"]
    check: str
    message: str
    examples: tuple[str, ...] = ()
    remedy: dict[str, JsonValue] = {}  # option of a run -> value to try first

    @property
    def line(self) -> str:
        """For terminal, log and report."""
        return f"{self.check}: {self.message}"


class LabelRow(_Record):
    """A label of the data, the label it becomes (None: dropped), and its entities in all and by set."""

    label: str
    becomes: str | None
    entities: int
    parts: dict[str, int]


class CheckReport(_Record):
    """Pages and labels by set, as a run would see them, and the findings."""

    pages: dict[str, int]
    labels: tuple[LabelRow, ...]
    kept: dict[str, dict[str, int]]  # learned label -> entities by set
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def pages_text(self) -> str:
        """The number of pages of each set in one line."""
        return ", ".join(f"{count} {SET_TITLES[name]}" for name, count in self.pages.items())

    @property
    def findings_text(self) -> str:
        """Pages by set, and a line for each finding."""
        lines = [f"{finding.severity:8} {finding.check:20} {finding.message}" for finding in self.findings]
        return "\n".join([f"pages: {self.pages_text}", *lines])


class CheckFailed(UserError):
    """The data cannot be trained on as it is."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__("; ".join(finding.message for finding in report.errors))


def error(check: str, message: str, examples: Iterable[str] = ()) -> Finding:
    """A finding that fails the check."""
    return Finding(severity="error", check=check, message=message, examples=tuple(examples)[:MAX_EXAMPLES])


def warning(check: str, message: str, examples: Iterable[str] = ()) -> Finding:
    """A finding for a person to judge."""
    return Finding(severity="warning", check=check, message=message, examples=tuple(examples)[:MAX_EXAMPLES])
