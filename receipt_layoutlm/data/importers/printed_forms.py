"""Patterns of dates and amounts as receipts print them and as OCR misreads them."""

import functools
import re
from datetime import date
from decimal import Decimal
from typing import Final

from receipt_layoutlm.data.dates import DateOrder

_MISREAD: Final = {
    "0": "0OoQDU", "1": "1lI|i", "2": "2Zz", "5": "5Ss", "6": "6bG", "8": "8B", "9": "9gq",
}  # fmt: skip
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_SHORT_MONTH = 3  # letters
_BETWEEN = r" ?(?:[-/.,'’·_~]| ) ?"
"""Of day, month and year. A slash is also read as 1, l, I, | or 7, but only two digits each are then told apart."""

_BETWEEN_MISREAD = r" ?[-/.,'’·_~:|\\1Il7]? ?"
_BEGIN = r"(?<![0-9])(?<![0-9][-/.])"
_END = r"(?![0-9])(?![-/][0-9])"
_TIME = r"(?=[-/T]?(?:[0-9]{1,2}[:.][0-9]{2}|[0-9]{6}(?![0-9])))"  # may follow without a space


def _digits(text: str) -> str:
    return "".join(f"[{_MISREAD[digit]}]" if digit in _MISREAD else digit for digit in text)


def _padded(number: int) -> str:
    """A number of one or two digits, which may have a leading zero."""
    return f"{_digits('0')}?{_digits(str(number))}" if number < 10 else _digits(str(number))


@functools.lru_cache(maxsize=4096)
def date_patterns(value: date, order: DateOrder) -> tuple[re.Pattern[str], ...]:
    """Forms of a date, the surest first: year first, month by name, by number in this order, without separators."""
    day, month = _padded(value.day), _padded(value.month)
    year = f"{value.year:04d}"
    any_year = f"(?:{_digits(year)}|'?{_digits(year[2:])})"
    name = _MONTHS[value.month - 1]
    named = f"(?i:{name}|{name[:_SHORT_MONTH]}\\.?{'|sept' if value.month == 9 else ''})"
    two_day, two_month = _digits(f"{value.day:02d}"), _digits(f"{value.month:02d}")
    first, second = (day, month) if order == "dmy" else (month, day)
    two_first, two_second = (two_day, two_month) if order == "dmy" else (two_month, two_day)
    maybe = f"(?:{_BETWEEN})?"
    ends = f"(?:{_END}|{_TIME})"
    forms = (
        f"{_BEGIN}{_digits(year)}{_BETWEEN}{month}{_BETWEEN}{day}{ends}",
        f"{_BEGIN}{_digits(year)}{two_month}{two_day}{ends}",
        f"{_BEGIN}{day}(?:st|nd|rd|th)?{maybe}{named}{maybe}{any_year}{ends}",
        f"{named}{maybe}{day}(?:st|nd|rd|th)?{_BETWEEN}{any_year}{ends}",
        f"{_BEGIN}{first}{_BETWEEN}{second}{_BETWEEN}{any_year}{ends}",
        f"{_BEGIN}{two_first}{_BETWEEN_MISREAD}{two_second}{_BETWEEN_MISREAD}{_digits(year)}{ends}",
    )
    return tuple(map(re.compile, forms))


@functools.lru_cache(maxsize=4096)
def amount_patterns(value: Decimal) -> tuple[re.Pattern[str], ...]:
    """Forms of an amount: with its decimals; a whole one without any; with the decimal point unread."""
    sign, number = ("-", -value) if value < 0 else ("", value)
    whole, _, decimals = f"{number:f}".partition(".")
    decimals = decimals.rstrip("0").ljust(2, "0")
    grouped = _digits_grouped(whole)
    before = rf"(?<![0-9])(?<![0-9][.,]){sign or '(?<!-)'}"
    after = r"(?![0-9])(?![.,][0-9])(?! ?%)"
    point = r" ?[.,-] ?"
    exact = f"{before}{grouped}{point}{_digits(decimals)}{after}"
    bare = f"{before}{grouped}(?:[.,]-)?{after}" if decimals == "00" else None
    unread = f"{before}{grouped} ?{_digits(decimals)}{after}"
    return tuple(re.compile(form) for form in (exact, bare, unread) if form)


def _digits_grouped(whole: str) -> str:
    """Digits before the decimal point, with or without separators of thousands."""
    first = len(whole) % 3 or 3
    groups = [whole[:first], *(whole[at : at + 3] for at in range(first, len(whole), 3))]
    return r" ?[,.' ]? ?".join(map(_digits, groups))
