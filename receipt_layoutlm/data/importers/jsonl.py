"""JSONL, one page a line as data/jsonl.py describes it; labels and the order of the words are kept."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import LabelledLine, ReadOptions, read_labelled_lines
from receipt_layoutlm.data.page import PAGE_EXTENT, DataError
from receipt_layoutlm.data.source_text import files_below


def read_jsonl_pages(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each line that is not blank, in the order of the files."""
    for path in files_below(paths, "*.jsonl", "*.jsonl.gz", "*.ndjson", "*.json", "*.csv"):
        bad: list[DataError] = []
        try:
            lines = read_labelled_lines(path, options, bad.append)
        except DataError as error:
            yield error
            continue
        yield from pages_of_lines(path, lines, bad)


def pages_of_lines(path: Path, lines: Iterable[LabelledLine], bad: Iterable[DataError]) -> list[SourcePage | DataError]:
    """The pages of a file and its bad lines, in their order."""
    pages: list[SourcePage | DataError] = [_page_of(path, line) for line in lines]
    return sorted([*pages, *bad], key=lambda each: each.line or 0)


def _page_of(path: Path, line: LabelledLine) -> SourcePage:
    return SourcePage(
        file=str(path),
        line=line.line,
        page_id=line.page_id,
        group=line.group,
        words=tuple(
            SourceWord(text, box, label, entity)
            for text, box, (entity, label) in zip(line.words, line.boxes, line.labels, strict=True)
        ),
        scale=(PAGE_EXTENT, PAGE_EXTENT),
        width=line.width,
        height=line.height,
        blank=line.nulls,
        image=line.image,
        order=line.order,
    )


FORMAT = SourceFormat(read_jsonl_pages, labels={}, own_labels={})
