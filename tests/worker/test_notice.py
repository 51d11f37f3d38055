"""Save now or rely on the last checkpoint: a pure decision from the time left and what the last save took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.worker.supervisor import SAFETY_FACTOR, LastSave, decide_on_spot_notice

seconds = st.floats(min_value=0, max_value=1e6)
saves = st.builds(LastSave, size=st.integers(0, 10**12), write_seconds=seconds, upload_seconds=seconds)
left = st.floats(min_value=-1e6, max_value=1e7)


@pytest.mark.parametrize(
    ("seconds_left", "write", "upload", "action"),
    [
        (120, 0.2, 1.0, "save"),  # 100 MB on loopback
        (120, 20.0, 50.0, "save"),
        (110, 20.0, 50.0, "save"),  # 1.5 x 70 + 5: to the second
        (109.9, 20.0, 50.0, "rely"),
        (120, 20.0, 80.0, "rely"),
        (5, 0.0, 0.0, "save"),
        (4, 0.0, 0.0, "rely"),  # giving the job back needs that long
        (-10, 0.2, 1.0, "rely"),  # a notice seen too late
    ],
)
def test_it_saves_exactly_when_a_save_with_its_reserve_fits(
    seconds_left: float, write: float, upload: float, action: str
) -> None:
    decision = decide_on_spot_notice(seconds_left, LastSave(100_000_000, write, upload))

    assert decision.action == action
    assert decision.expected_seconds == write + upload


@pytest.mark.parametrize("seconds_left", [120.0, 10.0, -1.0])
def test_it_tries_a_save_when_none_was_ever_measured_and_says_why(seconds_left: float) -> None:
    decision = decide_on_spot_notice(seconds_left, None)

    assert decision.action == "save"
    assert decision.expected_seconds is None
    assert "nothing to lose" in decision.reason


def test_the_reason_names_the_time_the_size_and_what_was_decided() -> None:
    assert decide_on_spot_notice(118, LastSave(97_300_000, 0.4, 1.4)).reason == (
        "118 s are left and a checkpoint of 97.3 MB took 1.8 s to write and upload: saving now"
    )
    assert decide_on_spot_notice(30, LastSave(97_300_000, 10, 50)).reason == (
        "30 s are left and a checkpoint of 97.3 MB took 60.0 s to write and upload, which needs 95 s with a margin: "
        "relying on the last committed checkpoint"
    )


@given(last=saves, one=left, other=left)
def test_more_time_never_turns_a_save_into_none(last: LastSave, one: float, other: float) -> None:
    less, more = sorted((one, other))

    if decide_on_spot_notice(less, last).action == "save":
        assert decide_on_spot_notice(more, last).action == "save"


@given(last=saves, seconds_left=left, release=seconds)
def test_a_save_that_is_begun_fits_with_its_reserve(last: LastSave, seconds_left: float, release: float) -> None:
    decision = decide_on_spot_notice(seconds_left, last, release)

    fits = SAFETY_FACTOR * (last.write_seconds + last.upload_seconds) + release <= seconds_left
    assert (decision.action == "save") == fits


@given(last=saves, seconds_left=left, faster=st.floats(0, 1))
def test_a_faster_save_is_never_less_welcome(last: LastSave, seconds_left: float, faster: float) -> None:
    quick = LastSave(last.size, last.write_seconds * faster, last.upload_seconds * faster)

    if decide_on_spot_notice(seconds_left, last).action == "save":
        assert decide_on_spot_notice(seconds_left, quick).action == "save"
