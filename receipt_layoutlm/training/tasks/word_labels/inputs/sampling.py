"""Which words O are supervised in an epoch, and in which order the epoch's items come.

Pure functions of (seed, epoch, page id): an attempt that resumes draws what the one before would have drawn.

Balanced page sampling: how often an epoch shows each window, so that rare labels are seen more often.

Repeat factors as in Gupta et al. 2019 (LVIS): a label found in a share f of the windows asks for sqrt(t / f) times,
at least once, a window is shown as its most wanted label asks, and nothing is shown less than once. t is the median
share of the labels, so that there is no number to choose. Pure functions.
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
"""A page id (or the id of whatever is supervised as one piece) and its tags, one per word: IOB2 or UNSUPERVISED."""

_LARGEST_MEGABATCH = 50  # batches; more groups lengths no better and mixes the items less
_MEGABATCHES_WANTED = 4  # with fewer, items of like length would meet in one batch in every epoch


def supervised_masks(pages: Sequence[PageTags], ratio: float, seed: int, epoch: int) -> list[list[bool]]:
    """For each word of a training part, whether it is supervised: every entity word, and the O words drawn.

    `ratio` O words per entity word are drawn over the whole part, to the nearest word, or all of them where there
    are fewer. Every O word is as likely to be drawn as any other, and each page gives in proportion to its O
    words, so pages without entities are supervised too. Without any entity word there is no ratio: all words
    are supervised. The order of the pages changes nothing.
    """
    entity_words, o_words = _count(pages)
    if entity_words == 0:
        return [[True] * len(tags) for _, tags in pages]
    wanted = min(round(ratio * entity_words), o_words)
    masks: list[list[bool]] = [[] for _ in pages]
    seen = drawn = 0
    for index in sorted(range(len(pages)), key=lambda i: _digest(seed, epoch, pages[i][0])):
        page_id, tags = pages[index]
        seen += _o_words(tags)
        quota = seen * wanted // o_words - drawn if o_words else 0
        drawn += quota
        masks[index] = _draw(tags, quota, generator(seed, epoch, page_id))
    return masks


def _draw(tags: Sequence[str], quota: int, draw: random.Random) -> list[bool]:
    draws = [(draw.random(), word) for word, tag in enumerate(tags) if tag == "O"]
    chosen = {word for _, word in sorted(draws)[:quota]}
    return [tag != "O" or word in chosen for word, tag in enumerate(tags)]


def achieved_ratio(pages: Sequence[PageTags], masks: Sequence[Sequence[bool]]) -> float | None:
    """Supervised O words per entity word; None when there is no entity word."""
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
    decided = sum(tag != UNSUPERVISED for _, tags in pages for tag in tags)
    return decided - o_words, o_words


def _o_words(tags: Sequence[str]) -> int:
    return sum(tag == "O" for tag in tags)


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of indices for one epoch: each index once, like lengths together, batches in random order.

    The shuffled items are cut into megabatches, and each of those is sorted by length before it is cut into
    batches, so that an item meets others in every epoch.
    """
    draw = generator(seed, epoch, "order")
    shuffled = _shuffled(range(len(lengths)), draw)
    in_megabatch = batch_size * min(_LARGEST_MEGABATCH, max(1, len(lengths) // (batch_size * _MEGABATCHES_WANTED)))
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), in_megabatch):
        megabatch = sorted(shuffled[start : start + in_megabatch], key=lambda index: -lengths[index])
        batches.extend(megabatch[i : i + batch_size] for i in range(0, len(megabatch), batch_size))
    return [batches[index] for index in _shuffled(range(len(batches)), draw)]


def as_many(items: Sequence[int], count: int, seed: int, epoch: int) -> list[int]:
    """`count` of the items, so that an epoch has the steps it was planned with.

    All of them where there are as many. Else they are gone through in one random order, on and on: an epoch begins
    where the one before it ended, and none comes again before all others came.
    """
    if len(items) == count:
        return list(items)
    order = _shuffled(items, generator(seed, 0, "as many"))
    return [order[place % len(order)] for place in range(epoch * count, (epoch + 1) * count)]


def _shuffled(items: Sequence[int], draw: random.Random) -> list[int]:
    """By sorting on random(), the only draw whose sequence Python promises to keep between versions."""
    keys = [draw.random() for _ in items]
    return [items[place] for place in sorted(range(len(items)), key=lambda place: keys[place])]


def pick(items: Sequence[T], draw: random.Random) -> T:
    """One of the items, by random() for the same reason as in _shuffled."""
    return items[int(draw.random() * len(items))]


def generator(seed: int, epoch: int, name: str) -> random.Random:
    """A generator of its own for one thing of an epoch."""
    return random.Random(int.from_bytes(_digest(seed, epoch, name)))


def _digest(seed: int, epoch: int, name: str) -> bytes:
    return hashlib.blake2b(json.dumps([seed, epoch, name]).encode(), digest_size=16).digest()


def repeat_factors(labels: Sequence[Set[str]]) -> list[float]:
    """For each window, by the set of labels in it, how often it is to be shown; 1 where none of them is rare."""
    found = Counter(label for window in labels for label in window)
    if not found:
        return [1.0] * len(labels)
    wanted = median(found.values())
    factors = {label: max(1.0, math.sqrt(wanted / count)) for label, count in found.items()}
    return [max((factors[label] for label in window), default=1.0) for window in labels]


def draw(factors: Sequence[float], seed: int, epoch: int) -> list[int]:
    """Indices of the windows that an epoch shows, each the whole part of its factor times, or once more.

    Who gets one more is drawn by systematic sampling, so every epoch of a run has the same number of windows.
    """
    places = sorted(range(len(factors)), key=lambda place: seeded_rank(f"repeats {epoch}", seed, str(place)))
    drawn: list[int] = []
    owed = 0.5  # the total is rounded to the nearest
    for place in places:
        whole = math.floor(factors[place])
        owed += factors[place] - whole
        extra = int(owed >= 1.0)
        owed -= extra
        drawn.extend([place] * (whole + extra))
    return sorted(drawn)
