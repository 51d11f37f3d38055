"""Boxes of words as files have them: unit, arrangement and origin, and their thousandths of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from receipt_layoutlm.data.lines import FloatBox
from receipt_layoutlm.data.page import PAGE_EXTENT, Box

OVER_EDGE = 1.05  # a box may extend so far over the edge of the page, where it is cut
ENOUGH_WORDS = 8  # of a file; fewer prove nothing about units and arrangements


class BoxUnit(StrEnum):
    """What a box's numbers count."""

    THOUSANDTHS = "thousandths"
    SHARES = "shares"
    PERCENT = "percent"
    PIXELS = "pixels"


class BoxOrder(StrEnum):
    """The order of a box's numbers; w and h are width and height, cx and cy the centre."""

    CORNERS = "x0y0x1y1"
    Y_FIRST = "y0x0y1x1"
    BY_AXIS = "x0x1y0y1"
    BY_AXIS_Y_FIRST = "y0y1x0x1"
    SIZED = "xywh"
    SIZED_Y_FIRST = "yxhw"
    CENTRED = "cxcywh"

    def arrange(self, box: FloatBox) -> FloatBox:
        """The box as x0, y0, x1, y1."""
        a, b, c, d = box
        if self is BoxOrder.Y_FIRST:
            return b, a, d, c
        if self is BoxOrder.BY_AXIS:
            return a, c, b, d
        if self is BoxOrder.BY_AXIS_Y_FIRST:
            return c, a, d, b
        if self is BoxOrder.SIZED_Y_FIRST:
            return b, a, b + d, a + c
        if self is BoxOrder.CENTRED:
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2
        return (a, b, a + c, b + d) if self is BoxOrder.SIZED else box


class Origin(StrEnum):
    """The corner of the page from which y counts."""

    TOP_LEFT = "top-left"
    BOTTOM_LEFT = "bottom-left"


@dataclass(frozen=True, slots=True)
class BoxOptions:
    """How to read the boxes of a file; None: as the file's values tell."""

    unit: BoxUnit | None = None
    order: BoxOrder | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class RawBoxes:
    """The boxes of a page as they stand in the file, one for each word, in the given order."""

    line: int | None
    words: Sequence[str]
    boxes: Sequence[FloatBox]
    size: tuple[float, float] | None = None
    """Width and height of the image, if the line has them."""


@dataclass(frozen=True, slots=True)
class BoxReading:
    """The unit and arrangement of a file's boxes."""

    unit: BoxUnit
    order: BoxOrder = BoxOrder.CORNERS
    origin: Origin = Origin.TOP_LEFT

    def from_top(self, box: FloatBox, height: float) -> FloatBox:
        """The box with y counted from the top of a page of this height, whichever of its y comes first."""
        x0, y0, x1, y1 = box
        return (x0, height - max(y0, y1), x1, height - min(y0, y1)) if self.origin is Origin.BOTTOM_LEFT else box

    def thousandths(self, box: FloatBox, size: tuple[float, float] | None) -> Box:
        """The box in whole thousandths, origin top-left, cut at the edge. ValueError if it is not on the page."""
        if self.unit is BoxUnit.PIXELS and size is None:
            raise ValueError("boxes in pixels need width and height of the image: add both to the line")
        width, height = page_extents(size, self.unit)
        extents = (width, height, width, height)
        arranged = self.order.arrange(box)
        slack = 1.0 if self.unit is BoxUnit.THOUSANDTHS else OVER_EDGE
        if not all(full * (1 - slack) <= value <= full * slack for value, full in zip(arranged, extents, strict=True)):
            raise ValueError(
                f"[{', '.join(f'{value:g}' for value in box)}] is outside the page (0..{width:g} and 0..{height:g} as "
                f"{self.unit}): correct it, or name the unit of all boxes with --boxes"
            )
        x0, y0, x1, y1 = (
            round(value if self.unit is BoxUnit.THOUSANDTHS else min(max(value / full, 0.0), 1.0) * PAGE_EXTENT)
            for value, full in zip(self.from_top(arranged, height), extents, strict=True)
        )
        return x0, y0, x1, y1


def page_extents(size: tuple[float, float] | None, unit: BoxUnit) -> tuple[float, float]:
    """Width and height of a page in the unit of its boxes; infinite for pixels of an image of unknown size."""
    if unit is BoxUnit.PIXELS:
        return size or (inf, inf)
    extent = {BoxUnit.SHARES: 1.0, BoxUnit.PERCENT: 100.0, BoxUnit.THOUSANDTHS: float(PAGE_EXTENT)}[unit]
    return extent, extent
