"""Labelled pages, and their canonical JSON lines."""

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
"""The tag of an unlabelled word, which is neither learned nor scored and belongs to no entity."""

_TAG = re.compile(r"O|-|[BI]-[A-Za-z][A-Za-z0-9_.-]{0,63}")


class DataError(UserError, ValueError):
    """Unusable data; the text has the reason, and file and line (from 1) as far as known."""

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
    """One labelled page; ValueError for values that are not a page.

    `boxes` are (x0, y0, x1, y1), 0..1000, origin top-left; `tags` are IOB2 or UNSUPERVISED, one for each word.
    `width` and `height` are those of the image in any unit (only their ratio is used). `group` is the merchant or the
    document family, `image` the digest of the scan.
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
    """The first reason why a page is not valid, None if it is."""
    if not page.page_id or not page.group:
        return "page id and group must not be empty"
    if page.width <= 0 or page.height <= 0:
        return f"width {page.width} and height {page.height} must be above 0"
    if not page.words:
        return "the page has no words"
    if not len(page.words) == len(page.boxes) == len(page.tags):
        return f"{len(page.words)} words, {len(page.boxes)} boxes, {len(page.tags)} tags: need one each per word"
    for index, word in enumerate(page.words):
        if not word or word.isspace():
            return f"word {index} is empty"
    try:
        "".join((page.page_id, page.group, *page.words)).encode()
    except UnicodeEncodeError:
        return "a text has half of a surrogate pair, which is not a character"
    for index, (x0, y0, x1, y1) in enumerate(page.boxes):
        if not (0 <= x0 <= x1 <= PAGE_EXTENT and 0 <= y0 <= y1 <= PAGE_EXTENT):
            return (
                f"box {index} [{x0}, {y0}, {x1}, {y1}] is outside 0..{PAGE_EXTENT} or inverted: "
                "write x0 <= x1 and y0 <= y1 in thousandths of the page"
            )
    return _tag_problem(page.tags)


def _tag_problem(tags: Sequence[str]) -> str | None:
    for index, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            # a long tag may be a word of the page, in a file with its columns mixed up
            shown = tag if len(tag) <= 2 else f"{tag[:2]}…"
            return f"tag {index} {shown!r} is not BIO (O, B-LABEL, I-LABEL; {UNSUPERVISED} if unlabelled)"
    for index, (previous, tag) in enumerate(pairwise(("O", *tags))):
        if tag[0] == "I" and previous[1:] != tag[1:]:
            return f"tag {index} {tag!r} continues no {tag[2:]}"
    return None


def page_to_line(page: Page) -> str:
    """The canonical JSON of a page, without a line end; the same for equal pages."""
    # not asdict, which copies every word and box: five times as slow
    return json.dumps({name: getattr(page, name) for name in _FIELDS}, ensure_ascii=False, separators=(",", ":"))


_FIELDS = tuple(field.name for field in fields(Page))
_PAGE = TypeAdapter(Page)


def page_from_line(line: str) -> Page:
    """The page in a canonical line. Raises ValueError with the reason."""
    try:
        return _PAGE.validate_json(line)
    except ValidationError as error:
        raise ValueError(validation_reason(error)) from error


def validation_reason(error: ValidationError) -> str:
    """The first error of a pydantic validation in one line: `FIELD.INDEX: reason`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
