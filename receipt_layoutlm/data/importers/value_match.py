"""Finds the values of a whole receipt (company, address, date, total) among its words.

Texts are compared by letters and digits only, ignoring case and spacing. A value is found where adjacent words spell it
out; failing that, at the words with the fewest edits, at most one in five characters.

The total is one of several equal amounts on a receipt. Amounts are compared as numbers, without currency and thousands
separators. Preferred, in this order: an amount on a printed line with the word TOTAL (not SUBTOTAL, nor the total of
items, tax or discounts, nor a row of several amounts), then one on a line without a payment method; an amount printed
over a fifth larger than the others; the last one.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from receipt_layoutlm.data.page import Box
from receipt_layoutlm.data.reading_order import printed_lines

EDITS_PER_CHARACTER = 0.2
"""Maximum edit distance between a value and the words, per character of the value."""

_MIN_INSIDE = 6
"""Characters of a value that may begin or end inside a word; shorter values occur by chance inside numbers."""

_CONFUSED_WITH_DIGITS = str.maketrans("oilzsb", "011258")


@dataclass(frozen=True, slots=True)
class WordSpan:
    """The words `begin` to `end` (exclusive), and their edit distance from the value."""

    begin: int
    end: int
    edits: int


class PageText:
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

    def span(self, begin: int, end: int, edits: int) -> WordSpan:
        """The words with the characters `begin` to `end` (exclusive)."""
        return WordSpan(bisect_right(self.starts, begin) - 1, bisect_right(self.starts, end - 1), edits)

    def is_edge(self, place: int) -> bool:
        """Whether a word or number may begin or end at `place`: at an edge of a word, punctuation or digits."""
        if place in self.breaks or place == len(self.characters):
            return True
        return self.characters[place - 1].isdigit() != self.characters[place].isdigit()


def bare(text: str) -> str:
    """Letters and digits, without case."""
    return "".join(character for character in text.casefold() if character.isalnum())


def misread_digits(text: str) -> str:
    """The text with the letters that OCR confuses with digits replaced by these, for both sides of a comparison."""
    return text.casefold().translate(_CONFUSED_WITH_DIGITS)


def occurrences(text: PageText, value: str) -> list[WordSpan]:
    """Every place where the words spell the value out, preferably on its own and not inside other text."""
    target = bare(value)
    # a lookahead, since a place inside other text may overlap one where the value stands on its own
    places = [match.start() for match in re.finditer(f"(?={re.escape(target)})", text.characters)] if target else []
    alone = [place for place in places if text.is_edge(place) and text.is_edge(place + len(target))]
    chosen = alone or (places if len(target) >= _MIN_INSIDE else [])
    spans, end = [], 0
    for place in chosen:
        if place >= end:
            end = place + len(target)
            spans.append(text.span(place, end, 0))
    return spans


def nearest(text: PageText, value: str) -> WordSpan | None:
    """The first words with the smallest edit distance from the value; None if it is too large."""
    near = nearby(text, bare(value))
    return min(near, key=lambda span: span.edits) if near else None


def nearby(text: PageText, target: str) -> list[WordSpan]:
    """Words within the largest edit distance from the target, which is bare; from top to bottom, without overlaps.

    Words at either end of which less than half is part of the match are excluded.
    """
    allowed = int(len(target) * EDITS_PER_CHARACTER)
    if not allowed or not text.characters:
        return []
    edits, begins = _fits(target, text.characters)
    taken: list[tuple[int, int]] = []
    for end in sorted((end for end, cost in enumerate(edits) if cost <= allowed), key=edits.__getitem__):
        if begins[end] < end and all(end <= begin or begins[end] >= other for begin, other in taken):
            taken.append((begins[end], end))
    spans = (_whole_words(text, text.span(begin, end, edits[end]), begin, end) for begin, end in sorted(taken))
    return [span for span in spans if span.begin < span.end]


def _whole_words(text: PageText, span: WordSpan, begin: int, end: int) -> WordSpan:
    first, last = span.begin, span.end - 1
    stops = [*text.starts[1:], len(text.characters)]
    if 2 * (stops[first] - begin) < stops[first] - text.starts[first]:
        first += 1
    if 2 * (end - text.starts[last]) < stops[last] - text.starts[last]:
        last -= 1
    return WordSpan(first, last + 1, span.edits)


def _fits(target: str, text: str) -> tuple[list[int], list[int]]:
    """For each end in the text, the edits of the stretch nearest to the target, and its begin (Sellers' algorithm)."""
    # row[j]: minimum edits between the first characters of the target and a stretch of the text that ends at j and
    # begins at start[j]
    row, start = [0] * (len(text) + 1), list(range(len(text) + 1))
    for number, character in enumerate(target, start=1):
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
    return row, start


_AMOUNT = re.compile(r"[^\d-]*(-?)[^\d-]*(\d[\d,]*(?:\.\d+)?)\D*")
_TOTAL = re.compile(r"t[o0]ta[l1i]")

# other totals: before tax, number of items, tax or discounts only
_PARTIAL_TOTAL = re.compile(r"sub ?t|excl|before|t[o0]ta[l1i] ?(gst|tax|qty|quant|item|disc|sav|point|change)|type ")
_PAYMENT = re.compile(r"cash|change|card|credit|visa|master|amex|tender|paid|payment|balance|gst|tax")
_DECIMALS = re.compile(r"\d\.\d")
_SPACING = re.compile(r"[^a-z0-9]+")
_LARGER = 1.2
_MAX_PIECES = 3
"""Words that OCR may split one amount into, as in 112. 45."""


def amount(text: str) -> Decimal | None:
    """The number of an amount, with or without a currency; None for any other text."""
    match = _AMOUNT.fullmatch(text)
    return Decimal(match[1] + match[2].replace(",", "")) if match else None


def find_total(words: Sequence[str], boxes: Sequence[Box], value: str) -> WordSpan | None:
    """The words of the total; None when the value is not an amount or no word has it."""
    target = amount(value)
    if target is None:
        return None
    candidates: list[tuple[int, WordSpan]] = []
    for line in printed_lines(boxes, words):
        rank = total_rank([words[index] for index in line])
        candidates += [(rank, span) for span in _spans(words, line, target, has_point="." in value)]
    if not candidates:
        return None
    best = max(rank for rank, _ in candidates)
    spans = [span for rank, span in candidates if rank == best]
    tallest = max(_height(boxes, span) for span in spans)
    return [span for span in spans if _height(boxes, span) * _LARGER >= tallest][-1]


def total_rank(line: Sequence[str]) -> int:
    """2 if a printed line is captioned as the total, 1 if nothing says that it is not, else 0."""
    text = _SPACING.sub(" ", " ".join(line).casefold())
    amounts = sum(_DECIMALS.search(word) is not None and amount(word) is not None for word in line)
    if amounts > 1 or _PARTIAL_TOTAL.search(text):
        return 0
    if _TOTAL.search(text):
        return 2
    return 0 if _PAYMENT.search(text) else 1


def _spans(words: Sequence[str], line: Sequence[int], target: Decimal, has_point: bool) -> list[WordSpan]:
    """The places of the amount on a line, in one word or in adjacent pieces that all have digits."""
    spans: list[WordSpan] = []
    for first in range(len(line)):
        for count in range(1, _MAX_PIECES + 1):
            pieces = line[first : first + count]
            text = "".join(words[index] for index in pieces)
            are_adjacent = list(pieces) == list(range(pieces[0], pieces[-1] + 1))
            have_digits = all(any(map(str.isdigit, words[index])) for index in pieces)  # unlike a caption
            if are_adjacent and have_digits and ("." in text) == has_point and amount(text) == target:
                spans.append(WordSpan(pieces[0], pieces[0] + count, 0))
                break
    return spans


def _height(boxes: Sequence[Box], span: WordSpan) -> int:
    return max(boxes[index][3] - boxes[index][1] for index in range(span.begin, span.end))
