"""A trainer that does not move is seen, one that has used up its time too, and one that works is left alone."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receipt_dynamo import Attempt
from receipt_layoutlm.worker.supervisor import Watchdog, ran_before
from tests.support.stores import Clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(events: Path, text: str = "{}\n") -> None:
    with events.open("a") as file:
        file.write(text)


def test_a_trainer_that_never_says_anything_hangs(events: Path, clock: Clock) -> None:
    watchdog = Watchdog(events, 900, None, clock.monotonic)

    clock.pass_seconds(899)
    assert watchdog.verdict() is None

    clock.pass_seconds(1)
    assert watchdog.verdict() == "hang"


def test_each_event_starts_the_count_anew(events: Path, clock: Clock) -> None:
    watchdog = Watchdog(events, 900, None, clock.monotonic)
    for _ in range(5):
        clock.pass_seconds(890)
        write(events)
        assert watchdog.verdict() is None

    clock.pass_seconds(901)

    assert watchdog.verdict() == "hang"


def test_what_an_earlier_attempt_left_in_the_file_is_no_movement(events: Path, clock: Clock) -> None:
    write(events)
    watchdog = Watchdog(events, 900, None, clock.monotonic)

    clock.pass_seconds(900)

    assert watchdog.verdict() == "hang"


def test_a_torn_line_is_movement_too(events: Path, clock: Clock) -> None:
    watchdog = Watchdog(events, 900, None, clock.monotonic)
    clock.pass_seconds(900)
    write(events, '{"kind": "evalua')

    assert watchdog.verdict() is None


def test_a_trainer_that_moves_ends_when_its_time_is_used_up(events: Path, clock: Clock) -> None:
    watchdog = Watchdog(events, 900, 100, clock.monotonic)
    write(events)
    clock.pass_seconds(99)
    assert watchdog.verdict() is None

    write(events)
    clock.pass_seconds(1)

    assert watchdog.verdict() == "max_runtime"


def test_a_hang_at_the_very_end_counts_as_the_end(events: Path, clock: Clock) -> None:
    watchdog = Watchdog(events, 100, 100, clock.monotonic)

    clock.pass_seconds(100)

    assert watchdog.verdict() == "max_runtime"


def test_an_attempt_that_starts_with_no_time_left_ends_at_once(events: Path, clock: Clock) -> None:
    assert Watchdog(events, 900, -5, clock.monotonic).verdict() == "max_runtime"


def attempt(number: int, seconds: float | None) -> Attempt:
    ended_at = None if seconds is None else NOON + timedelta(seconds=seconds)
    return Attempt(
        job_id="00000000-0000-4000-8000-000000000000",
        attempt=number,
        worker_id="worker-1",
        started_at=NOON,
        ended_at=ended_at,
    )


def test_the_running_time_before_is_that_of_the_ended_attempts() -> None:
    assert ran_before([]) == 0
    assert ran_before([attempt(1, 60.5), attempt(2, 30), attempt(3, None)]) == 90.5
