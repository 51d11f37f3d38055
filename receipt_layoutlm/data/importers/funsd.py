"""FUNSD: a JSON file for each form, below training_data/annotations and testing_data/annotations.

    {"form": [{"id": 0, "text": ..., "box": [x0, y0, x1, y1], "label": "question", "linking": [[0, 37]],
               "words": [{"text": ..., "box": [x0, y0, x1, y1]}, ...]}, ...]}

Boxes are pixels of images/NAME.png beside annotations; without the image the page has the extent of the boxes.
A block of the form is one entity. Links between questions and answers are omitted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from receipt_layoutlm.data.images import image_size
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord, extent, in_order
from receipt_layoutlm.data.importers.source_text import RECORD, files_below, read_source, shaped
from receipt_layoutlm.data.lines import bounds, split_line
from receipt_layoutlm.data.page import DataError, WordOrder


class FunsdWord(BaseModel):
    """One word; its text may be blank."""

    model_config = RECORD

    text: str
    box: tuple[float, float, float, float]


class Block(BaseModel):
    """A piece of the form with one meaning: one entity."""

    model_config = RECORD

    label: str
    words: tuple[FunsdWord, ...]


class Form(BaseModel):
    """A whole file."""

    model_config = RECORD

    form: tuple[Block, ...]

    def page(self, path: Path, order: WordOrder) -> SourcePage:
        """The page; `path` is the file of the form."""
        words = [
            SourceWord(text, box, block.label, entity)
            for entity, block in enumerate(self.form)
            for word in block.words
            for text, box in split_line(word.text, bounds(word.box))
        ]
        image = path.parent.parent / "images" / f"{path.stem}.png"
        size = image_size(image) if image.is_file() else None
        width, height = size or extent(word.box for word in words)
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


def read_funsd(paths: Sequence[Path], order: WordOrder) -> Iterator[SourcePage | DataError]:
    """A page for each file."""
    for path in files_below(paths, "annotations/*.json", "*.json"):
        try:
            yield shaped(Form, read_source(path), path).page(path, order)
        except DataError as error:
            yield error


FORMAT = SourceFormat(
    read_funsd,
    labels={"question": "QUESTION", "answer": "ANSWER", "header": "HEADER", "other": "O"},
    own_labels={"other": "O"},
    no_labels=frozenset({"other"}),
)
