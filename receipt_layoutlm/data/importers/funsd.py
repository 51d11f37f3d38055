"""FUNSD: a JSON file for each form, below training_data/annotations and testing_data/annotations.

    {"form": [{"id": 0, "text": ..., "box": [x0, y0, x1, y1], "label": "question", "linking": [[0, 37]],
               "words": [{"text": ..., "box": [x0, y0, x1, y1]}, ...]}, ...]}

Boxes are pixels of images/NAME.png beside annotations; without the image the page has the extent of the boxes.
A block of the form is one entity. Links between questions and answers are omitted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel

from receipt_layoutlm.data.box_reading import read_boxes
from receipt_layoutlm.data.boxes import BoxReading, BoxUnit, RawBoxes
from receipt_layoutlm.data.images import image_size
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord, extent, in_order
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox, bounds, split_line
from receipt_layoutlm.data.page import DataError, WordOrder
from receipt_layoutlm.data.source_text import RECORD, NullableText, files_below, read_source, shaped

_NO_LABELS = frozenset({"other", "O", "O_"})
"""The second and third as converters of Label Studio write them."""


class FunsdWord(BaseModel):
    """One word; its text may be blank."""

    model_config = RECORD

    text: NullableText
    box: FloatBox


class Block(BaseModel):
    """A piece of the form with one meaning: one entity."""

    model_config = RECORD

    label: str
    words: tuple[FunsdWord, ...]


class Form(BaseModel):
    """A whole file."""

    model_config = RECORD

    form: tuple[Block, ...]

    def page(self, path: Path, reading: BoxReading, order: WordOrder) -> SourcePage:
        """The page; `path` is the file of the form."""
        size = _size(path)
        blocks = [[(word.text, bounds(reading.order.arrange(word.box))) for word in block.words] for block in self.form]
        width, height = size or extent(box for block in blocks for text, box in block if text.strip())
        words = [
            SourceWord(text, reading.from_top(box, height), block.label, entity)
            for entity, (block, texts) in enumerate(zip(self.form, blocks, strict=True))
            for whole, whole_box in texts
            for text, box in split_line(whole, whole_box)
        ]
        return SourcePage(
            file=str(path),
            line=None,
            page_id=path.stem,
            group=path.stem,
            words=in_order(words, (width, height), order),
            scale=(width, height),
            width=width,
            height=height,
            blank=sum(not word.text.strip() for block in self.form for word in block.words),
            is_size_guessed=size is None,
            order=order,
        )

    def raw_boxes(self, path: Path) -> RawBoxes:
        """The boxes of all words as they stand in the file."""
        words = [word for block in self.form for word in block.words]
        return RawBoxes(None, [word.text for word in words], [word.box for word in words], _size(path))


def _size(path: Path) -> tuple[int, int] | None:
    """The size of a form's image, if it lies in images beside the folder of the form."""
    images = (path.parent.parent / "images" / f"{path.stem}{suffix}" for suffix in (".png", ".jpg", ".jpeg"))
    return next((image_size(image) for image in images if image.is_file()), None)


def read_funsd(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each file; the arrangement of the boxes is decided for all files of a folder together."""
    forms: dict[Path, Form] = {}
    for path in files_below(paths, "annotations/*.json", "*.json"):
        try:
            forms[path] = shaped(Form, read_source(path, options.text), path)
        except DataError as error:
            yield error
    asked = replace(options.boxes, unit=BoxUnit.PIXELS)
    for folder, files in groupby(forms, key=lambda path: path.parent):
        of_folder = list(files)
        raw = [forms[path].raw_boxes(path) for path in of_folder]
        try:
            reading = read_boxes(raw, asked, str(folder if len(of_folder) > 1 else of_folder[0]), options.text.note)
        except DataError as error:
            yield error
            continue
        yield from (forms[path].page(path, reading, options.order) for path in of_folder)


FORMAT = SourceFormat(
    read_funsd,
    labels={"question": "QUESTION", "answer": "ANSWER", "header": "HEADER", **dict.fromkeys(_NO_LABELS, "O")},
    own_labels=dict.fromkeys(_NO_LABELS, "O"),
    no_labels=_NO_LABELS,
)
