"""How an attempt ended: what goes into the job, by what the trainer said last, why it was stopped, how it died."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from receipt_dynamo import Job, JobError, JobStatus, JsonObject, StoreUnavailable
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.redact import redacted
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Failed, Finished
from receipt_layoutlm.storage.errors import keep_trying
from receipt_layoutlm.storage.expiry import mark_checkpoints
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.process import OomCounter, classify, tail
from receipt_layoutlm.worker.publish import publish_results
from receipt_layoutlm.worker.recorder import Recorder, Storehouse
from receipt_layoutlm.worker.supervisor import END_PATIENCE_SECONDS, Ended, Order

log = logging.getLogger(__name__)
T = TypeVar("T")

FULL_DISK_BYTES = 16 << 20
SEARCHED_LOG_LINES = 200  # for the cause of a crash; behind it may stand the stacks of every thread
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """What the parts of one attempt need of each other."""

    place: Workplace
    job: Job
    config: TrainConfig
    storehouse: Storehouse
    run_dir: RunDir
    heartbeat: Heartbeat
    recorder: Recorder
    oom: OomCounter


def finish(work: Work, ended: Ended) -> JobStatus:
    """Say how the attempt ended. What the trainer said last decides, whatever its exit code."""
    recorder, queue = work.recorder, work.place.queue
    end, by = recorder.end, ended.order.by if ended.order else None
    if by not in ("notice", "signal") or ended.is_stored:
        recorder.mirror_files()
    if isinstance(end, Finished) and end.reason != "stop_requested" and ended.is_stored:
        return _complete(work, end)
    lease, numbers = recorder.lease, recorder.attempt_end()
    if work.heartbeat.cancel_requested:
        return _stored(work, lambda: queue.acknowledge_cancel(lease, end=numbers))
    if ended.order is not None and by in ("notice", "signal") and not isinstance(end, Failed):
        if by == "notice":
            _log_notice(work, ended.order)
        reason = "asked to stop" if by == "signal" else f"spot notice, {numbers.lost_steps} steps lost"
        return _stored(work, lambda: queue.release(lease, reason, end=numbers))
    if by is None and isinstance(end, Finished) and ended.is_stored:
        return _stored(work, lambda: queue.release(lease, "somebody stopped the trainer", end=numbers))
    return _fail(work, _error_of(work, ended))


def _complete(work: Work, end: Finished) -> JobStatus:
    recorder, queue = work.recorder, work.place.queue
    results = _publish(work, end)
    summary = recorder.rows.last_row("info", "run_summary", f"stopped: {end.reason}", results)
    numbers = recorder.attempt_end()
    status = _stored(work, lambda: queue.complete(recorder.lease, results=results, summary=summary, end=numbers))
    if status is JobStatus.SUCCEEDED:  # only then: what is marked expires, and until then it may have to be resumed
        mark_checkpoints(work.storehouse.bucket, work.storehouse.keys)
    return status


def _fail(work: Work, error: JobError) -> JobStatus:
    recorder, queue = work.recorder, work.place.queue
    lease, numbers = recorder.lease, recorder.attempt_end()
    log.error(
        "attempt %d of %s failed (%s): %s\n%s", lease.attempt, lease.job_id, error.cause, error.message, error.log_tail
    )
    data: JsonObject = {"cause": error.cause, "last_step": numbers.last_step, "lost_steps": numbers.lost_steps}
    summary = recorder.rows.last_row("error", "run_summary", f"failed: {error.message}", data)
    return _stored(work, lambda: queue.fail(lease, error, summary=summary, end=numbers))


def _publish(work: Work, end: Finished) -> JsonObject:
    """Wait for a bucket that is away, as long as nobody wants the worker or the job to stop."""
    place, heartbeat, until = work.place, work.heartbeat, time.monotonic() + END_PATIENCE_SECONDS

    def give_up() -> bool:
        place.notify.alive()
        return place.must_go or heartbeat.must_stop or heartbeat.cancel_requested or time.monotonic() > until

    def publish() -> JsonObject:
        return publish_results(place.queue.client, work.storehouse, work.recorder, end)

    return keep_trying(lambda: _stored(work, publish), give_up, place.stop.wait)


def _stored(work: Work, action: Callable[[], T]) -> T:
    """Repeat what a table that is away refuses: the lease is held as long as it lasts, so nobody waits for this."""
    while True:
        try:
            return action()
        except StoreUnavailable as error:
            if work.heartbeat.must_stop:
                raise
            log.warning("%s; trying again", error)
            work.place.notify.alive()
            time.sleep(RETRY_SECONDS)


def _log_notice(work: Work, order: Order) -> None:
    """What was decided, and what it cost."""
    assert order.decision is not None
    numbers = work.recorder.attempt_end()
    text = f"spot notice: {order.decision.reason}; {numbers.lost_steps} steps lost"
    data: JsonObject = {
        "decision": order.decision.action,
        "expected_seconds": order.decision.expected_seconds,
        "last_step": numbers.last_step,
        "lost_steps": numbers.lost_steps,
    }
    work.recorder.rows.add_log("warning", "spot_notice", text, data)


def _error_of(work: Work, ended: Ended) -> JobError:
    end, secrets = work.recorder.end, work.place.secrets
    log_tail = tail(work.run_dir.train_log, secrets)
    if isinstance(end, Failed):
        message = redacted(end.message, secrets)
        return JobError(cause=end.cause, message=message, page_ids=end.page_ids, log_tail=log_tail)
    searched = tail(work.run_dir.train_log, secrets, SEARCHED_LOG_LINES)
    cause, message = _reason(work, ended) or classify(ended.code, searched, work.oom.kills())
    return JobError(cause=cause, message=message, log_tail=log_tail)


def _reason(work: Work, ended: Ended) -> tuple[str, str] | None:
    """Cause and message when this side knows why; None for a trainer that died without a word."""
    by, config = ended.order.by if ended.order else None, work.config
    if by == "max_runtime":
        text = f"it ran longer than --max-runtime {config.max_runtime:g} s"
        return "max_runtime", f"{text}; 'train --resume' with a longer one goes on from its checkpoint"
    if by == "hang":
        text = f"no sign of progress for {config.hang_timeout:g} s (--hang-timeout)"
        return "hang", f"{text}; the log says where it stood"
    if isinstance(work.recorder.end, Finished):
        return "storage", "what the trainer finished could not be stored"
    if shutil.disk_usage(work.run_dir.path).free < FULL_DISK_BYTES:
        return "storage", f"the disk of {work.run_dir.path} is full: free some of it, or give --work-dir on another"
    return None
