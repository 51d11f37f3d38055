"""CORD v1 and v2: .json files with one receipt each, or rows with a "ground_truth" (.parquet, .jsonl, .json).

    {"meta": {"image_id": 0, "split": "train", "image_size": {"width": 864, "height": 1296}},
     "valid_line": [{"category": "menu.nm", "group_id": 3, "words": [
         {"quad": {"x1": ..., "y1": ..., ..., "x4": ..., "y4": ...}, "is_key": 0, "row_id": 1, "text": "NASI"}]}]}

That is a file of the folder layout (train/json/receipt_00000.json) and the text of "ground_truth" in the data sets of
Hugging Face. A valid_line is one entity. Its printed caption ("TOTAL", is_key 1) is called CATEGORY.key here and is
no part of the amount; who keeps CORD's own labels has it inside of the entity, as published figures count it. What
is outside of valid_line (repeating symbols, parts not cared for) is left out. CORD names no merchants, so each page
is a group of its own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field

from receipt_layoutlm.data.importers.draft import Draft, DraftWord, in_reading_order
from receipt_layoutlm.data.importers.source_text import RECORD, files_below, numbered_lines, read_source, shaped
from receipt_layoutlm.data.lines import FloatBox, bounds, split_line
from receipt_layoutlm.data.page import DataError

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

# what is printed before an amount paid says how it was paid
_METHODS = ("total.cashprice", "total.creditcardprice", "total.emoneyprice")

LABELS: Mapping[str, str] = {
    **_VALUES,
    **{f"{category}{_CAPTION}": "PAYMENT_METHOD" if category in _METHODS else "O" for category in _VALUES},
}
OWN_LABELS: Mapping[str, str] = {f"{category}{_CAPTION}": category for category in _VALUES}
NO_LABELS: frozenset[str] = frozenset()


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


class Word(BaseModel):
    """One word."""

    model_config = RECORD

    text: str
    quad: Quad
    is_key: int = 0


class Line(BaseModel):
    """Words that are one entity."""

    model_config = RECORD

    category: str
    words: tuple[Word, ...]


class Size(BaseModel):
    """Pixels of the image."""

    model_config = RECORD

    width: int = Field(gt=0)
    height: int = Field(gt=0)


class Meta(BaseModel):
    """What the receipt is; image_id counts from 0 in each split."""

    model_config = RECORD

    image_id: int
    split: str = ""
    image_size: Size


class Receipt(BaseModel):
    """One annotation."""

    model_config = RECORD

    meta: Meta
    valid_line: tuple[Line, ...]


class Row(BaseModel):
    """One row of a data set of Hugging Face, the annotation a text inside of it; or the annotation itself."""

    model_config = RECORD

    ground_truth: str | None = None


def drafts(paths: Sequence[Path]) -> Iterator[Draft | DataError]:
    """A page for each annotation; of a folder, its .parquet files, or else its .jsonl, or else its .json files."""
    for path in files_below(paths, "*.parquet", "*.jsonl", "json/*.json", "*.json"):
        try:
            for line, text in _texts(path):
                yield _draft_or_error(path, line, text)
        except DataError as error:
            yield error


def _draft_or_error(path: Path, line: int | None, text: str) -> Draft | DataError:
    try:
        annotation = shaped(Row, text, path, line).ground_truth or text
        return _draft(path, line, shaped(Receipt, annotation, path, line))
    except DataError as error:
        return error


def _texts(path: Path) -> Iterator[tuple[int | None, str]]:
    """The annotations or rows of a file as JSON, with the number of their line or row."""
    if path.suffix == ".parquet":
        yield from enumerate(_parquet_column(path), start=1)
    elif path.suffix == ".jsonl":
        yield from numbered_lines(path)
    else:
        yield from _json_texts(path)


def _json_texts(path: Path) -> Iterator[tuple[int | None, str]]:
    """One annotation, one row, or a list of them."""
    text = read_source(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg}", file=str(path), line=error.lineno) from error
    if isinstance(value, list):
        yield from ((number, json.dumps(row)) for number, row in enumerate(value, start=1))
    else:
        yield None, text


def _parquet_column(path: Path) -> Sequence[str]:
    if find_spec("pyarrow") is None:
        raise DataError("Parquet needs pyarrow: pip install pyarrow", file=str(path))
    try:
        read = import_module("pyarrow.parquet").read_table(path, columns=["ground_truth"])
    except (OSError, ValueError) as error:
        raise DataError(f"is not Parquet with a column ground_truth: {error}", file=str(path)) from error
    texts: list[str] = read.column("ground_truth").to_pylist()
    return texts


def _draft(path: Path, line: int | None, receipt: Receipt) -> Draft:
    meta = receipt.meta
    size = (meta.image_size.width, meta.image_size.height)
    page_id = "-".join(part for part in ("cord", meta.split, f"{meta.image_id:05}") if part)
    return Draft(
        file=str(path),
        line=line,
        page_id=page_id,
        group=page_id,
        words=in_reading_order(list(_words(receipt)), size),
        scale=size,
        width=size[0],
        height=size[1],
        blank=sum(not word.text.strip() for each in receipt.valid_line for word in each.words),
    )


def _words(receipt: Receipt) -> Iterator[DraftWord]:
    for entity, line in enumerate(receipt.valid_line):
        for word in line.words:
            label = line.category + (_CAPTION if word.is_key else "")
            for text, box in split_line(word.text, word.quad.box()):
                yield DraftWord(text, box, label, entity)
