"""Checks that the reading order keeps entities whole.

Boxes that do not say how words follow each other tear the truth itself apart: such pages are read as they are given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from receipt_layoutlm.data.check_report import Finding, error, warning
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import order_of_words
from receipt_layoutlm.data.tags import entities

MAX_TORN: Final = 0.01
"""Tolerated share of the entities that the reading order tears apart."""

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TornEntity:
    """An entity whose words do not follow each other in reading order."""

    page_id: str
    label: str
    text: str
    pieces: int

    def __str__(self) -> str:
        return f"page {self.page_id}, {self.label} {self.text!r} in {self.pieces} pieces"


def pieces_of(places: Iterable[int]) -> int:
    """The number of runs without a gap among the places of an entity's words."""
    return 1 + sum(right - left > 1 for left, right in pairwise(sorted(places)))


def torn_entities(page: Page) -> list[TornEntity]:
    """The entities of a page that its reading order tears apart."""
    place_of = {word: place for place, word in enumerate(order_of_words(page))}
    return [
        TornEntity(page.page_id, label, " ".join(page.words[begin:end]), pieces)
        for label, begin, end in entities(page.tags)
        if (pieces := pieces_of(place_of[word] for word in range(begin, end))) > 1
    ]


def order_findings(torn: Sequence[TornEntity], of: int, keep_order: str) -> list[Finding]:
    """Torn entities among `of` as an error above MAX_TORN, else as a warning; without any there is no finding.

    `keep_order` says how they are kept whole, as a command in backticks where it is known.
    """
    if not torn:
        return []
    finding = error if len(torn) > MAX_TORN * of else warning
    text = (
        f"the reading order by boxes tears {len(torn)} of {of} entities apart ({len(torn) / of:.1%}): "
        f"{'; '.join(map(str, torn[:_SHOWN]))}. To read the words in the order of the file: {keep_order}"
    )
    return [finding("torn_entities", text, map(str, torn))]


def check_order(pages: Sequence[Page], keep_order: str) -> list[Finding]:
    """Entities of the pages that their reading order tears apart; see order_findings."""
    count = sum(tag[0] == "B" for page in pages for tag in page.tags)
    return order_findings([entity for page in pages for entity in torn_entities(page)], count, keep_order)
