"""The report at the end of an attempt, made by a child process after the outcome is stored.

It reads table and bucket like anybody who asks for a report. Whatever happens to it, the job has its state by then, and
the worker goes on after a bounded time.
"""

import logging
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from typing import BinaryIO, Final

from receipt_dynamo import Lease
from receipt_layoutlm.redact import printable
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.supervisor import RELEASE_SECONDS

log = logging.getLogger(__name__)

HURRIED_SECONDS: Final = 15.0
"""Of a worker that was asked to stop: infra/worker@.service ends it 20 s after the time for its last checkpoint."""

LEAST_SECONDS: Final = 5.0
"""Until EC2 takes the machine: with less no report is begun."""


def make_report(ctx: WorkerContext, lease: Lease) -> None:
    """Store the report of an ended attempt beside its files. A failure is one line of the log."""
    if not ctx.report_command:
        return
    if (seconds := seconds_for(ctx)) is None:
        log.info("no report is made: EC2 takes the machine away")
        return
    command = [*ctx.report_command, lease.job_id, "--attempt", str(lease.attempt)]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=dict(ctx.environment),
                start_new_session=True,
            )
        except OSError as error:
            log.warning("no report was made: %s", error)
            return
        try:
            if code := child.wait(seconds):
                log.warning("no report was made: %s", _last_line(errors) or f"exit code {code}")
            else:
                log.info("report: %s", _last_line(output))
        except subprocess.TimeoutExpired:
            log.warning("no report was made: it took longer than %.0f s", seconds)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _last_line(file: BinaryIO) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines()
    return next((printable(line) for line in reversed(lines) if line.strip()), "")


def seconds_for(ctx: WorkerContext) -> float | None:
    """The time that a report may take; None if there is too little."""
    if ctx.host.spot is not None and (left := ctx.host.spot.seconds_left()) is not None:
        left -= RELEASE_SECONDS
        return None if left < LEAST_SECONDS else min(ctx.report_seconds, left)
    return min(ctx.report_seconds, HURRIED_SECONDS) if ctx.stop.is_set() else ctx.report_seconds
