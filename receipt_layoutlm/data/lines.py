"""Boxes of printed lines, and their division into words."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeVar

from receipt_layoutlm.data.page import PAGE_EXTENT, Box

N = TypeVar("N", int, float)

FloatBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 in the source's own unit, origin top-left."""


def split_line(text: str, box: FloatBox) -> list[tuple[str, FloatBox]]:
    """The words of a line as they are read, each with its share of the box, in Hebrew or Arabic from the right.

    All characters are assumed to be equally wide, and words one character apart, whatever the number of spaces.
    """
    words = text.split()
    if not words:
        return []
    x0, y0, x1, y1 = box
    if is_right_to_left(words):
        x0, x1 = x1, x0
    character = (x1 - x0) / (sum(map(len, words)) + len(words) - 1)
    split, begin = [], 0
    for word in words:
        edges = x0 + begin * character, x0 + (begin + len(word)) * character
        split.append((word, (min(edges), y0, max(edges), y1)))
        begin += len(word) + 1
    return split


def is_right_to_left(words: Iterable[str]) -> bool:
    """Whether most letters are of a script that is written from right to left."""
    directions = [unicodedata.bidirectional(character) for word in words for character in word if character.isalpha()]
    return 2 * sum(direction in ("R", "AL") for direction in directions) > len(directions)


def bounds(corners: list[float] | tuple[float, ...]) -> FloatBox:
    """The upright box around corners x1, y1, x2, y2, ... in any order."""
    xs, ys = corners[0::2], corners[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def around(boxes: Sequence[tuple[N, N, N, N]]) -> tuple[N, N, N, N]:
    """The box around boxes, of which there is at least one."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def thousandths(box: FloatBox, scale: tuple[float, float]) -> Box:
    """The box in whole thousandths of a page of this width and height, cut at its edges."""
    x0, y0, x1, y1 = (
        round(min(max(value, 0), extent) * PAGE_EXTENT / extent) for value, extent in zip(box, scale * 2, strict=True)
    )
    return x0, y0, x1, y1
