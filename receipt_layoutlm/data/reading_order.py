"""Reading order: words are grouped into printed lines, lines from top to bottom, words from left to right.

A first pass takes words from left to right and appends each to the line that it continues at its height. Its lines give
the common slope (a skewed page takes two passes) and the pitch. A second pass divides the words, sorted by height with
the slope removed, into lines: the division with the least cost, which counts lines, the spread within them and words
that overlap. So a word joins most of its line, whatever a few thousandths of jitter do to it and its neighbours.
O(n log n) for n words, with lines of bounded length.

Where boxes do not decide, the given order does (shared_places.py): words that share a box are placed as one, and a
passage that is listed again follows the lines of all that was listed before it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import copysign, sqrt

from receipt_layoutlm.data.page import Box, Page
from receipt_layoutlm.data.shared_places import box_of_run, covering_runs, in_line, joined_by_box, listings

_OVERLAP = 0.5  # minimum overlap of words of one line, of the smaller height, in the first pass
_JITTER = 3.0  # thousandths
_SLACK = 2 * _JITTER + 1  # of two words of one line, and some remaining slope
_MEMORY = 3  # words over which a line's height is averaged: cancels jitter, follows a bent line
_SLOPE_PRIOR = 20_000.0  # (thousandths^2) variance of jitter, 3, over that of slopes, 0.012^2
_LEVEL = 0.002  # a larger slope moves a price at the right edge by more than half of the jitter
_NEIGHBOURS = 3  # lines above and below a word's height that are candidates
_PITCH = 0.5  # maximum height difference of words of one line, of the usual pitch
_MAX_REACH = 12.0  # thousandths, where lines are far apart
_MAX_HEIGHT = 3.0  # times the reach, from the highest word of a line to its lowest
_MAX_WORDS = 100  # of one line, which bounds the time for crowds of words at one height
_COVERED = 0.5  # maximum overlap of neighbours on a line, of the narrower one
_COLLISION = 0.8  # cost of two overlapping words, of the cost of a line


@dataclass(slots=True)
class _Line:
    """A line of the first pass, to which words are appended; lengths in thousandths of the page."""

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


def reading_order(boxes: Sequence[Box], texts: Sequence[str] = ()) -> list[int]:
    """Indices of the boxes (x0, y0, x1, y1; 0..1000, origin top-left) in reading order.

    The order of the boxes has a part in it only where boxes stand on each other. With the words' texts, words that are
    listed twice are recognised.
    """
    return [word for line in printed_lines(boxes, texts) for word in line]


def printed_lines(boxes: Sequence[Box], texts: Sequence[str] = ()) -> list[list[int]]:
    """Indices of the boxes by printed line, lines from top to bottom, words from left to right."""
    runs = covering_runs(boxes)
    if not texts:
        return _lines_of_runs(runs, boxes)
    first, *again = listings(runs, boxes, texts)
    lines = _lines_of_runs(first.runs, boxes)
    for passage in again:
        begin = passage.runs[0][0]
        place = 1 + max(number for number, line in enumerate(lines) if min(line) < begin)
        lines[place:place] = _lines_of_runs(passage.runs, boxes)
    return lines


def _lines_of_runs(runs: Sequence[list[int]], boxes: Sequence[Box]) -> list[list[int]]:
    """Words by printed line; each run, and all runs with one box, are placed as one box."""
    units = joined_by_box(runs, boxes)
    lines = _lines([box_of_run(boxes, unit) for unit in units])
    return [[word for unit in line for word in units[unit]] for line in lines]


def _lines(boxes: Sequence[Box]) -> list[list[int]]:
    """Indices of the boxes by line; each box stands for one or several words."""
    first = _first_lines(boxes, 0.0)
    slope = _common_slope(boxes, first)
    if abs(slope) > _LEVEL:
        first = _first_lines(boxes, slope)
        slope = _common_slope(boxes, first)
    pitches = sorted(below.centre - above.centre for above, below in pairwise(first))
    usual_pitch = pitches[(len(pitches) - 1) // 2] if pitches else 0.0
    # maximum height difference of words of one line: half a pitch, beyond which another line is nearer
    reach = min(max(_PITCH * usual_pitch, _SLACK), _MAX_REACH)
    centres = [_centre(box, slope) for box in boxes]
    words = sorted(range(len(boxes)), key=lambda i: (centres[i], boxes[i]))
    # a line ends where the next word is out of reach
    ends = [place for place, (i, j) in enumerate(pairwise(words), start=1) if centres[j] - centres[i] > reach]
    lines: list[list[int]] = []
    for start, end in pairwise([0, *ends, len(words)]):
        lines += _divided(words[start:end], boxes, centres, reach)
    return [in_line(line, boxes) for line in lines]


def _divided(run: list[int], boxes: Sequence[Box], centres: Sequence[float], reach: float) -> list[list[int]]:
    """The lines of a run: the division of least cost, by dynamic programming over the begin of the last line.

    A line costs one unit, which equals two words `reach` apart, and its collisions. Spread is twice the variance: half
    the squared distance between two heights, however many words are at each.
    """
    unit = reach**2 / 2
    cost, begin = [0.0], [0]  # of the first n words, and of their last line, for each n
    hits = [0] * len(run)  # collisions of each word with later ones
    for end in range(1, len(run) + 1):
        last = run[end - 1]
        best = (float("inf"), 0)
        total = squares = collisions = 0.0
        for start in range(end - 1, max(end - _MAX_WORDS, 0) - 1, -1):
            above = centres[last] - centres[run[start]]
            if above > _MAX_HEIGHT * reach:
                break
            if start < end - 1:
                one, other = boxes[run[start]], boxes[last]
                # jitter alone cannot have moved words of one line so far into each other, but generous boxes of
                # words in succession may overlap
                tolerated = _COVERED * min(one[2] - one[0], other[2] - other[0]) if abs(run[start] - last) == 1 else 0
                hits[start] += min(one[2] - other[0], other[2] - one[0]) > max(tolerated, _SLACK)
            total, squares, collisions = total + above, squares + above * above, collisions + hits[start]
            words = end - start
            spread = 2 * (squares - total * total / words) / words
            candidate = cost[start] + unit * (1 + _COLLISION * collisions) + spread
            if candidate <= best[0]:  # of equals the line that begins first
                best = (candidate, start)
        cost.append(best[0])
        begin.append(best[1])
    lines: list[list[int]] = []
    end = len(run)
    while end:
        lines.append(run[begin[end] : end])
        end = begin[end]
    return lines[::-1]


def _first_lines(boxes: Sequence[Box], slope: float) -> list[_Line]:
    """Lines from top to bottom, by the height of their last words with the slope removed.

    Each word from left to right continues the nearest line that ends before it, or begins one.
    """
    lines: list[_Line] = []
    centres: list[float] = []
    for word in sorted(range(len(boxes)), key=lambda i: (boxes[i][0] + boxes[i][2], boxes[i])):
        box, centre = boxes[word], _centre(boxes[word], slope)
        height, middle = box[3] - box[1], (box[0] + box[2]) / 2
        nearest, least_distance = None, float("inf")
        place = bisect_left(centres, centre)
        for index in range(max(place - _NEIGHBOURS, 0), min(place + _NEIGHBOURS, len(lines))):
            line = lines[index]
            if middle < line.right - _SLACK or (distance := abs(line.centre - centre)) >= least_distance:
                continue  # most lines: what follows costs more
            # so near that word and line overlap by enough of the smaller height
            reach = max((height + line.height) / 2 - _OVERLAP * min(height, line.height), _SLACK)
            if distance <= reach:
                nearest, least_distance = index, distance
        if nearest is None:
            line = _Line(centre, height, box[0])
        else:
            line = lines.pop(nearest)
            del centres[nearest]
        line.add(word, box, centre)
        place = bisect_left(centres, line.centre)
        centres.insert(place, line.centre)
        lines.insert(place, line)
    return lines


def _centre(box: Box, slope: float) -> float:
    """The height of a word's centre with the common slope removed."""
    return (box[1] + box[3] - slope * (box[0] + box[2])) / 2


def _common_slope(boxes: Sequence[Box], lines: Sequence[_Line]) -> float:
    """The slope (height per width, in thousandths) that fits the words of all lines best.

    Least squares with a prior: a few words close together do not determine a slope, which is then near 0. The part that
    jitter can make of level lines is subtracted.
    """
    rise, run = 0.0, _SLOPE_PRIOR
    for line in lines:
        xs = [(boxes[word][0] + boxes[word][2]) / 2 for word in line.words]
        ys = [_centre(boxes[word], 0.0) for word in line.words]
        x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
        rise += sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
        run += sum((x - x_mean) ** 2 for x in xs)
    return copysign(max(abs(rise / run) - _JITTER / sqrt(run), 0.0), rise)


def order_of_words(page: Page) -> list[int]:
    """Indices of a page's words in reading order: by their boxes, or as they are given if the page says so."""
    return list(range(len(page.words))) if page.order == "given" else reading_order(page.boxes, page.words)


def rearranged(page: Page, order: Sequence[int]) -> Page:
    """The page with its words in another order. An entity that the order splits becomes one entity for each piece."""
    entity: list[int | None] = []  # of each word, by the place where it begins
    for place, tag in enumerate(page.tags):
        entity.append(place if tag[0] == "B" else entity[-1] if tag[0] == "I" else None)
    tags = [
        page.tags[word] if entity[word] is None else f"{'I' if entity[word] == previous else 'B'}-{page.tags[word][2:]}"
        for previous, word in zip([None, *(entity[word] for word in order)], order, strict=False)
    ]
    words, boxes = tuple(page.words[i] for i in order), tuple(page.boxes[i] for i in order)
    return replace(page, words=words, boxes=boxes, tags=tuple(tags))


def as_read(page: Page) -> Page:
    """The page with its words in reading order, which later changes of its boxes leave as it is."""
    return replace(rearranged(page, order_of_words(page)), order="given")
