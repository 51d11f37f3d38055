"""Where words stand, for augmentation: an entity's printed lines, the room beside them, other text set into a line."""

from collections.abc import Sequence

from receipt_layoutlm.data.lines import split_line
from receipt_layoutlm.data.page import PAGE_EXTENT, Box

GAP = 4  # thousandths that a line which is stretched keeps from its neighbours
_CENTRED = 60  # thousandths that the middle of a line which stands centred is off the page's at most


def printed_pieces(boxes: Sequence[Box], begin: int, end: int) -> list[range]:
    """Words that follow each other, cut where they go on in another printed line."""
    cuts = [word for word in range(begin + 1, end) if not _share_a_line(boxes[word - 1], boxes[word])]
    return [range(first, last) for first, last in zip([begin, *cuts], [*cuts, end], strict=True)]


def _share_a_line(box: Box, other: Box) -> bool:
    """Whether they share at least half of the lower of their heights."""
    shared = min(box[3], other[3]) - max(box[1], other[1])
    return 2 * shared >= min(box[3] - box[1], other[3] - other[1])


def room(boxes: Sequence[Box], piece: range) -> tuple[int, int]:
    """From where to where the words of a printed line may reach without touching what stands beside them."""
    x0, y0, x1, y1 = hull(boxes[piece.start : piece.stop])
    middle, centre = (y0 + y1) / 2, x0 + x1
    others = (*boxes[: piece.start], *boxes[piece.stop :])
    beside = [box for box in others if box[1] <= middle <= box[3]]
    left = max((box[2] + GAP for box in beside if box[0] + box[2] < centre), default=0)
    right = min((box[0] - GAP for box in beside if box[0] + box[2] >= centre), default=PAGE_EXTENT)
    return min(left, x0), max(right, x1)


def hull(boxes: Sequence[Box]) -> Box:
    """The box around boxes."""
    x0s, y0s, x1s, y1s = zip(*boxes, strict=True)
    return min(x0s), min(y0s), max(x1s), max(y1s)


def usual_anchor(box: Box) -> float:
    """The share of a line's width left of the point that stays when its text changes: 0.5 if centred, else 0."""
    return 0.5 if abs(box[0] + box[2] - PAGE_EXTENT) <= 2 * _CENTRED else 0.0


def set_text(old: str, new: str, box: Box, limits: tuple[int, int], anchor: float) -> list[Box]:
    """The boxes of the words of `new`, set into the line of `old`: as wide in proportion as there is room."""
    left, right = limits
    width = min((box[2] - box[0]) * len(new) / len(old), right - left)
    x0 = min(max(box[0] + anchor * (box[2] - box[0] - width), left), right - width)
    split = split_line(new, (x0, float(box[1]), x0 + width, float(box[3])))
    return [(round(a), round(b), round(c), round(d)) for _, (a, b, c, d) in split]
