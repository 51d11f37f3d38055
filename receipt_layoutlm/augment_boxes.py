"""The same page scanned differently: moved and scaled as a whole, each word's box a little off its place."""

import random
from collections.abc import Callable
from dataclasses import replace

from receipt_layoutlm.augment_lines import hull
from receipt_layoutlm.page import PAGE_EXTENT, Page

JITTER = 2  # thousandths that an edge of a box is off its place at most; reading order bears 3
_SCALES = (0.88, 1.12)
_SHIFT = 60  # thousandths that the middle of the print moves at most


def moved_boxes(page: Page, draw: random.Random) -> Page:
    """The page moved and scaled in each direction, inside its bounds, then each box with jitter of its own."""
    left, top, right, bottom = hull(page.boxes)
    along_x, along_y = _moved(left, right, draw), _moved(top, bottom, draw)
    boxes = []
    for x0, y0, x1, y1 in page.boxes:
        new_x = sorted((_jittered(along_x(x0), draw), _jittered(along_x(x1), draw)))
        new_y = sorted((_jittered(along_y(y0), draw), _jittered(along_y(y1), draw)))
        boxes.append((new_x[0], new_y[0], new_x[1], new_y[1]))
    return replace(page, boxes=tuple(boxes))


def _moved(least: int, most: int, draw: random.Random) -> Callable[[int], float]:
    """Where a coordinate of a print that reaches from `least` to `most` comes to lie; larger ones stay larger."""
    low, high = _SCALES
    scale = min(low + (high - low) * draw.random(), PAGE_EXTENT / max(most - least, 1))
    middle, half = (least + most) / 2, scale * (most - least) / 2
    shifted = middle + _SHIFT * (2 * draw.random() - 1)
    new_middle = min(max(shifted, half), PAGE_EXTENT - half)
    return lambda value: new_middle + scale * (value - middle)


def _jittered(value: float, draw: random.Random) -> int:
    return min(max(round(value + JITTER * (2 * draw.random() - 1)), 0), PAGE_EXTENT)
