"""Visible evaluations of a job, and evaluations from rows of the original system. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from receipt_dynamo.entities import Attempt, JobMetric
from receipt_dynamo.items import JobMetricItem, RawItem, id_of, metric_from, values_of

ORIGINAL_HEADLINE = "val_f1"


def visible(metrics: Sequence[JobMetric], attempts: Sequence[Attempt]) -> list[JobMetric]:
    """Evaluations that no later attempt repeated.

    One at step s by attempt a is visible iff s <= resume_step of every later attempt: what followed the checkpoint
    from which training resumed is discarded history. Of two at one step the later attempt's is visible: an evaluation
    that was due at the resume point is repeated by each attempt that begins there.
    """
    shown = [metric for metric in metrics if _is_visible(metric, attempts)]
    newest = {metric.global_step: metric.attempt for metric in sorted(shown, key=lambda metric: metric.attempt or 0)}
    return [metric for metric in shown if metric.global_step is None or metric.attempt == newest[metric.global_step]]


def _is_visible(metric: JobMetric, attempts: Sequence[Attempt]) -> bool:
    if metric.attempt is None or metric.global_step is None:
        return True
    later = (attempt for attempt in attempts if attempt.attempt > metric.attempt)
    return all(metric.global_step <= attempt.resume_step for attempt in later)


@dataclass(frozen=True)
class OriginalValue:
    """A row of the original system: one value of an evaluation, and no metric_value."""

    metric_name: str
    timestamp: datetime
    value: JsonValue = None
    step: float | None = None
    epoch: float | None = None


def evaluation_from(raw: RawItem) -> JobMetric | OriginalValue:
    """An evaluation, or one value of one in a row of the original system, for fold_original_rows."""
    values = values_of(JobMetricItem, raw)
    if "metric_value" in values:
        return metric_from(id_of(raw), values)
    row = OriginalValue(**{name: values[name] for name in _ORIGINAL & values.keys()})
    if row.metric_name in _NUMBERS and _number(row) is None:
        raise ValueError(f"{row.metric_name} is not a number: {row.value!r}")
    return row


_ORIGINAL = frozenset(OriginalValue.__dataclass_fields__)


def fold_original_rows(job_id: str, rows: Sequence[OriginalValue]) -> list[JobMetric]:
    """One JobMetric per step with a val_f1 row; it includes the step's other values.

    Rows without a step are grouped by epoch, else by time. A step without val_f1 has no headline and is left out: a
    loss must never win a `max`.
    """
    groups: dict[tuple[str, float | str], dict[str, OriginalValue]] = {}
    for row in rows:
        moment: tuple[str, float | str] = ("time", row.timestamp.isoformat())
        if row.step is not None:
            moment = ("step", row.step)
        elif row.epoch is not None:
            moment = ("epoch", row.epoch)
        groups.setdefault(moment, {})[row.metric_name] = row
    return [
        _evaluation(job_id, group) for group in groups.values() if _number(group.get(ORIGINAL_HEADLINE)) is not None
    ]


def _evaluation(job_id: str, group: dict[str, OriginalValue]) -> JobMetric:
    headline = group[ORIGINAL_HEADLINE]
    named = {name: _number(group.get(source)) for name, source in _SOURCES.items()}
    extras: dict[str, JsonValue] = {name: row.value for name, row in group.items() if name not in _NUMBERS}
    return JobMetric(
        job_id=job_id,
        timestamp=headline.timestamp,
        metric_name=ORIGINAL_HEADLINE,
        metric_value=_number(headline) or 0.0,
        epoch=headline.epoch,
        global_step=None if headline.step is None else int(headline.step),
        extras=extras,
        **named,  # type: ignore[arg-type]  # all of them floats
    )


# our field -> the original's row
_SOURCES = {
    "precision": "val_precision",
    "recall": "val_recall",
    "eval_loss": "eval_loss",
    "train_loss": "train_loss",
    "lr": "learning_rate",
}
_NUMBERS = {ORIGINAL_HEADLINE, *_SOURCES.values()}


def _number(row: OriginalValue | None) -> float | None:
    value = None if row is None else row.value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
