"""Paired comparison of models on pages that all of them predicted: differences of entity F1 with bootstrap intervals.

Whole groups (merchants) are resampled, since the pages of one merchant resemble each other, and where there are several
runs of a recipe, runs too. Each resample has one unit fewer than there are, which makes its variance unbiased (Rao and
Wu, 1988); the percentiles are those at which a normal interval would have the width of Student's t (Hesterberg, 2015),
and lie two of their own standard errors further out, so that the number of resamples does not make them too narrow.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.run.predictions import PredictedPage

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
LEAST_GROUPS: Final = 5
"""With fewer groups there is no interval."""

_MOST_LABELS: Final = 200  # labels with a row of their own: those with the most true entities
_BLOCK: Final = 250  # resamples computed at a time, which bounds the memory

Run = Mapping[str, PredictedPage]
"""The predicted pages of a run by page id."""

FloatArray = NDArray[np.float64]


class Difference(BaseModel):
    """F1 of two models, or mean F1 of the runs of two recipes. The interval is that of other minus first."""

    model_config = ConfigDict(frozen=True)

    first: float
    other: float
    low: float | None = None
    high: float | None = None
    support: int = 0  # true entities

    @property
    def difference(self) -> float:
        return self.other - self.first

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


class PairedScores(BaseModel):
    """The second model against the first. The pages that became right or wrong are those of two single runs."""

    model_config = ConfigDict(frozen=True)

    pages: int
    groups: int
    f1: Difference
    per_label: dict[str, Difference]  # with true entities, most first
    became_right: tuple[str, ...] = ()
    became_wrong: tuple[str, ...] = ()


def compare_runs(
    first: Sequence[Run], other: Sequence[Run], group_of: Mapping[str, str], resamples: int = RESAMPLES
) -> PairedScores:
    """Compare the runs of two recipes, which are one each or several seeds, on the pages that all of them have.

    group_of: the group of a page id; a page without one is a group of its own. A pure function of its arguments.
    """
    ids = sorted(set.intersection(*(set(run) for run in (*first, *other))))
    groups = {name: place for place, name in enumerate(sorted({group_of.get(each) or each for each in ids}))}
    places = [groups[group_of.get(each) or each] for each in ids]
    true = Counter(entity.label for each in ids for entity in entities(first[0][each].true))
    labels = [label for label, _ in true.most_common(_MOST_LABELS)]
    sides = [
        np.stack([_counts([run[each] for each in ids], places, labels, len(groups)) for run in side])
        for side in (first, other)
    ]
    whole = [_f1(side.sum(axis=1)).mean(axis=0) for side in sides]
    low, high = _interval(sides, resamples) if len(groups) >= LEAST_GROUPS else (None, None)
    found = [
        Difference(
            first=float(whole[0][place]),
            other=float(whole[1][place]),
            low=None if low is None else float(low[place]),
            high=None if high is None else float(high[place]),
            support=true.total() if place == 0 else true[labels[place - 1]],
        )
        for place in range(len(labels) + 1)
    ]
    verdicts = {}  # by page: whether all of its entities are right
    if len(first) == len(other) == 1:
        verdicts = {each: (_is_right(first[0][each]), _is_right(other[0][each])) for each in ids}
    return PairedScores(
        pages=len(ids),
        groups=len(groups),
        f1=found[0],
        per_label=dict(zip(labels, found[1:], strict=True)),
        became_right=tuple(each for each, verdict in verdicts.items() if verdict == (False, True)),
        became_wrong=tuple(each for each, verdict in verdicts.items() if verdict == (True, False)),
    )


def _counts(pages: Sequence[PredictedPage], places: Sequence[int], labels: Sequence[str], groups: int) -> FloatArray:
    """(groups, 1 + labels, 2): right entities, and true and predicted ones together; the first row is of all labels."""
    rows = {label: [0, number] for number, label in enumerate(labels, start=1)}
    counts = np.zeros((groups, len(labels) + 1, 2))
    for page, place in zip(pages, places, strict=True):
        true, predicted = page.entities()
        for entity in true & predicted:
            counts[place, rows.get(entity.label, 0), 0] += 1
        for entity in (*true, *predicted):
            counts[place, rows.get(entity.label, 0), 1] += 1
    return counts


def _f1(counts: FloatArray) -> FloatArray:
    """F1 of counts whose last axis is (right, true and predicted); 0 without any."""
    return np.divide(2 * counts[..., 0], counts[..., 1], out=np.zeros(counts.shape[:-1]), where=counts[..., 1] > 0)


def _interval(sides: Sequence[FloatArray], resamples: int) -> tuple[FloatArray, FloatArray]:
    """The interval of the second side's F1 minus the first's, for each row of the counts."""
    rng = np.random.default_rng(0)
    drawn = np.concatenate(list(_differences(sides, resamples, rng)))
    tail = NormalDist().cdf(-_student(1 - (1 - LEVEL) / 2, sides[0].shape[1] - 1))
    tail = max(tail - 2 * math.sqrt(tail * (1 - tail) / resamples), 0.0)
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def _differences(sides: Sequence[FloatArray], resamples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    groups = sides[0].shape[1]
    for begin in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - begin)
        weights = rng.multinomial(groups - 1, np.full(groups, 1 / groups), size=size).astype(float)
        means = []
        for side in sides:
            scores = np.stack([_f1(np.tensordot(weights, run, axes=1)) for run in side])  # (runs, size, rows)
            runs = len(side)
            chosen = rng.integers(runs, size=(max(runs - 1, 1), size))
            means.append(scores[chosen, np.arange(size)].mean(axis=0))
        yield means[1] - means[0]


def _student(quantile: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion in powers of 1/freedom (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(quantile)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def _is_right(page: PredictedPage) -> bool:
    true, predicted = page.entities()
    return true == predicted
