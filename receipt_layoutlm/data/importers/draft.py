"""A page as an importer reads it, in the source's units and with its labels, and how it becomes a Page.

Words and their boxes from a printed line's text and box, in proportion to the characters.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.lines import FloatBox
from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED, Box, DataError, Page
from receipt_layoutlm.data.reading_order import reading_order


@dataclass(frozen=True, slots=True)
class DraftWord:
    """One word. Words with one `entity` belong together; `label` is what the source calls it.

    "" is no label, and UNSUPERVISED says that nobody has decided.
    """

    text: str
    box: FloatBox
    label: str = ""
    entity: int = -1


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one value that is given for a whole page: is it among the words, and letter by letter?"""

    name: str
    how: str
    """exact, approximate or missing"""


@dataclass(frozen=True, slots=True)
class Draft:
    """One page, its words in the order in which they are read; `scale` is the width and height of the boxes' unit."""

    file: str
    line: int | None
    page_id: str
    group: str
    words: tuple[DraftWord, ...]
    scale: tuple[float, float]
    width: int
    height: int
    blank: int = 0
    found: tuple[Found, ...] = field(default=())
    image: str | None = None
    is_size_guessed: bool = False
    """Whether width and height are those of the boxes, because no image says them."""


def in_reading_order(words: Sequence[DraftWord], scale: tuple[float, float]) -> tuple[DraftWord, ...]:
    """The words from top to bottom and left to right; equal boxes keep the order in which they come."""
    boxes = [thousandths(word.box, scale) for word in words]
    return tuple(words[index] for index in reading_order(boxes))


def thousandths(box: FloatBox, scale: tuple[float, float]) -> Box:
    """The box in whole thousandths of the page, cut at the page's edges."""
    x0, y0, x1, y1 = box
    width, height = scale
    return _share(x0, width), _share(y0, height), _share(x1, width), _share(y1, height)


def _share(value: float, extent: float) -> int:
    return round(min(max(value, 0), extent) * PAGE_EXTENT / extent)


def extent(boxes: Iterable[FloatBox]) -> tuple[int, int]:
    """Width and height that hold all boxes, for a page whose image is not there to be asked."""
    corners = [(box[2], box[3]) for box in boxes] or [(1.0, 1.0)]
    return max(1, ceil(max(x for x, _ in corners))), max(1, ceil(max(y for _, y in corners)))


def page_of(draft: Draft, label_of: Callable[[str], str]) -> Page:
    """The page with its labels renamed; DataError with the draft's place when it is not one that can be used.

    What `label_of` raises for a label that it does not know is passed on.
    """
    tags = tuple(_tags(draft.words, label_of))
    try:
        _check_on_page(draft)
        return Page(
            page_id=draft.page_id,
            group=draft.group,
            words=tuple(word.text for word in draft.words),
            boxes=tuple(thousandths(word.box, draft.scale) for word in draft.words),
            tags=tags,
            width=draft.width,
            height=draft.height,
            image=draft.image,
        )
    except ValueError as error:
        raise DataError(str(error), file=draft.file, line=draft.line) from error


def _tags(words: Sequence[DraftWord], label_of: Callable[[str], str]) -> Iterable[str]:
    """B- where an entity begins or its label changes, I- where the word before is the same entity."""
    before: tuple[int, str] | None = None
    for word in words:
        label = label_of(word.label) if is_label(word.label) else word.label or OUTSIDE
        here = (word.entity, label) if label not in (OUTSIDE, UNSUPERVISED) else None
        yield label if here is None else f"{'I' if here == before else 'B'}-{label}"
        before = here


def is_label(text: str) -> bool:
    """Whether a word's label names an entity."""
    return text not in ("", UNSUPERVISED)


def labels_of_entities(words: Sequence[DraftWord]) -> Counter[str]:
    """Entities by the source's label; one that the reading order tears apart still counts once."""
    return Counter(label for _, label in {(word.entity, word.label) for word in words if is_label(word.label)})


def cut_words(draft: Draft) -> int:
    """How many words stick out of the page and were cut at its edge."""
    return sum(_sticks_out(word.box, draft.scale) for word in draft.words)


def _sticks_out(box: FloatBox, scale: tuple[float, float]) -> bool:
    return min(box) < 0 or box[2] > scale[0] or box[3] > scale[1]


def _check_on_page(draft: Draft) -> None:
    """Most words outside of the page means that boxes and size do not belong together."""
    width, height = draft.scale
    outside = sum(box[0] >= width or box[1] >= height for box in (word.box for word in draft.words))
    if 2 * outside > len(draft.words):
        raise ValueError(
            f"{outside} of {len(draft.words)} words lie outside of the image ({width:g} x {height:g}): "
            "it is not the image that the boxes were drawn on, or it was resized or turned since"
        )
