"""Dates as printed, in many forms."""

import re
from datetime import date, datetime
from typing import Final, Literal

from dateutil import parser

DateOrder = Literal["dmy", "mdy"]

_YEAR_FIRST = re.compile(r"(?P<year>(?:19|20)\d\d)([-/. ]?)(?P<month>\d\d?)\2(?P<day>\d\d?)(?!\d)")
_COMPACT = re.compile(r"(?<!\d)(?P<day>\d\d)(?P<month>\d\d)(?P<year>(?:19|20)\d\d)(?!\d)")
_DATE_MARKS = re.compile(r"[-/.\s'’]|[^\W\d_]{3}")
_PROBES: Final = (datetime(1904, 1, 1), datetime(1908, 2, 2))  # noqa: DTZ001  leap years: 29 February is in both


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
