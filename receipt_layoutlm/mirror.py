"""Polls the recorder on a thread of its own, so that a slow upload keeps nobody from watching the lease."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone

from receipt_dynamo import WriteTimeout
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
        while may_go_on():
            if self._is_over(poll_seconds):
                self._running = self._pool.submit(self._poll)  # the one before may have missed the last lines
                break
        while may_go_on():
            if self._is_over(poll_seconds):
                if self._recorder.is_up_to_date:
                    return True
                self._running = self._pool.submit(self._poll)
        return False

    def close(self) -> None:
        """Let go of the thread; an upload that hangs ends with the process."""
        self._recorder.give_up()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _poll(self) -> None:
        try:
            self._recorder.poll()
        except (StorageUnavailable, WriteTimeout) as error:
            log.warning("what the trainer says cannot be stored just now: %s", error)

    def _is_over(self, wait_seconds: float) -> bool:
        try:
            self._running.result(wait_seconds)
        except NotDone:
            return False
        return True
