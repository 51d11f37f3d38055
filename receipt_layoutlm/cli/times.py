"""Times as options take them: an age, a date, or a date with a time of day."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from receipt_dynamo.entities import FIRST_TIME, as_utc

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Since = datetime | timedelta


class SinceOption(click.ParamType[Any]):
    """An age such as 12h, which is a timedelta, or an aware time; without a zone it is this machine's."""

    name = "AGE|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        number, unit = value[:-1], _UNITS.get(value[-1:])
        try:
            if unit is not None and number.isascii() and number.isdigit():
                return timedelta(**{unit: int(number)})
            return as_utc(datetime.fromisoformat(value).astimezone(UTC))
        except (ValueError, OverflowError, OSError):
            text = "an age such as 30m, 12h, 7d or 2w, nor a time such as 2026-12-01 or 2026-12-01T22:00Z"
            self.fail(f"{value[:40]!r} is neither {text}", param, ctx)


def moment(since: Since | None, now: datetime) -> datetime | None:
    """The time that an age, before now, or a time stands for; never before the first time that is stored."""
    return now - min(since, now - FIRST_TIME) if isinstance(since, timedelta) else since
