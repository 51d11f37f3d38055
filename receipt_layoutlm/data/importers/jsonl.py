"""Our own JSONL, one page a line as jsonl_import.py describes it; labels and the order of the words stay."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from receipt_layoutlm.data.importers.draft import Draft, DraftWord
from receipt_layoutlm.data.importers.source_text import files_below, numbered_lines
from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED, DataError, Page
from receipt_layoutlm.data.snapshot import page_of_import

LABELS: Mapping[str, str] = {}
OWN_LABELS: Mapping[str, str] = {}
NO_LABELS: frozenset[str] = frozenset()


def drafts(paths: Sequence[Path]) -> Iterator[Draft | DataError]:
    """A page for each line that is not blank, in the order of the files."""
    for path in files_below(paths, "*.jsonl", "*.jsonl.gz"):
        for number, line in numbered_lines(path):
            try:
                page = page_of_import(line)
            except ValueError as error:
                yield DataError(str(error), file=str(path), line=number)
            else:
                yield _draft(page, str(path), number)


def _draft(page: Page, file: str, line: int) -> Draft:
    return Draft(
        file=file,
        line=line,
        page_id=page.page_id,
        group=page.group,
        words=tuple(_words(page)),
        scale=(PAGE_EXTENT, PAGE_EXTENT),
        width=page.width,
        height=page.height,
        image=page.image,
    )


def _words(page: Page) -> Iterator[DraftWord]:
    entity = 0
    for text, box, tag in zip(page.words, page.boxes, page.tags, strict=True):
        entity += tag.startswith("B-")
        yield DraftWord(text, box, UNSUPERVISED if tag == UNSUPERVISED else tag[2:], entity)
