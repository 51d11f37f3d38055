"""Reads scans, photographs and PDF files as pages of words with boxes."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from receipt_layoutlm import paths
from receipt_layoutlm.data.reading_order import reading_order
from receipt_layoutlm.inference import ocr, pdf, pictures
from receipt_layoutlm.inference.ocr_cache import OcrCache
from receipt_layoutlm.inference.scanned_page import ScanError, ScannedPage

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SCAN_SUFFIXES", "ScanError", "ScanOptions", "ScannedPage", "read_scan", "upright_image"]

SCAN_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".pdf")
"""Names of files that a folder is searched for; a file that is named itself is known by its content."""

EXTRA = "pip install 'receipt-layoutlm[ocr]'"
PDF_TEXT = "pdf text"
_PDF_MARK = b"%PDF-"
_HEAD_BYTES = 1024  # within which a PDF's mark may stand


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How scans are read.

    `threads` are those of the OCR, None for one a core. `pdf_text="ignore"` reads PDF pages by OCR even where they have
    text of their own. `cache_dir` is LAYOUTLM_CACHE_DIR, else a folder in the state folder, where it is None.
    """

    use_cache: bool = True
    cache_dir: Path | None = None
    threads: int | None = None
    pdf_text: Literal["use", "ignore"] = "use"


class _File(NamedTuple):
    """A scan: its content's SHA-256, and the number of its pages."""

    path: Path
    digest: str
    is_pdf: bool
    pages: int


def read_scan(path: Path, *, options: ScanOptions, on_page: Callable[[int, int], None]) -> Iterator[ScannedPage]:
    """The pages of a file, one at a time; `on_page(number, count)` is called before each.

    A page without text is left out where another page of the file has some. Raises ScanError.
    """
    with _naming_the_extra(path):
        file = _opened(path)
    found = 0
    for number in range(1, file.pages + 1):
        on_page(number, file.pages)
        with _naming_the_extra(path):
            page = _read_page(file, number, options)
        if page is not None:
            found += 1
            yield page
    if not found:
        where = "" if file.pages == 1 else f" on any of its {file.pages} pages"
        raise ScanError(path, f"no text was found{where}", "scan it sharp, with at least 150 dpi, and not blank")


def upright_image(path: Path, number: int, rotation: int | None = None) -> "Image":
    """The page `number` in RGB as `read_scan` saw it, of at most 6 million pixels; its boxes lie on it.

    `rotation` is that of its ScannedPage; without it the page is looked up in the cache, else read. Raises ScanError.
    """
    with _naming_the_extra(path):
        file = _opened(path)
        if rotation is None:
            page = _read_page(file, number, ScanOptions())
            rotation = page.rotation if page else 0
        image = pdf.render(path, number) if file.is_pdf else pictures.read_frame(path, number)[0]
        return image.rotate(-rotation, expand=True)  # exact at quarter turns


def _opened(path: Path) -> _File:
    if not path.is_file():
        raise ScanError(path, "is a folder" if path.is_dir() else "does not exist", "name a picture or a PDF file")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ScanError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
    if not head:
        raise ScanError(path, "is empty", "copy or scan it once more")
    is_pdf = _PDF_MARK in head
    return _File(path, digest, is_pdf, pdf.count_pages(path) if is_pdf else pictures.count_frames(path))


def _read_page(file: _File, number: int, options: ScanOptions) -> ScannedPage | None:
    """The page, None if it has no text."""
    if file.is_pdf and options.pdf_text == "use":
        layer = pdf.text_layer(file.path, number)
        if layer is not None:
            return _of_text_layer(layer, pdf.page_size(file.path, number), number)
    engine = ocr.engine_name()
    folder = options.cache_dir or paths.cache_dir(os.environ)
    cache = _cache_in(folder, f"{engine} revision {ocr.REVISION}") if options.use_cache else None
    page = cache.get(file.digest, number) if cache else None
    if page is None:
        page = _recognised(file, number, engine, options.threads)
        if cache and page:
            cache.put(file.digest, page)
    return page


@functools.lru_cache(maxsize=1)
def _cache_in(folder: Path, settings: str) -> OcrCache:
    """One object for all pages, since it looks at the folder's size once in many writes."""
    return OcrCache(folder, settings)


def _of_text_layer(layer: pdf.TextLayer, size: tuple[int, int], number: int) -> ScannedPage:
    order = reading_order(layer.boxes)
    width, height = size if layer.rotation % 180 == 0 else size[::-1]
    return ScannedPage(
        words=tuple(layer.words[index] for index in order),
        boxes=tuple(layer.boxes[index] for index in order),
        confidences=(1.0,) * len(order),
        width=width,
        height=height,
        number=number,
        engine=PDF_TEXT,
        rotation=layer.rotation,
    )


def _recognised(file: _File, number: int, engine: str, threads: int | None) -> ScannedPage | None:
    if file.is_pdf:
        image, size = pdf.render(file.path, number), pdf.page_size(file.path, number)
    else:
        image, size = pictures.read_frame(file.path, number)
    result = ocr.read_words(image, ocr.ocr_engine(threads))
    width, height = size if result.rotation % 180 == 0 else size[::-1]
    if not result.words:
        return None
    return ScannedPage(
        result.words, result.boxes, result.confidences, width, height, number, engine, rotation=result.rotation
    )


@contextmanager
def _naming_the_extra(path: Path) -> Iterator[None]:
    try:
        yield
    except (ocr.OcrMissing, ModuleNotFoundError) as error:
        raise ScanError(path, "scans and PDF files need packages that are not installed", EXTRA) from error
