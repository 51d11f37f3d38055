"""Watches one trainer: stops it for a cancel, a signal, a spot notice, a hang or the end of its time."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from receipt_dynamo import LeaseLost
from receipt_layoutlm.child import Trainer
from receipt_layoutlm.heartbeat import Heartbeat
from receipt_layoutlm.mirror import Mirror
from receipt_layoutlm.notice import RELEASE_SECONDS, Decision, decide
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.spot import SpotWatch
from receipt_layoutlm.watchdog import Watchdog

log = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 90.0  # for a checkpoint after SIGTERM, and its upload
END_PATIENCE_SECONDS = 900.0  # for what is left to upload when a trainer ended by itself
POLL_SECONDS = 0.2

StoppedBy = Literal["cancel", "notice", "signal", "max_runtime", "hang"]


@dataclass(frozen=True)
class Order:
    """Why a trainer has to end, and how many seconds it and its uploads get (0: none, it is killed)."""

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
    """All that may end a trainer before its time."""

    stop: threading.Event
    spot: SpotWatch | None
    heartbeat: Heartbeat
    watchdog: Watchdog

    def order(self, recorder: Recorder) -> Order | None:
        """The most pressing reason to end now, or None."""
        if self.heartbeat.cancel_requested:
            return Order("cancel", STOP_GRACE_SECONDS)
        left = self.spot.seconds_left() if self.spot else None
        if left is not None:
            decision = decide(left, recorder.last_save)
            return Order("notice", left - RELEASE_SECONDS if decision.action == "save" else 0, decision)
        if self.stop.is_set():
            return Order("signal", STOP_GRACE_SECONDS)
        verdict = self.watchdog.verdict()
        if verdict is None:
            return None
        return Order(verdict, STOP_GRACE_SECONDS if verdict == "max_runtime" else 0)

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the machine may soon get a notice."""
        return self.spot is not None and self.spot.rebalance_recommended

    def check_lease(self) -> None:
        """Raises LeaseLost when the lease is gone or about to run out."""
        if self.heartbeat.must_stop:
            raise LeaseLost("the lease could not be renewed in time, so the trainer was stopped")


def supervise(
    trainer: Trainer, recorder: Recorder, signs: Signs, monotonic: Callable[[], float] = time.monotonic
) -> Ended:
    """Stay with a trainer to its end while a thread mirrors what it says. Raises LeaseLost."""
    order: Order | None = None
    ends_at = float("inf")
    asked_to_save = False
    mirror = Mirror(recorder)
    try:
        while (code := trainer.exit_code(POLL_SECONDS)) is None:
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

        until = monotonic() + END_PATIENCE_SECONDS if order is None else ends_at

        def may_go_on() -> bool:
            signs.check_lease()
            return monotonic() < until

        return Ended(code, order, mirror.finish(may_go_on, POLL_SECONDS))
    finally:
        mirror.close()


def _carry_out(order: Order, trainer: Trainer) -> None:
    log.info("the trainer is ended: %s%s", order.by, f" ({order.decision.reason})" if order.decision else "")
    if order.by == "hang":
        trainer.abort()
    elif order.seconds <= 0:
        trainer.kill()
    else:
        trainer.ask_to_stop()
