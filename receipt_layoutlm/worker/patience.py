"""Waits of one attempt for a bucket or a table that is away, bounded by its lease and by requests to stop."""

import time
from collections.abc import Callable
from typing import TypeVar

from receipt_dynamo import StoreUnavailable
from receipt_dynamo.retries import RetryPolicy
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.errors import StorageUnavailable, keep_trying
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.heartbeat import Heartbeat

T = TypeVar("T")

TABLE_AWAY = RetryPolicy(first=1.0, longest=1.0)  # short: meanwhile the lease runs down


class Stopped(UserError):
    """The worker or the job has to stop before training has begun: the job is released."""


class Patience:
    """Retries of one attempt. Which errors pass, and when to give up, depends on whether the lease is at stake."""

    def __init__(self, ctx: WorkerContext, heartbeat: Heartbeat) -> None:
        self._ctx, self._heartbeat = ctx, heartbeat

    def retry_until_stopped(self, action: Callable[[], T], seconds: float = float("inf")) -> T:
        """Repeat an action while the bucket or the table is unavailable, for at most `seconds`.

        Ends as soon as the worker or the job has to stop.
        """
        until = time.monotonic() + seconds
        return keep_trying(
            action,
            lambda: self._has_to_stop() or time.monotonic() > until,
            self._ctx.stop.wait,
            passing=(StorageUnavailable, StoreUnavailable),
        )

    def retry_while_leased(self, action: Callable[[], T]) -> T:
        """Repeat an action while the table is unavailable, for as long as the lease lasts.

        A request to stop does not end this: what an attempt stores at its end takes seconds, and saves a rescue.
        """

        def give_up() -> bool:
            self._ctx.host.notifier.alive()
            return self._heartbeat.must_stop

        return keep_trying(action, give_up, time.sleep, passing=StoreUnavailable, policy=TABLE_AWAY)

    def check(self) -> None:
        """Raise LeaseLost or Stopped when the attempt has to end; long work calls it between its steps."""
        self._heartbeat.check()
        if self._has_to_stop():
            raise Stopped("cancelled" if self._heartbeat.cancel_requested else "asked to stop")

    def _has_to_stop(self) -> bool:
        self._ctx.host.notifier.alive()
        return self._ctx.must_stop or self._heartbeat.must_stop or self._heartbeat.cancel_requested
