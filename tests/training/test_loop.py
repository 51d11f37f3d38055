"""What was freed in pieces goes back to the system when it is asked for."""

import sys
from pathlib import Path

import pytest

from receipt_layoutlm.training.loop import trim_heap


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can")
def test_holes_between_blocks_in_use_are_given_back() -> None:
    blocks = [bytearray(100_000) for _ in range(2000)]  # below the size that malloc maps apart
    kept = blocks[::2]
    blocks = kept
    before = resident_bytes()
    assert trim_heap()
    assert resident_bytes() < before - 60_000_000
    assert len(kept) == 1000
