"""The progress that a lease keeps: written as text, and read back."""

from datetime import timedelta

import pytest

from receipt_dynamo.queue import PROGRESS_BYTES
from receipt_layoutlm.run.events import Progress
from receipt_layoutlm.run.progress import LeaseProgress, Pace


def test_progress_is_stored_as_a_short_list_and_read_back() -> None:
    progress = LeaseProgress("train", 120, 400, 3.254)
    assert progress.text == '["train", 120, 400, 3.25]'
    assert LeaseProgress.parse(progress.text) == LeaseProgress("train", 120, 400, 3.25)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[1]", '["train", "x", 4, 1.0]', '["train", 1e999, 4, 1.0]', "[" * 99_999]
)
def test_unreadable_progress_is_no_progress(text: str) -> None:
    assert LeaseProgress.parse(text) is None


def test_the_time_left_follows_from_the_steps_of_this_attempt_with_their_evaluations() -> None:
    pace, first = Pace(), step(100)
    at_first, later = pace.progress(first), pace.progress(step(160, first, seconds=120))
    assert (at_first.percent, at_first.left_seconds) == (25, None)
    assert (later.percent, later.left_seconds) == (40, 480.0)


def test_no_time_is_left_out_of_a_clock_that_was_set_back() -> None:
    pace, first = Pace(), step(100)
    pace.progress(first)
    assert pace.progress(step(160, first, seconds=-30)).left_seconds is None


def test_figures_of_a_trainer_are_kept_in_four_digits_within_the_room_of_a_lease() -> None:
    progress = LeaseProgress("checkpoint", 2**53 - 1, 2**53 - 1, 1e6 + 0.123, 999999.9, 1.23456, 1e5 / 3, 0.4142, 8e10)
    assert len(progress.text.encode()) <= PROGRESS_BYTES
    stored = LeaseProgress.parse(progress.text)
    assert stored is not None
    assert (stored.train_loss, stored.tokens_per_second, stored.gpu_memory) == (1.235, 33330.0, 8e10)


def test_a_share_is_rounded_down_and_stays_within_its_bounds() -> None:
    assert [LeaseProgress("train", done, 200, 1.0).percent for done in (199, 200, 201, -1)] == [99, 100, 100, 0]
    assert LeaseProgress("encode", 0, 0, 0.0).percent is None


def test_a_figure_that_is_no_number_is_unknown_and_those_of_a_newer_version_are_passed_over() -> None:
    progress = LeaseProgress.parse('["train", 1, 4, 0.5, "soon", NaN, true, 0.5, null, {}, 7]')
    assert progress == LeaseProgress("train", 1, 4, 0.5, mfu=0.5)


def step(number: int, after: Progress | None = None, seconds: float = 0.0) -> Progress:
    event = Progress(phase="train", global_step=number, total_steps=400, epoch=number / 100)
    return event if after is None else event.model_copy(update={"time": after.time + timedelta(seconds=seconds)})
