"""Calibration: expected calibration error and temperature scaling.

Guo et al. 2017, "On Calibration of Modern Neural Networks": logits are divided by one number T, fitted on the
validation set. Predicted classes do not change.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.run.scores import Bin

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

BINS: Final = 15
"""Bins of equal width over (0, 1]; a bin includes its upper edge."""

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature."""

_FLOOR: Final = -1e6  # lowest score relative to its word's highest: an impossible class, but finite
_STEPS: Final = 50
_TOLERANCE: Final = 1e-8  # relative change of 1/T


class Calibration(BaseModel):
    """Calibration at a temperature; `reliability` omits bins without words.

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
    """Labelled words. scores: (words, classes), the highest of each word 0. labels: (words,)."""

    scores: npt.NDArray[np.float64]
    labels: IntArray

    @property
    def of_truth(self) -> npt.NDArray[np.float64]:
        scores: npt.NDArray[np.float64] = self.scores[np.arange(len(self.labels)), self.labels]
        return scores


def _labelled_words(scores: FloatArray, labels: IntArray) -> _Words:
    labelled = labels >= 0
    kept = scores[labelled].astype(np.float64)
    return _Words(np.maximum(kept - kept.max(-1, keepdims=True), _FLOOR), labels[labelled])


def fit_temperature(scores: FloatArray, labels: IntArray) -> float:
    """The temperature of maximum likelihood of the true classes. Deterministic.

    scores: (words, classes), logits or log-probabilities. labels: (words,), negative for an unlabelled word.
    1 (no change) without words and where every word is right, which would make the optimum unbounded.
    """
    words = _labelled_words(scores, labels)
    if (words.of_truth == 0).all():
        return 1.0
    temperature = 1 / _best_inverse(words)
    return temperature if _nll(words, temperature) < _nll(words, 1.0) else 1.0


def _best_inverse(words: _Words) -> float:
    """1/T by Newton's method; the likelihood is concave in 1/T. A step out of the bracket is replaced by bisection."""
    low, high = 1 / HOTTEST, 1 / COLDEST
    inverse = 1.0
    for _ in range(_STEPS):
        # derivatives of the mean negative log-likelihood by 1/T
        probabilities = _softmax(words.scores * inverse)
        mean = (probabilities * words.scores).sum(-1)
        variance = (probabilities * words.scores**2).sum(-1) - mean**2
        slope, curvature = float((mean - words.of_truth).mean()), float(variance.mean())
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        proposed = inverse - slope / curvature if curvature > 0 else low
        following = proposed if low < proposed < high else (low + high) / 2
        if abs(following - inverse) <= _TOLERANCE * inverse:
            break
        inverse = following
    return following


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers: npt.NDArray[np.float64] = np.exp(scores)
    shares: npt.NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares


def _nll(words: _Words, temperature: float) -> float:
    spread = np.log(np.exp(words.scores / temperature).sum(-1))
    return float((spread - words.of_truth / temperature).mean())


def calibration(scores: FloatArray, labels: IntArray, temperature: float = 1.0) -> Calibration:
    """Calibration of labelled words at a temperature; all 0 without words. For the arguments see fit_temperature."""
    words = _labelled_words(scores, labels)
    if not len(words.labels):
        return Calibration(temperature=temperature, words=0, ece=0, nll=0, reliability=())
    confidences = _softmax(words.scores / temperature).max(-1)
    right = words.scores.argmax(-1) == words.labels
    place = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    confidence = np.bincount(place, confidences, BINS) / np.maximum(count, 1)
    accuracy = np.bincount(place, right, BINS) / np.maximum(count, 1)
    reliability = tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            words=int(count[number]),
            confidence=float(confidence[number]),
            accuracy=float(accuracy[number]),
        )
        for number in np.flatnonzero(count)
    )
    error = sum(bin_.words * abs(bin_.accuracy - bin_.confidence) for bin_ in reliability)
    return Calibration(
        temperature=temperature,
        words=len(words.labels),
        ece=error / len(words.labels),
        nll=_nll(words, temperature),
        reliability=reliability,
    )
