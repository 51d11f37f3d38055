"""Pages to predict: words in JSON files, results of OCR services and programs, scans and PDFs, alone or in folders."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from receipt_layoutlm.data.importers import import_pages
from receipt_layoutlm.data.importers.label_table import LabelTable
from receipt_layoutlm.data.importers.recognise import recognised
from receipt_layoutlm.data.jsonl import LabelledLine, ReadOptions, naming_import, read_unlabelled_lines
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import UNSUPERVISED, DataError, Page, bad_lines
from receipt_layoutlm.inference.scans import SCAN_SUFFIXES, ScanOptions, read_scan

WORD_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".ndjson", ".csv")
OCR_SUFFIXES = (".json", ".hocr", ".xml", ".html", ".htm")
OCR_FORMATS = ("textract", "document-ai", "azure", "paddleocr", "doctr", "hocr", "alto")
"""Importers whose files have words and boxes of scans, by which they can be predicted."""


@dataclass(frozen=True, slots=True)
class InputPage:
    """A page, its file (or dataset), and its number in it, from 1, of `count`.

    `rotation` is that of the ScannedPage, `ocr_confidences` are of its words; None if the words are not from a scan.
    """

    page: Page
    source: str
    number: int
    count: int = 1
    notes: tuple[str, ...] = ()
    rotation: int | None = None
    ocr_confidences: tuple[float, ...] | None = None


ReadLines = Callable[[Path, ReadOptions, Callable[[DataError], None]], list[LabelledLine]]
"""How a file of words is read, as in data/jsonl.py."""


def files_of(
    paths: Iterable[Path], suffixes: tuple[str, ...] = (*SCAN_SUFFIXES, *WORD_SUFFIXES, ".hocr")
) -> list[Path]:
    """The files, and those in the folders whose names end so, sorted by name; hidden ones are left out.

    Raises DataError for a path that does not exist and for a folder without any such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise DataError("there is no such file", file=str(path))
            files.append(path)
            continue
        found = sorted(each for each in path.rglob("*") if is_readable(each, suffixes) and not is_hidden(each, path))
        if not found:
            raise DataError(f"the folder has no file to read ({', '.join(suffixes)})", file=str(path))
        files += found
    return list(dict.fromkeys(files))


def is_readable(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.is_file() and path.name.lower().endswith(suffixes)


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a part of the path below the folder begins with a point, or with __ as in __MACOSX."""
    return any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)


def read_pages(
    path: Path,
    options: ScanOptions,
    on_page: Callable[[int, int], None],
    read_lines: ReadLines = read_unlabelled_lines,
) -> Iterator[InputPage]:
    """The pages of a file. `on_page` is called with the number of a scanned page and their count, before it is read.

    Raises DataError with file and line, ScanError.
    """
    name = path.name.lower()
    known = recognised(path) if name.endswith(OCR_SUFFIXES) else None
    if known is not None and known.importer in OCR_FORMATS:
        yield from _pages_of_ocr(path, known.importer)
        return
    if name.endswith(WORD_SUFFIXES):
        yield from _pages_of_words(path, read_lines)
        return
    count = 1

    def note_count(number: int, of: int) -> None:
        nonlocal count
        count = of
        on_page(number, of)

    for scan in read_scan(path, options=options, on_page=note_count):
        page = scan.page(path.name, path.name)
        yield InputPage(page, str(path), scan.number, count, scan.notes, scan.rotation, scan.confidences)


def _pages_of_words(path: Path, read_lines: ReadLines) -> Iterator[InputPage]:
    """Pages in the import format (data/jsonl.py), in which labels and ids may be missing here."""
    refused: list[DataError] = []
    try:
        lines = read_lines(path, ReadOptions(), refused.append)
    except DataError as error:
        raise naming_import(error) from error
    for number, line in enumerate(lines, start=1):
        try:
            yield InputPage(line.page(), str(path), number, len(lines))
        except ValueError as error:
            refused.append(DataError(str(error), file=str(path), line=line.line))
    if refused:
        raise bad_lines(refused)
    if not lines:
        raise DataError("the file has no pages", file=str(path))


def _pages_of_ocr(path: Path, importer: str) -> Iterator[InputPage]:
    """Pages of another program's result, without the labels that it may have."""

    def refuse(error: DataError) -> None:
        raise error

    pages, report = import_pages(importer, [path], LabelTable({}, lambda _: OUTSIDE), refuse)
    notes = ("its size is the extent of its boxes, since its image is not beside it",) if report.guessed_sizes else ()
    for number, page in enumerate(pages, start=1):
        unlabelled = replace(page, tags=(UNSUPERVISED,) * len(page.words))
        yield InputPage(unlabelled, str(path), number, len(pages), notes)
