"""What an attempt may wait for before its trainer runs, and when it has to stop: lease, cancel, signal, spot notice."""

from collections.abc import Callable
from typing import TypeVar

from receipt_dynamo import LeaseLost
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.errors import keep_trying
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.heartbeat import Heartbeat

T = TypeVar("T")


class Stopped(UserError):
    """Somebody wants the machine or the job to stop before training has begun: the job is given back."""


class Patience:
    """Waits for a bucket that is away, as long as nobody wants the worker or the job to stop."""

    def __init__(self, place: Workplace, heartbeat: Heartbeat) -> None:
        self._place, self._heartbeat = place, heartbeat

    def do(self, action: Callable[[], T]) -> T:
        return keep_trying(action, self._gives_up, self._place.stop.wait)

    def _gives_up(self) -> bool:
        self._place.notify.alive()
        return self._place.must_go or self._heartbeat.must_stop or self._heartbeat.cancel_requested

    def check(self) -> None:
        """Asked again and again in long work. Raises LeaseLost, or Stopped."""
        if self._heartbeat.must_stop:
            raise LeaseLost("the lease could not be renewed in time, so the attempt was given up")
        if self._gives_up():
            raise Stopped("cancelled" if self._heartbeat.cancel_requested else "asked to stop")
