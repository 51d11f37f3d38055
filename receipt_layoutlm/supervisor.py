"""Watches one trainer: stops it for a cancel, a signal, a spot notice, a hang or the end of its time."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from receipt_dynamo import LeaseLost
from receipt_layoutlm.child import Trainer
from receipt_layoutlm.heartbeat import Heartbeat
from receipt_layoutlm.mirror import Mirror
from receipt_layoutlm.notice import RELEASE_SECONDS, Decision, decide
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.watchdog import Watchdog
from receipt_layoutlm.workplace import Workplace

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
