"""Times as options take them: an age, a date, or a date with a time of day."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from receipt_dynamo.entities import FIRST_TIME, as_utc
from receipt_layoutlm.errors import UserError

_DAYS: Final = {"h": 1 / 24, "d": 1, "w": 7}
_MINUTE: Final = 1 / 1440  # of a day
_DIGITS: Final = 4  # of an age: of weeks 192 years
Since = datetime | timedelta


class BadAge(UserError):
    """A malformed age."""


def age_of(text: str) -> timedelta:
    """Parse an age such as 12h, 30d or 2w; raises BadAge."""
    number, unit = text[:-1], text[-1:]
    if unit not in _DAYS or not number.isdecimal():
        raise BadAge(f"{text[:40]!r} is not an age: write a number and h, d or w, such as 30d")
    if len(number) > _DIGITS:
        raise BadAge(f"an age of {len(number)} digits is older than everything: use at most {_DIGITS}")
    return timedelta(days=int(number) * _DAYS[unit])


class SinceOption(click.ParamType[Any]):
    """An age such as 12h, which is a timedelta, or an aware time; without a zone it is this machine's."""

    name = "AGE|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        number, days = value[:-1], {"m": _MINUTE, **_DAYS}.get(value[-1:])
        try:
            if days is not None and number.isascii() and number.isdigit():
                return timedelta(days=int(number) * days)
            return as_utc(datetime.fromisoformat(value).astimezone(UTC))
        except (ValueError, OverflowError, OSError):
            text = "an age such as 30m, 12h, 7d or 2w, nor a time such as 2026-12-01 or 2026-12-01T22:00Z"
            self.fail(f"{value[:40]!r} is neither {text}", param, ctx)


def moment(since: Since | None, now: datetime) -> datetime | None:
    """The time that an age, before now, or a time stands for; never before the first time that is stored."""
    return now - min(since, now - FIRST_TIME) if isinstance(since, timedelta) else since
