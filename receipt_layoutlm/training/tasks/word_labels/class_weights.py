"""Weights of classes in the loss, from the words of the training part. Pure functions without torch.

A label's B- and I- share one weight, from the words of both: a rare I- alone would get an absurd one.
"""

from collections.abc import Mapping
from typing import Final

from receipt_layoutlm.configs.word_labels import ClassWeightScheme
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.run.class_weights import ClassWeights

_BETA: Final = 0.9999  # of the effective number of samples, Cui et al. 2019


def class_weights(
    scheme: ClassWeightScheme, words: Mapping[str, int], clip: tuple[float, float], factors: Mapping[str, float]
) -> ClassWeights:
    """The weights of a scheme, clipped, times the factors of chosen labels.

    words: by label, O among them. inverse: f_O / f_c, so that O weighs 1; sqrt-inverse: its root; balanced:
    N / (K n_c); effective: 1 / (1 - beta^n_c), scaled so that O weighs 1. A label without words weighs 1.
    """
    raw = {label: _raw(scheme, label, words) if count else 1.0 for label, count in words.items()}
    low, high = clip
    kept = {label: min(max(weight, low), high) for label, weight in raw.items()} if scheme != "none" else raw
    weights = {label: weight * factors.get(label, 1.0) for label, weight in kept.items()}
    clipped = tuple(label for label in raw if kept[label] != raw[label])
    return ClassWeights(scheme=scheme, weights=weights, words=dict(words), clipped=clipped)


def _raw(scheme: ClassWeightScheme, label: str, words: Mapping[str, int]) -> float:
    of_o = max(words[OUTSIDE], 1)
    match scheme:
        case "none":
            return 1.0
        case "inverse":
            return of_o / words[label]
        case "sqrt-inverse":
            return float((of_o / words[label]) ** 0.5)
        case "balanced":
            seen = [count for count in words.values() if count]
            return sum(seen) / (len(seen) * words[label])
        case "effective":
            return float((1 - _BETA**of_o) / (1 - _BETA ** words[label]))
