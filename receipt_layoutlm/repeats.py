"""Balanced page sampling: how often an epoch shows each window, so that rare labels are seen more often.

Repeat factors as in Gupta et al. 2019 (LVIS): a label found in a share f of the windows asks for sqrt(t / f) times,
at least once, a window is shown as its most wanted label asks, and nothing is shown less than once. t is the median
share of the labels, so that there is no number to choose. Pure functions.
"""

import math
from collections import Counter
from collections.abc import Sequence, Set
from statistics import median

from receipt_layoutlm.data import seeded_rank


def repeat_factors(labels: Sequence[Set[str]]) -> list[float]:
    """For each window, by the set of labels in it, how often it is to be shown; 1 where none of them is rare."""
    found = Counter(label for window in labels for label in window)
    if not found:
        return [1.0] * len(labels)
    wanted = median(found.values())
    factors = {label: max(1.0, math.sqrt(wanted / count)) for label, count in found.items()}
    return [max((factors[label] for label in window), default=1.0) for window in labels]


def draw(factors: Sequence[float], seed: int, epoch: int) -> list[int]:
    """Indices of the windows that an epoch shows, each the whole part of its factor times, or once more.

    Who gets one more is drawn by systematic sampling, so every epoch of a run has the same number of windows.
    """
    places = sorted(range(len(factors)), key=lambda place: seeded_rank(f"repeats {epoch}", seed, str(place)))
    drawn: list[int] = []
    owed = 0.5  # the total is rounded to the nearest
    for place in places:
        whole = math.floor(factors[place])
        owed += factors[place] - whole
        extra = int(owed >= 1.0)
        owed -= extra
        drawn.extend([place] * (whole + extra))
    return sorted(drawn)
