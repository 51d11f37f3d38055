"""Renews the lease on a thread and tracks the deadline until which its job may be worked on."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

from receipt_dynamo import JobQueue, Lease, LeaseLost, StoreError

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Heartbeat:
    """Renews at the interval of the queue's timing, with the newest `progress`.

    `deadline` is monotonic and counts from the sending of the last acknowledged renewal, at first from that of the
    claim.
    """

    def __init__(self, queue: JobQueue, lease: Lease, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._lease = lease
        self._monotonic = monotonic
        self.progress = ""
        self.deadline = monotonic() + self._left_of_claim()
        self.is_lost = False
        self.cancel_requested = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def _left_of_claim(self) -> float:
        """The claim dated the lease's end when it was sent; its reply may have come long after."""
        longest, ends = self._queue.timing.lease_seconds, self._lease.expires_at
        return longest if ends is None else min(longest, (ends - self._queue.now()).total_seconds())

    def seconds_left(self) -> float:
        """Until the lease expires, by this machine's monotonic clock."""
        return self.deadline - self._monotonic()

    @property
    def must_stop(self) -> bool:
        """Whether the lease is lost or about to expire, so that work on the job has to stop."""
        return self.is_lost or self.seconds_left() < self._queue.timing.stop_before_seconds

    def check(self) -> None:
        """Raise LeaseLost when the lease is lost or about to expire."""
        if self.must_stop:
            raise LeaseLost("the lease could not be renewed in time, so the attempt was given up")

    def beat(self) -> float:
        """Renew once; returns the seconds until the next renewal.

        A failed renewal is not retried here but at the next beat: the deadline alone decides when to give up.
        """
        sent = self._monotonic()
        try:
            renewed = self._queue.renew(self._lease, self.progress)
        except LeaseLost:
            self.is_lost = True
            self._stopped.set()
            return RETRY_SECONDS
        except StoreError as error:  # no answer, or no right to write
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

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
