"""By which number weights are the best ones: its name, its value in an evaluation, and the guard beside it."""

import re
from typing import Final, NamedTuple

from receipt_layoutlm.events import Evaluation

LOSS: Final = "loss"
_WHOLE: Final = ("f1", "macro_f1", "field_f1", "precision", "recall", LOSS)
_OF_LABEL = re.compile(r"(f1|precision|recall)_([A-Za-z][A-Za-z0-9_.-]{0,63})")
_GUARD = re.compile(r"\s*(\S+?)\s*>=\s*([0-9.]+)\s*\*\s*best\s*")


class Guard(NamedTuple):
    """New best weights keep at least this share of the metric's best so far."""

    metric: str
    share: float


def metric_name(text: str) -> str:
    """A metric's name without `eval_` before it; ValueError with those that there are."""
    name = text.removeprefix("eval_")
    if name not in _WHOLE and not _OF_LABEL.fullmatch(name):
        raise ValueError(f"{text} is no metric: give {', '.join(_WHOLE)}, or one of a label, say f1_GRAND_TOTAL")
    return name


def label_in(name: str) -> str | None:
    """The label that a metric is of, None for one of all labels."""
    found = None if name in _WHOLE else _OF_LABEL.fullmatch(name)
    return found[2] if found else None


def parse_guard(text: str) -> Guard:
    """The guard in METRIC>=SHARE*best; ValueError."""
    found = _GUARD.fullmatch(text)
    if not found or not 0 < float(found[2]) <= 1:
        raise ValueError(f"{text} is no guard: write METRIC>=SHARE*best with a share up to 1, say f1>=0.98*best")
    name = metric_name(found[1])
    if name == LOSS:
        raise ValueError("a guard is for a metric that is better when it is greater, not for a loss")
    return Guard(name, float(found[2]))


def checked_guard(text: str) -> str:
    """The same text; ValueError when it is no guard."""
    parse_guard(text)
    return text


def headline_name(name: str) -> str:
    """Under which name the headline is stored. A loss is negated, since a headline is better when it is greater."""
    return f"negative_eval_{LOSS}" if name == LOSS else f"eval_{name}"


def value_in(evaluation: Evaluation, name: str) -> float:
    """The metric's value; a label that nobody learned counts 0. Greater is better, so a loss is negated."""
    if name == LOSS:
        return -evaluation.eval_loss
    if (label := label_in(name)) is not None:
        row = evaluation.per_label.get(label)
        return 0.0 if row is None else float(getattr(row, name.partition("_")[0]))
    value = getattr(evaluation, name)
    return 0.0 if value is None else float(value)


def keeps(guard: Guard, history: list[Evaluation], new: Evaluation) -> bool:
    """Whether a new evaluation holds the guard against the best before it."""
    best = max((value_in(each, guard.metric) for each in history), default=0.0)
    return value_in(new, guard.metric) >= guard.share * best
