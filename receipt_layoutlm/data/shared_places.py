"""Words whose boxes do not decide their order: several at one place, and words that are listed again.

Words of a printed line often share the line's box (segment-level layout), exactly or up to a few thousandths, and some
files list a line or the whole page twice. In both cases only the given order says how the words follow each other.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from receipt_layoutlm.data.page import Box

MOVED = 6  # thousandths, by which jitter of two boxes moves their edges apart
_ALIKE = 0.7  # minimum overlap of two heights of one place, of the larger height
_MARGIN = 3.5  # thousandths of a word's box on either side that a neighbour may cover


class Places:
    """Boxes by their place, to find one whose edges jitter alone may have moved apart."""

    def __init__(self) -> None:
        self._cells: defaultdict[tuple[int, int], list[Box]] = defaultdict(list)

    def add(self, box: Box) -> None:
        self._cells[box[0] // MOVED, box[1] // MOVED].append(box)

    def holds(self, box: Box) -> bool:
        """Whether a box at this place was added."""
        column, row = box[0] // MOVED, box[1] // MOVED
        cells = ((x, y) for x in (column - 1, column, column + 1) for y in (row - 1, row, row + 1))
        return any(is_same_place(box, other) for cell in cells for other in self._cells.get(cell, ()))


def is_same_place(one: Box, other: Box) -> bool:
    """Whether the boxes are equal, or overlap and no edge differs by more than jitter of both."""
    # written out, since it is asked of every two neighbours of a page
    are_near = (
        abs(one[0] - other[0]) <= MOVED
        and abs(one[1] - other[1]) <= MOVED
        and abs(one[2] - other[2]) <= MOVED
        and abs(one[3] - other[3]) <= MOVED
    )
    return are_near and (one == other or _overlap(one, other, 0) > 0)


def _overlap(one: Box, other: Box, axis: int) -> int:
    return min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis])


def _cover(one: Box, other: Box) -> bool:
    """Whether two words in succession stand on each other: on one line, and over half of the narrower one is shared."""
    if is_same_place(one, other):
        return True
    heights, widths = (one[3] - one[1], other[3] - other[1]), (one[2] - one[0], other[2] - other[0])
    are_level = max(abs(one[1] - other[1]), abs(one[3] - other[3])) <= MOVED
    are_level = are_level or _overlap(one, other, 1) >= _ALIKE * max(heights)
    return are_level and 2 * _overlap(one, other, 0) > min(widths)


def covering_runs(boxes: Sequence[Box]) -> list[list[int]]:
    """The words in the given order, cut before each word that does not cover the one before it."""
    runs: list[list[int]] = []
    for word, box in enumerate(boxes):
        if runs and _cover(boxes[word - 1], box):
            runs[-1].append(word)
        else:
            runs.append([word])
    return runs


def box_of_run(boxes: Sequence[Box], words: Sequence[int]) -> Box:
    """From the left edge of the words to the right one, at their mean height."""
    if len(words) == 1:
        return boxes[words[0]]
    lefts, tops, rights, bottoms = zip(*(boxes[word] for word in words), strict=True)
    return min(lefts), round(sum(tops) / len(words)), max(rights), round(sum(bottoms) / len(words))


class Listing:
    """Words that are listed once: each text at its place."""

    def __init__(self) -> None:
        self._places = Places()
        self._places_of: defaultdict[str, Places] = defaultdict(Places)
        self.runs: list[list[int]] = []

    def add(self, run: list[int], boxes: Sequence[Box], texts: Sequence[str]) -> None:
        self.runs.append(run)
        for word in run:
            self._places.add(boxes[word])
            self._places_of[texts[word]].add(boxes[word])

    def has_most(self, run: Sequence[int], boxes: Sequence[Box], texts: Sequence[str]) -> bool:
        """Whether most words of a run are listed, with their text at their place."""
        known = sum(texts[word] in self._places_of and self._places_of[texts[word]].holds(boxes[word]) for word in run)
        return 2 * known > len(run)

    def covers(self, run: Sequence[int], boxes: Sequence[Box]) -> bool:
        """Whether words are listed at all places of a run, whatever their texts."""
        return all(self._places.holds(boxes[word]) for word in run)


def listings(runs: Sequence[list[int]], boxes: Sequence[Box], texts: Sequence[str]) -> list[Listing]:
    """The first listing of the words, and each passage that is listed again.

    A passage begins with a run most of whose words were listed before, and continues with every run at a place of the
    first listing, whose texts another OCR may have read otherwise, until its own words are listed again.
    """
    first = Listing()
    found = [first]
    is_passage = False
    for run in runs:
        was_passage, is_passage = is_passage, first.has_most(run, boxes, texts)
        is_passage = is_passage or (was_passage and first.covers(run, boxes))
        if is_passage and (not was_passage or found[-1].has_most(run, boxes, texts)):
            found.append(Listing())
        (found[-1] if is_passage else first).add(run, boxes, texts)
    return found


def joined_by_box(runs: Sequence[list[int]], boxes: Sequence[Box]) -> list[list[int]]:
    """The runs, those with an equal box as one: words that share a box need not be listed in succession."""
    units: dict[Box, list[int]] = {}
    for run in runs:
        units.setdefault(box_of_run(boxes, run), []).extend(run)
    return list(units.values())


def in_line(line: Sequence[int], boxes: Sequence[Box]) -> list[int]:
    """Boxes of one printed line from left to right.

    Where boxes stand on each other and the given order reads the line in no more passes from left to right than there
    are boxes on top of each other, as for a line printed over another one, the given order is kept.
    """
    given = sorted(line)
    middles = [boxes[number][0] + boxes[number][2] for number in given]
    passes = 1 + sum(right < left for left, right in pairwise(middles))
    if passes == 1 or passes <= _depth([boxes[number] for number in given]):
        return given
    return [number for _, number in sorted(zip(middles, given, strict=True))]


def _depth(boxes: Sequence[Box]) -> int:
    """The largest number of boxes on top of each other, apart from their margins."""
    edges: list[tuple[float, int]] = []
    for x0, _, x1, _ in boxes:
        margin = min(_MARGIN, (x1 - x0) / 4)
        edges += [(x0 + margin, 1), (x1 - margin, -1)]
    depth = deepest = 0
    for _, step in sorted(edges):
        depth += step
        deepest = max(deepest, depth)
    return deepest
