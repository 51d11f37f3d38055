"""doccano: JSONL of sequence labelling, with the words and boxes that were imported beside the text.

    {"id": 1, "text": "Corner Shop 3.70", "label": [[0, 11, "MERCHANT"]], "words": ["Corner", "Shop", "3.70"],
     "bboxes": [[x0, y0, x1, y1], ...]}
    {"id": 1, "text": ..., "entities": [{"start_offset": 0, "end_offset": 11, "label": "MERCHANT"}], ...}

doccano keeps the other fields of a line, some versions below "meta". The words are found in the text one after another;
a span labels the words that it touches. A line without words and boxes cannot be used: the text alone has no layout.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError

from receipt_layoutlm.data.importers.jsonl import pages_of_lines
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage
from receipt_layoutlm.data.jsonl import ReadOptions, labelled_rows
from receipt_layoutlm.data.page import DataError, validation_reason
from receipt_layoutlm.data.rows import Row, read_rows
from receipt_layoutlm.data.source_text import RECORD, files_below, parse_json

_META = ("meta", "metadata")
_WORDS, _BOXES = ("words", "tokens"), ("bboxes", "boxes", "bbox")
_KEPT = ("width", "height", "group", "image", "order", "key")
_NO_BOXES = (
    "has a text without words and boxes, and a text alone has no layout: before the import into doccano write words "
    'and bboxes beside the text, {"text": "Tea Shop", "words": ["Tea", "Shop"], "bboxes": [[x0, y0, x1, y1], …]}; '
    "doccano exports them with the labels"
)


def _span(value: object) -> object:
    if isinstance(value, list) and len(value) == 3:
        return {"start_offset": value[0], "end_offset": value[1], "label": value[2]}
    return value


class LabelSpan(BaseModel):
    """Characters of the text with a label."""

    model_config = RECORD

    start_offset: int
    end_offset: int
    label: str


class DoccanoLine(BaseModel):
    """One text."""

    model_config = RECORD

    text: str = Field(validation_alias=AliasChoices("text", "data"))
    spans: tuple[Annotated[LabelSpan, BeforeValidator(_span)], ...] = Field(
        validation_alias=AliasChoices("label", "labels", "entities")
    )

    def tags(self, words: Sequence[str]) -> list[str]:
        """A BIO tag for each word. ValueError for a word that the text has not."""
        tags: list[str] = []
        end, previous = 0, -1
        for index, word in enumerate(words):
            begin = self.text.find(word, end)
            if begin < 0:
                raise ValueError(
                    f"word {index} {word!r} does not follow in the text: write the text as the words in order"
                )
            end = begin + len(word)
            touching = (n for n, span in enumerate(self.spans) if span.start_offset < end and begin < span.end_offset)
            span = next(touching, -1)
            prefix = "I" if span == previous else "B"
            tags.append(f"{prefix}-{self.spans[span].label}" if span >= 0 else "O")
            previous = span
        return tags


def read_doccano(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each line."""
    for path in files_below(paths, "*.jsonl", "*.jsonl.gz", "*.json"):
        bad: list[DataError] = []
        rows: list[Row] = []
        try:
            for row in read_rows(path, options.text, bad.append)[0]:
                try:
                    rows.append(_row(path, row))
                except ValueError as error:
                    bad.append(DataError(str(error), file=str(path), line=row.line))
            lines = labelled_rows(path, rows, None, options, bad.append)
        except DataError as error:
            yield error
            continue
        yield from pages_of_lines(path, lines, bad)


def _row(path: Path, row: Row) -> Row:
    """A row with words, boxes and tags, as a JSONL file has it."""
    if not isinstance(row.value, dict):
        raise ValueError("is no JSON object with text and label")
    try:
        line = DoccanoLine.model_validate(row.value)
    except ValidationError as error:
        raise ValueError(validation_reason(error)) from error
    fields = {**_meta(row.value), **row.value}
    words, boxes = (_first(fields, names) for names in (_WORDS, _BOXES))
    if not isinstance(words, list) or not isinstance(boxes, list):
        raise ValueError(_NO_BOXES)
    page = {"id": f"{path.stem}#{row.line}", **{name: fields[name] for name in ("id", *_KEPT) if name in fields}}
    return Row(row.line, {**page, "words": words, "bboxes": boxes, "labels": line.tags([str(word) for word in words])})


def _meta(value: Mapping[str, Any]) -> dict[str, Any]:
    meta = _first(value, _META)
    if isinstance(meta, str):
        try:
            meta = parse_json(meta)
        except ValueError:
            return {}
    return meta if isinstance(meta, dict) else {}


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> object:
    return next((fields[name] for name in names if name in fields), None)


FORMAT = SourceFormat(read_doccano, labels={}, own_labels={})
