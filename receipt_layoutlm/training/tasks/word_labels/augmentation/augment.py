"""Page augmentation: other entities and amounts, missing words, OCR errors, shifted boxes.

Pure functions of (seed, epoch, page id): every epoch sees another version of a page, and a resumed attempt sees the
versions of the one before. Applied to the training set only.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import chain

from receipt_layoutlm.configs.word_labels import Augmentation
from receipt_layoutlm.data.page import PAGE_EXTENT, Box, Page
from receipt_layoutlm.training.tasks.word_labels.augmentation.amounts import other_amounts
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import Donors, other_entities
from receipt_layoutlm.training.tasks.word_labels.augmentation.lines import hull
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import generator, pick

_STEPS: dict[Augmentation, Callable[[Page, Donors, random.Random], Page]] = {
    "entities": lambda page, donors, draw: other_amounts(other_entities(page, donors, draw), draw),
    "drop": lambda page, donors, draw: without_some(page, draw),
    "ocr": lambda page, donors, draw: misread(page, draw),
    "boxes": lambda page, donors, draw: moved_boxes(page, draw),
}
"""In the order of application, which does not depend on the order of the option."""


def augmented(page: Page, names: Collection[Augmentation], donors: Donors, seed: int, epoch: int) -> Page:
    """The page of an epoch; an augmentation draws the same numbers with and without the others."""
    for name, step in _STEPS.items():
        if name in names:
            page = step(page, donors, generator(seed, epoch, f"augment {name} {page.page_id}"))
    return page


JITTER = 2  # maximum shift of a box edge, in thousandths; reading order tolerates 3
_SCALES = (0.88, 1.12)
_SHIFT = 60  # maximum shift of the print's centre, in thousandths


def moved_boxes(page: Page, draw: random.Random) -> Page:
    """Shift and scale the page in each direction within its bounds, then jitter each box.

    Words that share a box still share it.
    """
    left, top, right, bottom = hull(page.boxes)
    along_x, along_y = _moved(left, right, draw), _moved(top, bottom, draw)
    moved: dict[Box, Box] = {}
    for box in dict.fromkeys(page.boxes):
        x0, y0, x1, y1 = box
        new_x = sorted((_jittered(along_x(x0), draw), _jittered(along_x(x1), draw)))
        new_y = sorted((_jittered(along_y(y0), draw), _jittered(along_y(y1), draw)))
        moved[box] = (new_x[0], new_y[0], new_x[1], new_y[1])
    return replace(page, boxes=tuple(moved[box] for box in page.boxes))


def _moved(start: int, end: int, draw: random.Random) -> Callable[[int], float]:
    """A random monotonic map of the coordinates of a print that extends from `start` to `end`."""
    low, high = _SCALES
    scale = min(low + (high - low) * draw.random(), PAGE_EXTENT / max(end - start, 1))
    middle, half = (start + end) / 2, scale * (end - start) / 2
    shifted = middle + _SHIFT * (2 * draw.random() - 1)
    new_middle = min(max(shifted, half), PAGE_EXTENT - half)
    return lambda value: new_middle + scale * (value - middle)


def _jittered(value: float, draw: random.Random) -> int:
    return min(max(round(value + JITTER * (2 * draw.random() - 1)), 0), PAGE_EXTENT)


_MISREAD = 0.04  # fraction of the words
_DROPPED = 0.05  # fraction of the words outside entities

_ALIKE: list[tuple[str, ...]] = [
    *map(tuple, "0OQD 1Il|! 5Ss 8B3 2Zz 6Gb 9gq 4A 7T/ ., :; eco uv hb -~ nr".split()),
    *(("rn", "m"), ("cl", "d"), ("vv", "w"), ("li", "h"), ("ii", "u")),
]
CONFUSIONS = {
    piece: tuple(dict.fromkeys(other for alike in _ALIKE if piece in alike for other in alike if other != piece))
    for piece in chain.from_iterable(_ALIKE)
}
"""Possible OCR misreadings of a piece of text."""


def misread(page: Page, draw: random.Random) -> Page:
    """Replace one piece of some words by a misreading; the number of words and the tags stay the same."""
    words = list(page.words)
    for place, word in enumerate(page.words):
        if draw.random() >= _MISREAD:
            continue
        pieces = [
            (begin, word[begin : begin + size])
            for size in (1, 2)
            for begin in range(len(word) - size + 1)
            if word[begin : begin + size] in CONFUSIONS
        ]
        if pieces:
            begin, piece = pick(pieces, draw)
            words[place] = word[:begin] + pick(CONFUSIONS[piece], draw) + word[begin + len(piece) :]
    return replace(page, words=tuple(words))


def without_some(page: Page, draw: random.Random, entity_share: float = 0.0) -> Page:
    """Drop some of the words outside entities, and the fraction `entity_share` of the words of entities.

    The remaining words of an entity stay one entity. A page never loses all of its words.
    """
    shares = [entity_share if tag[0] in "BI" else _DROPPED for tag in page.tags]
    kept = [word for word, share in enumerate(shares) if draw.random() >= share]
    if not kept:
        return page
    tags = [page.tags[word] for word in kept]
    for place, word in enumerate(kept):
        begin = word
        while page.tags[begin][0] == "I":
            begin -= 1
        if begin < word and (place == 0 or kept[place - 1] < begin):  # the entity's first words were dropped
            tags[place] = f"B{tags[place][1:]}"
    return replace(
        page,
        words=tuple(page.words[word] for word in kept),
        boxes=tuple(page.boxes[word] for word in kept),
        tags=tuple(tags),
    )
