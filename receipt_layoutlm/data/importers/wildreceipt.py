"""WildReceipt: train.txt and test.txt, one receipt a line, and class_list.txt beside them.

    {"file_name": "image_files/.../abc.jpeg", "height": 1200, "width": 1600,
     "annotations": [{"box": [x1, y1, x2, y2, x3, y3, x4, y4], "text": "SAFEWAY", "label": 1}, ...]}

Boxes are pixels, four corners in any order; a label is a number that class_list.txt names, "1 Store_name_value" a
line. Without that file the published list of 26 classes applies. Each annotation is one entity; adjacent pieces of a
name or an address are joined to one. The page id is the image's path without its suffix, the group the printed name
of the merchant.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, Field

from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord, in_order
from receipt_layoutlm.data.jsonl import ReadOptions, normalised_name
from receipt_layoutlm.data.lines import bounds, split_line
from receipt_layoutlm.data.page import LARGEST_EXTENT, DataError, WordOrder
from receipt_layoutlm.data.source_text import (
    RECORD,
    NullableText,
    TextOptions,
    files_below,
    numbered_lines,
    shaped,
)

_LABELS: Mapping[str, str] = {
    "Ignore": "O",
    "Store_name_value": "MERCHANT_NAME",
    "Store_name_key": "O",
    "Store_addr_value": "ADDRESS_LINE",
    "Store_addr_key": "O",
    "Tel_value": "PHONE_NUMBER",
    "Tel_key": "O",
    "Date_value": "DATE",
    "Date_key": "O",
    "Time_value": "TIME",
    "Time_key": "O",
    "Prod_item_value": "PRODUCT_NAME",
    "Prod_item_key": "O",
    "Prod_quantity_value": "QUANTITY",
    "Prod_quantity_key": "O",
    "Prod_price_value": "LINE_TOTAL",
    "Prod_price_key": "O",
    "Subtotal_value": "SUBTOTAL",
    "Subtotal_key": "O",
    "Tax_value": "TAX",
    "Tax_key": "O",
    "Tips_value": "TIP",
    "Tips_key": "O",
    "Total_value": "GRAND_TOTAL",
    "Total_key": "O",
    "Others": "O",
}
"""In the order of the published class list: the position is the class number."""

_NO_LABELS = frozenset({"Ignore", "Others"})

_CONTINUED = frozenset({"Store_name_value", "Store_addr_value"})


class Annotation(BaseModel):
    """A piece of text, a word or a line."""

    model_config = RECORD

    box: tuple[float, float, float, float, float, float, float, float]
    text: NullableText
    label: int
    edge: int | str | None = None
    """Only in WildReceipt's openset variant, whose labels are other classes."""


class WildReceipt(BaseModel):
    """One line."""

    model_config = RECORD

    file_name: str
    height: int = Field(le=LARGEST_EXTENT)
    width: int = Field(le=LARGEST_EXTENT)
    annotations: tuple[Annotation, ...]

    def page(self, path: Path, line: int, classes: Mapping[int, str], order: WordOrder) -> SourcePage:
        """The page; `path` and `line` are the place of the receipt. Raises DataError for an unknown class."""
        if any(annotation.edge is not None for annotation in self.annotations):
            reason = (
                "annotations have an edge: this is the openset variant of WildReceipt, whose labels 0 to 3 are "
                "background, key, value and other: bring train.txt and test.txt of the original"
            )
            raise DataError(reason, file=str(path), line=line)
        words: list[SourceWord] = []
        for entity, annotation in enumerate(self.annotations):
            if annotation.label not in classes:
                reason = f"annotations.{entity}.label: class {annotation.label} is not in class_list.txt: add it"
                raise DataError(reason, file=str(path), line=line)
            label = classes[annotation.label]
            split = split_line(annotation.text, bounds(annotation.box))
            words += [SourceWord(text, box, label, entity) for text, box in split]
        scale = (max(self.width, 1), max(self.height, 1))
        joined: list[SourceWord] = []  # adjacent names and addresses as one entity
        for word in in_order(words, scale, order):
            continues = joined and word.label in _CONTINUED and joined[-1].label == word.label
            joined.append(replace(word, entity=joined[-1].entity) if continues else word)
        page_id = self.file_name.removeprefix("image_files/").rpartition(".")[0] or self.file_name
        name = normalised_name(" ".join(word.text for word in joined if word.label == "Store_name_value"))
        return SourcePage(
            file=str(path),
            line=line,
            page_id=page_id,
            group=name or page_id,
            words=tuple(joined),
            scale=scale,
            width=self.width,
            height=self.height,
            blank=sum(not annotation.text.strip() for annotation in self.annotations),
            order=order,
        )


def read_wildreceipt(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each line; of a folder, of its train.txt and test.txt."""
    files: list[Path] = []
    for path in paths:
        inside = [path / name for name in ("train.txt", "test.txt") if (path / name).is_file()]
        files += inside or files_below([path], "train.txt", "test.txt")
    for path in files:
        try:
            classes = _classes(path.with_name("class_list.txt"), options.text)
        except DataError as error:
            yield error
            continue
        for number, line in numbered_lines(path, options.text):
            try:
                yield shaped(WildReceipt, line, path, number).page(path, number, classes, options.order)
            except DataError as error:
                yield error


def _classes(path: Path, options: TextOptions) -> dict[int, str]:
    """Class names by number."""
    if not path.is_file():
        return dict(enumerate(_LABELS))
    classes: dict[int, str] = {}
    for number, line in numbered_lines(path, options):
        index, _, name = line.strip().partition(" ")
        if not index.isdigit() or not name.strip():
            raise DataError("is not a class number and a name, as in '1 Store_name_value'", file=str(path), line=number)
        classes[int(index)] = name.strip()
    return classes


FORMAT = SourceFormat(read_wildreceipt, _LABELS, dict.fromkeys(_NO_LABELS, "O"), _NO_LABELS)
