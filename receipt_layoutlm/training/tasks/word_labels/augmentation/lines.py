"""Line geometry for augmentation: printed lines of an entity, free room beside them, boxes of replaced text."""

from collections.abc import Sequence

from receipt_layoutlm.data.lines import split_line
from receipt_layoutlm.data.page import PAGE_EXTENT, Box

GAP = 4  # minimum distance of a stretched line from its neighbours, in thousandths
_CENTRED = 60  # maximum distance of a centred line's middle from the page's, in thousandths


def printed_pieces(boxes: Sequence[Box], begin: int, end: int) -> list[range]:
    """Consecutive words, cut where two neighbours share less than half of the smaller of their heights."""
    cuts = []
    for word in range(begin + 1, end):
        (_, top, _, bottom), (_, other_top, _, other_bottom) = boxes[word - 1], boxes[word]
        shared = min(bottom, other_bottom) - max(top, other_top)
        if 2 * shared < min(bottom - top, other_bottom - other_top):
            cuts.append(word)
    return [range(first, last) for first, last in zip([begin, *cuts], [*cuts, end], strict=True)]


def room(boxes: Sequence[Box], piece: range) -> tuple[int, int]:
    """Left and right limit of a printed line that keeps clear of its neighbours."""
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
    """Fixed point of a line whose text changes, as a fraction of its width: 0.5 if centred, else 0."""
    return 0.5 if abs(box[0] + box[2] - PAGE_EXTENT) <= 2 * _CENTRED else 0.0


def set_text(old: str, new: str, box: Box, limits: tuple[int, int], anchor: float) -> list[Box]:
    """Boxes of the words of `new` in the line of `old`: of proportional width, limited by the room."""
    left, right = limits
    width = min((box[2] - box[0]) * len(new) / len(old), right - left)
    x0 = min(max(box[0] + anchor * (box[2] - box[0] - width), left), right - width)
    split = split_line(new, (x0, float(box[1]), x0 + width, float(box[3])))
    return [(round(a), round(b), round(c), round(d)) for _, (a, b, c, d) in split]
