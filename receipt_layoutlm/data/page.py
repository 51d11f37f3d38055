"""Labelled pages, and their canonical JSON lines."""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.errors import UserError

Box = tuple[int, int, int, int]

WordOrder = Literal["boxes", "given"]
"""The order in which the words of a page are read: by their boxes, or as they are given."""

DEFAULT_ORDER: Final[WordOrder] = "boxes"

PAGE_EXTENT = 1000
"""Boxes are thousandths of the page's width and height; the origin is the top-left corner."""
LARGEST_EXTENT: Final = 10**9
"""Pixels, or whatever the unit, of a page's width and height."""

UNSUPERVISED = "-"
"""The tag of an unlabelled word, which is neither learned nor scored and belongs to no entity."""

_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_TAG = re.compile(rf"O|-|[BI]-{_NAME}")


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


_SHOWN = 10  # bad lines in one message


def bad_lines(errors: Sequence[DataError], kind: str = "files or lines") -> DataError:
    """One error for all bad lines and files, or labels: the first ten, and how many there are."""
    if len(errors) == 1:
        return errors[0]
    shown = "\n".join(f"  {error}" for error in errors[:_SHOWN])
    more = f"\n  and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return DataError(f"{len(errors)} {kind} cannot be used:\n{shown}{more}")


@dataclass(frozen=True, slots=True)
class Page:
    """One labelled page; ValueError for values that are not a page.

    `boxes` are (x0, y0, x1, y1), 0..1000, origin top-left; `tags` are IOB2 or UNSUPERVISED, one for each word.
    `width` and `height` are those of the image in any unit (only their ratio is used). `group` is the merchant or the
    document family, `image` the digest of the scan, `order` how the words are read.
    """

    page_id: str
    group: str
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    tags: tuple[str, ...]
    width: int
    height: int
    image: str | None = None
    order: WordOrder = DEFAULT_ORDER

    def __post_init__(self) -> None:
        if not self.page_id or not self.group:
            raise ValueError("page id and group must not be empty")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"width {self.width} and height {self.height} must be above 0")
        if max(self.width, self.height) > LARGEST_EXTENT:
            raise ValueError(f"width and height can be {LARGEST_EXTENT:,} at most")
        if not self.words:
            raise ValueError("the page has no words")
        counts = (len(self.words), len(self.boxes), len(self.tags))
        if len(set(counts)) > 1:
            raise ValueError("{} words, {} boxes, {} tags: need one each per word".format(*counts))
        for index, word in enumerate(self.words):
            if not word or word.isspace():
                raise ValueError(f"word {index} is empty")
        try:
            "".join((self.page_id, self.group, *self.words)).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text has half of a surrogate pair, which is not a character") from error
        for index, (x0, y0, x1, y1) in enumerate(self.boxes):
            if not (0 <= x0 <= x1 <= PAGE_EXTENT and 0 <= y0 <= y1 <= PAGE_EXTENT):
                raise ValueError(
                    f"box {index} [{x0}, {y0}, {x1}, {y1}] is outside 0..{PAGE_EXTENT} or inverted: "
                    "write x0 <= x1 and y0 <= y1 in thousandths of the page"
                )
        for index, tag in enumerate(self.tags):
            if not _TAG.fullmatch(tag):
                # a long tag may be a word of the page, in a file with its columns mixed up
                shown = tag if len(tag) <= 2 else f"{tag[:2]}…"
                raise ValueError(
                    f"tag {index} {shown!r} is not BIO (O, B-LABEL, I-LABEL; {UNSUPERVISED} if unlabelled)"
                )
        for index, (previous, tag) in enumerate(pairwise(("O", *self.tags))):
            if tag[0] == "I" and previous[1:] != tag[1:]:
                raise ValueError(f"tag {index} {tag!r} continues no {tag[2:]}")


def check_label(label: str) -> str:
    """The label. Raises ValueError unless it is a valid name, with a valid form of it."""
    if re.fullmatch(_NAME, label):
        return label
    valid = valid_label(label)
    use = f"write {valid}, or map it" if valid else "map it"
    raise ValueError(f"label {label!r} is not valid: {use} to a name of letters, digits, '_', '.' and '-'")


_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L"})
"""Latin letters that Unicode does not decompose."""


def valid_label(label: str) -> str:
    """A valid name that is like the label; "" if it has no Latin letter or digit."""
    plain = unicodedata.normalize("NFKD", label.translate(_PLAIN)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")
    return (name if name[:1].isalpha() or not name else f"L_{name}")[:64]


def page_to_line(page: Page) -> str:
    """The canonical JSON of a page, without a line end; the same for equal pages."""
    # not asdict, which copies every word and box: five times as slow
    values = {name: getattr(page, name) for name in _FIELDS}
    if page.order == DEFAULT_ORDER:  # as in snapshots from before there was another
        del values["order"]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


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
    reason = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    return f"{place}: {reason}" if place else reason
