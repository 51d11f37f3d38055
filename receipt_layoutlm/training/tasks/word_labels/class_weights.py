"""Class weights of the loss from word counts of the training set. Pure functions without torch.

B- and I- of a label share one weight, from the words of both: a rare I- alone would get an extreme one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from receipt_layoutlm.configs.word_labels import ClassWeightScheme, WordLabelsConfig
from receipt_layoutlm.data.labels import OUTSIDE, LabelMap
from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.data.tags import label_of
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages

_BETA: Final = 0.9999  # of the effective number of samples, Cui et al. 2019


def weights_by_label(config: WordLabelsConfig, train: EncodedPages, label_map: LabelMap) -> ClassWeights:
    """Class weights from the word counts of the training set alone."""
    words = Counter(label_of(tag) for page in train.pages for tag in page.tags if tag != UNSUPERVISED)
    counts = {label: words[label] for label in (OUTSIDE, *label_map.labels)}
    return class_weights(config.class_weights, counts, config.class_weight_clip, config.label_weight)


def class_weights(
    scheme: ClassWeightScheme, words: Mapping[str, int], clip: tuple[float, float], factors: Mapping[str, float]
) -> ClassWeights:
    """Weights of a scheme, clipped, times the factors of individual labels.

    words: by label, including O. inverse: n_O / n_c, so that O weighs 1; sqrt-inverse: its root; balanced:
    N / (K n_c); effective: 1 / (1 - beta^n_c), scaled so that O weighs 1. A label without words weighs 1.
    """
    of_o = max(words[OUTSIDE], 1)
    counts = [count for count in words.values() if count]
    formulas: dict[ClassWeightScheme, Callable[[int], float]] = {
        "none": lambda count: 1.0,
        "inverse": lambda count: of_o / count,
        "sqrt-inverse": lambda count: float((of_o / count) ** 0.5),
        "balanced": lambda count: sum(counts) / (len(counts) * count),
        "effective": lambda count: float((1 - _BETA**of_o) / (1 - _BETA**count)),
    }
    raw = {label: formulas[scheme](count) if count else 1.0 for label, count in words.items()}
    low, high = clip
    kept = {label: min(max(weight, low), high) for label, weight in raw.items()} if scheme != "none" else raw
    weights = {label: weight * factors.get(label, 1.0) for label, weight in kept.items()}
    clipped = tuple(label for label in raw if kept[label] != raw[label])
    return ClassWeights(scheme=scheme, weights=weights, words=dict(words), clipped=clipped)
