"""JSONL, one page a line as data/jsonl.py describes it; labels and the order of the words are kept."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.importers.source_text import files_below, numbered_lines
from receipt_layoutlm.data.page import DEFAULT_ORDER, PAGE_EXTENT, UNSUPERVISED, DataError, WordOrder
from receipt_layoutlm.data.snapshot import page_of_import


def read_jsonl_pages(paths: Sequence[Path], order: WordOrder) -> Iterator[SourcePage | DataError]:
    """A page for each line that is not blank, in the order of the files. A line may say "order": "given" itself."""
    for path in files_below(paths, "*.jsonl", "*.jsonl.gz"):
        for number, line in numbered_lines(path):
            try:
                page = page_of_import(line)
            except ValueError as error:
                yield DataError(str(error), file=str(path), line=number)
                continue
            words, entity = [], 0
            for text, box, tag in zip(page.words, page.boxes, page.tags, strict=True):
                entity += tag.startswith("B-")
                words.append(SourceWord(text, box, UNSUPERVISED if tag == UNSUPERVISED else tag[2:], entity))
            yield SourcePage(
                file=str(path),
                line=number,
                page_id=page.page_id,
                group=page.group,
                words=tuple(words),
                scale=(PAGE_EXTENT, PAGE_EXTENT),
                width=page.width,
                height=page.height,
                image=page.image,
                order=page.order if order == DEFAULT_ORDER else order,
            )


FORMAT = SourceFormat(read_jsonl_pages, labels={}, own_labels={})
