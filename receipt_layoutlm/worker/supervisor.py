"""Supervises a trainer: stops it for a cancel, a signal, a spot notice, a hang or its maximum runtime."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from receipt_dynamo import Attempt
from receipt_layoutlm.redact import child_environment
from receipt_layoutlm.worker.attempt import AttemptContext
from receipt_layoutlm.worker.cost_limit import check_cost
from receipt_layoutlm.worker.process import OomCounter, TrainerProcess, find_cgroup, start_trainer
from receipt_layoutlm.worker.recorder import LastSave, RecorderThread

log = logging.getLogger(__name__)

SAFETY_FACTOR = 1.5  # a machine that is being taken away may write and upload slower than before
RELEASE_SECONDS = 5.0  # to end the trainer and to release the job
STOP_GRACE_SECONDS = 90.0  # for a checkpoint after SIGTERM, and its upload
END_PATIENCE_SECONDS = 900.0  # for the remaining uploads when a trainer ended by itself
POLL_SECONDS = 0.2

StopReason = Literal["cancel", "notice", "signal", "max_runtime", "cost_limit", "hang"]
STOP_TEXTS: dict[StopReason, str] = {
    "cancel": "the job was cancelled",
    "notice": "EC2 takes the machine away",
    "signal": "the worker was asked to stop",
    "max_runtime": "the job reached its --max-runtime",
    "cost_limit": "the job reached its --max-cost",
    "hang": "it makes no progress",
}


@dataclass(frozen=True)
class SpotDecision:
    """Save now or rely on the last checkpoint. `expected_seconds` is the estimate of a save without any margin."""

    action: Literal["save", "rely"]
    expected_seconds: float | None  # None: no save was measured yet
    reason: str


@dataclass(frozen=True)
class StopOrder:
    """Why an attempt has to end, and how many seconds are left for its last checkpoint and uploads."""

    by: StopReason
    seconds: float
    decision: SpotDecision | None = None


@dataclass(frozen=True)
class ExitReport:
    """How a trainer ended."""

    code: int
    order: StopOrder | None
    is_stored: bool  # every event is in the table, every checkpoint in the bucket
    oom_kills: int  # by the kernel meanwhile


def supervise(attempt: AttemptContext, monotonic: Callable[[], float] = time.monotonic) -> ExitReport:
    """Run the trainer to its end, and record until everything that it wrote is stored. Raises LeaseLost."""
    ctx, config, recorder, max_cost = attempt.ctx, attempt.config, attempt.recorder, attempt.job.max_cost
    runtime_left = paid_seconds = None
    if config.max_runtime is not None or max_cost is not None:
        attempts = attempt.patience.retry_while_leased(lambda: ctx.queue.client.list_attempts(attempt.job.job_id))
        if config.max_runtime is not None:
            runtime_left = config.max_runtime - ran_before(attempts)
        if max_cost is not None:
            paid_seconds = check_cost(max_cost, attempts, ctx.now())
    oom = OomCounter(find_cgroup())
    order: StopOrder | None = None
    ends_at = float("inf")
    has_asked_to_save = False

    def may_continue() -> bool:
        """Whether to go on storing after the trainer's end; later requests to stop count too."""
        nonlocal order, ends_at
        signals.check()
        if order is None and (order := signals.external_order()) is not None:
            ends_at = min(ends_at, monotonic() + order.seconds)
        return monotonic() < ends_at

    with (
        start_trainer(attempt.run_dir, child_environment(ctx.environment)) as trainer,
        closing(RecorderThread(recorder)) as recording,
    ):
        watchdog = Watchdog(attempt.run_dir.events, config.hang_timeout, runtime_left, paid_seconds=paid_seconds)
        signals = StopSignals(attempt, watchdog)
        while (code := trainer.exit_code(POLL_SECONDS)) is None:
            signals.check()
            if order is None and (order := signals.order()) is not None:
                ends_at = monotonic() + order.seconds
                carry_out(order, trainer)
            elif order is not None and monotonic() > ends_at:
                trainer.kill()
            elif order is None and recorder.has_events and ctx.host.is_at_risk and not has_asked_to_save:
                has_asked_to_save = True
                log.info("EC2 may soon take this machine away: saving an early checkpoint")
                trainer.ask_to_save()
            recording.check()
        if order is None:
            ends_at = monotonic() + END_PATIENCE_SECONDS
        is_stored = recording.finish(may_continue, POLL_SECONDS)
        return ExitReport(code, order, is_stored, oom.kills())


@dataclass(frozen=True)
class StopSignals:
    """Everything that may end an attempt early."""

    attempt: AttemptContext
    watchdog: "Watchdog"

    def check(self) -> None:
        """Report to the service manager, look after disk and log. Raises LeaseLost when the lease is about to end."""
        host = self.attempt.ctx.host
        host.notifier.alive()
        if host.disk is not None:
            host.disk.while_training(self.attempt.run_dir.path)
        self.attempt.recorder.train_log.bound()
        self.attempt.heartbeat.check()

    def order(self) -> StopOrder | None:
        """The most pressing reason to end a running trainer."""
        if (order := self.external_order()) is not None:
            return order
        verdict = self.watchdog.verdict()
        return None if verdict is None else StopOrder(verdict, STOP_GRACE_SECONDS)

    def external_order(self) -> StopOrder | None:
        """The same without the watchdog, for a trainer that has ended."""
        ctx = self.attempt.ctx
        if self.attempt.heartbeat.cancel_requested:
            return StopOrder("cancel", STOP_GRACE_SECONDS)
        if ctx.host.spot is not None and (left := ctx.host.spot.seconds_left()) is not None:
            decision = decide_on_spot_notice(left, self.attempt.recorder.last_save)
            return StopOrder("notice", left - RELEASE_SECONDS, decision)
        return StopOrder("signal", STOP_GRACE_SECONDS) if ctx.stop.is_set() else None


def decide_on_spot_notice(
    seconds_left: float, last: LastSave | None, release_seconds: float = RELEASE_SECONDS
) -> SpotDecision:
    """Save now, or rely on the last committed checkpoint, with `seconds_left` until the machine is taken away."""
    left = f"{seconds_left:.0f} s are left"
    if last is None:
        reason = f"{left}; no checkpoint of this attempt was measured yet, so there is nothing to lose: saving now"
        return SpotDecision("save", None, reason)
    expected = last.write_seconds + last.upload_seconds
    needed = SAFETY_FACTOR * expected + release_seconds
    took = f"a checkpoint of {last.size / 1e6:.1f} MB took {expected:.1f} s to write and upload"
    if needed <= seconds_left:
        return SpotDecision("save", expected, f"{left} and {took}: saving now")
    reason = f"{left} and {took}, which needs {needed:.0f} s with a margin: relying on the last committed checkpoint"
    return SpotDecision("rely", expected, reason)


def carry_out(order: StopOrder, trainer: TrainerProcess) -> None:
    """Abort a trainer that hangs, kill one without time for a checkpoint, ask any other to stop."""
    log.info(
        "stopping the trainer: %s%s", STOP_TEXTS[order.by], f" ({order.decision.reason})" if order.decision else ""
    )
    if order.by == "hang":
        trainer.abort()
    elif order.seconds <= 0 or (order.decision is not None and order.decision.action == "rely"):
        trainer.kill()
    else:
        trainer.ask_to_stop()


class Watchdog:
    """Ends a trainer that hangs or has used up its job's runtime, or money.

    Progress is any growth of events.jsonl: each step, evaluation and checkpoint appends to it.
    """

    def __init__(
        self,
        events: Path,
        hang_timeout: float,
        runtime_left: float | None,
        monotonic: Callable[[], float] = time.monotonic,
        paid_seconds: float | None = None,
    ) -> None:
        self._events = events
        self._hang_timeout = hang_timeout
        self._monotonic = monotonic
        self._grown_at = monotonic()
        self._size = self._current_size()
        self._ends_at = float("inf") if runtime_left is None else self._grown_at + runtime_left
        self._paid_until = float("inf") if paid_seconds is None else self._grown_at + paid_seconds

    def verdict(self) -> Literal["hang", "max_runtime", "cost_limit"] | None:
        """Why the trainer has to end now, or None."""
        now, size = self._monotonic(), self._current_size()
        if size != self._size:
            self._size, self._grown_at = size, now
        if now >= self._paid_until:
            return "cost_limit"
        if now >= self._ends_at:  # before the hang, which would be retried
            return "max_runtime"
        return "hang" if now - self._grown_at >= self._hang_timeout else None

    def _current_size(self) -> int:
        try:
            return self._events.stat().st_size
        except FileNotFoundError:
            return 0


def ran_before(attempts: Sequence[Attempt]) -> float:
    """Seconds that a job's ended attempts ran in total; counted anew after an attempt that reached the maximum."""
    seconds = 0.0
    for attempt in attempts:
        if attempt.ended_at is not None:
            seconds += (attempt.ended_at - attempt.started_at).total_seconds()
        if attempt.outcome == "failed: max_runtime":
            seconds = 0.0
    return seconds
