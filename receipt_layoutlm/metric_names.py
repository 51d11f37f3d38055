"""Model selection as text: the name of a metric, and the guard condition beside it."""

import re
from collections.abc import Collection
from typing import Final, NamedTuple

LOSS: Final = "loss"
_OF_LABEL = re.compile(r"(f1|precision|recall)_([A-Za-z][A-Za-z0-9_.-]{0,63})")
_GUARD = re.compile(r"\s*(\S+?)\s*>=\s*([0-9.]+)\s*\*\s*best\s*")


class Guard(NamedTuple):
    """New best weights keep at least this share of the metric's best value so far."""

    metric: str
    share: float


def check_metric(text: str, names: Collection[str]) -> str:
    """Metric name without a leading `eval_`; ValueError unless it is one of `names`, the loss, or a label's metric."""
    name = text.removeprefix("eval_")
    if name not in names and name != LOSS and not _OF_LABEL.fullmatch(name):
        raise ValueError(f"{text} is no metric: give {', '.join([*names, LOSS])}, or a label's, e.g. f1_GRAND_TOTAL")
    return name


def label_in(name: str, names: Collection[str] = ()) -> str | None:
    """Label of a per-label metric; None for one over all labels, which are `names`."""
    match = None if name in names else _OF_LABEL.fullmatch(name)
    return match[2] if match else None


def parse_guard(text: str) -> Guard:
    """Guard of METRIC>=SHARE*best; ValueError."""
    match = _GUARD.fullmatch(text)
    if not match or not 0 < float(match[2]) <= 1:
        raise ValueError(f"{text} is no guard: write METRIC>=SHARE*best with a share up to 1, e.g. f1>=0.98*best")
    if match[1].removeprefix("eval_") == LOSS:
        raise ValueError("a guard needs a metric that is better when it is greater, not a loss")
    return Guard(match[1].removeprefix("eval_"), float(match[2]))
