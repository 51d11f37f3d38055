"""Decoding of word scores into tags: argmax, Viterbi over valid IOB2 sequences, single-valued labels.

Classes are in the order of LabelMap: O, then B- and I- of each label, so I-X is the even number right after B-X.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.tags import Entity, entities

Decoding = Literal["argmax", "viterbi"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_O: Final = 0
_BEGIN, _INSIDE = slice(1, None, 2), slice(2, None, 2)
_FLOOR: Final = -1e6  # of a log-probability, so that sums of impossible words still differ and stay finite
_PAGES_AT_ONCE: Final = 32  # more cost memory and gain little speed


@dataclass(frozen=True, slots=True)
class WordScores:
    """log_probs: for each page (words, classes), in reading order. loss: mean plain cross-entropy of labelled words."""

    log_probs: list[FloatArray]
    loss: float


def decode(
    log_probs: Sequence[FloatArray],
    names: Sequence[str],
    decoding: Decoding,
    single_valued: Collection[str] = (),
) -> list[list[str]]:
    """Tags of each page. log_probs: (words, classes) each; names: of the classes.

    argmax decides per word; viterbi takes the best sequence in which every I-X continues an X. Of each label in
    `single_valued` a page keeps its most confident entity.
    """
    paths = viterbi(log_probs, names) if decoding == "viterbi" else [page.argmax(-1) for page in log_probs]
    tags = [[names[number] for number in path] for path in paths]
    if not single_valued:
        return tags
    return [
        keep_best_entities(page_tags, page, names, single_valued)
        for page_tags, page in zip(tags, log_probs, strict=True)
    ]


def viterbi(log_probs: Sequence[FloatArray], names: Sequence[str]) -> list[IntArray]:
    """Classes of each page's most probable valid IOB2 sequence, without learned transitions.

    Equals the argmax where that is valid, ties included. ValueError for a NaN.
    """
    labels = [name[2:] for name in names[_BEGIN]]
    if list(names) != [OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI")]:
        raise ValueError(f"classes must be O, then B-X, I-X of each label X, but are {', '.join(names)}")
    if any(np.isnan(page).any() for page in log_probs):
        raise ValueError("a score is NaN: the model's weights or inputs are not finite")
    best = [page.argmax(-1) for page in log_probs]
    invalid = [index for index, path in enumerate(best) if not is_valid(path)]
    invalid.sort(key=lambda index: len(best[index]))  # pages of similar length are decoded together
    for start in range(0, len(invalid), _PAGES_AT_ONCE):
        chunk = invalid[start : start + _PAGES_AT_ONCE]
        # beyond a page's end all classes score 0, which does not change its path
        scores = np.zeros((len(best[chunk[-1]]), len(chunk), len(names)))
        for place, index in enumerate(chunk):
            scores[: len(best[index]), place] = np.maximum(log_probs[index], _FLOOR)
        paths = _paths(scores)
        for place, index in enumerate(chunk):
            best[index] = paths[: len(best[index]), place]
    return best


def is_valid(path: IntArray) -> bool:
    """Whether every I-X of a sequence of classes follows B-X or I-X."""
    before = np.concatenate(([_O], path[:-1]))
    inside = (path > _O) & (path % 2 == 0)
    return not (inside & (before != path) & (before != path - 1)).any()


def _paths(scores: npt.NDArray[np.float64]) -> IntArray:
    """(words, pages): the best sequence of each page. scores: (words, pages, classes), finite; overwritten."""
    length, pages, classes = scores.shape
    # forward: score of the best valid sequence that ends at each word with each class
    scores[0, :, _INSIDE] = -np.inf
    for last, now in pairwise(scores):
        best = last.max(-1)
        now[:, _O] += best
        now[:, _BEGIN] += best[:, None]
        now[:, _INSIDE] += np.maximum(last[:, _BEGIN], last[:, _INSIDE])
    # backward: follow the best predecessor of each class
    numbers, page = np.arange(classes), np.arange(pages)
    before = np.repeat(scores.argmax(-1)[:, :, None], classes, axis=2)
    begins = scores[:, :, _BEGIN] >= scores[:, :, _INSIDE]
    before[:, :, _INSIDE] = np.where(begins, numbers[_BEGIN], numbers[_INSIDE])
    path = np.empty((length, pages), np.int64)
    path[-1] = scores[-1].argmax(-1)
    for word in range(length - 1, 0, -1):
        path[word - 1] = before[word - 1, page, path[word]]
    return path


def keep_best_entities(
    tags: Sequence[str], log_probs: FloatArray, names: Sequence[str], labels: Collection[str]
) -> list[str]:
    """Keep a page's most confident entity of each of these labels and set its others to O.

    Of equally confident entities the first one stays. Other labels are unchanged.
    """
    number = {name: place for place, name in enumerate(names)}
    classes = np.array([number[tag] for tag in tags], np.int64)
    of_words = log_probs[np.arange(len(tags)), classes].astype(np.float64)
    best: dict[str, Entity] = {}
    candidates = [entity for entity in entities(tags) if entity.label in labels]
    for entity in candidates:
        held = best.setdefault(entity.label, entity)
        if confidence(of_words, entity) > confidence(of_words, held):
            best[entity.label] = entity
    kept = list(tags)
    for entity in candidates:
        if entity != best[entity.label]:
            kept[entity.begin : entity.end] = [OUTSIDE] * (entity.end - entity.begin)
    return kept


def confidence(of_words: npt.NDArray[np.floating], entity: Entity) -> float:
    """Mean log-probability of an entity's words under their predicted classes; 0 is certain."""
    return float(of_words[entity.begin : entity.end].mean())


def log_softmax(scores: FloatArray) -> FloatArray:
    """Log-probabilities over the last axis."""
    shifted = scores - scores.max(-1, keepdims=True)
    normalised: FloatArray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


def confidences(
    log_probs: Sequence[FloatArray], tags: Sequence[Sequence[str]], names: Sequence[str]
) -> list[list[float | None]]:
    """Probability of each word's label, B- and I- together; None for a tag that is no class."""
    labels = [name.partition("-")[2] for name in names]
    of_label = {label: [number for number, other in enumerate(labels) if other == label] for label in labels}
    of_tag = {name: of_label[label] for name, label in zip(names, labels, strict=True)}
    return [
        [
            # the sum of rounded probabilities may exceed 1
            min(1.0, sum(math.exp(row[number]) for number in of_tag[tag])) if tag in of_tag else None
            for row, tag in zip(page, page_tags, strict=True)
        ]
        for page, page_tags in zip(log_probs, tags, strict=True)
    ]
