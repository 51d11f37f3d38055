"""Reading order: words are grouped into printed lines, lines go top to bottom, words left to right.

First words are taken from left to right, and each joins the line that it continues at its height. From these lines
come their common slope (a skewed page is gone through twice) and their pitch. Then the words, by their heights with
the slope taken out, are divided into lines once more, all at once: of all divisions the one with few lines, little
spread within them and few words that stand in each other's place. So a word goes where most of its line is, whatever
a few thousandths of jitter did to it and its neighbours. O(n log n) for n words, with lines of bounded length.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import copysign, sqrt

from receipt_layoutlm.data.page import Box, Page

_OVERLAP = 0.5  # of the lower of two heights that words of one line share at least, in the first pass
_JITTER = 3.0  # thousandths that a word may be off its place
_SLACK = 2 * _JITTER + 1  # two words of one line, each off its place, and some slope left
_MEMORY = 3  # words over which a line's height is averaged: jitter cancels out, a bent line is followed
_SLOPE_PRIOR = 20_000.0  # (thousandths^2) variance of jitter, 3, over that of slopes, 0.012^2
_LEVEL = 0.002  # a slope above it moves a price far to the right by more than half of the jitter
_NEIGHBOURS = 3  # lines above and below a word's height that are looked at
_PITCH = 0.5  # of the usual pitch, by which words of one line differ in height at most
_WIDEST = 12.0  # thousandths, the same where lines stand wide apart
_HIGHEST = 3.0  # times that, from the highest word of a line to its lowest
_MOST_WORDS = 100  # of one line, so that crowds of words at one place take no time worth naming
_COLLISION = 0.8  # of a line: so much weigh two words that stand in each other's place


@dataclass(slots=True)
class _Line:
    """A line of the first pass while words are added on its right; lengths in thousandths of the page."""

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
    first = _first_lines(boxes, 0.0)
    slope = _common_slope(boxes, first)
    if abs(slope) > _LEVEL:
        first = _first_lines(boxes, slope)
        slope = _common_slope(boxes, first)
    reach = _reach_of(first)
    centres = [_centre(box, slope) for box in boxes]
    words = sorted(range(len(boxes)), key=lambda i: (centres[i], boxes[i]))
    lines: list[list[int]] = []
    for run in _runs(words, centres, reach):
        lines += _divided(run, boxes, centres, reach)
    return [sorted(line, key=lambda i: (boxes[i][0] + boxes[i][2], boxes[i])) for line in lines]


def _runs(words: Sequence[int], centres: Sequence[float], reach: float) -> Iterator[list[int]]:
    """Words by height, parted where the next is out of reach: there a line ends in any case."""
    start = 0
    for place, (above, below) in enumerate(pairwise(words), start=1):
        if centres[below] - centres[above] > reach:
            yield list(words[start:place])
            start = place
    if words:
        yield list(words[start:])


def _divided(run: list[int], boxes: Sequence[Box], centres: Sequence[float], reach: float) -> list[list[int]]:
    """The lines of a run: the division that costs least, by dynamic programming over where the last line begins.

    A line costs a unit, for which two words may be `reach` apart, and its collisions. Spread is twice the variance: the
    square of the distance of two words, halved, however many words stand at either height.
    """
    unit = reach**2 / 2
    cost, begin = [0.0], [0]  # of the first words, for each number of them, and where their last line begins
    hits = [0] * len(run)  # of each word with those after it, so far
    for end in range(1, len(run) + 1):
        last = run[end - 1]
        best = (float("inf"), 0)
        total = squares = collisions = 0.0
        for start in range(end - 1, max(end - _MOST_WORDS, 0) - 1, -1):
            above = centres[last] - centres[run[start]]
            if above > _HIGHEST * reach:
                break
            if start < end - 1:
                hits[start] += _collide(boxes[run[start]], boxes[last])
            total, squares, collisions = total + above, squares + above * above, collisions + hits[start]
            words = end - start
            spread = 2 * (squares - total * total / words) / words
            best = min(best, (cost[start] + unit * (1 + _COLLISION * collisions) + spread, start))
        cost.append(best[0])
        begin.append(best[1])
    return _cut(run, begin)


def _cut(run: list[int], begin: Sequence[int]) -> list[list[int]]:
    lines: list[list[int]] = []
    end = len(run)
    while end:
        lines.append(run[begin[end] : end])
        end = begin[end]
    return lines[::-1]


def _collide(one: Box, other: Box) -> bool:
    """Whether two words stand in each other's place: jitter alone cannot have brought them there from one line."""
    return min(one[2] - other[0], other[2] - one[0]) > _SLACK


def _reach_of(lines: Sequence[_Line]) -> float:
    """How far words of one line may be apart in height: half a pitch, beyond that they are nearer to another line."""
    pitches = sorted(below.centre - above.centre for above, below in pairwise(lines))
    usual = pitches[(len(pitches) - 1) // 2] if pitches else 0.0
    return min(max(_PITCH * usual, _SLACK), _WIDEST)


def _first_lines(boxes: Sequence[Box], slope: float) -> list[_Line]:
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
        to_the_right = middle >= line.right - _SLACK
        if to_the_right and distance < best_distance and distance <= _reach(height, line.height):
            best, best_distance = index, distance
    return best


def _reach(height: float, line_height: float) -> float:
    """How far the middles of a word and of a line may be apart, so that they overlap enough."""
    lower = min(height, line_height)
    return max((height + line_height) / 2 - _OVERLAP * lower, _SLACK)


def _common_slope(boxes: Sequence[Box], lines: Sequence[_Line]) -> float:
    """The slope (height per width, both in thousandths) that fits the words of all lines best, as far as it is sure.

    Least squares with a prior: few words close together say little about a slope, and then it is taken as 0. What
    jitter alone may have made of level lines is left out.
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
    """Indices of a page's words in the order in which they are read."""
    # sorted by content first, so that the input's order does not decide between equal boxes
    known = sorted(range(len(page.words)), key=lambda i: (page.boxes[i], page.words[i], page.tags[i]))
    return [known[place] for place in reading_order([page.boxes[index] for index in known])]


def rearranged(page: Page, order: Sequence[int]) -> Page:
    """The same page with its words in another order.

    Entities are those of the tags given. The words of one that stand together stay one entity; one that the
    order tears apart becomes as many entities as it has pieces.
    """
    entity = _entity_of_each_word(page.tags)
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
