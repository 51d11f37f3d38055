"""Names of the metrics by which weights are selected, and the text of a guard condition."""

import re
from typing import Final, NamedTuple

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
