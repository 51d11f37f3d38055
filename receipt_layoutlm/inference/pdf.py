"""PDF pages: their own text as words with boxes, or their picture.

pdfium is not safe for threads: every call into it holds one lock.
"""

import math
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from receipt_layoutlm.data.lines import FloatBox, around, thousandths
from receipt_layoutlm.data.page import Box
from receipt_layoutlm.inference.pictures import OCR_PIXELS
from receipt_layoutlm.inference.scanned_page import ScanError

if TYPE_CHECKING:
    from PIL.Image import Image
    from pypdfium2 import PdfDocument, PdfPage, PdfTextPage

_POINTS_PER_INCH = 72
_DPI = 220
_MAX_GARBLED = 0.1  # share of a page's characters without a Unicode meaning, above which its text is not used
_COVER = 0.5  # share of the page that a picture covers which is itself the page
_FEW_WORDS = 20  # of text on such a picture: a stamp or a page number
_WIDE = 1.0  # gap between characters, in heights, that ends a word even without a space
_UNITS = 100  # device units in a point
_LINE_END_HYPHEN = "\x02"  # as pdfium reports it
_ENCRYPTED = b"/Encrypt"
_INVISIBLE_MODES = (3, 7)  # text rendering modes of the PDF specification: invisible, clipping only
_LOCK = threading.Lock()


class TextLayer(NamedTuple):
    """A page's own words, turned upright: boxes in thousandths, and the angle in degrees, clockwise."""

    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    rotation: int


class _Character(NamedTuple):
    text: str
    box: FloatBox  # in points of the page as it is shown, origin top-left
    quarters: int  # direction of reading, in quarter turns clockwise from left to right


def count_pages(path: Path) -> int:
    with _LOCK, _document(path) as document:
        return len(document)


def page_size(path: Path, number: int) -> tuple[int, int]:
    """Width and height in points as shown, rounded, of the page `number` from 1."""
    with _LOCK, _page(path, number) as page:
        width, height = page.get_size()
    return max(round(width), 1), max(round(height), 1)


def text_layer(path: Path, number: int) -> TextLayer | None:
    """The page's own words; None where its picture has to be read: no visible text, garbled text, or a scan."""
    with _LOCK, _page(path, number) as page:
        size = page.get_size()
        characters, garbled = _characters(page)
        quarters = Counter(character.quarters for character in characters).most_common(1)
        turn = -quarters[0][0] % 4 if quarters else 0
        words = _words([_turned(character, turn, size) for character in characters])
        is_scan = _is_scan(page, len(words))
    if not words or is_scan or garbled > _MAX_GARBLED * sum(len(text) for text, _ in words):
        return None
    width, height = size if turn % 2 == 0 else size[::-1]
    texts, boxes = zip(*((text, thousandths(box, (width, height))) for text, box in words), strict=True)
    return TextLayer(texts, boxes, turn * 90)


def render(path: Path, number: int) -> "Image":
    """The page as a picture in RGB of at most OCR_PIXELS, not turned."""
    with _LOCK, _page(path, number) as page:
        width, height = page.get_size()
        scale = min(_DPI / _POINTS_PER_INCH, math.sqrt(OCR_PIXELS / max(width * height, 1)))
        bitmap = page.render(scale=scale)
        image: Image = bitmap.to_pil().convert("RGB")
        bitmap.close()
    return image


@contextmanager
def _document(path: Path) -> Iterator["PdfDocument"]:
    import pypdfium2 as pdfium
    from pypdfium2 import raw

    try:
        with pdfium.PdfDocument(path) as document:
            yield document
    except pdfium.PdfiumError as error:
        # of a file without pages, the code is that of the last file that failed
        if error.err_code == raw.FPDF_ERR_PASSWORD and _ENCRYPTED in path.read_bytes():
            raise ScanError(path, "is a PDF with a password", "save a copy without the password") from error
        reason = "is a damaged PDF, or one without pages"
        raise ScanError(path, reason, "export or download it once more") from error


@contextmanager
def _page(path: Path, number: int) -> Iterator["PdfPage"]:
    with _document(path) as document:
        page = document[number - 1]
        try:
            yield page
        finally:
            page.close()


def _characters(page: "PdfPage") -> tuple[list[_Character], int]:
    """The visible characters on the page in its own order, spaces included, and the number of garbled ones."""
    from ctypes import byref, c_int

    from pypdfium2 import raw

    text_page = page.get_textpage()
    width, height = page.get_size()
    x, y = c_int(), c_int()

    def shown(left: float, bottom: float) -> tuple[float, float]:
        raw.FPDF_PageToDevice(
            page, 0, 0, round(width * _UNITS), round(height * _UNITS), 0, left, bottom, byref(x), byref(y)
        )
        return x.value / _UNITS, y.value / _UNITS

    characters: list[_Character] = []
    garbled = 0
    for index in range(text_page.count_chars()):
        text = chr(raw.FPDFText_GetUnicode(text_page, index)).replace(_LINE_END_HYPHEN, "-")
        if text.isspace():
            characters.append(_Character(text, (0.0, 0.0, 0.0, 0.0), characters[-1].quarters if characters else 0))
            continue
        if not _is_visible(text_page, index):
            continue
        left, bottom, right, top = text_page.get_charbox(index, loose=True)
        (x0, y0), (x1, y1) = shown(left, bottom), shown(right, top)
        box = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        if not (0 <= (x0 + x1) / 2 <= width and 0 <= (y0 + y1) / 2 <= height):
            continue
        angle = raw.FPDFText_GetCharAngle(text_page, index)  # radians
        quarters = (round(angle / (math.pi / 2)) + page.get_rotation() // 90) % 4
        characters.append(_Character(text, box, quarters))
        is_unmapped = raw.FPDFText_HasUnicodeMapError(text_page, index) == 1
        garbled += is_unmapped or text == "\ufffd" or unicodedata.category(text) in ("Cc", "Cn", "Co")
    text_page.close()
    return characters, garbled


def _is_visible(text_page: "PdfTextPage", index: int) -> bool:
    from ctypes import byref, c_uint

    from pypdfium2 import raw

    item = raw.FPDFText_GetTextObject(text_page, index)
    if item and raw.FPDFTextObj_GetTextRenderMode(item) in _INVISIBLE_MODES:
        return False
    red, green, blue, alpha = c_uint(), c_uint(), c_uint(), c_uint(255)
    raw.FPDFText_GetFillColor(text_page, index, byref(red), byref(green), byref(blue), byref(alpha))
    return alpha.value > 0


def _is_scan(page: "PdfPage", words: int) -> bool:
    """Whether a picture is the page: one that covers much of it, with little text on it or with the text beneath."""
    from pypdfium2 import raw

    left, bottom, right, top = page.get_bbox()
    has_text = False
    for item in page.get_objects(max_depth=1):
        has_text = has_text or item.type == raw.FPDF_PAGEOBJ_TEXT
        if item.type == raw.FPDF_PAGEOBJ_IMAGE:
            x0, y0, x1, y1 = item.get_bounds()
            covered = max(min(x1, right) - max(x0, left), 0) * max(min(y1, top) - max(y0, bottom), 0)
            if covered > _COVER * (right - left) * (top - bottom) and (has_text or words < _FEW_WORDS):
                return True
    return False


def _turned(character: _Character, turn: int, size: tuple[float, float]) -> _Character:
    """The character on the page after `turn` quarter turns clockwise."""
    (width, height), (x0, y0, x1, y1) = size, character.box
    for _ in range(turn):
        x0, y0, x1, y1 = height - y1, x0, height - y0, x1
        width, height = height, width
    return _Character(character.text, (x0, y0, x1, y1), (character.quarters + turn) % 4)


def _words(characters: list[_Character]) -> list[tuple[str, FloatBox]]:
    """Characters up to a space, to a wide gap, or to the end of a line."""
    words: list[list[_Character]] = []
    previous: _Character | None = None
    for character in characters:
        if character.text.isspace():
            previous = None
            continue
        if previous is None or _is_apart(previous, character):
            words.append([])
        words[-1].append(character)
        previous = character
    return [(_text(word), around([character.box for character in word])) for word in words]


def _is_apart(one: _Character, other: _Character) -> bool:
    """Whether two characters in sequence belong to different words, by their places alone."""
    if one.quarters or other.quarters:
        return one.quarters != other.quarters
    (x0, y0, x1, y1), (left, top, _, bottom) = one.box, other.box
    height = max(y1 - y0, bottom - top)
    return left - x1 > _WIDE * height or left < x0 - height or abs(top + bottom - y0 - y1) > height


def _text(characters: list[_Character]) -> str:
    text = "".join(character.text for character in characters)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pdfium gives UTF-16 units
