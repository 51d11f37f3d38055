"""What both drawings of a page share: its size, picture, texts and colours."""

import math
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

from receipt_layoutlm.data.page import PAGE_EXTENT, Box
from receipt_layoutlm.reports.overlay import Kind, Overlay

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS: Final = 2_500_000
"""Of a drawn page: A4 at 150 dpi. Larger pictures are scaled down."""

MAX_SIDE: Final = 16_000
"""Pixels; a JPEG has up to 65,535, browsers draw less."""

BLANK_PIXELS: Final = 1_200_000  # of a page without a picture
MAX_RATIO: Final = 20  # of the sides of a page without a picture
_JOINERS: Final = "\u200c\u200d"  # without which Persian and Indian words are spelt differently


class Style(NamedTuple):
    """A colour on white paper, of the palette of Okabe and Ito where it is dark enough, and a sign beside it."""

    colour: str
    sign: str


STYLES: Final = {
    Kind.MISSED: Style("#b84300", "−"),
    Kind.WRONG_LABEL: Style("#9a2d74", "≠"),
    Kind.WRONG_WORDS: Style("#7a5c00", "↔"),
    Kind.SPURIOUS: Style("#000000", "+"),
    Kind.RIGHT: Style("#0063a5", "✓"),
    Kind.NOT_JUDGED: Style("#0063a5", ""),
}


def canvas_size(overlay: Overlay, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of the drawing in pixels."""
    if overlay.image is not None:
        width, height = overlay.image.size
        scale = min(1.0, math.sqrt(max_pixels / (width * height)), MAX_SIDE / max(width, height))
        return max(round(width * scale), 1), max(round(height * scale), 1)
    ratio = min(max(overlay.page.width / overlay.page.height, 1 / MAX_RATIO), MAX_RATIO)
    return round(math.sqrt(BLANK_PIXELS * ratio)), round(math.sqrt(BLANK_PIXELS / ratio))


def picture(image: "Image", size: tuple[int, int]) -> "Image":
    """The picture in RGB and in the size of the drawing."""
    from PIL import Image

    image = image.convert("RGB")
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def on_canvas(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box in pixels of the drawing, at least a pixel wide and high."""
    (x0, y0, x1, y1), (width, height) = box, size
    left, top = x0 * width / PAGE_EXTENT, y0 * height / PAGE_EXTENT
    return left, top, max(x1 * width / PAGE_EXTENT, left + 1), max(y1 * height / PAGE_EXTENT, top + 1)


def spelled_out(text: str) -> str:
    """The text in one line, with control and direction characters written out, such as ⟨U+202E⟩."""
    if text.isprintable():
        return text
    return "".join(f"⟨U+{ord(each):04X}⟩" if _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    return (category[0] == "C" or category in ("Zl", "Zp")) and character not in _JOINERS
