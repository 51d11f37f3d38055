"""Polls the recorder on a thread of its own, so that a slow upload keeps nobody from watching the lease."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from receipt_dynamo import StoreUnavailable
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.s3 import StorageUnavailable

log = logging.getLogger(__name__)


class Mirror:
    """One poll after the other. What passes by itself is tried again; all else is raised by `check` or `finish`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pool = ThreadPoolExecutor(1, "mirror")
        self._running = self._pool.submit(self._poll)

    def check(self) -> None:
        """Start the next poll when the last one is done."""
        if self._running.done():
            self._running.result()
            self._running = self._pool.submit(self._poll)

    def finish(self, may_go_on: Callable[[], bool], poll_seconds: float) -> bool:
        """After the trainer's end: record what is left, as long as it may; returns whether everything is stored."""
        polls = 0  # since the trainer's end: the one that was running then may have missed the last lines
        while may_go_on():
            if wait([self._running], poll_seconds).done:
                self._running.result()
                if polls > 0 and self._recorder.is_up_to_date:
                    return True
                self._running = self._pool.submit(self._poll)
                polls += 1
        return False

    def close(self) -> None:
        """Let go of the thread: it ends with the request that is under way."""
        self._recorder.give_up()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _poll(self) -> None:
        try:
            self._recorder.poll()
        except (StorageUnavailable, StoreUnavailable) as error:
            log.warning("what the trainer says cannot be stored just now: %s", error)
