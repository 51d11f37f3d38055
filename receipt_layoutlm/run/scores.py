"""Scores of an evaluation: named numbers, tables and rows per class, and model selection by them.

In documents scores are flat: `{"f1": 0.9, "seen": {...}}` stands beside the fixed fields. A reader needs no task to
list, compare or plot them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from receipt_layoutlm.metric_names import LOSS, Guard, label_in


class LabelScore(BaseModel):
    """Scores of one class; support counts its true items in the evaluated set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: float
    recall: float
    f1: float
    support: int


class Bin(BaseModel):
    """Words whose confidence (highest probability) is in (low, high], with mean confidence and accuracy.

    Other tasks have bins of what they score: of pages, say, with mean prediction and mean truth.
    """

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    words: int
    confidence: float
    accuracy: float


class FlatScores(BaseModel):
    """Scores of a task by name; `breakdowns` are named tables of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: dict[str, float] = {}
    breakdowns: dict[str, dict[str, int | float]] = {}
    per_label: dict[str, LabelScore] = {}

    @property
    def flat(self) -> dict[str, Any]:
        """Scores and tables as documents show them, beside the fixed fields."""
        return {**self.scores, **{name: dict(table) for name, table in self.breakdowns.items()}}

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, document: object) -> object:
        """Numbers and tables beside the fixed fields are scores; documents of earlier versions have null for none."""
        if not isinstance(document, Mapping):
            return document
        fixed: dict[str, Any] = {key: value for key, value in document.items() if key in cls.model_fields}
        scores, breakdowns = dict(fixed.pop("scores", {})), dict(fixed.pop("breakdowns", {}))
        for key, value in document.items():
            if key in cls.model_fields or value is None:
                continue
            if isinstance(value, Mapping):
                breakdowns[key] = value
            else:
                scores[key] = value
        return {**fixed, "scores": scores, "breakdowns": breakdowns}

    @model_serializer(mode="wrap")
    def _to_flat(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document = serialize(self)
        scores, breakdowns = document.pop("scores", {}), document.pop("breakdowns", {})
        return {**document, **scores, **breakdowns}


class Scores(FlatScores):
    """Scores of a set of examples. `confusion`: true class -> predicted class -> count."""

    eval_loss: float
    confusion: dict[str, dict[str, int]] = {}
    predicted_labels: dict[str, int] = {}  # histogram
    collapsed: bool = False  # one predicted class, where the truth has several
    reliability: tuple[Bin, ...] = ()  # of the confidences as the model gives them

    def value(self, metric: str) -> float:
        """Value of a metric, greater is better: a loss is negated; a class without a row counts 0."""
        if metric == LOSS:
            return -self.eval_loss
        if metric not in self.scores and (label := label_in(metric)) is not None:
            row = self.per_label.get(label)
            return 0.0 if row is None else float(getattr(row, metric.partition("_")[0]))
        return self.scores.get(metric, 0.0)


def headline_name(metric: str) -> str:
    """Name under which the headline is stored; a loss is negated, since a headline is better when it is greater."""
    return f"negative_eval_{LOSS}" if metric == LOSS else f"eval_{metric}"


def as_number(value: object) -> float | None:
    """A number of a stored document; None for anything else, also for true and false."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def headline_of(results: Mapping[str, JsonValue]) -> str:
    """The headline name of a job's results; `metric_value` where they have the value alone."""
    name = results.get("metric_name")
    return name if isinstance(name, str) else "metric_value"


def stored_score(results: Mapping[str, JsonValue], headline: str) -> float | None:
    """The value that a job's results have under a headline name; greater is better. None if they have none."""
    if headline_of(results) == headline:
        value = results.get("metric_value")
    elif headline == headline_name(LOSS):
        loss = results.get(f"eval_{LOSS}")
        value = -loss if isinstance(loss, int | float) else None
    else:
        metric, per_label = headline.removeprefix("eval_"), results.get("per_label")
        value = results.get(metric)
        if value is None and isinstance(per_label, Mapping) and (label := label_in(metric)) is not None:
            row = per_label.get(label)
            value = row.get(metric.partition("_")[0]) if isinstance(row, Mapping) else None
    return as_number(value)


def shared_headline(documents: Sequence[Mapping[str, JsonValue]]) -> str | None:
    """The headline name by which results (at least one) can be ranked: one that all of them have a value for.

    The first results' own is preferred, then F1, then those of the others.
    """
    own = [headline_of(results) for results in documents]
    candidates = dict.fromkeys([own[0], headline_name("f1"), *own])
    shared = (each for each in candidates if all(stored_score(results, each) is not None for results in documents))
    return next(shared, None)


def meets(guard: Guard, history: Sequence[Scores], scores: Scores) -> bool:
    """Whether scores meet the guard, measured against the best before them."""
    best = max((earlier.value(guard.metric) for earlier in history), default=0.0)
    return scores.value(guard.metric) >= guard.share * best
