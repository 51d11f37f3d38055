"""From the scores of a page's words to its tags: the best valid IOB2 sequence, and one entity of chosen labels.

Classes stand in the order of LabelMap: O, then B- and I- of each label, so I-X is the even number right after B-X.
"""

from collections.abc import Collection, Sequence
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
_PAGES_AT_ONCE: Final = 32  # more pages a step cost more memory and gain little


def decode(
    log_probs: Sequence[FloatArray],
    names: Sequence[str],
    decoding: Decoding,
    single_valued: Collection[str] = (),
) -> list[list[str]]:
    """Tags of each page. log_probs: (words, classes) each; names: of the classes.

    argmax takes each word for itself, viterbi the best sequence in which every I-X continues an X. Of the labels
    `single_valued` each page keeps its most confident entity.
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
    """The classes of each page's most probable valid IOB2 sequence; nothing is learned but the words' scores.

    The argmax where that is valid, ties included. ValueError for a NaN.
    """
    _check_order(names)
    if any(np.isnan(page).any() for page in log_probs):
        raise ValueError("a score is NaN: the model's weights or inputs are not finite")
    best = [page.argmax(-1) for page in log_probs]
    broken = [index for index, path in enumerate(best) if not is_valid(path)]
    broken.sort(key=lambda index: len(best[index]))  # so that pages of like length are decoded at once
    for start in range(0, len(broken), _PAGES_AT_ONCE):
        chunk = broken[start : start + _PAGES_AT_ONCE]
        paths = _paths(_padded([log_probs[index] for index in chunk]))
        for place, index in enumerate(chunk):
            best[index] = paths[: len(best[index]), place]
    return best


def _check_order(names: Sequence[str]) -> None:
    labels = [name[2:] for name in names[_BEGIN]]
    if list(names) != [OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI")]:
        raise ValueError(f"classes have to be O, then B-X, I-X of each label X, and are {', '.join(names)}")


def is_valid(path: IntArray) -> bool:
    """Whether every I-X of a sequence of classes follows B-X or I-X."""
    before = np.concatenate(([_O], path[:-1]))
    inside = (path > _O) & (path % 2 == 0)
    return not (inside & (before != path) & (before != path - 1)).any()


def _padded(pages: Sequence[FloatArray]) -> npt.NDArray[np.float64]:
    """(words, pages, classes); after a page's end all classes are as good, so that what comes there changes nothing."""
    scores = np.zeros((max(map(len, pages)), len(pages), pages[0].shape[1]))
    for place, page in enumerate(pages):
        scores[: len(page), place] = np.maximum(page, _FLOOR)
    return scores


def _paths(scores: npt.NDArray[np.float64]) -> IntArray:
    """(words, pages): the best sequence of each page. scores: (words, pages, classes), finite; overwritten."""
    totals = _totals(scores)
    length, pages, classes = totals.shape
    numbers, page = np.arange(classes), np.arange(pages)
    before = np.repeat(totals.argmax(-1)[:, :, None], classes, axis=2)  # the best class before each class
    begins = totals[:, :, _BEGIN] >= totals[:, :, _INSIDE]
    before[:, :, _INSIDE] = np.where(begins, numbers[_BEGIN], numbers[_INSIDE])
    path = np.empty((length, pages), np.int64)
    path[-1] = totals[-1].argmax(-1)
    for word in range(length - 1, 0, -1):
        path[word - 1] = before[word - 1, page, path[word]]
    return path


def _totals(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The score of the best valid sequence that ends at each word with each class, put in place of the scores."""
    scores[0, :, _INSIDE] = -np.inf
    for last, now in pairwise(scores):
        best = last.max(-1)
        now[:, _O] += best
        now[:, _BEGIN] += best[:, None]
        now[:, _INSIDE] += np.maximum(last[:, _BEGIN], last[:, _INSIDE])
    return scores


def keep_best_entities(
    tags: Sequence[str], log_probs: FloatArray, names: Sequence[str], labels: Collection[str]
) -> list[str]:
    """The tags of a page with one entity of each of these labels, the most confident; its others become O.

    The first one where several are equally confident. Other labels stay as they are.
    """
    number = {name: place for place, name in enumerate(names)}
    classes = np.array([number[tag] for tag in tags], np.int64)
    of_words = log_probs[np.arange(len(tags)), classes].astype(np.float64)
    best: dict[str, Entity] = {}
    found = [entity for entity in entities(tags) if entity.label in labels]
    for entity in found:
        held = best.setdefault(entity.label, entity)
        if confidence(of_words, entity) > confidence(of_words, held):
            best[entity.label] = entity
    kept = list(tags)
    for entity in found:
        if entity != best[entity.label]:
            kept[entity.begin : entity.end] = [OUTSIDE] * (entity.end - entity.begin)
    return kept


def confidence(of_words: npt.NDArray[np.floating], entity: Entity) -> float:
    """The mean log-probability of an entity's words, each under the class it was given; 0 is certain."""
    return float(of_words[entity.begin : entity.end].mean())
