"""What a check of a dataset says: findings, and pages and labels by part."""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.errors import UserError

SHOWN = 10  # examples that a finding names at most


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Finding(_Record):
    """One thing that is wrong or odd. `check` names the kind for programs; examples are pages, groups or lines."""

    severity: Literal["error", "warning"]
    check: str
    message: str
    examples: tuple[str, ...] = ()


class LabelRow(_Record):
    """A label as the data has it: what becomes of it (None: nothing), and its entities, in all and by part."""

    label: str
    becomes: str | None
    entities: int
    parts: dict[str, int]


class CheckReport(_Record):
    """Pages and labels by part as a run would have them, and what was found."""

    pages: dict[str, int]
    labels: tuple[LabelRow, ...]
    kept: dict[str, dict[str, int]]  # label that is learned -> entities by part
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def findings_text(self) -> str:
        """Pages by part, and a line for each finding."""
        pages = ", ".join(f"{count} {part}" for part, count in self.pages.items())
        lines = [f"{each.severity:8} {each.check:20} {each.message}" for each in self.findings]
        return "\n".join([f"pages: {pages}", *lines])

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "warning"]


class CheckFailed(UserError):
    """The data cannot be trained on as it is."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__("; ".join(finding.message for finding in report.errors))


def error(check: str, message: str, examples: Iterable[str] = ()) -> Finding:
    """The run would fail, or its numbers would mean nothing."""
    return Finding(severity="error", check=check, message=message, examples=tuple(examples)[:SHOWN])


def warning(check: str, message: str, examples: Iterable[str] = ()) -> Finding:
    """For a person to judge."""
    return Finding(severity="warning", check=check, message=message, examples=tuple(examples)[:SHOWN])
