"""The same page read worse: characters taken for others, and words that the reader did not see."""

import random
from collections.abc import Sequence
from dataclasses import replace

from receipt_layoutlm.page import Page
from receipt_layoutlm.sampling import pick

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
