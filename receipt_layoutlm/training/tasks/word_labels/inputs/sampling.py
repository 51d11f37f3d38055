"""Sampling of an epoch: supervised O words, order of the batches, repetition of windows with rare labels.

Pure functions of (seed, epoch, page id), so that a resumed attempt draws the same as the one before.

Windows are repeated by the factors of Gupta et al. 2019 (LVIS): a label that occurs in a fraction f of the windows has
the factor max(1, sqrt(t / f)), and a window that of its label with the largest factor. t is the median of the labels'
fractions, so that no threshold has to be chosen.
"""

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Sequence, Set
from statistics import median
from typing import TypeVar

from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.data.snapshot import seeded_rank

T = TypeVar("T")

PageTags = tuple[str, Sequence[str]]
"""The id of a page or window, and its tags, one per word: IOB2 or UNSUPERVISED."""

_LARGEST_MEGABATCH = 50  # batches; more would group lengths no better and mix the items less
_MIN_MEGABATCHES = 4  # with fewer, items of similar length would share a batch in every epoch


def supervised_masks(pages: Sequence[PageTags], ratio: float, seed: int, epoch: int) -> list[list[bool]]:
    """Mask of the supervised words of each page of a training set: every entity word, and the O words drawn.

    `ratio` O words per entity word are drawn over the whole set, rounded to the nearest word, or all of them if there
    are fewer. Every O word is equally likely, and each page contributes in proportion to its O words, so pages
    without entities are supervised too. Without any entity word, all words are supervised. The result does not depend
    on the order of the pages.
    """
    entity_words, o_words = _count(pages)
    if entity_words == 0:
        return [[True] * len(tags) for _, tags in pages]
    target = min(round(ratio * entity_words), o_words)
    masks: list[list[bool]] = [[] for _ in pages]
    seen = drawn = 0
    for index in sorted(range(len(pages)), key=lambda i: _digest(seed, epoch, pages[i][0])):
        page_id, tags = pages[index]
        seen += _o_words(tags)
        quota = seen * target // o_words - drawn if o_words else 0
        drawn += quota
        draw = generator(seed, epoch, page_id)
        keys = [(draw.random(), word) for word, tag in enumerate(tags) if tag == "O"]
        chosen = {word for _, word in sorted(keys)[:quota]}
        masks[index] = [tag != "O" or word in chosen for word, tag in enumerate(tags)]
    return masks


def achieved_ratio(pages: Sequence[PageTags], masks: Sequence[Sequence[bool]]) -> float | None:
    """Supervised O words per entity word; None without entity words."""
    entity_words, _ = _count(pages)
    kept = sum(
        supervised and tag == "O"
        for (_, tags), mask in zip(pages, masks, strict=True)
        for tag, supervised in zip(tags, mask, strict=True)
    )
    return kept / entity_words if entity_words else None


def _count(pages: Sequence[PageTags]) -> tuple[int, int]:
    """Entity words and O words."""
    o_words = sum(_o_words(tags) for _, tags in pages)
    labelled = sum(tag != UNSUPERVISED for _, tags in pages for tag in tags)
    return labelled - o_words, o_words


def _o_words(tags: Sequence[str]) -> int:
    return sum(tag == "O" for tag in tags)


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of indices for one epoch: each index once, similar lengths together, batches in random order.

    The shuffled items are cut into megabatches, and each of those is sorted by length before it is cut into
    batches, so that the composition of the batches differs between epochs.
    """
    draw = generator(seed, epoch, "order")
    shuffled = _shuffled(range(len(lengths)), draw)
    in_megabatch = batch_size * min(_LARGEST_MEGABATCH, max(1, len(lengths) // (batch_size * _MIN_MEGABATCHES)))
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), in_megabatch):
        megabatch = sorted(shuffled[start : start + in_megabatch], key=lambda index: -lengths[index])
        batches.extend(megabatch[i : i + batch_size] for i in range(0, len(megabatch), batch_size))
    return [batches[index] for index in _shuffled(range(len(batches)), draw)]


def as_many(items: Sequence[int], count: int, seed: int, epoch: int) -> list[int]:
    """Exactly `count` of the items, so that an epoch has its planned number of steps.

    Unless the numbers are equal, consecutive epochs cycle through the items in one random order: an epoch begins where
    the one before it ended, and no item recurs before all others have occurred.
    """
    if len(items) == count:
        return list(items)
    order = _shuffled(items, generator(seed, 0, "as many"))
    return [order[place % len(order)] for place in range(epoch * count, (epoch + 1) * count)]


def _shuffled(items: Sequence[int], draw: random.Random) -> list[int]:
    """Sort by random(), the only method whose sequence Python keeps stable between versions."""
    keys = [draw.random() for _ in items]
    return [items[place] for place in sorted(range(len(items)), key=lambda place: keys[place])]


def pick(items: Sequence[T], draw: random.Random) -> T:
    """A random item, drawn by random() for the reason given in _shuffled."""
    return items[int(draw.random() * len(items))]


def generator(seed: int, epoch: int, name: str) -> random.Random:
    """An independent random generator for a named purpose within an epoch."""
    return random.Random(int.from_bytes(_digest(seed, epoch, name)))


def _digest(seed: int, epoch: int, name: str) -> bytes:
    return hashlib.blake2b(json.dumps([seed, epoch, name]).encode(), digest_size=16).digest()


def repeat_factors(labels: Sequence[Set[str]]) -> list[float]:
    """Repeat factor of each window from the set of its labels; 1 without a rare label."""
    counts = Counter(label for window in labels for label in window)
    if not counts:
        return [1.0] * len(labels)
    threshold = median(counts.values())
    factors = {label: max(1.0, math.sqrt(threshold / count)) for label, count in counts.items()}
    return [max((factors[label] for label in window), default=1.0) for window in labels]


def draw(factors: Sequence[float], seed: int, epoch: int) -> list[int]:
    """Indices of an epoch's windows, each repeated by its factor rounded down or up.

    Windows to round up are drawn by systematic sampling, so every epoch of a run has the same number of windows.
    """
    places = sorted(range(len(factors)), key=lambda place: seeded_rank(f"repeats {epoch}", seed, str(place)))
    drawn: list[int] = []
    owed = 0.5  # rounds the total to the nearest integer
    for place in places:
        whole = math.floor(factors[place])
        owed += factors[place] - whole
        extra = int(owed >= 1.0)
        owed -= extra
        drawn.extend([place] * (whole + extra))
    return sorted(drawn)
