"""Finds the value of a whole receipt (a company, an address, a date) among its words, tolerant of OCR and spacing.

Only letters and digits count, without case. A value is found where words that follow each other spell it out;
failing that, at the words that come closest, if that takes at most one edit in five characters. Several words may
make up one token of the value and one word several tokens: the texts are compared as one run of characters.

Finds which words of a receipt are its total: an amount is printed several times, and only one of them is it.

Amounts are compared as numbers, without currency and thousands separators. Of the words with the total's value
the one is chosen that comes first by these rules: it stands on a printed line that says TOTAL (not SUBTOTAL, nor
the total of items, tax or discounts, nor a row of several amounts), or failing that on one that does not say how it
was paid; it is printed larger than the others by over a fifth; it comes last.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from receipt_layoutlm.data.page import Box
from receipt_layoutlm.data.reading_order import printed_lines

EDITS_PER_CHARACTER = 0.2
"""Edits (a character too many, too few, or another) that a value may be away from the words, per its characters."""

_LEAST_INSIDE = 6
"""A value of fewer characters counts only where it stands by itself: shorter ones turn up inside of numbers."""

_TAKEN_FOR_DIGITS = str.maketrans("oilzsb", "011258")


@dataclass(frozen=True, slots=True)
class Span:
    """The words `begin` to `end` (exclusive), and by how many edits they miss the value."""

    begin: int
    end: int
    edits: int


class Text:
    """The words of a page as one run of letters and digits."""

    def __init__(self, words: Sequence[str]) -> None:
        self.starts: list[int] = []
        self.breaks: set[int] = set()
        characters: list[str] = []
        for word in words:
            self.starts.append(len(characters))
            self.breaks.add(len(characters))
            for character in word.casefold():
                if character.isalnum():
                    characters.append(character)
                else:
                    self.breaks.add(len(characters))
        self.characters = "".join(characters)

    def span(self, begin: int, end: int, edits: int) -> Span:
        """The words that hold the characters `begin` to `end` (exclusive)."""
        return Span(bisect_right(self.starts, begin) - 1, bisect_right(self.starts, end - 1), edits)

    def is_edge(self, place: int) -> bool:
        """Whether the text is parted before the character at `place`: between words, by punctuation, or where
        letters change to digits."""
        if place in self.breaks or place == len(self.characters):
            return True
        return self.characters[place - 1].isdigit() != self.characters[place].isdigit()


def bare(text: str) -> str:
    """Letters and digits, without case."""
    return "".join(character for character in text.casefold() if character.isalnum())


def misread_digits(text: str) -> str:
    """The text with the letters that OCR takes for digits replaced by those digits, on both sides of a comparison."""
    return text.casefold().translate(_TAKEN_FOR_DIGITS)


def occurrences(text: Text, value: str) -> list[Span]:
    """Every place where the words spell the value out; where it stands by itself, if there are such places."""
    wanted = bare(value)
    places = list(_places(text.characters, wanted)) if wanted else []
    alone = [place for place in places if text.is_edge(place) and text.is_edge(place + len(wanted))]
    chosen = alone or (places if len(wanted) >= _LEAST_INSIDE else [])
    return [text.span(place, place + len(wanted), 0) for place in chosen]


def _places(text: str, wanted: str) -> Iterator[int]:
    place = text.find(wanted)
    while place >= 0:
        yield place
        place = text.find(wanted, place + len(wanted))


def nearest(text: Text, value: str) -> Span | None:
    """The words that miss the value by the fewest edits, the first of them; None if that is more than allowed.

    Words at either end of which less than half is part of the match are left out.
    """
    wanted = bare(value)
    allowed = int(len(wanted) * EDITS_PER_CHARACTER)
    if not allowed or not text.characters:
        return None
    begin, end, edits = _fit(wanted, text.characters)
    if edits > allowed or begin == end:
        return None
    span = text.span(begin, end, edits)
    return _without_half_words(text, span, begin, end)


def _fit(wanted: str, text: str) -> tuple[int, int, int]:
    """Where in the text the wanted characters fit best: begin, end, edits (Sellers' algorithm)."""
    # row[j]: fewest edits of the wanted characters so far against some stretch of the text that ends at j;
    # the stretch begins at start[j]
    row, start = [0] * (len(text) + 1), list(range(len(text) + 1))
    for number, character in enumerate(wanted, start=1):
        above, above_start = row, start
        row, start = [number], [0]
        for j, other in enumerate(text, start=1):
            best, origin = above[j - 1] + (character != other), above_start[j - 1]
            if above[j] + 1 < best:
                best, origin = above[j] + 1, above_start[j]
            if row[-1] + 1 < best:
                best, origin = row[-1] + 1, start[-1]
            row.append(best)
            start.append(origin)
    end = min(range(len(row)), key=row.__getitem__)
    return start[end], end, row[end]


def _without_half_words(text: Text, span: Span, begin: int, end: int) -> Span | None:
    stops = [*text.starts[1:], len(text.characters)]
    first, last = span.begin, span.end - 1
    if 2 * (stops[first] - begin) < stops[first] - text.starts[first]:
        first += 1
    if 2 * (end - text.starts[last]) < stops[last] - text.starts[last]:
        last -= 1
    return Span(first, last + 1, span.edits) if first <= last else None


_AMOUNT = re.compile(r"[^\d-]*(-?)[^\d-]*(\d[\d,]*(?:\.\d+)?)\D*")
_TOTAL = re.compile(r"t[o0]ta[l1i]")

# totals of something else: before tax, of goods counted, of tax or discounts alone
_OF_A_PART = re.compile(r"sub ?t|excl|before|t[o0]ta[l1i] ?(gst|tax|qty|quant|item|disc|sav|point|change)|type ")
_AFTERWARDS = re.compile(r"cash|change|card|credit|visa|master|amex|tender|paid|payment|balance|gst|tax")
_SPACING = re.compile(r"[^a-z0-9]+")
_LARGER = 1.2
_PIECES = 3
"""Words that one amount may be torn into, as in 112. 45."""


def amount(text: str) -> Decimal | None:
    """The number in a text that is an amount with at most a currency around it; None otherwise."""
    found = _AMOUNT.fullmatch(text)
    return Decimal(found[1] + found[2].replace(",", "")) if found else None


def find_total(words: Sequence[str], boxes: Sequence[Box], value: str) -> Span | None:
    """The words of the total; None when the value is no amount or no word has it."""
    wanted = amount(value)
    if wanted is None:
        return None
    lines = printed_lines(boxes)
    found = [
        (_meaning(words, line), span) for line in lines for span in _spans(words, line, wanted, has_point="." in value)
    ]
    if not found:
        return None
    says = max(said for said, _ in found)
    spans = [span for said, span in found if said == says]
    tallest = max(_height(boxes, span) for span in spans)
    return [span for span in spans if _height(boxes, span) * _LARGER > tallest][-1]


def _spans(words: Sequence[str], line: Sequence[int], wanted: Decimal, has_point: bool) -> list[Span]:
    """Where on a line the amount stands, in one word or in pieces that follow each other."""
    spans: list[Span] = []
    for first in range(len(line)):
        for count in range(1, _PIECES + 1):
            pieces = line[first : first + count]
            text = "".join(words[index] for index in pieces)
            if _are_pieces(words, pieces) and ("." in text) == has_point and amount(text) == wanted:
                spans.append(Span(pieces[0], pieces[0] + count, 0))
                break
    return spans


def _are_pieces(words: Sequence[str], pieces: Sequence[int]) -> bool:
    """Whether they follow each other and each has digits: the caption before an amount is no piece of it."""
    follow = list(pieces) == list(range(pieces[0], pieces[-1] + 1))
    return follow and all(any(map(str.isdigit, words[index])) for index in pieces)


def _meaning(words: Sequence[str], line: Sequence[int]) -> int:
    """2 for a line that says TOTAL and has one amount, 0 for one of several amounts or that says something else."""
    text = _SPACING.sub(" ", " ".join(words[index] for index in line).casefold())
    amounts = sum("." in words[index] and amount(words[index]) is not None for index in line)
    if amounts > 1 or _OF_A_PART.search(text):
        return 0
    if _TOTAL.search(text):
        return 2
    return 0 if _AFTERWARDS.search(text) else 1


def _height(boxes: Sequence[Box], span: Span) -> int:
    return max(boxes[index][3] - boxes[index][1] for index in range(span.begin, span.end))
