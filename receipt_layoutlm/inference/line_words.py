"""Cuts a recognised line of text into words.

The recogniser emits nine of ten spaces. A further cut is made where the ink leaves a gap that is wider than usual on
the line, but not at the point of a number. CJK text is cut where it meets Latin letters or a currency, too.
"""

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from statistics import median_high
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WIDER = 0.18
"""Width of a gap between words beyond the line's median gap, in heights of the line; fitted on 40 receipts of SROIE."""

_IN_NUMBERS = frozenset(".,:/-")


class Character(NamedTuple):
    """A character of a line, which is not a space; `column` is its time step in the recogniser."""

    text: str
    column: int
    confidence: float
    follows_space: bool


class LineWord(NamedTuple):
    """A word of a line; `begin` and `end` are fractions of the line's width, the confidence its worst character's."""

    text: str
    begin: float
    end: float
    confidence: float


class _Gap(NamedTuple):
    """The widest run of columns of pixels without ink between the centres of two characters."""

    begin: int
    end: int


def cut_line(characters: Sequence[Character], columns: float, ink: "NDArray[np.bool_]", height: int) -> list[LineWord]:
    """The words of a line.

    `columns` are the time steps of its width. `ink` tells for each column of pixels of its image whether a character is
    there; `height` is that of the image.
    """
    if not characters:
        return []
    pixels = len(ink) / columns  # of a time step
    gaps = [
        _widest_gap(ink, round((one.column + 0.5) * pixels), round((other.column + 0.5) * pixels))
        for one, other in pairwise(characters)
    ]
    usual_gap = median_high([gap.end - gap.begin for gap in gaps] or [0])
    usual_step = median_high([other.column - one.column for one, other in pairwise(characters)] or [0])
    starts = [0]
    for index, (one, other) in enumerate(pairwise(characters), start=1):
        gap = gaps[index - 1]
        is_wide = gap.end - gap.begin - usual_gap > _WIDER * height and other.column - one.column >= usual_step
        is_cut = is_wide and not _is_inside_number(characters, index)
        if is_cut or other.follows_space or _changes_script(one.text, other.text):
            starts.append(index)
    inked = ink.nonzero()[0].tolist() or [0, len(ink) - 1]
    begins = [inked[0], *(gaps[start - 1].end for start in starts[1:])]
    ends = [*(gaps[start - 1].begin for start in starts[1:]), inked[-1] + 1]
    words = []
    for (start, stop), begin, end in zip(pairwise([*starts, len(characters)]), begins, ends, strict=True):
        text = "".join(character.text for character in characters[start:stop])
        confidence = min(character.confidence for character in characters[start:stop])
        words.append(LineWord(text, begin / len(ink), max(begin, end) / len(ink), confidence))
    return words


def _widest_gap(ink: "NDArray[np.bool_]", begin: int, end: int) -> _Gap:
    """Where all is ink, the middle."""
    widest, start = _Gap((begin + end) // 2, (begin + end) // 2), begin
    for column in range(begin, end):
        if ink[min(column, len(ink) - 1)]:
            start = column + 1
        elif column + 1 - start > widest.end - widest.begin:
            widest = _Gap(start, column + 1)
    return widest


def _is_inside_number(characters: Sequence[Character], index: int) -> bool:
    """Whether a cut before `index` would be beside the point, comma or separator between two digits."""
    return any(
        characters[place].text in _IN_NUMBERS
        and characters[place - 1].text.isdigit()
        and characters[place + 1].text.isdigit()
        for place in (index - 1, index)
        if 0 < place < len(characters) - 1
    )


def _changes_script(one: str, other: str) -> bool:
    return (_is_cjk(one) and _is_latin_or_currency(other)) or (_is_latin_or_currency(one) and _is_cjk(other))


def _is_cjk(text: str) -> bool:
    return any(
        unicodedata.name(character, "").startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL"))
        for character in text
    )


def _is_latin_or_currency(text: str) -> bool:
    return (text.isascii() and text.isalpha()) or all(unicodedata.category(character) == "Sc" for character in text)
