"""Reading order: words are grouped into printed lines, lines go top to bottom, words left to right.

Words are taken from left to right and each joins the line that it continues at its height, or opens one. The
slope that all lines share is measured in a first pass and taken out in a second, so that a price far to the
right finds its name on a skewed scan too. Heights are compared by overlap, not by a fixed grid: neither a few
thousandths of jitter nor different font sizes on one line part its words. O(n log n) for n words.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from receipt_layoutlm.page import Box, Page

_OVERLAP = 0.5  # of the lower of two heights that words of one line share at least
_JITTER = 7.0  # thousandths: two words of one line, each up to 3 off its place, and some slope left
_MEMORY = 3  # words over which a line's height is averaged: jitter cancels out, a bent line is followed
_SLOPE_PRIOR = 20_000.0  # (thousandths^2) variance of jitter, 3, over that of slopes, 0.012^2
_NEIGHBOURS = 3  # lines above and below a word's height that are looked at


@dataclass(slots=True)
class _Line:
    """A printed line while words are added on its right; lengths in thousandths of the page."""

    centre: float
    height: float
    right: float
    words: list[int] = field(default_factory=list)

    def add(self, word: int, box: Box, centre: float) -> None:
        self.words.append(word)
        share = 1 / min(len(self.words), _MEMORY)
        self.centre += share * (centre - self.centre)
        self.height += share * (box[3] - box[1] - self.height)
        self.right = box[2]


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """Indices of the boxes (x0, y0, x1, y1; 0..1000, origin top-left) in the order in which they are read.

    It does not depend on the order of the boxes; only equal boxes keep the order in which they come.
    """
    return [word for line in printed_lines(boxes) for word in line]


def printed_lines(boxes: Sequence[Box]) -> list[list[int]]:
    """Indices of the boxes by printed line, lines from top to bottom, words from left to right."""
    slope = _common_slope(boxes, _lines(boxes, slope=0.0))
    return [line.words for line in _lines(boxes, slope)]


def _lines(boxes: Sequence[Box], slope: float) -> list[_Line]:
    """Lines from top to bottom, by the height of their last words with the slope taken out."""
    lines: list[_Line] = []
    centres: list[float] = []
    for word in sorted(range(len(boxes)), key=lambda i: (boxes[i][0] + boxes[i][2], boxes[i])):
        box, centre = boxes[word], _centre(boxes[word], slope)
        found = _line_of(box, centre, lines, bisect_left(centres, centre))
        line = lines.pop(found) if found is not None else _Line(centre, box[3] - box[1], box[0])
        if found is not None:
            del centres[found]
        line.add(word, box, centre)
        place = bisect_left(centres, line.centre)
        centres.insert(place, line.centre)
        lines.insert(place, line)
    return lines


def _centre(box: Box, slope: float) -> float:
    """The height of a word's middle with the common slope taken out."""
    return (box[1] + box[3] - slope * (box[0] + box[2])) / 2


def _line_of(box: Box, centre: float, lines: Sequence[_Line], place: int) -> int | None:
    """The index of the nearest line that a word continues; `place` is where its height falls among the lines."""
    height, middle = box[3] - box[1], (box[0] + box[2]) / 2
    best, best_distance = None, float("inf")
    for index in range(max(place - _NEIGHBOURS, 0), min(place + _NEIGHBOURS, len(lines))):
        line = lines[index]
        distance = abs(line.centre - centre)
        to_the_right = middle >= line.right - _JITTER
        if to_the_right and distance < best_distance and distance <= _reach(height, line.height):
            best, best_distance = index, distance
    return best


def _reach(height: float, line_height: float) -> float:
    """How far the middles of a word and of a line may be apart, so that they overlap enough."""
    lower = min(height, line_height)
    return max((height + line_height) / 2 - _OVERLAP * lower, _JITTER)


def _common_slope(boxes: Sequence[Box], lines: Sequence[_Line]) -> float:
    """The slope (height per width, both in thousandths) that fits the words of all lines best.

    Least squares with a prior: few words close together say little about a slope, and then it is taken as 0.
    """
    rise, run = 0.0, _SLOPE_PRIOR
    for line in lines:
        xs = [(boxes[word][0] + boxes[word][2]) / 2 for word in line.words]
        ys = [_centre(boxes[word], 0.0) for word in line.words]
        x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
        rise += sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
        run += sum((x - x_mean) ** 2 for x in xs)
    return rise / run


def page_in_reading_order(page: Page) -> Page:
    """The same page with its words in reading order, whatever their order was.

    Entities are those of the tags given. The words of one that stand together stay one entity; one that the
    order tears apart becomes as many entities as it has pieces.
    """
    entity = _entity_of_each_word(page.tags)
    # sorted by content first, so that the input's order does not decide between equal boxes
    known = sorted(range(len(page.words)), key=lambda i: (page.boxes[i], page.words[i], page.tags[i]))
    order = [known[place] for place in reading_order([page.boxes[index] for index in known])]
    tags = [
        page.tags[word] if entity[word] is None else f"{'I' if entity[word] == before else 'B'}-{page.tags[word][2:]}"
        for before, word in zip([None, *(entity[word] for word in order)], order, strict=False)
    ]
    words, boxes = tuple(page.words[i] for i in order), tuple(page.boxes[i] for i in order)
    return replace(page, words=words, boxes=boxes, tags=tuple(tags))


def _entity_of_each_word(tags: Sequence[str]) -> list[int | None]:
    """For each word the place where its entity begins, None for a word of none."""
    entities: list[int | None] = []
    for place, tag in enumerate(tags):
        entities.append(place if tag[0] == "B" else entities[-1] if tag[0] == "I" else None)
    return entities
