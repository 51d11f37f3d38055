"""What to do when this machine is about to go: save now if that fits, else rely on the last committed checkpoint."""

from dataclasses import dataclass
from typing import Literal

SAFETY_FACTOR = 1.5  # a machine that is being taken away may write and upload slower than it did
RELEASE_SECONDS = 5.0  # to end the trainer and to give the job back


@dataclass(frozen=True)
class LastSave:
    """What the last committed checkpoint took."""

    size: int  # bytes
    write_seconds: float
    upload_seconds: float


@dataclass(frozen=True)
class Decision:
    """`expected_seconds` is what a save should take, without any reserve; None when none was ever measured."""

    action: Literal["save", "rely"]
    expected_seconds: float | None
    reason: str


def decide(seconds_left: float, last: LastSave | None, release_seconds: float = RELEASE_SECONDS) -> Decision:
    """Save now, or rely on the last committed checkpoint, with `seconds_left` until the machine goes."""
    left = f"{seconds_left:.0f} s are left"
    if last is None:
        reason = f"{left}; no checkpoint of this attempt was ever measured, so there is nothing to lose: saving now"
        return Decision("save", None, reason)
    expected = last.write_seconds + last.upload_seconds
    needed = SAFETY_FACTOR * expected + release_seconds
    took = f"a checkpoint of {last.size / 1e6:.1f} MB took {expected:.1f} s to write and upload"
    if needed <= seconds_left:
        return Decision("save", expected, f"{left} and {took}: saving now")
    reason = f"{left} and {took}, which needs {needed:.0f} s with a reserve: relying on the last committed checkpoint"
    return Decision("rely", expected, reason)
