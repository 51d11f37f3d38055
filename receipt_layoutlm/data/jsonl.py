"""The JSONL format for import: one page a line.

| field | other names | content |
|---|---|---|
| page_id | id, guid | a text or number, unique in the file |
| words | tokens | texts, none blank; a null word is omitted |
| boxes | bboxes, bbox | four numbers for each word, or its corners |
| tags | labels, ner_tags | a tag for each word, as data/tag_schemes.py lists them |
| width, height | | of the image; 1000 when absent |
| group | | merchant or document family; absent: key.company in letters and digits, else the page id |
| key | | an object, of which only `company` is read |
| image | | digest of the scan, or an object with its `path` |
| order | | "given": the words are read in the order of the line; absent: by their boxes |

Of several names of a field on one line the first in the order of the table is used. Other fields are ignored, `lines`
among them: printed lines are found from the boxes. A JSON array of such objects, objects over several lines, columns,
and CSV with a row for each word are read too (data/rows.py). Units, arrangement of the boxes and the scheme of the tags
are decided for a whole file.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from receipt_layoutlm.data.box_reading import read_boxes
from receipt_layoutlm.data.boxes import BoxOptions, BoxReading, RawBoxes
from receipt_layoutlm.data.lines import FloatBox, bounds
from receipt_layoutlm.data.page import (
    DEFAULT_ORDER,
    PAGE_EXTENT,
    UNSUPERVISED,
    Box,
    DataError,
    Page,
    WordOrder,
    check_label,
    validation_reason,
)
from receipt_layoutlm.data.rows import EDGES, SIZED, Row, read_rows
from receipt_layoutlm.data.source_text import TextOptions, parse_json
from receipt_layoutlm.data.tag_schemes import Label, TagOptions, TagReading, class_label_names, read_tags
from receipt_layoutlm.data.tags import iob2

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_SHOWN = 200  # characters of the names of fields
_LENIENT = ConfigDict(frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)


def _number(value: object) -> object:
    """A whole float in a text field as an integer, so that 7.0 is the id 7; NaN, as pandas has it, as null."""
    if isinstance(value, float) and isnan(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _corners(value: object) -> FloatBox:
    """The four numbers of a box; of points or eight numbers, the upright box around them."""
    if isinstance(value, dict):
        value = _by_name(value)
    items: list[Any] = list(value) if isinstance(value, list | tuple) else []
    if items and all(isinstance(item, list | tuple) for item in items):
        items = [number for item in items for number in item]
    try:
        numbers = [float(item) for item in items if not isinstance(item, bool)]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != len(items) or len(numbers) < 4 or (len(numbers) > 4 and len(numbers) % 2):
        raise ValueError(f"box {value!r} is not four numbers")
    if any(number != number or abs(number) == float("inf") for number in numbers):
        raise ValueError(f"box {value!r} is not four finite numbers")
    if len(numbers) > 4 or (isinstance(value, list | tuple) and isinstance(value[0], list | tuple)):
        return bounds(numbers)
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _by_name(value: dict[str, Any]) -> object:
    """The edges of a box whose numbers have names; the value itself if the names are none of a box."""
    names = next((group for group in (*EDGES, *SIZED) if value.keys() >= {*group}), None)
    if names is None or not all(isinstance(value[name], int | float) for name in names):
        return value
    a, b, c, d = (value[name] for name in names)
    return (a, b, a + c, b + d) if names in SIZED else (a, b, c, d)


def _image(value: object) -> object:
    """The path of an image object, as Hugging Face writes them."""
    return value.get("path") if isinstance(value, dict) else value


Text = Annotated[str, BeforeValidator(_number)]
OptionalText = Annotated[str | None, BeforeValidator(_number)]


class ImportedKey(BaseModel):
    """Field values of a whole receipt, as in SROIE."""

    model_config = _LENIENT

    company: str | None = None


class ImportedPage(BaseModel):
    """One line; types are validated here, values when the whole file is known."""

    model_config = _LENIENT

    page_id: Text = Field(validation_alias=AliasChoices("page_id", "id", "guid"))
    words: tuple[OptionalText, ...] = Field(validation_alias=AliasChoices("words", "tokens"))
    boxes: tuple[Annotated[FloatBox, BeforeValidator(_corners)], ...] = Field(
        validation_alias=AliasChoices("boxes", "bboxes", "bbox")
    )
    tags: tuple[OptionalText, ...] = Field(validation_alias=AliasChoices("tags", "labels", "ner_tags"))
    width: float | None = None
    height: float | None = None
    group: OptionalText = None
    key: ImportedKey | None = None
    image: Annotated[str | None, BeforeValidator(_image)] = None
    order: WordOrder = DEFAULT_ORDER

    def merchant_group(self) -> str:
        """The group, else the company in letters and digits, else the page id."""
        if self.group is not None:
            return self.group
        company = self.key.company if self.key else None
        return normalised_name(company or "") or self.page_id

    def raw_boxes(self, line: int) -> RawBoxes:
        """The boxes with what is needed to tell their unit."""
        size = (self.width, self.height) if self.width and self.height and min(self.width, self.height) > 0 else None
        return RawBoxes(line, [word or "" for word in self.words], self.boxes, size)


def normalised_name(name: str) -> str:
    """Letters and digits of a name, case folded, with single spaces."""
    return _NOT_ALPHANUMERIC.sub(" ", name.casefold()).strip()


@dataclass(frozen=True, slots=True)
class LabelledLine:
    """A page of a file with its labels as they are there; boxes are thousandths, origin top-left."""

    line: int
    page_id: str
    group: str
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    labels: tuple[Label, ...]
    width: int
    height: int
    image: str | None
    nulls: int
    """Null words, which are omitted."""
    order: WordOrder

    def page(self) -> Page:
        """The page with its labels unchanged. ValueError for values that are no page."""
        for _, label in self.labels:
            if label not in ("", UNSUPERVISED):
                check_label(label)
        tags = iob2([(entity, label) if entity >= 0 else label or "O" for entity, label in self.labels])
        size = (self.width, self.height)
        return Page(self.page_id, self.group, self.words, self.boxes, tags, *size, self.image, self.order)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file of pages; by default, as the file tells."""

    text: TextOptions = field(default_factory=TextOptions)
    boxes: BoxOptions = field(default_factory=BoxOptions)
    tags: TagOptions = field(default_factory=TagOptions)
    order: WordOrder = DEFAULT_ORDER
    """With `given`, the words of all pages are read as they are given, otherwise those of pages that say so."""


def read_labelled_lines(path: Path, options: ReadOptions, on_bad: Callable[[DataError], None]) -> list[LabelledLine]:
    """The pages of a file; `on_bad` gets the error of each line that is none.

    Raises DataError if the file cannot be read, or if units, arrangement or tags of the whole file are wrong.
    """
    rows, features = read_rows(path, options.text, on_bad)
    return labelled_rows(path, rows, features, options, on_bad)


def read_unlabelled_lines(path: Path, options: ReadOptions, on_bad: Callable[[DataError], None]) -> list[LabelledLine]:
    """As read_labelled_lines, for pages whose labels and ids are missing or not wanted."""
    rows, _ = read_rows(path, options.text, on_bad)
    return labelled_rows(path, _completed(path, rows, ()), None, options, on_bad)


def read_partly_labelled_lines(
    path: Path, options: ReadOptions, on_bad: Callable[[DataError], None]
) -> list[LabelledLine]:
    """As read_labelled_lines, for pages of which some have no labels, and whose ids may be missing."""
    rows, features = read_rows(path, options.text, on_bad)
    return labelled_rows(path, _completed(path, rows, ("tags", "labels", "ner_tags")), features, options, on_bad)


def naming_import(error: DataError) -> DataError:
    """The error with the command that has its options, for commands that have not."""
    if " --" not in error.reason and "(--" not in error.reason:
        return error
    reason = f"{error.reason} (options of 'layoutlm-cli dataset import jsonl')"
    return DataError(reason, file=error.file, line=error.line)


def _completed(path: Path, rows: Sequence[Row], label_fields: Sequence[str]) -> list[Row]:
    """The rows with an id where they have none, and with every word unlabelled where none of the fields has labels."""
    completed = []
    for number, row in enumerate(rows, start=1):
        value = row.value
        if isinstance(value, dict):
            value = {"guid": f"{path.name}#{number}", **value}
            if all(value.get(name) is None for name in label_fields):
                count = next((len(value[name]) for name in ("words", "tokens") if isinstance(value.get(name), list)), 0)
                value["tags"] = [UNSUPERVISED] * count
        completed.append(Row(row.line, value))
    return completed


def labelled_rows(
    path: Path, rows: Sequence[Row], features: object, options: ReadOptions, on_bad: Callable[[DataError], None]
) -> list[LabelledLine]:
    """As read_labelled_lines, for rows that were read; `features` are those of Hugging Face, with names of classes."""
    pages: list[tuple[int, ImportedPage]] = []
    for row in rows:
        try:
            pages.append((row.line, _page_of_row(row)))
        except ValueError as error:
            on_bad(DataError(str(error), file=str(path), line=row.line))
    tag_options = options.tags
    if tag_options.id2label is None:
        tag_options = TagOptions(tag_options.scheme, class_label_names(features) or _saved_names(path))
    tags = read_tags([(line, page.tags) for line, page in pages], tag_options, str(path))
    if tags.text:
        options.text.note(tags.text)
    raw = [page.raw_boxes(line) for line, page in pages]
    boxes = read_boxes(raw, options.boxes, str(path), options.text.note)
    lines: list[LabelledLine] = []
    for line, page in pages:
        try:
            lines.append(_labelled(line, page, boxes, tags, options.order))
        except ValueError as error:
            on_bad(DataError(str(error), file=str(path), line=line))
    return lines


def _saved_names(path: Path) -> dict[int, str] | None:
    """The class names in the dataset_info.json that Hugging Face writes beside a data set's files."""
    info = path.with_name("dataset_info.json")
    try:
        return class_label_names(parse_json(info.read_text(encoding="utf-8"))) if info.is_file() else None
    except ValueError:
        return None


def _page_of_row(row: Row) -> ImportedPage:
    if not isinstance(row.value, dict):
        raise ValueError("is no JSON object with id, words, bboxes and labels")
    try:
        return ImportedPage.model_validate(row.value)
    except ValidationError as error:
        missing = [_ALSO[str(each["loc"][0])] for each in error.errors() if each["type"] == "missing"]
        if missing:
            fields = ", ".join(map(str, row.value)) or "none"
            raise ValueError(f"has no {', no '.join(missing)}; its fields are {fields[:_SHOWN]}") from error
        raise ValueError(validation_reason(error)) from error


_ALSO = {
    "page_id": "id (or page_id, guid)",
    "words": "words (or tokens)",
    "boxes": "bboxes (or boxes, bbox)",
    "tags": "labels (or ner_tags, tags)",
}
"""Fields of a page as an error names them."""


def _labelled(line: int, page: ImportedPage, boxes: BoxReading, tags: TagReading, order: WordOrder) -> LabelledLine:
    counts = (len(page.words), len(page.boxes), len(page.tags))
    if len(set(counts)) > 1:
        raise ValueError("{} words, {} boxes, {} tags: need one each per word".format(*counts))
    raw, labels = page.raw_boxes(line), tags.labels(page.tags)
    kept = [index for index, word in enumerate(page.words) if word is not None]
    return LabelledLine(
        line=line,
        page_id=page.page_id,
        group=page.merchant_group(),
        words=tuple(page.words[index] or "" for index in kept),
        boxes=tuple(_placed(index, boxes, raw) for index in kept),
        labels=tuple(labels[index] for index in kept),
        width=PAGE_EXTENT if page.width is None else round(page.width),
        height=PAGE_EXTENT if page.height is None else round(page.height),
        image=page.image,
        nulls=len(page.words) - len(kept),
        order=page.order if order == DEFAULT_ORDER else order,
    )


def _placed(index: int, boxes: BoxReading, raw: RawBoxes) -> Box:
    try:
        x0, y0, x1, y1 = boxes.thousandths(raw.boxes[index], raw.size)
    except ValueError as error:
        raise ValueError(f"box {index} {error}") from error
    if x0 > x1 or y0 > y1:
        given: Sequence[float] = raw.boxes[index]
        raise ValueError(
            f"box {index} {[f'{value:g}' for value in given]} is inverted: write x0 <= x1 and y0 <= y1, as in "
            f"[{min(given[0], given[2]):g}, {min(given[1], given[3]):g}, {max(given[0], given[2]):g}, "
            f"{max(given[1], given[3]):g}]"
        )
    return x0, y0, x1, y1
