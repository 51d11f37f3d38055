"""XFUND: forms in seven languages, one JSON file with many documents.

    {"lang": "de", "documents": [{"id": "de_train_0", "img": {"fname": "de_train_0.jpg", "width": 2480, "height": 3508},
      "document": [{"id": 0, "text": ..., "box": [x0, y0, x1, y1], "label": "question", "linking": [[0, 37]],
                    "words": [{"text": ..., "box": [x0, y0, x1, y1]}, ...]}, ...]}, ...]}

Boxes are pixels of the image, whose size is in the file. A block is one entity, as in FUNSD; links are omitted.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, PositiveInt

from receipt_layoutlm.data.importers.funsd import FORMAT as FUNSD
from receipt_layoutlm.data.importers.funsd import Block
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord, in_order
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import bounds, split_line
from receipt_layoutlm.data.page import DataError, WordOrder
from receipt_layoutlm.data.source_text import RECORD, files_below, read_source, shaped


class XfundImage(BaseModel):
    """The image of a document, in pixels."""

    model_config = RECORD

    width: PositiveInt
    height: PositiveInt


class XfundDocument(BaseModel):
    """A page."""

    model_config = RECORD

    id: str
    document: tuple[Block, ...]
    img: XfundImage

    def page(self, path: Path, order: WordOrder) -> SourcePage:
        """The page; `path` is the file that holds it."""
        size = (self.img.width, self.img.height)
        words = [
            SourceWord(text, box, block.label.lower(), entity)
            for entity, block in enumerate(self.document)
            for word in block.words
            for text, box in split_line(word.text, bounds(word.box))
        ]
        return SourcePage(
            file=str(path),
            line=None,
            page_id=self.id,
            group=self.id,
            words=in_order(words, size, order),
            scale=size,
            width=size[0],
            height=size[1],
            blank=sum(not word.text.strip() for block in self.document for word in block.words),
            order=order,
        )


class XfundFile(BaseModel):
    """A whole file, whose documents are read one by one."""

    model_config = RECORD

    documents: tuple[object, ...]


def read_xfund(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each document of each file."""
    for path in files_below(paths, "*.json"):
        try:
            documents = shaped(XfundFile, read_source(path, options.text), path).documents
        except DataError as error:
            yield error
            continue
        for number, document in enumerate(documents, start=1):
            try:
                yield shaped(XfundDocument, json.dumps(document), path).page(path, options.order)
            except DataError as error:
                yield DataError(f"document {number}: {error.reason}", file=str(path))


FORMAT = SourceFormat(read_xfund, labels=FUNSD.labels, own_labels=FUNSD.own_labels, no_labels=FUNSD.no_labels)
