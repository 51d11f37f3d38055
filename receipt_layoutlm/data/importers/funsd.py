"""FUNSD: a JSON file for each form, below training_data/annotations and testing_data/annotations.

    {"form": [{"id": 0, "text": ..., "box": [x0, y0, x1, y1], "label": "question", "linking": [[0, 37]],
               "words": [{"text": ..., "box": [x0, y0, x1, y1]}, ...]}, ...]}

Boxes are pixels of images/NAME.png beside annotations; without the image the extent of the boxes is the page's.
A block of the form is one entity. Links between questions and answers are left out: nothing here learns them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from receipt_layoutlm.data.images import image_size
from receipt_layoutlm.data.importers.draft import Draft, DraftWord, extent, in_reading_order
from receipt_layoutlm.data.importers.source_text import RECORD, files_below, read_source, shaped
from receipt_layoutlm.data.lines import bounds, split_line
from receipt_layoutlm.data.page import DataError

LABELS: Mapping[str, str] = {"question": "QUESTION", "answer": "ANSWER", "header": "HEADER", "other": "O"}
OWN_LABELS: Mapping[str, str] = {"other": "O"}
NO_LABELS = frozenset({"other"})


class Word(BaseModel):
    """A word as it stands on the form; its text may be blank."""

    model_config = RECORD

    text: str
    box: tuple[float, float, float, float]


class Block(BaseModel):
    """A piece of the form that means one thing."""

    model_config = RECORD

    label: str
    words: tuple[Word, ...]


class Form(BaseModel):
    """A whole file."""

    model_config = RECORD

    form: tuple[Block, ...]


def drafts(paths: Sequence[Path]) -> Iterator[Draft | DataError]:
    """A page for each file."""
    for path in files_below(paths, "annotations/*.json", "*.json"):
        try:
            yield _draft(path, shaped(Form, read_source(path), path))
        except DataError as error:
            yield error


def _draft(path: Path, form: Form) -> Draft:
    image = path.parent.parent / "images" / f"{path.stem}.png"
    words = [
        DraftWord(text, box, block.label, entity)
        for entity, block in enumerate(form.form)
        for word in block.words
        for text, box in split_line(word.text, bounds(word.box))
    ]
    size = image_size(image) if image.is_file() else None
    width, height = size or extent(word.box for word in words)
    return Draft(
        file=str(path),
        line=None,
        page_id=path.stem,
        group=path.stem,
        words=in_reading_order(words, (width, height)),
        scale=(width, height),
        width=width,
        height=height,
        blank=sum(not word.text.strip() for block in form.form for word in block.words),
        is_size_guessed=size is None,
    )
