"""Records how an attempt ended, by the trainer's last event, the order to stop, or how the process died."""

import logging
import shutil

from receipt_dynamo import JobError, JobStatus, JsonObject
from receipt_layoutlm.redact import redacted
from receipt_layoutlm.run.directory import full_disk
from receipt_layoutlm.run.events import FINISH_TEXTS, Failed, Finished
from receipt_layoutlm.storage.expiry import mark_checkpoints
from receipt_layoutlm.worker.attempt import AttemptContext
from receipt_layoutlm.worker.cost_limit import reached
from receipt_layoutlm.worker.ending import failed_summary
from receipt_layoutlm.worker.process import classify_crash, tail
from receipt_layoutlm.worker.publish import publish_results
from receipt_layoutlm.worker.supervisor import END_PATIENCE_SECONDS, ExitReport

log = logging.getLogger(__name__)

FULL_DISK_BYTES = 16 << 20
SEARCHED_LOG_LINES = 200  # for the cause of a crash, which the stacks of every thread may follow


def finish(attempt: AttemptContext, report: ExitReport) -> JobStatus:
    """Complete, cancel, release or fail the job. The trainer's last event decides, whatever its exit code."""
    recorder, queue = attempt.recorder, attempt.ctx.queue
    end, by = recorder.end, report.order.by if report.order else None
    is_leaving = by in ("notice", "signal")
    if not is_leaving or report.is_stored:
        recorder.finish_files()
    if isinstance(end, Finished) and end.reason != "stop_requested" and report.is_stored:
        return _complete(attempt, end)
    lease, numbers = recorder.lease, recorder.attempt_end()
    if attempt.heartbeat.cancel_requested:
        return attempt.patience.retry_while_leased(lambda: queue.acknowledge_cancel(lease, end=numbers))
    if is_leaving and not isinstance(end, Failed):
        reason = "asked to stop"
        if report.order is not None and (decision := report.order.decision) is not None:
            reason = f"spot notice, {numbers.lost_steps} steps lost"
            text = f"spot notice: {decision.reason}; {numbers.lost_steps} steps lost"
            data: JsonObject = {
                "decision": decision.action,
                "expected_seconds": decision.expected_seconds,
                "last_step": numbers.last_step,
                "lost_steps": numbers.lost_steps,
            }
            recorder.rows.add_log("warning", "spot_notice", text, data)
        return attempt.patience.retry_while_leased(lambda: queue.release(lease, reason, end=numbers))
    if by is None and isinstance(end, Finished) and report.is_stored:
        reason = "somebody stopped the trainer"
        return attempt.patience.retry_while_leased(lambda: queue.release(lease, reason, end=numbers))
    return _fail(attempt, report)


def _complete(attempt: AttemptContext, end: Finished) -> JobStatus:
    """Publish the results, waiting for a bucket that is away, and complete the job."""
    recorder, queue, patience = attempt.recorder, attempt.ctx.queue, attempt.patience

    def publish() -> JsonObject:
        return publish_results(queue.client, attempt.storage, recorder, end)

    results = patience.retry_until_stopped(lambda: patience.retry_while_leased(publish), END_PATIENCE_SECONDS)
    summary = recorder.rows.last_row("info", "run_summary", f"finished: {FINISH_TEXTS[end.reason]}", results)
    numbers = recorder.attempt_end()
    status = patience.retry_while_leased(
        lambda: queue.complete(recorder.lease, results=results, summary=summary, end=numbers)
    )
    if status is JobStatus.SUCCEEDED:  # not earlier: marked checkpoints expire, and the job might have to be resumed
        mark_checkpoints(attempt.storage.bucket, attempt.storage.keys)
    return status


def _fail(attempt: AttemptContext, report: ExitReport) -> JobStatus:
    recorder, queue = attempt.recorder, attempt.ctx.queue
    lease, numbers, error = recorder.lease, recorder.attempt_end(), _error_of(attempt, report)
    log.error(
        "attempt %d of %s failed (%s): %s\n%s", lease.attempt, lease.job_id, error.cause, error.message, error.log_tail
    )
    summary = recorder.rows.last_row("error", "run_summary", *failed_summary(error, numbers))
    return attempt.patience.retry_while_leased(lambda: queue.fail(lease, error, summary=summary, end=numbers))


def _error_of(attempt: AttemptContext, report: ExitReport) -> JobError:
    """Cause and message: the trainer's own, else what this side knows, else from the exit code and the log."""
    end, secrets, config, run_dir = attempt.recorder.end, attempt.ctx.secrets, attempt.config, attempt.run_dir
    log_tail = tail(run_dir.train_log, secrets)
    by = report.order.by if report.order else None
    if isinstance(end, Failed):
        message = redacted(end.message, secrets)
        return JobError(cause=end.cause, message=message, page_ids=end.page_ids, log_tail=log_tail)
    if by == "max_runtime" and config.max_runtime is not None:
        remedy = "no checkpoint was stored by then: submit it again with a longer one"
        if attempt.recorder.lease.checkpoint is not None:
            longer = f"`layoutlm-cli train --resume {attempt.job.job_id[:8]} --max-runtime {2 * config.max_runtime:g}`"
            remedy = f"{longer} resumes from its checkpoint"
        message = f"it ran longer than --max-runtime {config.max_runtime:g} s; {remedy}"
        return JobError(cause="max_runtime", message=message, log_tail=log_tail)
    if by == "cost_limit" and attempt.job.max_cost is not None:
        attempts = attempt.ctx.queue.client.list_attempts(attempt.job.job_id)
        message = reached(attempt.job.max_cost, attempts, attempt.ctx.now())
        return JobError(cause="cost_limit", message=message, log_tail=log_tail)
    if by == "hang":
        message = f"no sign of progress for {config.hang_timeout:g} s (--hang-timeout); the log shows where it stood"
        return JobError(cause="hang", message=message, log_tail=log_tail)
    if isinstance(end, Finished):
        message = "the results of the finished trainer could not be stored"
        return JobError(cause="storage", message=message, log_tail=log_tail)
    if shutil.disk_usage(run_dir.path).free < FULL_DISK_BYTES:
        return JobError(cause="storage", message=full_disk(run_dir.path), log_tail=log_tail)
    searched = tail(run_dir.train_log, secrets, SEARCHED_LOG_LINES)
    cause, message = classify_crash(report.code, searched, report.oom_kills)
    return JobError(cause=cause, message=message, log_tail=log_tail)
