"""Durations, times, counts and causes as a person says them."""

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from receipt_dynamo import JobError
from receipt_dynamo.entities import FINAL_CAUSES
from receipt_layoutlm.jobs.wording import CAUSES, ago, cause, clock, count, cut, duration, local_time
from receipt_layoutlm.run.events import FailureCause

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.04, "0 s"),
        (0.41, "0.4 s"),
        (4, "4 s"),
        (9.96, "10 s"),
        (41.2, "41 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (93600, "1 d 02 h"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_longer_never_reads_as_an_earlier_duration() -> None:
    texts = [duration(seconds / 7) for seconds in range(0, 7 * 7300, 3)]

    assert len([text for text, _ in itertools.groupby(texts)]) == len(set(texts))


def test_a_time_of_another_day_has_its_date() -> None:
    assert clock(NOON, NOON) == f"{NOON.astimezone():%H:%M:%S %Z}"
    assert clock(NOON, NOON + timedelta(days=2)) == f"{NOON.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    assert ago(NOON, NOON + timedelta(seconds=41)).endswith(" (41 s ago)")


def test_one_is_not_many() -> None:
    assert (count(1, "step"), count(0, "step"), count(2, "step")) == ("1 step", "0 steps", "2 steps")


def test_a_stored_text_becomes_one_line_that_fits_a_sentence() -> None:
    assert cut(" first line,\n  second line. ") == "first line, second line"
    assert len(cut("long " * 1000)) < 310


def test_every_cause_of_failure_has_its_words() -> None:
    assert {*get_args(FailureCause), *FINAL_CAUSES} <= set(CAUSES)
    assert cause(JobError(cause="killed", message="SIGSEGV")) == "the trainer was killed or crashed: SIGSEGV"
    assert cause(JobError(cause="odd", message="m")) == "an error (odd): m"


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """The process in the zone of the parameter."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("in_zone", "text"),
    [
        ("UTC", "2026-01-01 12:00:00 UTC"),
        ("Asia/Kathmandu", "2026-01-01 17:45:00 UTC+05:45"),
        ("America/St_Johns", "2026-01-01 08:30:00 UTC-03:30"),
        ("UTC+5", "2026-01-01 07:00:00 UTC-05:00"),  # of POSIX: a zone called UTC, five hours behind
        ("Mars/Base", "2026-01-01 12:00:00 UTC"),
    ],
    indirect=["in_zone"],
)
def test_times_carry_their_offset_whatever_the_zone_is_called(in_zone: None, text: str) -> None:
    assert local_time(NOON) == text
