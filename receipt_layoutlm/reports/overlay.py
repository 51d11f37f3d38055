"""A page with its gold and predicted entities, and the differences between them.

The interface of the drawings: `Overlay` goes into `overlay_html.overlay_html` and `overlay_png.overlay_png`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from receipt_layoutlm.data.lines import around
from receipt_layoutlm.data.page import UNSUPERVISED, Box, Page
from receipt_layoutlm.data.reading_order import order_of_words, rearranged
from receipt_layoutlm.data.tags import entities

if TYPE_CHECKING:
    from PIL.Image import Image


class Kind(StrEnum):
    """How a predicted entity compares with the gold one."""

    MISSED = "missed"
    WRONG_LABEL = "wrong label"
    WRONG_WORDS = "wrong words"
    SPURIOUS = "spurious"
    RIGHT = "right"
    NOT_JUDGED = "not judged"
    """Without gold labels, or all of its words are unlabelled."""


ERRORS = (Kind.MISSED, Kind.WRONG_LABEL, Kind.WRONG_WORDS, Kind.SPURIOUS)


@dataclass(frozen=True, slots=True)
class Mark:
    """An entity, or a candidate for one: its label and its words, as indices into the page's words in reading order.

    `note` is shown beside it, such as the value that was read from it.
    """

    label: str
    words: tuple[int, ...]
    confidence: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A gold entity, a predicted one, or the pair of both that share words."""

    kind: Kind
    gold: Mark | None
    predicted: Mark | None

    @property
    def mark(self) -> Mark:
        """The predicted entity, else the gold one."""
        mark = self.predicted or self.gold
        assert mark is not None
        return mark


@dataclass(frozen=True)
class Overlay:
    """What is drawn of a page.

    Without `gold` nothing is compared. Predicted entities that lie on unlabelled words of the page are not judged.
    `confidences` are those of each word's predicted label, in the order of the page; empty if unknown. The boxes of the
    page lie on `image`; without it the words are drawn at their boxes. `source` and `number` say where it is from.
    """

    page: Page
    predicted: tuple[Mark, ...] = ()
    gold: tuple[Mark, ...] | None = None
    confidences: tuple[float, ...] = ()
    image: "Image | None" = None
    source: str = ""
    number: int = 1
    notes: tuple[str, ...] = ()

    @cached_property
    def order(self) -> list[int]:
        """Indices of the page's words in reading order."""
        return order_of_words(self.page)

    @cached_property
    def findings(self) -> tuple[Comparison, ...]:
        """In reading order."""
        found = [Comparison(Kind.NOT_JUDGED, None, mark) for mark in self.predicted]
        if self.gold is not None:
            found = list(_compared(self.page, self.gold, self.predicted))
        place = {word: number for number, word in enumerate(self.order)}
        return tuple(sorted(found, key=lambda each: place[each.mark.words[0]]))

    def count(self, *kinds: Kind) -> int:
        return sum(finding.kind in kinds for finding in self.findings)

    @property
    def lowest_confidence(self) -> float | None:
        """Of the predicted entities."""
        return min((mark.confidence for mark in self.predicted if mark.confidence is not None), default=None)


def entity_marks(
    tags: Sequence[str], order: Sequence[int], confidences: Sequence[float] | None = None
) -> tuple[Mark, ...]:
    """The entities of IOB2 tags in reading order; `order` has the index of each word in the page.

    The confidence of an entity is that of its least certain word.
    """
    return tuple(
        Mark(label, tuple(order[begin:end]), None if confidences is None else min(confidences[begin:end]))
        for label, begin, end in entities(tags)
    )


def gold_of(page: Page) -> tuple[Mark, ...] | None:
    """The entities of a labelled page in reading order, as training has them; None if no word is labelled."""
    if all(tag == UNSUPERVISED for tag in page.tags):
        return None
    order = order_of_words(page)
    return entity_marks(rearranged(page, order).tags, order)


def line_boxes(page: Page, mark: Mark) -> list[Box]:
    """A box around the words of each printed line of an entity."""
    lines: list[list[Box]] = []
    for index in mark.words:
        box = page.boxes[index]
        middle = (box[1] + box[3]) / 2
        if lines and lines[-1][-1][1] <= middle <= lines[-1][-1][3]:
            lines[-1].append(box)
        else:
            lines.append([box])
    return [around(line) for line in lines]


def _compared(page: Page, gold: Sequence[Mark], predicted: Sequence[Mark]) -> Iterator[Comparison]:
    """Pairs equal entities first, then those with the same label, then those that share the most words."""
    gold_at: defaultdict[int, list[int]] = defaultdict(list)
    for place, mark in enumerate(gold):
        for word in mark.words:
            gold_at[word].append(place)
    candidates = set()
    for place, mark in enumerate(predicted):
        for other in {other for word in mark.words for other in gold_at[word]}:
            kind, shared = _kind(gold[other], mark), len({*gold[other].words} & {*mark.words})
            candidates.add((kind != Kind.RIGHT, kind == Kind.WRONG_LABEL, -shared, other, place, kind))
    free_gold, free_predicted = dict(enumerate(gold)), dict(enumerate(predicted))
    for *_, other, place, kind in sorted(candidates):
        if other in free_gold and place in free_predicted:
            yield Comparison(kind, free_gold.pop(other), free_predicted.pop(place))
    yield from (Comparison(Kind.MISSED, mark, None) for mark in free_gold.values())
    for mark in free_predicted.values():
        is_unlabelled = all(page.tags[word] == UNSUPERVISED for word in mark.words)
        yield Comparison(Kind.NOT_JUDGED if is_unlabelled else Kind.SPURIOUS, None, mark)


def _kind(gold: Mark, predicted: Mark) -> Kind:
    if gold.label != predicted.label:
        return Kind.WRONG_LABEL
    return Kind.RIGHT if {*gold.words} == {*predicted.words} else Kind.WRONG_WORDS
