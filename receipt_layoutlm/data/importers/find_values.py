"""Finds the values of a receipt, as a spreadsheet has them, among the words that OCR read.

Letters that OCR confuses with digits count as these. A place is chosen only if it is sure:

text     where adjacent words spell the value out, else at the fewest edits, at most one in five characters. Of several
         such places the topmost, if the value is long enough not to occur by chance.
date     every place that has the date, in any form (printed_forms.py).
amount   the place with the caption of its label, as SUBTOTAL or TAX are printed; for the total as in value_match.py.

All other places where the value may stand are doubtful: their words are left unlabelled.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.importers.printed_forms import amount_patterns, date_patterns
from receipt_layoutlm.data.importers.value_match import (
    PageText,
    bare,
    misread_digits,
    nearby,
    occurrences,
    total_rank,
)
from receipt_layoutlm.data.page import Box
from receipt_layoutlm.data.reading_order import printed_lines
from receipt_layoutlm.data.tags import iob2

GivenValue = date | Decimal | str

How = Literal["exact", "approximate", "ambiguous", "missing"]

_DISTINCT = 5  # letters and digits of a text from which copies of it are copies, and not coincidence
_MARGIN = 0.05  # edits per character by which a place higher up may be worse
_LARGER = 1.2  # height of an amount by that of others, as the total is printed
_BARE_DIGITS = 3  # of an amount without decimals that stands for itself; a shorter one is a quantity, or a page number

_CAPTIONS = {
    "SUBTOTAL": r"sub ?t[o0]tal|excl|before",
    "TAX": r"tax|gst|vat|sst|mwst|tva",
    "CHANGE": r"change|baki",
    "TIP": r"\btip|gratuity|service",
    "DISCOUNT": r"disc|saving|rebate",
    "COUPON": r"coupon|voucher",
    "REFUND": r"refund",
    "CASH_BACK": r"cash ?back",
}
_TOTAL = "GRAND_TOTAL"
_DUE = re.compile(
    r"(?<!change )\bdue\b|payable|to be paid|\bto pay\b|jumlah|gesamt|summe|totaal|importe|montant|\bsuma\b"
)
_LIKE_TOTAL = 0.8  # ratio of difflib: one of five letters is another
_COPY_CHARACTERS = 6  # of a word that may be a copy of a date,
_LIKE_COPY = 0.8  # and its likeness by difflib
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]+")


class Span(NamedTuple):
    """The words `begin` to `end` (exclusive)."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The places of a value, which get its label, and the words of other places where it may stand."""

    how: How
    spans: tuple[Span, ...] = ()
    doubtful: frozenset[int] = frozenset()


class Document:
    """The words of a receipt in reading order, over all its pages, and their printed lines."""

    def __init__(self, pages: Iterable[tuple[Sequence[str], Sequence[Box]]]) -> None:
        self.words: list[str] = []
        self.heights: list[int] = []
        self.lines: list[Span] = []
        self.order: list[tuple[int, int]] = []
        """Of each word the number of its page, from 0, and its index on that page."""
        self.pages = 0
        for number, (words, boxes) in enumerate(pages):
            self.pages += 1
            for line in printed_lines(boxes, words):
                self.lines.append(Span(len(self.words), len(self.words) + len(line)))
                self.words += [words[index] for index in line]
                self.heights += [boxes[index][3] - boxes[index][1] for index in line]
                self.order += [(number, index) for index in line]
        self._letters = PageText([misread_digits(word) for word in self.words])
        self._line_texts = [_LineText(self.words, line) for line in self.lines]

    def find(self, label: str, value: GivenValue, order: DateOrder | None) -> Placement:
        """The places of a value; `order` is that of the dates printed on the receipts, None if both may be."""
        if isinstance(value, date):
            return self._date(value, order)
        return self._amount(label, value) if isinstance(value, Decimal) else self._text(value)

    def words_with_digits(self) -> set[int]:
        return {index for index, word in enumerate(self.words) if any(map(str.isdigit, word))}

    def by_page(self, labels: Sequence[tuple[int, str] | str]) -> tuple[tuple[str, ...], ...]:
        """Tags of each page's words in the page's own order; an entity that this order splits begins anew."""
        pages: list[dict[int, tuple[int, str] | str]] = [{} for _ in range(self.pages)]
        for (page, index), label in zip(self.order, labels, strict=True):
            pages[page][index] = label
        return tuple(iob2([page[index] for index in sorted(page)]) for page in pages)

    def matches(self, patterns: Iterable[re.Pattern[str]]) -> list[Span]:
        """The places of the first of the patterns that is found on a line, over all lines."""
        return [span for line in self._line_texts for span in line.matches(patterns)]

    def _date(self, value: date, order: DateOrder | None) -> Placement:
        spans = {each: self.matches(date_patterns(value, each)) for each in ("dmy", "mdy") if order in (None, each)}
        chosen = next((found for found in spans.values() if found), [])
        if not chosen:
            return Placement("missing")
        others = [span for found in spans.values() for span in found if span not in chosen]
        if others:
            return Placement("ambiguous", doubtful=_words([*chosen, *others]))
        return Placement("exact", tuple(chosen), self._copies(chosen))

    def _copies(self, spans: Sequence[Span]) -> frozenset[int]:
        """Words that seem to be a copy of a value, misread or joined with other text."""
        texts = {"".join(self.words[span.begin : span.end]) for span in spans}
        return frozenset(
            index for index, word in enumerate(self.words) if any(_is_copy(word, text) for text in texts)
        ) - _words(spans)

    def _amount(self, label: str, value: Decimal) -> Placement:
        forms = amount_patterns(value)
        found = self._ranked(label, forms[:1])
        how: How = "exact"
        if not found:
            found = self._ranked(label, forms[1:])
            if not self._is_plain(found):
                found = [(rank, span) for rank, span in found if rank == 2]
                how = "approximate"
        if not found:
            return Placement("missing")
        best = max(rank for rank, _ in found)
        likely = [span for rank, span in found if rank == best]
        everywhere = _words(span for _, span in found)
        if label == _TOTAL and best == 2:
            tallest = max(map(self._height, likely))
            chosen = [span for span in likely if self._height(span) * _LARGER >= tallest][-1]
            return Placement(how, (chosen,), _words(likely) - _words([chosen]))
        if len(likely) > 1 or best == 0:
            return Placement("ambiguous", doubtful=everywhere)
        return Placement(how, (likely[0],))

    def _is_plain(self, found: Sequence[tuple[int, Span]]) -> bool:
        """Whether amounts without decimals are long enough to be told from quantities."""
        return all(
            sum(map(str.isdigit, "".join(self.words[span.begin : span.end]))) >= _BARE_DIGITS for _, span in found
        )

    def _ranked(self, label: str, patterns: Sequence[re.Pattern[str]]) -> list[tuple[int, Span]]:
        found = []
        for line, text in zip(self.lines, self._line_texts, strict=True):
            for span in text.matches(patterns):
                found.append((_rank(label, self.words[line.begin : line.end]), span))
        return found

    def _height(self, span: Span) -> int:
        return max(self.heights[span.begin : span.end])

    def _text(self, value: str) -> Placement:
        target = bare(misread_digits(value))
        spans = [Span(found.begin, found.end) for found in occurrences(self._letters, target)]
        chosen, others = spans[:1], spans[1:]
        if not spans:
            near = nearby(self._letters, target)
            if not near:
                return Placement("missing")
            spans = [Span(found.begin, found.end) for found in near]
            least = min(found.edits for found in near) + _MARGIN * len(target)
            chosen = [span for span, found in zip(spans, near, strict=True) if found.edits <= least][:1]
            others = [span for span in spans if span not in chosen]
        if others and len(target) < _DISTINCT:
            return Placement("ambiguous", doubtful=_words([*chosen, *others]))
        spelled = bare("".join(self.words[chosen[0].begin : chosen[0].end]))
        return Placement("exact" if spelled == bare(value) else "approximate", tuple(chosen), _words(others))


class _LineText:
    """A printed line as a text, whose characters know their words."""

    def __init__(self, words: Sequence[str], line: Span) -> None:
        self._text = " ".join(words[line.begin : line.end])
        self._word_at = [
            index for index in range(line.begin, line.end) for _ in range(len(words[index]) + 1)
        ]  # a space belongs to the word before it

    def matches(self, patterns: Iterable[re.Pattern[str]]) -> list[Span]:
        for pattern in patterns:
            if found := list(pattern.finditer(self._text)):
                return list(dict.fromkeys(self._span(match) for match in found))
        return []

    def _span(self, match: re.Match[str]) -> Span:
        return Span(self._word_at[match.start()], self._word_at[match.end() - 1] + 1)


def _is_copy(word: str, text: str) -> bool:
    if len(word) < _COPY_CHARACTERS:
        return False
    return text in word or SequenceMatcher(None, text, word, autojunk=False).ratio() >= _LIKE_COPY


def _words(spans: Iterable[Span]) -> frozenset[int]:
    return frozenset(index for span in spans for index in range(span.begin, span.end))


def _rank(label: str, line: Sequence[str]) -> int:
    """2 for a line with the caption of an amount, 1 for one that may have it, 0 for one that seems to have another."""
    if label == _TOTAL:
        spelled = [_ALPHANUMERIC.sub(_as_total, word) for word in line]
        rank = total_rank(spelled)
        return 2 if rank < 2 and _DUE.search(" ".join(line).casefold()) else rank
    caption = _CAPTIONS.get(label, re.escape(label.replace("_", " ").casefold()))
    return 2 if re.search(caption, " ".join(line).casefold()) else 1


def _as_total(run: re.Match[str]) -> str:
    """The word TOTAL in place of one that OCR misread in a letter, such as TUTAL."""
    is_like = SequenceMatcher(None, "total", run[0].casefold(), autojunk=False).ratio() >= _LIKE_TOTAL
    return "total" if is_like else run[0]
