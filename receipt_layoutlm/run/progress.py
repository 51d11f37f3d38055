"""Progress of an attempt as its lease holds it."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """Where a trainer was when its worker last renewed the lease."""

    phase: str
    step: int
    total: int
    epoch: float


def parse_progress(text: str) -> Position | None:
    """The progress that a lease or a rescued attempt holds; None when there is none or it cannot be read."""
    try:
        phase, step, total, epoch = json.loads(text)
        return Position(str(phase), int(step), int(total), float(epoch))
    except (ValueError, TypeError, OverflowError):
        return None
