"""Finds which words of a receipt are its total: an amount is printed several times, and only one of them is it.

Amounts are compared as numbers, without currency and thousands separators. Of the words with the total's value
the one is chosen that comes first by these rules: it stands on a printed line that says TOTAL (not SUBTOTAL, nor
the total of items, tax or discounts, nor a row of several amounts), or failing that on one that does not say how it
was paid; it is printed larger than the others by over a fifth; it comes last.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from receipt_layoutlm.key_match import Span
from receipt_layoutlm.page import Box
from receipt_layoutlm.reading_order import printed_lines

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
