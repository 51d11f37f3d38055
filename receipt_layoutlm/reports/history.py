"""The history of a run: what a report is made from, as plain records."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from pydantic import JsonValue

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.reports.report import (
    Artifact,
    Comparability,
    DataFacts,
    EvaluationPoint,
    HeldOutScores,
    JobFacts,
    MachineFacts,
    OptionRow,
    ReportedAttempt,
    RunTotals,
)
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.run.scores import Bin, LabelScore


@dataclass(frozen=True, slots=True)
class Findings:
    """Problems that the run found in its own curve, a line each, and the options to change first."""

    lines: Sequence[str] = ()
    remedy: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """One evaluation with its tables, as far as they are stored: in the table a run has no confusion matrix."""

    point: EvaluationPoint
    per_label: Mapping[str, LabelScore] = field(default_factory=dict)
    breakdowns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    predicted_labels: Mapping[str, int] = field(default_factory=dict)
    reliability: Sequence[Bin] = ()


@dataclass(frozen=True, slots=True)
class JudgedPredictions:
    """Stored predictions of one evaluation, and the pages by id. trained_on: groups of the training set, if known."""

    global_step: int
    predicted: Sequence[PredictedPage]
    pages: Mapping[str, Page]
    trained_on: Set[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """A run as far as it got. evaluations: in time order, with those that a later attempt repeated."""

    job: JobFacts
    data: DataFacts
    machine: MachineFacts
    comparability: Comparability
    attempts: Sequence[ReportedAttempt]
    totals: RunTotals
    evaluations: Sequence[RunEvaluation]
    test: HeldOutScores | None
    findings: Findings
    predictions: JudgedPredictions | None
    options: Sequence[OptionRow]
    artifacts: Sequence[Artifact]
    notes: Sequence[str]
