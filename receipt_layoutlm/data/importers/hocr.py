"""hOCR, as tesseract writes it (tesseract scan.png scan hocr): HTML or XHTML, one document a file.

    <div class="ocr_page" title='image "scan.png"; bbox 0 0 600 800; ppageno 0'>
      <span class="ocr_line" title="bbox 60 40 300 70; baseline 0 -5">
        <span class="ocrx_word" title="bbox 60 40 160 70; x_wconf 96">Corner</span>

Boxes are pixels of the page's bbox. A line without words is split in proportion to its characters. The file is read by
the standard library's HTML parser, which knows no entities but HTML's own; files that declare entities are refused.
"""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from receipt_layoutlm.data.importers.ocr_page import OcrPage, document_pages
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import files_below, read_markup

_PAGE, _LINES, _WORDS = (
    "ocr_page",
    {"ocr_line", "ocrx_line", "ocr_header", "ocr_textfloat", "ocr_caption"},
    {"ocrx_word", "ocr_word"},
)
_BOX = re.compile(r"\bbbox\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)")
_VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"))


class _Text:
    """A word or line that is open or read, and the number of its page."""

    def __init__(self, box: FloatBox, page: int) -> None:
        self.box = box
        self.page = page
        self.text = ""
        self.has_words = False


class _Reader(HTMLParser):
    """Collects words, and lines without words."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[float, float] | None] = []
        self.texts: list[_Text] = []
        self._open: list[tuple[str, _Text | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            self.handle_data(" " if tag == "br" else "")
            return
        values = {name: value or "" for name, value in attrs}
        classes = set(values.get("class", "").split())
        match = _BOX.search(values.get("title", ""))
        box = (float(match[1]), float(match[2]), float(match[3]), float(match[4])) if match else None
        text = None
        if _PAGE in classes:
            self.sizes.append((box[2], box[3]) if box and min(box[2:]) > 0 else None)
        elif box and classes & (_WORDS | _LINES):
            self.sizes = self.sizes or [None]
            text = _Text(box, len(self.sizes) - 1)
            if classes & _WORDS:
                for _, outer in self._open:
                    if outer:
                        outer.has_words = True
            self.texts.append(text)
        self._open.append((tag, text))

    def handle_endtag(self, tag: str) -> None:
        if any(tag == name for name, _ in self._open):
            while self._open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        text = next((text for _, text in reversed(self._open) if text), None)
        if text:
            text.text += data


def read_hocr(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file."""
    for path in files_below(paths, "*.hocr", "*.html", "*.htm", "*.xhtml"):
        reader = _Reader()
        try:
            reader.feed(read_markup(path, options.text))
            reader.close()
            if not reader.sizes:
                raise DataError("has no element of class ocr_page, ocr_line or ocrx_word, as hOCR has", file=str(path))
        except DataError as error:
            yield error
            continue
        texts = [text for text in reader.texts if not text.has_words]
        pages = [
            OcrPage([SourceWord(text.text, text.box) for text in texts if text.page == number], size)
            for number, size in enumerate(reader.sizes)
        ]
        yield from document_pages(path, pages, options)


FORMAT = SourceFormat(read_hocr, labels={}, own_labels={}, may_be_unlabelled=True)
