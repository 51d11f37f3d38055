"""A page with its entities as a PNG picture."""

import io
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from receipt_layoutlm.reports.canvas import STYLES, canvas_size, on_canvas, picture, spelled_out
from receipt_layoutlm.reports.overlay import ERRORS, Comparison, Kind, Mark, Overlay, line_boxes

_FONTS: Final = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
"""Fonts with more than the basic Latin letters of pillow's own, where the system has one."""

_ASCII: Final = {"−": "-", "≠": "!=", "↔": "<>", "✓": ""}  # pillow's own font has no other signs
_SHARE: Final = 55  # of the drawing's shorter side that a letter takes
_SMALLEST: Final = 11  # pixels of a letter
_TEXT_HEIGHT: Final = 0.75  # of a word's box


def overlay_png(overlay: Overlay) -> bytes:
    """The page with solid boxes for predicted entities, dashed ones for gold ones, and a line of counts below it."""
    size = canvas_size(overlay)
    letter = max(min(size) // _SHARE, _SMALLEST)
    drawing = Image.new("RGB", (size[0], size[1] + 2 * letter), "white")
    if overlay.image is not None:
        drawing.paste(picture(overlay.image, size))
    draw = ImageDraw.Draw(drawing)
    if overlay.image is None:
        _draw_words(draw, overlay, size)
    for finding in overlay.findings:
        _draw_finding(draw, overlay, finding, size, letter)
    draw.rectangle((0, size[1], *drawing.size), fill="white")
    draw.text((letter / 2, size[1] + letter / 2), _summary(overlay), fill="black", font=_font(letter))
    content = io.BytesIO()
    drawing.save(content, "PNG")
    return content.getvalue()


def _draw_words(draw: ImageDraw.ImageDraw, overlay: Overlay, size: tuple[int, int]) -> None:
    for word, box in zip(overlay.page.words, overlay.page.boxes, strict=True):
        x0, y0, x1, y1 = on_canvas(box, size)
        text = spelled_out(word)
        letter = max(round((y1 - y0) * _TEXT_HEIGHT), 1)
        width = _font(letter).getlength(text)
        fitting = letter if width <= x1 - x0 else max(round(letter * (x1 - x0) / width), 1)
        draw.text((x0, (y0 + y1) / 2), text, fill="black", font=_font(fitting), anchor="lm")


def _draw_finding(
    draw: ImageDraw.ImageDraw, overlay: Overlay, finding: Comparison, size: tuple[int, int], letter: int
) -> None:
    style, gap = STYLES[finding.kind], max(letter // 4, 2)
    sign = _ASCII.get(style.sign, style.sign)
    if finding.gold is not None and finding.kind is not Kind.RIGHT:
        boxes = [on_canvas(box, size) for box in line_boxes(overlay.page, finding.gold)]
        for x0, y0, x1, y1 in boxes:
            _dashed(draw, (x0 - gap, y0 - gap, x1 + gap, y1 + gap), style.colour, gap)
        label = "" if finding.kind is Kind.WRONG_WORDS else f" {finding.gold.label}"
        text = f"gold{label}" if finding.predicted else f"{sign}{label}"
        _badge(draw, (boxes[-1][0], boxes[-1][3] + 2 * gap), text, style.colour, letter, size[0])
    if finding.predicted is not None:
        boxes = [on_canvas(box, size) for box in line_boxes(overlay.page, finding.predicted)]
        for box in boxes:
            draw.rectangle(box, outline=style.colour, width=max(gap // 2, 2))
        text = f"{sign} {_predicted_text(finding.predicted)}".strip()
        _badge(draw, (boxes[0][0], boxes[0][1] - letter - 2 * gap), text, style.colour, letter, size[0])


def _predicted_text(mark: Mark) -> str:
    return mark.label if mark.confidence is None else f"{mark.label} {mark.confidence:.2f}"


def _badge(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: str, letter: int, width: int
) -> None:
    font, halo = _font(letter), max(letter // 6, 2)
    x = max(min(place[0], width - font.getlength(text) - halo), halo)
    draw.text((x, max(place[1], halo)), text, fill=colour, font=font, stroke_width=halo, stroke_fill="white")


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], colour: str, gap: int) -> None:
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    for (left, top), (right, bottom) in pairwise(corners):
        for begin, end in _dashes(max(abs(right - left), abs(bottom - top)), 2 * gap):
            dash = [(left + (right - left) * at, top + (bottom - top) * at) for at in (begin, end)]
            draw.line(dash, fill=colour, width=max(gap // 2, 2))


def _dashes(length: float, dash: int) -> Iterator[tuple[float, float]]:
    """Begin and end of each dash, as shares of the line."""
    count = max(round(length / dash), 1)
    yield from ((place / count, (place + 1) / count) for place in range(0, count, 2))


def _summary(overlay: Overlay) -> str:
    if overlay.gold is None:
        return f"{len(overlay.predicted)} predicted"
    kinds = ", ".join(
        f"{_ASCII.get(STYLES[kind].sign, STYLES[kind].sign)} {kind} {overlay.count(kind)}"
        for kind in ERRORS
        if overlay.count(kind)
    )
    return f"{overlay.count(Kind.RIGHT)} of {len(overlay.gold)} right" + (f"   {kinds}" if kinds else "")


@lru_cache(maxsize=64)
def _font(letter: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, letter)
        except OSError:
            continue
    return ImageFont.load_default(letter)
