"""Progress of an attempt, as its lease and its row keep it: a short JSON list."""

import json
import math
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Self

from receipt_layoutlm.run.events import Progress

MOST_SECONDS = 1e12  # some 30,000 years: a longer estimate is none


@dataclass(frozen=True)
class LeaseProgress:
    """Position of a trainer at the last renewal of its lease. `fleet status --json` shows these field names.

    The fields with a default are unknown in rows of earlier versions.
    """

    phase: str
    step: int
    total: int
    epoch: float
    left_seconds: float | None = None  # until all steps are done, by this attempt's rate; early stopping ends it before
    train_loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None  # share of the GPU's dense peak
    gpu_memory: float | None = None  # bytes

    @property
    def percent(self) -> int | None:
        """Steps done of the steps planned, rounded down, so that 100 means all; None without a plan."""
        return min(100, max(0, 100 * self.step // self.total)) if self.total > 0 else None

    @property
    def text(self) -> str:
        phase, step, total, epoch, *figures = astuple(self)
        short = [each if each is None else _figure(float(f"{each:.4g}")) for each in figures]
        while short and short[-1] is None:
            short.pop()
        return json.dumps([phase, step, total, round(epoch, 2), *short])

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The progress in a lease or an attempt; None when there is none or it is unreadable."""
        try:
            phase, step, total, epoch, *figures = json.loads(text)
            known = [_figure(each) for each in figures[:5]]  # a newer version may have written more
            progress = cls(str(phase), int(step), int(total), float(epoch), *known)
            return progress if max(abs(progress.step), abs(progress.total)) < 2**53 else None  # as a float is exact
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None


def _figure(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    figure = float(value) if is_number else math.nan  # type: ignore[arg-type]
    return figure if math.isfinite(figure) else None


class Pace:
    """Estimates the time that the remaining steps take, by the steps of this attempt with their evaluations."""

    def __init__(self) -> None:
        self._start: tuple[int, datetime] | None = None

    def progress(self, event: Progress) -> LeaseProgress:
        left: float | None = None
        if event.phase != "encode":
            if self._start is None:
                self._start = event.global_step, event.time
            steps, seconds = event.global_step - self._start[0], (event.time - self._start[1]).total_seconds()
            if steps > 0 and seconds > 0:
                left = max(0, event.total_steps - event.global_step) * seconds / steps
        return LeaseProgress(
            event.phase,
            event.global_step,
            event.total_steps,
            event.epoch,
            left if left is None or left < MOST_SECONDS else None,
            event.train_loss,
            event.tokens_per_second,
            event.mfu,
            event.gpu_memory,
        )
