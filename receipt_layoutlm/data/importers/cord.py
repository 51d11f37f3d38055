"""CORD v1 and v2: .json files with one receipt each, or rows with a "ground_truth" (.parquet, .jsonl, .json).

    {"meta": {"image_id": 0, "split": "train", "image_size": {"width": 864, "height": 1296}},
     "valid_line": [{"category": "menu.nm", "group_id": 3, "words": [
         {"quad": {"x1": ..., "y1": ..., ..., "x4": ..., "y4": ...}, "is_key": 0, "row_id": 1, "text": "NASI"}]}]}

This is a file of the folder layout (train/json/receipt_00000.json) and the text of "ground_truth" in Hugging Face
datasets. A valid_line is one entity. Its printed caption ("TOTAL", is_key 1) gets the label CATEGORY.key and is not
part of the amount; with CORD's own labels it is part of the entity, as in published results. Text outside of
valid_line (repeating symbols, don't-care regions) is omitted. CORD names no merchants, so each page is its own group.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from receipt_layoutlm.data.importers.arrow import open_table
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord, in_order
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox, bounds, split_line
from receipt_layoutlm.data.page import LARGEST_EXTENT, DataError, WordOrder
from receipt_layoutlm.data.source_text import (
    RECORD,
    NullableText,
    TextOptions,
    files_below,
    numbered_lines,
    parse_json,
    read_source,
    shaped,
)

_COLUMN = "ground_truth"
_VALUES: dict[str, str] = {
    "menu.nm": "PRODUCT_NAME",
    "menu.num": "O",
    "menu.unitprice": "UNIT_PRICE",
    "menu.cnt": "QUANTITY",
    "menu.discountprice": "DISCOUNT",
    "menu.price": "LINE_TOTAL",
    "menu.itemsubtotal": "LINE_TOTAL",
    "menu.vatyn": "O",
    "menu.etc": "O",
    "menu.sub_nm": "PRODUCT_NAME",
    "menu.sub_num": "O",
    "menu.sub_unitprice": "UNIT_PRICE",
    "menu.sub_cnt": "QUANTITY",
    "menu.sub_discountprice": "DISCOUNT",
    "menu.sub_price": "LINE_TOTAL",
    "menu.sub_etc": "O",
    "void_menu.nm": "O",
    "void_menu.price": "O",
    "sub_total.subtotal_price": "SUBTOTAL",
    "sub_total.discount_price": "DISCOUNT",
    "sub_total.service_price": "O",
    "sub_total.othersvc_price": "O",
    "sub_total.tax_price": "TAX",
    "sub_total.etc": "O",
    "total.total_price": "GRAND_TOTAL",
    "total.total_etc": "O",
    "total.cashprice": "O",
    "total.changeprice": "CHANGE",
    "total.creditcardprice": "O",
    "total.emoneyprice": "O",
    "total.menutype_cnt": "O",
    "total.menuqty_cnt": "O",
}
_CAPTION = ".key"

# the caption of an amount paid names the payment method
_METHODS = ("total.cashprice", "total.creditcardprice", "total.emoneyprice")

_LABELS: Mapping[str, str] = {
    **_VALUES,
    **{f"{category}{_CAPTION}": "PAYMENT_METHOD" if category in _METHODS else "O" for category in _VALUES},
}


class Quad(BaseModel):
    """Four corners, in any order."""

    model_config = RECORD

    x1: float
    y1: float
    x2: float
    y2: float
    x3: float
    y3: float
    x4: float
    y4: float

    def box(self) -> FloatBox:
        """The upright box around the corners."""
        return bounds((self.x1, self.y1, self.x2, self.y2, self.x3, self.y3, self.x4, self.y4))


class CordWord(BaseModel):
    """One word."""

    model_config = RECORD

    text: NullableText
    quad: Quad
    is_key: int | None = 0


class Line(BaseModel):
    """The words of one entity."""

    model_config = RECORD

    category: str
    words: tuple[CordWord, ...]


class Size(BaseModel):
    """Pixels of the image."""

    model_config = RECORD

    width: int = Field(gt=0, le=LARGEST_EXTENT)
    height: int = Field(gt=0, le=LARGEST_EXTENT)


class Meta(BaseModel):
    """Identity and size of the receipt; image_id counts from 0 in each split."""

    model_config = RECORD

    image_id: int
    split: str = ""
    image_size: Size


class CordReceipt(BaseModel):
    """One annotation."""

    model_config = RECORD

    meta: Meta
    valid_line: tuple[Line, ...]

    def page(self, path: Path, line: int | None, order: WordOrder) -> SourcePage:
        """The page; `path` and `line` are the place of the annotation."""
        size = (self.meta.image_size.width, self.meta.image_size.height)
        page_id = "-".join(part for part in ("cord", self.meta.split, f"{self.meta.image_id:05}") if part)
        words = [
            SourceWord(text, box, entity.category + (_CAPTION if word.is_key else ""), number)
            for number, entity in enumerate(self.valid_line)
            for word in entity.words
            for text, box in split_line(word.text, word.quad.box())
        ]
        return SourcePage(
            file=str(path),
            line=line,
            page_id=page_id,
            group=page_id,
            words=in_order(words, size, order),
            scale=size,
            width=size[0],
            height=size[1],
            blank=sum(not word.text.strip() for entity in self.valid_line for word in entity.words),
            order=order,
        )


class HubRow(BaseModel):
    """A row of a Hugging Face dataset with the annotation as text, or the annotation itself."""

    model_config = RECORD

    ground_truth: str | None = None


def read_cord(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each annotation; of a folder, its .parquet files, or else its .jsonl, or else its .json files."""
    for path in files_below(paths, "*.parquet", "*.jsonl", "json/*.json", "*.json"):
        try:
            for line, text in _texts(path, options.text):
                try:
                    annotation = shaped(HubRow, text, path, line).ground_truth or text
                    yield shaped(CordReceipt, annotation, path, line).page(path, line, options.order)
                except DataError as error:
                    yield error
        except DataError as error:
            yield error


def _texts(path: Path, options: TextOptions) -> Iterator[tuple[int | None, str]]:
    """The annotations or rows of a file as JSON, with the number of their line or row."""
    if path.suffix == ".parquet":
        table = open_table(path)
        if _COLUMN not in table.columns:
            raise DataError(f"has no column {_COLUMN}, but {', '.join(table.columns)}", file=str(path))
        yield from enumerate((row[_COLUMN] for row in table.rows([_COLUMN])), start=1)
        return
    if path.suffix == ".jsonl":
        yield from numbered_lines(path, options)
        return
    text = read_source(path, options)
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg}", file=str(path), line=error.lineno) from error
    if isinstance(value, list):
        yield from ((number, json.dumps(row)) for number, row in enumerate(value, start=1))
    else:
        yield None, text


FORMAT = SourceFormat(read_cord, _LABELS, {f"{category}{_CAPTION}": category for category in _VALUES})
