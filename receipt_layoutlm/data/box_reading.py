"""Units and arrangements of boxes, decided by all values of a file.

A file's boxes are taken as `[x0, y0, x1, y1]` in thousandths of the page with the origin at the top left unless they
are certainly something else: shares of the page (nearly no value above 1), or pixels of images whose width and height
stand in every line. Boxes that would be implausible are refused with the unit or arrangement that makes them plausible.
"""

from collections.abc import Callable, Sequence
from math import inf
from statistics import median

from receipt_layoutlm.data.box_arrangement import refuse_arrangement
from receipt_layoutlm.data.boxes import (
    ENOUGH_WORDS,
    OVER_EDGE,
    BoxOptions,
    BoxOrder,
    BoxReading,
    BoxUnit,
    Origin,
    RawBoxes,
)
from receipt_layoutlm.data.page import PAGE_EXTENT, DataError

_MANY = 20  # different boxes of a file whose pages have too few words each
_SEVERAL = 5  # pages, of which it is no chance that all end at the same place
_AT_EDGE = 0.9  # share of the width that printed text reaches
_BULK = 0.95  # of the values of a page, below its unit's maximum
_FILLED = 0.6  # share of the width that text reaches on most pages of a data set
_LOWEST = 0.8  # share of the page that its lowest or rightmost text reaches
_COARSE = 950  # pixels of an image, of which fewer thousandths are made than there are
_PROOF = 150  # such values; by chance, 0.95 to this power is 0.05 %
_FITTING = 0.98  # of the boxes


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
    if _fit(pages) and _are_small(pages) and not _are_on_grid(pages) and _words(pages) >= ENOUGH_WORDS:
        if len(pages) >= _SEVERAL and _end_at_edges(pages):
            raise DataError(
                "the boxes of all pages end at width and height, as pixels do, and are plausible thousandths too: "
                "--boxes pixels or --boxes thousandths says which",
                file=file,
            )
        note("boxes read as thousandths; they would fit into width and height as pixels too (--boxes pixels)")
    boxes = {box for page in pages if len(set(page.boxes)) >= ENOUGH_WORDS for box in page.boxes}
    reach = max((max(box) for page in pages for box in page.boxes), default=0)
    if len(boxes) >= _MANY and 2 * reach < PAGE_EXTENT and not any(page.size for page in pages):
        raise DataError(
            f"no value of a box is above {reach:g}, which would put all words into a corner of the "
            "page: the boxes seem to be pixels of small images; write width and height of the image into each line, "
            "by which they are then converted; --boxes thousandths reads them as they are",
            file=file,
        )
    if len(pages) >= _SEVERAL and 0 < reach < _AT_EDGE * PAGE_EXTENT and not any(page.size for page in pages):
        note(
            f"boxes read as thousandths; no page has one above {reach:g}: if they are pixels of images of about this "
            "size, write width and height into each line"
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
    if bulk <= OVER_EDGE and values[len(values) // 2] < 1:
        return BoxUnit.SHARES
    if values[-1] > PAGE_EXTENT * OVER_EDGE:
        return BoxUnit.PIXELS
    if bulk <= 100:
        return BoxUnit.PERCENT if len(set(page.boxes)) >= ENOUGH_WORDS else None
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
        max(box[0], box[2]) <= size[0] * OVER_EDGE and max(box[1], box[3]) <= size[1] * OVER_EDGE
        for page in pages
        if (size := page.size)
        for box in page.boxes
    ]
    return sum(within) >= _FITTING * len(within)


def _are_small(pages: Sequence[RawBoxes]) -> bool:
    return any(page.size is not None and min(page.size) < PAGE_EXTENT for page in pages)


def _are_pixels(pages: Sequence[RawBoxes]) -> bool:
    """Whether boxes below 1000 fill the images as pixels, and leave a part of most pages empty as thousandths."""
    if not _fit(pages) or not _are_small(pages) or _words(pages) < ENOUGH_WORDS:
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
    if len(boxes) >= ENOUGH_WORDS and 2 * flat > len(boxes):
        raise DataError(
            f"{flat} of {len(boxes)} boxes have no area: write x0 < x1 and y0 < y1; boxes in shares of the page must "
            "not be rounded to whole numbers",
            file=file,
        )
