"""The progress that a lease keeps: written as text, and read back."""

import pytest

from receipt_layoutlm.run.progress import LeaseProgress


def test_progress_is_stored_as_a_short_list_and_read_back() -> None:
    progress = LeaseProgress("train", 120, 400, 3.254)
    assert progress.text == '["train", 120, 400, 3.25]'
    assert LeaseProgress.parse(progress.text) == LeaseProgress("train", 120, 400, 3.25)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[1]", '["train", "x", 4, 1.0]', '["train", 1e999, 4, 1.0]', "[" * 99_999]
)
def test_unreadable_progress_is_no_progress(text: str) -> None:
    assert LeaseProgress.parse(text) is None
