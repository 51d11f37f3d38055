"""Boxes of printed lines, and their division into words."""

FloatBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 in the source's own unit, origin top-left."""


def split_line(text: str, box: FloatBox) -> list[tuple[str, FloatBox]]:
    """The words of a line from left to right, each with its share of the box.

    All characters are assumed to be equally wide, and words one character apart, whatever the number of spaces.
    """
    words = text.split()
    if not words:
        return []
    x0, y0, x1, y1 = box
    character = (x1 - x0) / (sum(map(len, words)) + len(words) - 1)
    split, begin = [], 0
    for word in words:
        split.append((word, (x0 + begin * character, y0, x0 + (begin + len(word)) * character, y1)))
        begin += len(word) + 1
    return split


def bounds(corners: list[float] | tuple[float, ...]) -> FloatBox:
    """The upright box around corners x1, y1, x2, y2, ... in any order."""
    xs, ys = corners[0::2], corners[1::2]
    return min(xs), min(ys), max(xs), max(ys)
