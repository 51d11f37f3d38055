"""Augmentation: training pages as they might also have been printed and scanned, another version in each epoch.

Pure functions of (seed, epoch, page id), like sampling.py, so an attempt that resumes sees what the one before
would have seen. For the training part alone, evaluation takes the pages as they are.

The same page scanned differently: moved and scaled as a whole, each word's box a little off its place.

The same page read worse: characters taken for others, and words that the reader did not see.
"""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from receipt_layoutlm.configs.word_labels import Augmentation
from receipt_layoutlm.data.page import PAGE_EXTENT, Page
from receipt_layoutlm.training.tasks.word_labels.augmentation.amounts import other_amounts
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import Donors, other_entities
from receipt_layoutlm.training.tasks.word_labels.augmentation.lines import hull
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import generator, pick


def _entities(page: Page, donors: Donors, draw: random.Random) -> Page:
    return other_amounts(other_entities(page, donors, draw), draw)


_STEPS: dict[Augmentation, Callable[[Page, Donors, random.Random], Page]] = {
    "entities": _entities,
    "drop": lambda page, donors, draw: without_some(page, draw),
    "ocr": lambda page, donors, draw: misread(page, draw),
    "boxes": lambda page, donors, draw: moved_boxes(page, draw),
}
"""In the order in which they are done, whatever the order in which they are asked for."""


def augmented(page: Page, names: Collection[Augmentation], donors: Donors, seed: int, epoch: int) -> Page:
    """The page as an epoch shows it; each augmentation draws the same whether the others are on or not."""
    for name, step in _STEPS.items():
        if name in names:
            page = step(page, donors, generator(seed, epoch, f"augment {name} {page.page_id}"))
    return page


JITTER = 2  # thousandths that an edge of a box is off its place at most; reading order bears 3
_SCALES = (0.88, 1.12)
_SHIFT = 60  # thousandths that the middle of the print moves at most


def moved_boxes(page: Page, draw: random.Random) -> Page:
    """The page moved and scaled in each direction, inside its bounds, then each box with jitter of its own."""
    left, top, right, bottom = hull(page.boxes)
    along_x, along_y = _moved(left, right, draw), _moved(top, bottom, draw)
    boxes = []
    for x0, y0, x1, y1 in page.boxes:
        new_x = sorted((_jittered(along_x(x0), draw), _jittered(along_x(x1), draw)))
        new_y = sorted((_jittered(along_y(y0), draw), _jittered(along_y(y1), draw)))
        boxes.append((new_x[0], new_y[0], new_x[1], new_y[1]))
    return replace(page, boxes=tuple(boxes))


def _moved(least: int, most: int, draw: random.Random) -> Callable[[int], float]:
    """Where a coordinate of a print that reaches from `least` to `most` comes to lie; larger ones stay larger."""
    low, high = _SCALES
    scale = min(low + (high - low) * draw.random(), PAGE_EXTENT / max(most - least, 1))
    middle, half = (least + most) / 2, scale * (most - least) / 2
    shifted = middle + _SHIFT * (2 * draw.random() - 1)
    new_middle = min(max(shifted, half), PAGE_EXTENT - half)
    return lambda value: new_middle + scale * (value - middle)


def _jittered(value: float, draw: random.Random) -> int:
    return min(max(round(value + JITTER * (2 * draw.random() - 1)), 0), PAGE_EXTENT)


_MISREAD = 0.04  # of the words
_UNSEEN = 0.05  # of the words that may be dropped

_ALIKE = ("0OQD", "1Il|!", "5Ss", "8B3", "2Zz", "6Gb", "9gq", "4A", "7T/", ".,", ":;", "eco", "uv", "hb", "-~", "nr")
_PAIRS = (("rn", "m"), ("cl", "d"), ("vv", "w"), ("li", "h"), ("ii", "u"))


def _confusions() -> dict[str, Sequence[str]]:
    """What a piece of text may be taken for, in both directions."""
    found: dict[str, list[str]] = {}
    for alike in (*_ALIKE, *_PAIRS):
        for piece in alike:
            found.setdefault(piece, []).extend(other for other in alike if other != piece)
    return {piece: tuple(dict.fromkeys(others)) for piece, others in found.items()}


CONFUSIONS = _confusions()


def misread(page: Page, draw: random.Random) -> Page:
    """The page with one piece of some words taken for another; words and tags stay as many."""
    return replace(page, words=tuple(_misread(word, draw) if draw.random() < _MISREAD else word for word in page.words))


def _misread(word: str, draw: random.Random) -> str:
    places = [
        (begin, word[begin : begin + size])
        for size in (1, 2)
        for begin in range(len(word) - size + 1)
        if word[begin : begin + size] in CONFUSIONS
    ]
    if not places:
        return word
    begin, piece = pick(places, draw)
    return word[:begin] + pick(CONFUSIONS[piece], draw) + word[begin + len(piece) :]


def without_some(page: Page, draw: random.Random, entity_share: float = 0.0) -> Page:
    """The page without some of its words of no entity, and without `entity_share` of those of entities.

    What is left of an entity stays one. A page never loses all of its words.
    """
    shares = [entity_share if tag[0] in "BI" else _UNSEEN for tag in page.tags]
    kept = [word for word, share in enumerate(shares) if draw.random() >= share]
    if not kept:
        return page
    return replace(
        page,
        words=tuple(page.words[word] for word in kept),
        boxes=tuple(page.boxes[word] for word in kept),
        tags=tuple(_tag(page.tags, kept, place) for place in range(len(kept))),
    )


def _tag(tags: Sequence[str], kept: Sequence[int], place: int) -> str:
    """The tag of a word that was kept: it begins the entity if no word before it in there was kept."""
    tag, begin = tags[kept[place]], kept[place]
    while tags[begin][0] == "I":
        begin -= 1
    first = place == 0 or kept[place - 1] < begin
    return f"B{tag[1:]}" if tag[0] == "I" and first else tag
