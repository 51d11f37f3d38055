"""The end of an attempt that broke off by an error of this side, before or beside its trainer."""

import logging
from collections.abc import Callable

from receipt_dynamo import AttemptEnd, JobError, JobStatus, JsonObject, Lease, StoreError
from receipt_layoutlm.redact import redacted
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.patience import Patience
from receipt_layoutlm.worker.recorder import Recorder
from receipt_layoutlm.worker.rows import JobRows

log = logging.getLogger(__name__)


class Ending:
    """Stores how an attempt broke off, with run_summary and the steps that it reached by then.

    `recorder` is set once the attempt has one; before that nothing was trained.
    """

    def __init__(self, ctx: WorkerContext, lease: Lease, patience: Patience) -> None:
        self.recorder: Recorder | None = None
        self.patience = patience
        self._ctx, self._lease = ctx, lease

    def fail(self, cause: str, text: str) -> JobStatus | None:
        """The new status, or None when the table refuses it: then the lease expires and the job is rescued."""
        error, numbers = JobError(cause=cause, message=redacted(text, self._ctx.secrets)), self._numbers()
        log.error("attempt %d failed: %s", self._lease.attempt, error.message)

        def end() -> JobStatus:
            summary = self._rows().last_row("error", "run_summary", *failed_summary(error, numbers))
            return self._ctx.queue.fail(self._lease, error, summary=summary, end=numbers)

        return self._stored(end)

    def release(self, reason: str) -> JobStatus | None:
        numbers = self._numbers()
        return self._stored(lambda: self._ctx.queue.release(self._lease, reason, end=numbers))

    def _numbers(self) -> AttemptEnd:
        if self.recorder is not None:
            return self.recorder.attempt_end()
        resume_step = self._lease.checkpoint.global_step if self._lease.checkpoint else 0
        return AttemptEnd(last_step=resume_step, lost_steps=0, checkpoints=0)

    def _rows(self) -> JobRows:
        if self.recorder is not None:
            return self.recorder.rows
        ctx = self._ctx
        return JobRows(ctx.queue.client, self._lease, ctx.now, ctx.secrets, "", lambda document, _name: document)

    def _stored(self, transition: Callable[[], JobStatus]) -> JobStatus | None:
        try:
            return self.patience.retry_while_leased(transition)
        except StoreError as refusal:
            log.error("the end of the attempt could not be stored: %s", refusal)
            return None


def failed_summary(error: JobError, numbers: AttemptEnd) -> tuple[str, JsonObject]:
    """Message and data of run_summary for a failed attempt."""
    data: JsonObject = {"cause": error.cause, "last_step": numbers.last_step, "lost_steps": numbers.lost_steps}
    return f"failed: {error.message}", data
