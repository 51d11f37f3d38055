"""The drawing of a page with its entities, as templates take it."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from receipt_layoutlm.reports.canvas import MAX_PIXELS, canvas_size, on_canvas, picture
from receipt_layoutlm.reports.overlay import EntityMark, Overlay, line_boxes

_GAP: Final = 240  # of the drawing's shorter side, by which a gold box is wider than its words

PAGE_PIXELS: Final = 500_000
PAGE_QUALITY: Final = 60
"""Of the picture of one page among many."""

WORD_BYTES: Final = 260  # of a drawn word, about
ENTITY_BYTES: Final = 900  # of a drawn entity with its row

PlacedBox = tuple[float, float, float, float]
"""A box in pixels of the drawing."""


@dataclass(frozen=True)
class Drawing:
    """A page, its picture scaled down to so many pixels, and the places of its words and entities."""

    overlay: Overlay
    max_pixels: int = MAX_PIXELS
    jpeg_quality: int = 80

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return canvas_size(self.overlay, self.max_pixels)

    @cached_property
    def image(self) -> str | None:
        """The picture as a data URI; None for a page that is drawn from its words."""
        if self.overlay.image is None:
            return None
        content = io.BytesIO()
        picture(self.overlay.image, self.size).save(content, "JPEG", quality=self.jpeg_quality)
        return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"

    @property
    def gap(self) -> float:
        """By which a gold box is wider than its words."""
        return max(min(self.size) / _GAP, 2.0)

    def box_of(self, word: int) -> PlacedBox:
        return on_canvas(self.overlay.page.boxes[word], self.size)

    def boxes_of(self, mark: EntityMark) -> list[PlacedBox]:
        """A box for each printed line of an entity."""
        return [on_canvas(box, self.size) for box in line_boxes(self.overlay.page, mark)]

    def text_of(self, mark: EntityMark) -> str:
        return " ".join(self.overlay.page.words[word] for word in mark.words)

    @property
    def bytes_drawn(self) -> int:
        """About what the drawing adds to a file."""
        page = WORD_BYTES * len(self.overlay.page.words) if self.image is None else len(self.image)
        return page + ENTITY_BYTES * len(self.overlay.findings)


def drawings_within(size: int, overlays: Iterable[Overlay | None]) -> list[Drawing | None]:
    """Drawings of pages that share a file, as far as they fit into so many bytes; None for the others."""
    drawings = [None if overlay is None else Drawing(overlay, PAGE_PIXELS, PAGE_QUALITY) for overlay in overlays]
    kept = list[Drawing | None]()
    for drawing in drawings:
        size -= 0 if drawing is None else drawing.bytes_drawn
        kept.append(drawing if size >= 0 else None)
    return kept
