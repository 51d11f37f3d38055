"""Progress of an attempt, as its lease and its row keep it: a short JSON list."""

import json
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class LeaseProgress:
    """Position of a trainer at the last renewal of its lease. `fleet status --json` shows these field names."""

    phase: str
    step: int
    total: int
    epoch: float

    @property
    def text(self) -> str:
        return json.dumps([self.phase, self.step, self.total, round(self.epoch, 2)])

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The progress in a lease or an attempt; None when there is none or it is unreadable."""
        try:
            phase, step, total, epoch = json.loads(text)
            progress = cls(str(phase), int(step), int(total), float(epoch))
            return progress if max(abs(progress.step), abs(progress.total)) < 2**53 else None  # as a float is exact
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None
