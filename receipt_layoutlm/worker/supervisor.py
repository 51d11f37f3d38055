"""What to do when this machine is about to go: save now if that fits, else rely on the last committed checkpoint.

Ends a trainer that does not move, or that has used up the running time of its job.

Watches one trainer: stops it for a cancel, a signal, a spot notice, a hang or the end of its time.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from receipt_dynamo import Attempt, LeaseLost
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.process import Trainer
from receipt_layoutlm.worker.recorder import LastSave, Mirror, Recorder

SAFETY_FACTOR = 1.5  # a machine that is being taken away may write and upload slower than it did
RELEASE_SECONDS = 5.0  # to end the trainer and to give the job back


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


class Watchdog:
    """Looks at the size of events.jsonl alone: each step, evaluation and checkpoint makes it grow."""

    def __init__(
        self,
        events: Path,
        hang_timeout: float,
        runtime_left: float | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = events
        self._hang_timeout = hang_timeout
        self._monotonic = monotonic
        self._moved_at = monotonic()
        self._size = self._size_now()
        self._ends_at = float("inf") if runtime_left is None else self._moved_at + runtime_left

    def verdict(self) -> Literal["hang", "max_runtime"] | None:
        """Why the trainer has to end now; None while it may go on."""
        now, size = self._monotonic(), self._size_now()
        if size != self._size:
            self._size, self._moved_at = size, now
        if now >= self._ends_at:  # first: a hang would be tried again
            return "max_runtime"
        return "hang" if now - self._moved_at >= self._hang_timeout else None

    def _size_now(self) -> int:
        try:
            return self._events.stat().st_size
        except FileNotFoundError:
            return 0


def ran_before(attempts: Sequence[Attempt]) -> float:
    """Seconds that a job's ended attempts ran, together; a person who retries the job for its time gives it anew."""
    seconds = 0.0
    for each in attempts:
        if each.ended_at is not None:
            seconds += (each.ended_at - each.started_at).total_seconds()
        if each.outcome == "failed: max_runtime":
            seconds = 0.0
    return seconds


log = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 90.0  # for a checkpoint after SIGTERM, and its upload
END_PATIENCE_SECONDS = 900.0  # for what is left to upload when a trainer ended by itself
POLL_SECONDS = 0.2

StoppedBy = Literal["cancel", "notice", "signal", "max_runtime", "hang"]


@dataclass(frozen=True)
class Order:
    """Why an attempt has to end, and how many seconds there are for its last checkpoint and uploads."""

    by: StoppedBy
    seconds: float
    decision: Decision | None = None


@dataclass(frozen=True)
class Ended:
    """How a trainer ended. `is_stored`: everything that it said is in the table and the bucket."""

    code: int
    order: Order | None
    is_stored: bool


@dataclass(frozen=True)
class Signs:
    """All that may end an attempt before its time."""

    place: Workplace
    heartbeat: Heartbeat
    watchdog: Watchdog
    run_dir: Path

    def order(self, recorder: Recorder) -> Order | None:
        """The most pressing reason to end a running trainer, or None."""
        outside = self.outside_order(recorder)
        verdict = None if outside else self.watchdog.verdict()
        return outside or (Order(verdict, STOP_GRACE_SECONDS) if verdict else None)

    def outside_order(self, recorder: Recorder) -> Order | None:
        """The same without the watchdog: a trainer that has ended moves no more."""
        if self.heartbeat.cancel_requested:
            return Order("cancel", STOP_GRACE_SECONDS)
        left = self.place.spot.seconds_left() if self.place.spot else None
        if left is not None:
            return Order("notice", left - RELEASE_SECONDS, decide(left, recorder.last_save))
        return Order("signal", STOP_GRACE_SECONDS) if self.place.stop.is_set() else None

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the machine may soon get a notice."""
        return self.place.is_at_risk

    def look_round(self) -> None:
        """Once in each round: say that this side still moves, see to the disk."""
        self.place.notify.alive()
        if self.place.disk is not None:
            self.place.disk.while_training(self.run_dir)

    def check_lease(self) -> None:
        """Raises LeaseLost when the lease is gone or about to run out."""
        if self.heartbeat.must_stop:
            raise LeaseLost("the lease could not be renewed in time, so the trainer was stopped")


def supervise(
    trainer: Trainer, recorder: Recorder, signs: Signs, monotonic: Callable[[], float] = time.monotonic
) -> Ended:
    """Stay with a trainer to its end, and until what it said is stored. Raises LeaseLost."""
    order: Order | None = None
    ends_at = float("inf")
    asked_to_save = False
    mirror = Mirror(recorder)

    def may_go_on() -> bool:
        """Of what is left to store when the trainer has ended; who wants the machine then is heard too."""
        nonlocal order, ends_at
        signs.look_round()
        signs.check_lease()
        if order is None and (order := signs.outside_order(recorder)) is not None:
            ends_at = min(ends_at, monotonic() + order.seconds)
        return monotonic() < ends_at

    try:
        while (code := trainer.exit_code(POLL_SECONDS)) is None:
            signs.look_round()
            signs.check_lease()
            if order is None and (order := signs.order(recorder)) is not None:
                ends_at = monotonic() + order.seconds
                _carry_out(order, trainer)
            elif order is not None and monotonic() > ends_at:
                trainer.kill()
            elif order is None and recorder.has_heard and signs.wants_checkpoint and not asked_to_save:
                asked_to_save = True
                log.info("rebalance recommended: an early checkpoint")
                trainer.ask_to_save()
            mirror.check()
        if order is None:
            ends_at = monotonic() + END_PATIENCE_SECONDS
        is_stored = mirror.finish(may_go_on, POLL_SECONDS)
        return Ended(code, order, is_stored)
    finally:
        mirror.close()


def _carry_out(order: Order, trainer: Trainer) -> None:
    log.info("the trainer is ended: %s%s", order.by, f" ({order.decision.reason})" if order.decision else "")
    if order.by == "hang":
        trainer.abort()
    elif order.seconds <= 0 or (order.decision is not None and order.decision.action == "rely"):
        trainer.kill()
    else:
        trainer.ask_to_stop()
