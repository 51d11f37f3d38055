"""Whether the model's probabilities mean what they say: expected calibration error, and a temperature that mends it.

Guo et al. 2017, "On Calibration of Modern Neural Networks": logits are divided by one number T, fitted on the part
that the best weights are chosen by. No word changes its class by it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

BINS: Final = 15
"""Of equal width over 0..1; a bin holds its upper edge and not its lower one."""

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature."""

_FLOOR: Final = -1e6  # of a score below its word's highest: an impossible class, without an infinity
_STEPS: Final = 50
_ENOUGH: Final = 1e-8  # relative change of 1/T


class Bin(BaseModel):
    """Words whose confidence (highest probability) is in (low, high]; mean confidence and share that is right."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    words: int
    confidence: float
    accuracy: float


class Calibration(BaseModel):
    """How far probabilities at a temperature are off; bins without words are left out of `reliability`.

    ece: |accuracy - confidence|, averaged over the words. nll: mean negative log-likelihood of the true classes.
    """

    model_config = ConfigDict(frozen=True)

    temperature: float
    words: int
    ece: float
    nll: float
    reliability: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class _Words:
    """Words whose class is known. scores: (words, classes), the highest of each word 0. labels: (words,)."""

    scores: npt.NDArray[np.float64]
    labels: IntArray

    @property
    def of_truth(self) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = self.scores[np.arange(len(self.labels)), self.labels]
        return found


def _known(scores: FloatArray, labels: IntArray) -> _Words:
    known = labels >= 0
    kept = scores[known].astype(np.float64)
    return _Words(np.maximum(kept - kept.max(-1, keepdims=True), _FLOOR), labels[known])


def fit_temperature(scores: FloatArray, labels: IntArray) -> float:
    """The temperature under which the true classes are most likely. Deterministic.

    scores: (words, classes), logits or log-probabilities. labels: (words,), negative where nobody has decided.
    1, which changes nothing, without words and where every word is right: nothing then says how sure is too sure.
    """
    words = _known(scores, labels)
    if (words.of_truth == 0).all():
        return 1.0
    temperature = 1 / _best_inverse(words)
    return temperature if _nll(words, temperature) < _nll(words, 1.0) else 1.0


def _best_inverse(words: _Words) -> float:
    """1/T by Newton's method. The likelihood is concave in it; a step out of the bracket becomes its middle."""
    low, high = 1 / HOTTEST, 1 / COLDEST
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curvature = _derivatives(words, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        proposed = inverse - slope / curvature if curvature > 0 else low
        following = proposed if low < proposed < high else (low + high) / 2
        if abs(following - inverse) <= _ENOUGH * inverse:
            break
        inverse = following
    return following


def _derivatives(words: _Words, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean negative log-likelihood by 1/T."""
    probabilities = _softmax(words.scores * inverse)
    mean = (probabilities * words.scores).sum(-1)
    variance = (probabilities * words.scores**2).sum(-1) - mean**2
    return float((mean - words.of_truth).mean()), float(variance.mean())


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers: npt.NDArray[np.float64] = np.exp(scores)
    shares: npt.NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares


def _nll(words: _Words, temperature: float) -> float:
    spread = np.log(np.exp(words.scores / temperature).sum(-1))
    return float((spread - words.of_truth / temperature).mean())


def calibration(scores: FloatArray, labels: IntArray, temperature: float = 1.0) -> Calibration:
    """How well probabilities at a temperature agree with what is right; all 0 without words. See fit_temperature."""
    words = _known(scores, labels)
    if not len(words.labels):
        return Calibration(temperature=temperature, words=0, ece=0, nll=0, reliability=())
    confidences = _softmax(words.scores / temperature).max(-1)
    reliability = _reliability(confidences, words.scores.argmax(-1) == words.labels)
    off = sum(each.words * abs(each.accuracy - each.confidence) for each in reliability)
    return Calibration(
        temperature=temperature,
        words=len(words.labels),
        ece=off / len(words.labels),
        nll=_nll(words, temperature),
        reliability=reliability,
    )


def _reliability(confidences: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    place = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    confidence = np.bincount(place, confidences, BINS) / np.maximum(count, 1)
    accuracy = np.bincount(place, right, BINS) / np.maximum(count, 1)
    return tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            words=int(count[number]),
            confidence=float(confidence[number]),
            accuracy=float(accuracy[number]),
        )
        for number in np.flatnonzero(count)
    )
