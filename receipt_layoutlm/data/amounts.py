"""Amounts of money as printed: number and currency."""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_CODES = "rm|myr|usd|eur|gbp|chf|cad|aud|nzd|sgd|idr|rp|inr|rs|thb|php|vnd|krw|jpy|cny|hkd|twd|brl|mxn"
_CURRENCY = rf"(?:{_CODES}|[a-z]{{0,2}}[$]|[€£¥₹₩₫฿₱])"  # not any letters: AB1234 is a code
_AMOUNT = re.compile(rf"-?(?:(?P<before>{_CURRENCY})\.?)?-?(?P<number>\d+(?:[.,]\d+)*)-?(?P<after>{_CURRENCY})?")
_COMMA_DECIMALS = re.compile(r"(?:\d+|\d{1,3}(?:\.\d{3})+),\d{1,2}|\d{1,3}(?:\.\d{3}){2,}")
_POINT_DECIMALS = re.compile(r"(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?")
AROUND: Final = " .,:;"
"""Marks at the ends of a value that are no part of it."""

_ISO = {
    "rm": "MYR", "rp": "IDR", "€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₫": "VND", "฿": "THB", "₱": "PHP",
    "us$": "USD", "s$": "SGD", "a$": "AUD", "au$": "AUD", "nz$": "NZD", "hk$": "HKD", "nt$": "TWD", "c$": "CAD",
    "ca$": "CAD", "r$": "BRL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MoneyAmount:
    """`currency` is an ISO 4217 code, a printed sign that several currencies share ($, ¥, RS), or None."""

    value: Decimal
    currency: str | None


def read_amount(text: str) -> MoneyAmount | None:
    """The amount that a text consists of, with or without a currency (a sign or a common code); None for other texts.

    `RM 1,234.50`, `1.234,50` and `$1234.5` have one value. A comma before one or two last digits is a decimal comma,
    before three a separator; a single point is a decimal point. A minus may stand on either side of the number.
    """
    compact = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    match = _AMOUNT.fullmatch(compact.strip(AROUND))
    if match is None:
        return None
    number = match["number"]
    if _COMMA_DECIMALS.fullmatch(number):
        number = number.replace(".", "").replace(",", ".")
    if not _POINT_DECIMALS.fullmatch(number):
        return None
    value = Decimal(number.replace(",", ""))
    printed = match["before"] or match["after"]
    currency = None if printed is None else _ISO.get(printed, printed.upper())
    return MoneyAmount(-value if "-" in compact else value, currency)
