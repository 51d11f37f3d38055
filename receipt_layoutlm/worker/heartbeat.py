"""Renews the lease on a thread, and knows until when the job may be worked on."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from receipt_dynamo import JobQueue, Lease, LeaseLost, StoreError

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Heartbeat:
    """Renews in the rhythm of the queue's timing.

    `deadline` is monotonic, counted from the sending of the last acknowledged renewal.
    """

    def __init__(
        self,
        queue: JobQueue,
        lease: Lease,
        progress: Callable[[], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._lease = lease
        self._progress = progress
        self._monotonic = monotonic
        self.deadline = monotonic() + queue.timing.lease_seconds
        self.is_lost = False
        self.cancel_requested = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def seconds_left(self) -> float:
        """Until the lease runs out by this machine's own clock."""
        return self.deadline - self._monotonic()

    @property
    def must_stop(self) -> bool:
        """Whether the lease is gone or about to run out: nothing may be worked on any more."""
        return self.is_lost or self.seconds_left() < self._queue.timing.stop_before_seconds

    def beat(self) -> float:
        """Renew once; returns the seconds until the next try."""
        sent = self._monotonic()
        try:
            renewed = self._queue.renew(self._lease, self._progress())
        except LeaseLost:
            self.is_lost = True
            self._stopped.set()
            return RETRY_SECONDS
        except StoreError as error:  # no answer, or no right to write: the deadline decides when to give up
            log.warning("the lease could not be renewed: %s", error)
            return RETRY_SECONDS
        self.deadline = sent + self._queue.timing.lease_seconds
        self.cancel_requested = renewed.cancel_requested
        return self._queue.timing.renew_seconds

    def _run(self) -> None:
        wait = self._queue.timing.renew_seconds
        while not self._stopped.wait(wait):
            wait = self.beat()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
