"""The report of a run as data: report.json. Every task fills the same fields with its own names.

A field that the run does not have is empty or None: a job without an evaluation has a report too. Times are aware UTC,
durations seconds, money US dollars, texts as they are stored: hostile, to be escaped by whoever shows them.
"""

from collections import Counter
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from receipt_layoutlm.run.scores import Bin

SCHEMA_VERSION: Final = 1

AttemptEnding = Literal["running", "succeeded", "interrupted", "cancelled", "failed"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class JobFacts(_Part):
    """The job. status_text: its state in words; error: why it failed, None where it did not or texts are left out."""

    job_id: str
    name: str
    status: str
    status_text: str
    task: str
    pretrained: str | None
    description: str
    created_at: datetime
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None
    tags: dict[str, str]
    stop_reason: str | None
    error: str | None


class DataFacts(_Part):
    """What was learned from. Sets are training, validation and test."""

    dataset: str | None
    fingerprint: str | None
    eval_dataset: str | None
    split: str | None
    pages: dict[str, int]
    entities: dict[str, dict[str, int]]  # set -> label -> entities


class MachineFacts(_Part):
    """Hardware in words, and what the code was built from."""

    hardware: str | None
    versions: dict[str, str]
    git_sha: str | None


class ReportedAttempt(_Part):
    """One attempt. Steps that a lost worker may have gone beyond are `is_at_least`."""

    attempt: int
    worker_id: str
    machine: str
    started_at: datetime
    ended_at: datetime | None
    ending: AttemptEnding
    outcome: str
    resume_step: int
    last_step: int | None
    lost_steps: int | None
    is_at_least: bool
    wait_seconds: float
    running_seconds: float
    phase_seconds: dict[str, float]
    cost: float | None


class RunTotals(_Part):
    """Sums over the attempts, until now where the job has not ended."""

    wall_seconds: float
    running_seconds: float
    waiting_seconds: float
    lost_steps: int
    cost: float | None


class EvaluationPoint(_Part):
    """One evaluation. Those that a later attempt repeated are not visible."""

    global_step: int
    attempt: int | None  # None: of the job that this one continues
    is_visible: bool
    epoch: float | None
    metric_name: str
    metric_value: float
    train_loss: float | None
    eval_loss: float | None
    lr: float | None
    is_best: bool
    scores: dict[str, float]


class BestScores(_Part):
    """The best evaluation: its headline, every named number, every named table."""

    metric_name: str
    metric_value: float
    global_step: int | None
    epoch: float | None
    scores: dict[str, float]
    breakdowns: dict[str, dict[str, float]]


class HeldOutScores(_Part):
    """The best weights on the test set, which selected nothing."""

    metric_name: str
    metric_value: float
    pages: int
    scores: dict[str, float]


class Comparability(_Part):
    """Whether the scores may be compared with another run's; `fields` must be equal in both."""

    text: str
    sha256: str | None
    fields: dict[str, str]


class LabelHistory(_Part):
    """Scores of a label at the best evaluation. history: its F1 at each visible evaluation that is shown."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    train_entities: int | None
    history: tuple[float | None, ...]


class CellPage(_Part):
    """A page behind a cell of the confusion matrix; words: how many of its words are in the cell."""

    page_id: str
    words: int


class ConfusionCell(_Part):
    """A cell that is not zero. pages: those with most words in it; page_count: all of them."""

    true: str
    predicted: str
    count: int
    pages: tuple[CellPage, ...] = ()
    page_count: int = 0


class Confusion(_Part):
    """Confusion of classes, the frequent ones where there are too many. unit: what is counted."""

    classes: tuple[str, ...]
    cells: tuple[ConfusionCell, ...]
    left_out: int  # classes
    unit: str

    @property
    def totals(self) -> Counter[str]:
        """What is counted of each true class, in the cells that are there."""
        totals = Counter[str]()
        for cell in self.cells:
            totals[cell.true] += cell.count
        return totals


class HistogramRow(_Part):
    """Predictions of a class; true: how many there should be, None if unknown."""

    label: str
    predicted: int
    true: int | None


class Reliability(_Part):
    """Confidence against what was right. ece: |accuracy - confidence|, averaged over what the bins count."""

    ece: float
    ece_calibrated: float | None
    temperature: float | None
    bins: tuple[Bin, ...]
    source: str


class SliceRow(_Part):
    """Entity scores of some pages."""

    name: str
    pages: int
    support: int
    precision: float
    recall: float
    f1: float


class WorstPage(_Part):
    """A page with many errors. errors: by kind, as overlays name them."""

    page_id: str
    group: str | None
    errors: dict[str, int]
    right: int
    lowest_confidence: float | None


class OptionRow(_Part):
    """An option that is not at its default; source: where its value came from."""

    option: str
    value: JsonValue
    default: JsonValue
    source: str


class Artifact(_Part):
    """A stored file or folder; sha256: of its content or its manifest, None if unknown."""

    name: str
    uri: str
    size: int | None  # bytes
    sha256: str | None


class Advice(_Part):
    """Something to try next. evidence: the figures that it rests on; command: what to type, None if no one does it."""

    rule: str
    advice: str
    evidence: tuple[str, ...]
    command: str | None


class Report(_Part):
    """All that a report shows beside the drawings of pages."""

    schema_version: Literal[1] = SCHEMA_VERSION
    made_at: datetime
    made_by: str  # version of this package
    is_redacted: bool
    job: JobFacts
    data: DataFacts
    machine: MachineFacts
    comparability: Comparability
    best: BestScores | None
    test: HeldOutScores | None
    totals: RunTotals
    attempts: tuple[ReportedAttempt, ...]
    evaluations: tuple[EvaluationPoint, ...]
    labels: tuple[LabelHistory, ...]
    labels_left_out: int
    confusion: Confusion | None
    histogram: tuple[HistogramRow, ...]
    reliability: Reliability | None
    slices: dict[str, tuple[SliceRow, ...]]
    worst_pages: tuple[WorstPage, ...]
    judged_pages: int  # pages with stored predictions
    options: tuple[OptionRow, ...]
    artifacts: tuple[Artifact, ...]
    advice: tuple[Advice, ...]
    notes: tuple[str, ...]  # what could not be had, and why
