"""A page with its entities as one HTML file."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.reports.canvas import canvas_size, on_canvas, picture
from receipt_layoutlm.reports.html import html_document
from receipt_layoutlm.reports.overlay import Kind, Mark, Overlay, line_boxes

_JPEG_QUALITY: Final = 80
_GAP: Final = 240  # of the drawing's shorter side, by which a gold box is wider than its words


@dataclass(frozen=True, slots=True)
class _Word:
    """A row of the token list, and the word's place in the drawing.

    The tag of a word outside every entity is empty; an unlabelled word has UNSUPERVISED as gold.
    """

    index: int
    text: str
    box: tuple[float, float, float, float]
    gold: str
    predicted: str
    confidence: float | None

    @property
    def differs(self) -> bool:
        return self.gold not in (self.predicted, UNSUPERVISED)


def overlay_html(overlay: Overlay, index: str | None = None) -> str:
    """The page with toggles, a confidence slider, its fields and its tokens; `index` is a file beside it to link to."""
    size = canvas_size(overlay)
    return html_document(
        "overlay.html.jinja",
        ("overlay.css", "overlay.js"),
        overlay=overlay,
        index=index,
        size=size,
        image=None if overlay.image is None else _data_uri(overlay, size),
        words=_words(overlay, size),
        kinds=[kind for kind in Kind if overlay.count(kind)],
        text_of=lambda mark: " ".join(overlay.page.words[word] for word in mark.words),
        boxes_of=lambda mark: [on_canvas(box, size) for box in line_boxes(overlay.page, mark)],
        gap=max(min(size) / _GAP, 2.0),
    )


def _data_uri(overlay: Overlay, size: tuple[int, int]) -> str:
    assert overlay.image is not None
    content = io.BytesIO()
    picture(overlay.image, size).save(content, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _tags(marks: Iterable[Mark]) -> dict[int, str]:
    return {word: f"{'I' if place else 'B'}-{mark.label}" for mark in marks for place, word in enumerate(mark.words)}


def _words(overlay: Overlay, size: tuple[int, int]) -> list[_Word]:
    """In reading order."""
    page, gold, predicted = overlay.page, _tags(overlay.gold or ()), _tags(overlay.predicted)
    return [
        _Word(
            index=index,
            text=page.words[index],
            box=on_canvas(page.boxes[index], size),
            gold=gold.get(index, UNSUPERVISED if page.tags[index] == UNSUPERVISED else ""),
            predicted=predicted.get(index, ""),
            confidence=overlay.confidences[index] if overlay.confidences else None,
        )
        for index in overlay.order
    ]
