"""docTR: the export of a result as JSON, one document a file.

    {"pages": [{"page_idx": 0, "dimensions": [height, width], "blocks": [{"lines": [{"words": [
        {"value": "Shop", "confidence": 0.99, "geometry": [[x0, y0], [x1, y1]]}]}]}]}]}

The geometry is two or four corners in shares of the page. A result of the KIE predictor has predictions by class in
place of blocks, {"date": [{"value": ..., "geometry": ...}]}; its classes are labels, but for "words".
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, RootModel, model_validator

from receipt_layoutlm.data.importers.ocr_page import OcrPage, document_pages, scaled
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import bounds
from receipt_layoutlm.data.page import LARGEST_EXTENT, DataError
from receipt_layoutlm.data.source_text import RECORD, NullableText, OneOrMany, files_below, read_source, shaped

_NO_CLASS = "words"


class DoctrWord(BaseModel):
    """A word, or what the KIE predictor found."""

    model_config = RECORD

    value: NullableText
    geometry: tuple[tuple[float, float], ...] = Field(min_length=2)

    def word(self, size: tuple[float, float], label: str = "", entity: int = -1) -> SourceWord:
        """The word on a page of this size."""
        box = bounds([value for corner in self.geometry for value in corner[:2]])
        return SourceWord(self.value, scaled(box, size), label, entity)


class DoctrLine(BaseModel):
    """One line of a block."""

    model_config = RECORD

    words: tuple[DoctrWord, ...]


class TextBlock(BaseModel):
    """One block; its artefacts are omitted."""

    model_config = RECORD

    lines: tuple[DoctrLine, ...]


class DoctrPage(BaseModel):
    """One page."""

    model_config = RECORD

    dimensions: tuple[int, int]
    blocks: tuple[TextBlock, ...] | None = None
    predictions: dict[str, tuple[DoctrWord, ...]] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> "DoctrPage":
        if self.blocks is None and self.predictions is None:
            raise ValueError("has neither blocks nor predictions, as a page of docTR has")
        if not 0 < min(self.dimensions) <= max(self.dimensions) <= LARGEST_EXTENT:
            raise ValueError(f"dimensions {list(self.dimensions)} are not the page's height and width in pixels")
        return self

    def page(self) -> OcrPage:
        """The words, those of classes as entities."""
        height, width = self.dimensions
        size = (float(width), float(height))
        words = [word.word(size) for block in self.blocks or () for line in block.lines for word in line.words]
        found = [(label, value) for label, values in (self.predictions or {}).items() for value in values]
        words += [
            value.word(size) if label == _NO_CLASS else value.word(size, label, entity)
            for entity, (label, value) in enumerate(found)
        ]
        return OcrPage(words, size)


class DoctrDocument(BaseModel):
    """One document."""

    model_config = RECORD

    pages: tuple[DoctrPage, ...]


class DoctrDocuments(RootModel[OneOrMany[DoctrDocument]]):
    """A file: a document, or a list of them whose pages are one document."""


def read_doctr(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file."""
    for path in files_below(paths, "*.json", "*.json.gz"):
        try:
            documents = shaped(DoctrDocuments, read_source(path, options.text), path).root
        except DataError as error:
            yield error
            continue
        pages = [page.page() for document in documents for page in document.pages]
        yield from document_pages(path, pages, options)


FORMAT = SourceFormat(read_doctr, labels={}, own_labels={}, may_be_unlabelled=True)
