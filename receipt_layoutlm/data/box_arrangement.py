"""Arrangements of boxes that words cannot have: corners in another order, sizes for corners, another origin."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from receipt_layoutlm.data.boxes import ENOUGH_WORDS, OVER_EDGE, BoxOrder, BoxUnit, Origin, RawBoxes, page_extents
from receipt_layoutlm.data.page import DataError

_INVERTED = 3  # boxes that end before they begin; fewer are slips
_SAME_LINE = 0.5  # overlap of two words of a line, of the smaller height
_LETTERS = 3  # a word of so many is wider than high


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
        width, height = (OVER_EDGE * extent for extent in page_extents(page.size, unit))
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
    if count < ENOUGH_WORDS:
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
