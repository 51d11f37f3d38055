"""Pages as a format has them, in its units and with its labels, and their conversion to Page."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.lines import FloatBox, is_right_to_left, thousandths
from receipt_layoutlm.data.order_check import TornEntity, pieces_of, torn_entities
from receipt_layoutlm.data.page import DEFAULT_ORDER, UNSUPERVISED, DataError, Page, WordOrder
from receipt_layoutlm.data.reading_order import printed_lines
from receipt_layoutlm.data.tags import iob2

_SHARES = 1.05  # the largest value of boxes in shares of the page, with slips


@dataclass(frozen=True, slots=True)
class SourceWord:
    """One word. Words with the same `entity` belong together.

    `label` is the format's own, "" for none, UNSUPERVISED for an unlabelled word.
    """

    text: str
    box: FloatBox
    label: str = ""
    entity: int = -1


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """How a value that is given for a whole page was found among its words."""

    name: str
    how: Literal["exact", "approximate", "missing"]


@dataclass(frozen=True, slots=True)
class SourcePage:
    """One page, its words in the order of the import; `scale` is its width and height in the unit of the boxes."""

    file: str
    line: int | None
    page_id: str
    group: str
    words: tuple[SourceWord, ...]
    scale: tuple[float, float]
    width: int
    height: int
    blank: int = 0
    """Texts that are blank and make no words."""
    matches: tuple[ValueMatch, ...] = ()
    image: str | None = None
    is_size_guessed: bool = False
    """Whether width and height are the extent of the boxes, for want of an image."""
    order: WordOrder = DEFAULT_ORDER

    @property
    def place(self) -> str:
        """The file, and the line in it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """A format that can be imported."""

    read: Callable[[Sequence[Path], ReadOptions], Iterator[SourcePage | DataError]]
    """Yields each page of files and folders, or the reason why it cannot be used."""
    labels: Mapping[str, str]
    """The format's label -> ours, or "O"."""
    own_labels: Mapping[str, str]
    """The same where the format's labels are kept: its second spellings, and labels that mean none."""
    no_labels: frozenset[str] = frozenset()
    """Labels by which the format says that a word has none."""
    may_be_unlabelled: bool = False
    """Whether pages without labels are usual: results of OCR."""


def in_order(words: Sequence[SourceWord], scale: tuple[float, float], order: WordOrder) -> tuple[SourceWord, ...]:
    """The words as they are given, or from top to bottom and left to right as far as their boxes decide.

    On pages in Hebrew or Arabic, from right to left.
    """
    if order == "given":
        return tuple(words)
    texts = [word.text for word in words]
    lines = printed_lines([thousandths(word.box, scale) for word in words], texts)
    step = -1 if is_right_to_left(texts) else 1
    return tuple(words[index] for line in lines for index in line[::step])


def torn_in_source(source: SourcePage, page: Page) -> list[TornEntity]:
    """The entities that the order of the words tears apart, by the import or later, when `page` is encoded."""
    words_of: dict[int, list[int]] = {}
    for place, word in enumerate(source.words):
        if _is_entity(word):
            words_of.setdefault(word.entity, []).append(place)
    torn = torn_entities(page)
    for places in words_of.values():
        label = page.tags[places[0]][2:]
        if label and (pieces := pieces_of(places)) > 1:
            text = " ".join(source.words[place].text for place in places)
            torn.append(TornEntity(page.page_id, label, text, pieces))
    return torn


def extent(boxes: Iterable[FloatBox]) -> tuple[int, int]:
    """Width and height that hold all boxes, for a page without an image."""
    corners = [(box[2], box[3]) for box in boxes] or [(1.0, 1.0)]
    return max(1, ceil(max(x for x, _ in corners))), max(1, ceil(max(y for _, y in corners)))


def page_of(source: SourcePage, label_of: Callable[[str], str]) -> Page:
    """The page with its labels renamed by `label_of`, whose errors are passed on. Raises DataError with the place."""
    labels = [label_of(word.label) if _is_entity(word) else word.label or OUTSIDE for word in source.words]
    width, height = source.scale
    outside = sum(word.box[0] >= width or word.box[1] >= height for word in source.words)
    reach = max((max(word.box) for word in source.words), default=0)
    try:
        if reach <= _SHARES and len(source.words) > 1:
            raise ValueError(
                f"no value of a box is above {reach:g}: the boxes seem to be shares of the page, not pixels"
            )
        beyond = outside if len(source.words) == 1 else max(outside, cut_words(source))
        if 2 * beyond > len(source.words):
            raise ValueError(
                f"{beyond} of {len(source.words)} words lie outside of the image ({width:g} x {height:g}) or extend "
                "over its edge: the boxes are not its pixels, or it was resized or rotated later"
            )
        return Page(
            page_id=source.page_id,
            group=source.group,
            words=tuple(word.text for word in source.words),
            boxes=tuple(thousandths(word.box, source.scale) for word in source.words),
            tags=iob2(
                [
                    label if label in (OUTSIDE, UNSUPERVISED) else (word.entity, label)
                    for word, label in zip(source.words, labels, strict=True)
                ]
            ),
            width=source.width,
            height=source.height,
            image=source.image,
            order=source.order,
        )
    except ValueError as error:
        raise DataError(str(error), file=source.file, line=source.line) from error


def _is_entity(word: SourceWord) -> bool:
    return word.label not in ("", UNSUPERVISED)


def entity_counts(source: SourcePage) -> Counter[str]:
    """Entities by the format's label; one that the reading order splits counts once."""
    return Counter(label for _, label in {(word.entity, word.label) for word in source.words if _is_entity(word)})


def cut_words(source: SourcePage) -> int:
    """The number of words that extend over the edge of the page, where they are cut."""
    width, height = source.scale
    return sum(min(word.box) < 0 or word.box[2] > width or word.box[3] > height for word in source.words)
