"""Units and arrangements of boxes, decided by all values of a file.

A file's boxes are taken as `[x0, y0, x1, y1]` in thousandths of the page with the origin at the top left unless they
are certainly something else: shares of the page (nearly no value above 1), or pixels of images whose width and height
stand in every line. Boxes that would be implausible are refused with the unit or arrangement that makes them plausible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import inf
from statistics import median

from receipt_layoutlm.data.lines import FloatBox
from receipt_layoutlm.data.page import PAGE_EXTENT, Box, DataError

_INVERTED = 3  # boxes that end before they begin; fewer are slips
_ENOUGH = 8  # words of a file; fewer prove nothing about units and arrangements
_MANY = 20  # different boxes of a file whose pages have too few words each
_SEVERAL = 5  # pages, of which it is no chance that all end at the same place
_AT_EDGE = 0.9  # share of the width that printed text reaches
_BULK = 0.95  # of the values of a page, below its unit's maximum
_OVER = 1.05  # a box may extend so far over the edge of the page, where it is cut
_FILLED = 0.6  # share of the width that text reaches on most pages of a data set
_LOWEST = 0.8  # share of the page that its lowest or rightmost text reaches
_COARSE = 950  # pixels of an image, of which fewer thousandths are made than there are
_PROOF = 150  # such values; by chance, 0.95 to this power is 0.05 %
_FITTING = 0.98  # of the boxes
_SAME_LINE = 0.5  # overlap of two words of a line, of the smaller height
_LETTERS = 3  # a word of so many is wider than high


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
        width, height = _extents(size, self.unit)
        extents = (width, height, width, height)
        arranged = self.order.arrange(box)
        slack = 1.0 if self.unit is BoxUnit.THOUSANDTHS else _OVER
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


def _extents(size: tuple[float, float] | None, unit: BoxUnit) -> tuple[float, float]:
    """Width and height of a page in the unit of its boxes; infinite for pixels of an image of unknown size."""
    if unit is BoxUnit.PIXELS:
        return size or (inf, inf)
    extent = {BoxUnit.SHARES: 1.0, BoxUnit.PERCENT: 100.0, BoxUnit.THOUSANDTHS: float(PAGE_EXTENT)}[unit]
    return extent, extent


def read_boxes(pages: Sequence[RawBoxes], asked: BoxOptions, file: str, note: Callable[[str], None]) -> BoxReading:
    """The unit and arrangement of a file's boxes. Raises DataError for boxes that are implausible."""
    unit = asked.unit or _unit(pages, file, note)
    if asked.order is None:
        _refuse_flat(pages, file)
    if asked.order is None and asked.origin is None:
        refuse_arrangement(pages, file, unit)
    if asked.unit is None and unit is not BoxUnit.THOUSANDTHS:
        note(f"boxes read as {unit}")
    return BoxReading(unit, asked.order or BoxOrder.CORNERS, asked.origin or Origin.TOP_LEFT)


# units


def _unit(pages: Sequence[RawBoxes], file: str, note: Callable[[str], None]) -> BoxUnit:
    kinds = [(kind, page) for page in pages if (kind := _kind(page))]
    if not kinds:
        boxes = {box for page in pages for box in page.boxes}
        if len(boxes) < _MANY or max(map(max, boxes)) <= 0:
            return BoxUnit.THOUSANDTHS
        kinds = [(BoxUnit.PERCENT, page) for page in pages]  # all of them in the same corner
    counts = {kind: sum(other == kind for other, _ in kinds) for kind, _ in kinds}
    usual = max(counts, key=lambda kind: (counts[kind], kind == BoxUnit.THOUSANDTHS))
    if len(counts) > 1 and not {*counts} <= {BoxUnit.PIXELS, BoxUnit.THOUSANDTHS}:
        other, page = next((kind, page) for kind, page in kinds if kind != usual)
        first = next(page for kind, page in kinds if kind == usual)
        raise DataError(
            f"its boxes seem to be {_OF[other]}, those of line {first.line} {_OF[usual]}: "
            f"write the boxes of all pages in one unit ({counts[other]} of {len(pages)} pages differ)",
            file=file,
            line=page.line,
        )
    if usual == BoxUnit.SHARES:
        return BoxUnit.SHARES
    if usual == BoxUnit.PERCENT and not _are_pixels(pages):
        reach = max(max(box) for page in pages for box in page.boxes)
        raise DataError(
            f"no value of a box is above {reach:g}, which would put all words into a corner of the page: the boxes "
            "seem to be percent of the page (--boxes percent); --boxes thousandths reads them as they are",
            file=file,
        )
    # a few pages with large values may be slips
    if _are_pixels(pages) or (5 * counts.get(BoxUnit.PIXELS, 0) >= len(pages) and _fit(pages)):
        _refuse_thousandths(pages, file)
        return BoxUnit.PIXELS
    if 2 * counts.get(BoxUnit.PIXELS, 0) > len(pages):
        largest = max(max(box) for page in pages for box in page.boxes)
        raise DataError(
            f"values up to {largest:g} are not thousandths of the page: the boxes seem to be pixels; write the image's "
            "width and height into each line, by which they are then converted, or write 0..1000",
            file=file,
            line=next((page.line for page in pages if page.size is None), None),
        )
    if _fit(pages) and _are_small(pages) and not _are_on_grid(pages) and _words(pages) >= _ENOUGH:
        if len(pages) >= _SEVERAL and _end_at_edges(pages):
            raise DataError(
                "the boxes of all pages end at width and height, as pixels do, and are plausible thousandths too: "
                "--boxes pixels or --boxes thousandths says which",
                file=file,
            )
        note("boxes read as thousandths; they would fit into width and height as pixels too (--boxes pixels)")
    boxes = {box for page in pages if len(set(page.boxes)) >= _ENOUGH for box in page.boxes}
    reach = max((max(box) for page in pages for box in page.boxes), default=0)
    if len(boxes) >= _MANY and 2 * reach < PAGE_EXTENT and not any(page.size for page in pages):
        raise DataError(
            f"no value of a box is above {reach:g}, which would put all words into a corner of the "
            "page: the boxes seem to be pixels of small images; write width and height of the image into each line, "
            "by which they are then converted; --boxes thousandths reads them as they are",
            file=file,
        )
    return BoxUnit.THOUSANDTHS


_OF = {
    BoxUnit.SHARES: "shares of the page (0..1)",
    BoxUnit.PERCENT: "percent of the page (0..100)",
    BoxUnit.THOUSANDTHS: "thousandths of the page",
    BoxUnit.PIXELS: "pixels (above 1000)",
}


def _kind(page: RawBoxes) -> BoxUnit | None:
    """The unit that the values of one page alone suggest; None for too few words."""
    values = sorted(value for box in page.boxes for value in box)
    if not values or values[-1] <= 0:
        return None
    bulk = values[int(_BULK * (len(values) - 1))]
    if bulk <= _OVER and values[len(values) // 2] < 1:
        return BoxUnit.SHARES
    if values[-1] > PAGE_EXTENT * _OVER:
        return BoxUnit.PIXELS
    if bulk <= 100:
        return BoxUnit.PERCENT if len(set(page.boxes)) >= _ENOUGH else None
    return BoxUnit.THOUSANDTHS


def _refuse_thousandths(pages: Sequence[RawBoxes], file: str) -> None:
    """Raises DataError if boxes fill most images as pixels, and several pages only as thousandths."""
    fills = [
        (page, reach, _filled(page))
        for page in pages
        if page.size and page.boxes and (reach := max(map(max, page.boxes)))
    ]
    filling = [page for page, reach, filled in fills if reach > PAGE_EXTENT and filled >= _FILLED]
    odd = [page for page, reach, filled in fills if _LOWEST <= reach / PAGE_EXTENT <= 1 and filled < _FILLED]
    if len(odd) >= 2 and 2 * len(filling) >= len(fills) - len(odd) > 0:
        raise DataError(
            f"its boxes seem to be {_OF[BoxUnit.THOUSANDTHS]}, those of line {filling[0].line} {_OF[BoxUnit.PIXELS]}: "
            f"write the boxes of all pages in one unit ({len(odd)} of {len(pages)} pages differ); --boxes pixels reads "
            "them as they are",
            file=file,
            line=odd[0].line,
        )


def _filled(page: RawBoxes) -> float:
    """The share of the width or the height of its image that the text of a page reaches as pixels."""
    width, height = page.size or (inf, inf)
    return max(max(max(x0, x1) / width, max(y0, y1) / height) for x0, y0, x1, y1 in page.boxes)


def _fit(pages: Sequence[RawBoxes]) -> bool:
    """Whether most pages have a size, and hardly a box extends over it."""
    if 2 * sum(page.size is not None for page in pages) < len(pages):
        return False
    within = [
        max(box[0], box[2]) <= size[0] * _OVER and max(box[1], box[3]) <= size[1] * _OVER
        for page in pages
        if (size := page.size)
        for box in page.boxes
    ]
    return sum(within) >= _FITTING * len(within)


def _are_small(pages: Sequence[RawBoxes]) -> bool:
    return any(page.size is not None and min(page.size) < PAGE_EXTENT for page in pages)


def _are_pixels(pages: Sequence[RawBoxes]) -> bool:
    """Whether boxes below 1000 fill the images as pixels, and leave a part of most pages empty as thousandths."""
    if not _fit(pages) or not _are_small(pages) or _words(pages) < _ENOUGH:
        return False
    rights = _rights(pages)
    if any(max(map(max, page.boxes)) > PAGE_EXTENT for page in pages if page.boxes and page.size):
        return min(right / width for right, width in rights) >= _FILLED
    as_pixels = median(right / width for right, width in rights)
    return as_pixels >= _FILLED > median(right / PAGE_EXTENT for right, _ in rights)


def _words(pages: Sequence[RawBoxes]) -> int:
    return sum(len(page.words) for page in pages)


def _are_on_grid(pages: Sequence[RawBoxes]) -> bool:
    """Whether all values are thousandths made from whole pixels of smaller images: pixels take other values too."""
    for whole in (int, round):
        hits = [
            value in grid
            for page in pages
            for axis, extent in enumerate(page.size or ())
            if extent <= _COARSE
            for grid in [{whole(PAGE_EXTENT * pixel / extent) for pixel in range(round(extent) + 1)}]
            for value in {box[place] for box in page.boxes for place in (axis, axis + 2)}
        ]
        if len(hits) >= _PROOF and all(hits):
            return True
    return False


def _rights(pages: Sequence[RawBoxes]) -> list[tuple[float, float]]:
    """Where the text of each page ends at the right, and the width of its image."""
    return [
        (max(max(box[0], box[2]) for box in page.boxes), page.size[0]) for page in pages if page.boxes and page.size
    ]


def _end_at_edges(pages: Sequence[RawBoxes]) -> bool:
    """Whether the text of most pages reaches the edge of its image and never extends over it."""
    lower = all(max(box[1], box[3]) <= page.size[1] for page in pages if page.size for box in page.boxes)
    rights = _rights(pages)
    reached = median(right / width for right, width in rights) >= _AT_EDGE
    is_narrow = max(right for right, _ in rights) <= _AT_EDGE * PAGE_EXTENT
    return lower and reached and is_narrow and all(right <= width for right, width in rights)


# arrangements


def _refuse_flat(pages: Sequence[RawBoxes], file: str) -> None:
    """Raises DataError if most boxes have no area."""
    boxes = [box for page in pages for box in page.boxes]
    flat = sum(x0 == x1 or y0 == y1 for x0, y0, x1, y1 in boxes)
    if len(boxes) >= _ENOUGH and 2 * flat > len(boxes):
        raise DataError(
            f"{flat} of {len(boxes)} boxes have no area: write x0 < x1 and y0 < y1; boxes in shares of the page must "
            "not be rounded to whole numbers",
            file=file,
        )


@dataclass(frozen=True, slots=True)
class _Flow:
    """How words follow each other under an arrangement, as shares of the boxes, words and pairs."""

    upright: float
    """Boxes on the page whose second corner is right of and below the first."""
    wide: float
    """Words of several letters that are wider than high."""
    right: float
    left: float
    down: int
    up: int
    overlaps: int
    """Words that begin before the word at their left ends."""


def _flow(pages: Sequence[RawBoxes], order: BoxOrder, unit: BoxUnit) -> _Flow:
    boxes = wide = upright = words = right = left = down = up = overlaps = pairs = 0
    for page in pages:
        width, height = (_OVER * extent for extent in _extents(page.size, unit))
        arranged = [order.arrange(box) for box in page.boxes]
        boxes += len(arranged)
        upright += sum(x0 <= x1 <= width and y0 <= y1 <= height for x0, y0, x1, y1 in arranged)
        for word, (x0, y0, x1, y1) in zip(page.words, arranged, strict=False):
            if len(word) >= _LETTERS:
                words, wide = words + 1, wide + (x1 - x0 > y1 - y0)
        for one, other in pairwise(arranged):
            if one == other:
                continue
            pairs += 1
            overlap = min(one[3], other[3]) - max(one[1], other[1])
            if overlap > _SAME_LINE * min(one[3] - one[1], other[3] - other[1]):
                is_right = other[0] + other[2] > one[0] + one[2]
                right, left = right + is_right, left + (not is_right)
                overlaps += is_right and other[0] < one[2]
            else:
                is_down = other[1] + other[3] > one[1] + one[3]
                down, up = down + is_down, up + (not is_down)
    many = max(pairs, 1)
    return _Flow(upright / max(boxes, 1), wide / words if words else 1.0, right / many, left / many, down, up, overlaps)


def refuse_arrangement(pages: Sequence[RawBoxes], file: str, unit: BoxUnit) -> None:
    """Raises DataError if the boxes are implausible as x0, y0, x1, y1 from the top left, but not in another order.

    The evidence is whether boxes are upright, whether words are wider than high, and where each next word lies. Rotated
    pages are none: their words follow each other as no other order has it.
    """
    flow, count = _flow(pages, BoxOrder.CORNERS, unit), sum(len(page.boxes) for page in pages)
    inverted = count - round(flow.upright * count)
    falling = sum(x0 <= x1 and y0 > y1 for page in pages for x0, y0, x1, y1 in page.boxes)
    if inverted >= _INVERTED and falling > 0.98 * count:
        reason = f"y0 is larger than y1 in {falling} of {count} boxes: the origin seems to be bottom-left"
        raise _arranged(reason, f"--origin {Origin.BOTTOM_LEFT}", file)
    if inverted >= _INVERTED and flow.upright < 0.95:
        candidates: list[tuple[BoxOrder, _Flow]] = [
            (order, _flow(pages, order, unit)) for order in _NAMES if order is not BoxOrder.CENTRED
        ]
        # of two that fit, words follow each other to the right and lines downwards under the right one
        fitting = [
            (found.right - found.left + (found.down > found.up), -place, order)
            for place, (order, found) in enumerate(candidates)
            if found.upright > 0.98 and found.wide >= 0.7
        ]
        if fitting:
            order: BoxOrder = max(fitting)[2]
            sized, centred = (_flow(pages, each, unit) for each in (BoxOrder.SIZED, BoxOrder.CENTRED))
            if order is BoxOrder.SIZED and centred.overlaps < sized.overlaps:
                order = BoxOrder.CENTRED
            reason = f"{inverted} of {count} boxes end before they begin: the numbers seem to be {_NAMES[order]}"
            raise _arranged(reason, f"--box-order {order}", file)
    if count < _ENOUGH:
        return
    if flow.wide <= 0.3:
        swapped = _flow(pages, BoxOrder.Y_FIRST, unit)
        follows = swapped.right >= max(0.05, 3 * swapped.left)  # printed lines have few words beside each other
        if swapped.wide >= 0.7 and follows and swapped.down > 2 * swapped.up:
            reason = "words are higher than wide and lines read as columns"
            raise _arranged(f"{reason}: the numbers seem to be y0, x0, y1, x1", f"--box-order {BoxOrder.Y_FIRST}", file)
    if flow.wide >= 0.7 and flow.up >= max(3, 3 * flow.down) and flow.left <= min(0.1, flow.right / 2):
        reason = f"{flow.up} of {flow.up + flow.down} next lines lie above the line before"
        raise _arranged(f"{reason}: the origin seems to be bottom-left", f"--origin {Origin.BOTTOM_LEFT}", file)


_NAMES = {
    BoxOrder.BY_AXIS: "x0, x1, y0, y1",
    BoxOrder.BY_AXIS_Y_FIRST: "y0, y1, x0, x1",
    BoxOrder.SIZED: "x, y, width, height",
    BoxOrder.SIZED_Y_FIRST: "y, x, height, width",
    BoxOrder.CENTRED: "the centre's x and y, width, height",
}


def _arranged(reason: str, option: str, file: str) -> DataError:
    return DataError(
        f"{reason} ({option} reads them so); if the boxes are right, --box-order {BoxOrder.CORNERS} "
        f"--origin {Origin.TOP_LEFT} keeps them",
        file=file,
    )
