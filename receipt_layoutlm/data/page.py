"""A labelled page, the one form in which training data is passed around, and its canonical JSON line."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.errors import UserError

Box = tuple[int, int, int, int]

PAGE_EXTENT = 1000
"""Boxes are thousandths of the page's width and height; the origin is the top-left corner."""

UNSUPERVISED = "-"
"""The tag of a word whose label nobody has decided yet: no class to learn, none to score, and no entity."""

_TAG = re.compile(r"O|-|[BI]-[A-Za-z][A-Za-z0-9_.-]{0,63}")


class DataError(UserError, ValueError):
    """Data that cannot be used: where (file and line from 1, as far as known) and why."""

    def __init__(self, reason: str, *, file: str | None = None, line: int | None = None) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        super().__init__(reason)

    def __str__(self) -> str:
        place = [str(part) for part in (self.file, self.line) if part is not None]
        return f"{':'.join(place)}: {self.reason}" if place else self.reason


@dataclass(frozen=True, slots=True)
class Page:
    """One labelled page; a Page that exists is valid (ValueError otherwise).

    `boxes` are (x0, y0, x1, y1), 0..1000, origin top-left; `tags` are IOB2 or UNSUPERVISED, one per word.
    `width` and `height` are those of the image in any unit (only their ratio counts). `group` names the
    merchant or the document family; `image` is the digest of the scan.
    """

    page_id: str
    group: str
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    tags: tuple[str, ...]
    width: int
    height: int
    image: str | None = None

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise ValueError(problem)


def _problem(page: Page) -> str | None:
    """The first reason why a page cannot be used, None if there is none."""
    if not page.page_id or not page.group:
        return "page id and group must not be empty"
    if page.width <= 0 or page.height <= 0:
        return f"width {page.width} and height {page.height} must be above 0"
    if not page.words:
        return "the page has no words"
    if not len(page.words) == len(page.boxes) == len(page.tags):
        return f"{len(page.words)} words, {len(page.boxes)} boxes, {len(page.tags)} tags: need one each per word"
    return _text_problem(page) or _box_problem(page.boxes) or _tag_problem(page.tags)


def _text_problem(page: Page) -> str | None:
    for index, word in enumerate(page.words):
        if not word or word.isspace():
            return f"word {index} is empty"
    try:
        "".join((page.page_id, page.group, *page.words)).encode()
    except UnicodeEncodeError:
        return "a text holds half of a surrogate pair, which is not a character"
    return None


def _box_problem(boxes: Sequence[Box]) -> str | None:
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        if not (0 <= x0 <= x1 <= PAGE_EXTENT and 0 <= y0 <= y1 <= PAGE_EXTENT):
            return (
                f"box {index} [{x0}, {y0}, {x1}, {y1}] is outside 0..{PAGE_EXTENT} or inverted: "
                "give x0 <= x1 and y0 <= y1 in thousandths of the page"
            )
    return None


def _tag_problem(tags: Sequence[str]) -> str | None:
    for index, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            return f"tag {index} {_begin(tag)} is not BIO (O, B-LABEL, I-LABEL; {UNSUPERVISED} if undecided)"
    for index, (before, tag) in enumerate(pairwise(("O", *tags))):
        if tag[0] == "I" and before[1:] != tag[1:]:
            return f"tag {index} {tag!r} continues no {tag[2:]}"
    return None


def _begin(tag: str) -> str:
    """What kind of tag it is; the whole of it may be a word of the page, in a file with its columns mixed up."""
    return repr(tag if len(tag) <= 2 else f"{tag[:2]}…")


def page_to_line(page: Page) -> str:
    """The canonical JSON of a page, without a line end; equal pages give equal lines."""
    # not asdict, which copies every word and box: five times as slow
    return json.dumps({name: getattr(page, name) for name in _FIELDS}, ensure_ascii=False, separators=(",", ":"))


_FIELDS = tuple(field.name for field in fields(Page))
_PAGE = TypeAdapter(Page)


def page_from_line(line: str) -> Page:
    """The page of a canonical line; ValueError with the reason when it is not one."""
    try:
        return _PAGE.validate_json(line)
    except ValidationError as error:
        raise ValueError(validation_reason(error)) from error


def validation_reason(error: ValidationError) -> str:
    """The first complaint of pydantic in one line: `FIELD.INDEX: what is wrong`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
