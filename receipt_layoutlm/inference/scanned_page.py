"""A page of a scan as words with boxes, and the error of a file that cannot be read."""

from dataclasses import dataclass
from pathlib import Path

from receipt_layoutlm.data.page import UNSUPERVISED, Box, Page
from receipt_layoutlm.errors import UserError


class ScanError(UserError):
    """A scan that cannot be read: its file, the reason and the remedy, as one line."""

    def __init__(self, file: Path, reason: str, remedy: str) -> None:
        super().__init__(file, reason, remedy)  # so that the error of a worker process arrives whole
        self.file = file
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class ScannedPage:
    """The words of one page in reading order.

    `boxes` are (x0, y0, x1, y1) in thousandths of the upright page, origin top-left. `confidences` of the words are
    0..1 by the OCR, 1.0 for a PDF's own text. `width` and `height` are those of the upright page, in pixels, in points
    of a PDF. `number` counts the pages of the file from 1. `rotation` is the angle in degrees, clockwise, by which a
    page that lay on its side or head was turned; EXIF and a PDF's own rotation are not counted.
    """

    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    confidences: tuple[float, ...]
    width: int
    height: int
    number: int
    engine: str
    rotation: int = 0

    def page(self, name: str, group: str, tags: tuple[str, ...] | None = None, image: str | None = None) -> Page:
        """The page under its file's name, unlabelled without tags. image: digest of the file."""
        return Page(
            page_id=name if self.number == 1 else f"{name}#{self.number}",
            group=group,
            words=self.words,
            boxes=self.boxes,
            tags=(UNSUPERVISED,) * len(self.words) if tags is None else tags,
            width=self.width,
            height=self.height,
            image=image,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the page."""
        return (f"turned by {self.rotation} degrees clockwise",) if self.rotation else ()
