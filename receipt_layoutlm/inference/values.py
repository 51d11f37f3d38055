"""Values of fields: dates as ISO 8601, amounts as decimals with their currency."""

import re
from datetime import date, datetime
from typing import Final, Literal

from dateutil import parser
from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.amounts import read_amount

DateOrder = Literal["dmy", "mdy"]

_AMOUNT_LABEL = re.compile(r"TOTAL|AMOUNT|PRICE|TAX|DISCOUNT|CHANGE|CASH|TIP|REFUND|COUPON|FEE")
_YEAR_FIRST = re.compile(r"(?P<year>(?:19|20)\d\d)([-/. ]?)(?P<month>\d\d?)\2(?P<day>\d\d?)(?!\d)")
_COMPACT = re.compile(r"(?<!\d)(?P<day>\d\d)(?P<month>\d\d)(?P<year>(?:19|20)\d\d)(?!\d)")
_DATE_MARKS = re.compile(r"[-/.\s'’]|[^\W\d_]{3}")
_PROBES: Final = (datetime(1904, 1, 1), datetime(1908, 2, 2))  # noqa: DTZ001  leap years: 29 February is in both


class FieldValue(BaseModel):
    """What the text of a field says.

    date: `text` is YYYY-MM-DD. amount: `text` is a decimal number with a point, `currency` an ISO 4217 code, the
    printed sign where several currencies share it, or None where none is printed.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["date", "amount"]
    text: str
    currency: str | None = None

    @property
    def shown(self) -> str:
        """The value with its currency, for people."""
        return self.text if self.currency is None else f"{self.text} {self.currency}"


def read_value(label: str, text: str, order: DateOrder | None) -> FieldValue | str | None:
    """The value of a field by its label, or the reason why its text is none; None for a label without values.

    Labels with DATE in their name have dates; those of totals, prices, taxes and the like have amounts. `order` decides
    about dates like 01/02/2018; without it such a date is not read.
    """
    name = label.upper()
    if "DATE" in name:
        found = read_date(text, order)
        return found if isinstance(found, str) else FieldValue(kind="date", text=found.isoformat())
    if not _AMOUNT_LABEL.search(name):
        return None
    amount = read_amount(text)
    if amount is None:
        return f"{text!r} is no amount"
    return FieldValue(kind="amount", text=f"{amount.value:f}", currency=amount.currency)


def read_date(text: str, order: DateOrder | None) -> date | str:
    """The date in a text that may have a time and a caption beside it, or the reason why there is none."""
    for pattern in (_YEAR_FIRST, _COMPACT):
        if (match := pattern.search(text)) is not None:
            try:
                return date(int(match["year"]), int(match["month"]), int(match["day"]))
            except ValueError:
                continue
    readings = {order: _parsed(text, order) for order in (("dmy", "mdy") if order is None else (order,))}
    dates = {found for found in readings.values() if found is not None}
    if not dates:
        return f"{text!r} is no date"
    if len(dates) > 1:
        first, second = readings["dmy"], readings["mdy"]
        return f"{text!r} is {first} or {second}: say which with --date-order dmy or mdy"
    return dates.pop()


def _parsed(text: str, order: DateOrder) -> date | None:
    """The date by dateutil; None if a part of it is missing, which dateutil would take from the default."""
    if not _DATE_MARKS.search(text):
        return None
    try:
        found = {
            parser.parse(text, dayfirst=order == "dmy", fuzzy=True, default=probe, ignoretz=True).date()
            for probe in _PROBES
        }
    except (ValueError, OverflowError):
        return None
    return found.pop() if len(found) == 1 else None
