"""How an attempt ended: what goes into the job, by what the trainer said last, why it was stopped, how it died."""

import logging
import random
import shutil
import time
from dataclasses import dataclass

from receipt_dynamo import Job, JobError, JobStatus, JsonObject
from receipt_layoutlm.child import tail
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.events import Failed, Finished
from receipt_layoutlm.exits import OomCounter, classify
from receipt_layoutlm.heartbeat import Heartbeat
from receipt_layoutlm.publish import publish_results
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.redact import redacted, secrets_of
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.s3 import Bucket, RunPlaces, keep_trying
from receipt_layoutlm.supervisor import END_PATIENCE_SECONDS, Ended
from receipt_layoutlm.workplace import Workplace

log = logging.getLogger(__name__)
_RNG = random.Random()

FULL_DISK_BYTES = 16 << 20
SEARCHED_LOG_LINES = 200  # for the cause of a crash; behind it may stand the stacks of every thread


@dataclass(frozen=True)
class Attempt:
    """What the parts of one attempt need of each other."""

    place: Workplace
    job: Job
    config: TrainConfig
    bucket: Bucket
    places: RunPlaces
    run_dir: RunDir
    heartbeat: Heartbeat
    recorder: Recorder
    oom: OomCounter


def finish(attempt: Attempt, ended: Ended) -> JobStatus:
    """Say how the attempt ended. What the trainer said last decides, whatever its exit code."""
    recorder, queue = attempt.recorder, attempt.place.queue
    lease, end, by = recorder.lease, recorder.end, ended.order.by if ended.order else None
    if by != "notice":
        recorder.mirror_files()
    if isinstance(end, Finished) and end.reason != "stop_requested" and ended.is_stored:
        return _complete(attempt, end)
    if attempt.heartbeat.cancel_requested:
        return queue.acknowledge_cancel(lease, end=recorder.attempt_end())
    if by in ("notice", "signal"):
        return queue.release(lease, _why_released(attempt, ended), end=recorder.attempt_end())
    if by is None and isinstance(end, Finished) and ended.is_stored:
        return queue.release(lease, "somebody stopped the trainer", end=recorder.attempt_end())
    error = _error_of(attempt, ended)
    log.error(
        "attempt %d of %s failed (%s): %s\n%s", lease.attempt, lease.job_id, error.cause, error.message, error.log_tail
    )
    data: JsonObject = {"cause": error.cause, **_lost(recorder)}
    summary = recorder.log_row("error", "run_summary", f"failed: {error.message}", data, recorder.next_seq)
    return queue.fail(lease, error, summary=summary, end=recorder.attempt_end())


def _complete(attempt: Attempt, end: Finished) -> JobStatus:
    recorder, queue = attempt.recorder, attempt.place.queue
    results = _publish(attempt, end)
    results["bit_exact"] = attempt.job.budgets.out_of_memory == 0
    summary = recorder.log_row("info", "run_summary", f"stopped: {end.reason}", results, recorder.next_seq)
    return queue.complete(recorder.lease, results=results, summary=summary, end=recorder.attempt_end())


def _publish(attempt: Attempt, end: Finished) -> JsonObject:
    """Wait for a bucket that is away, as long as nobody wants the worker to stop."""
    place, until = attempt.place, time.monotonic() + END_PATIENCE_SECONDS

    def give_up() -> bool:
        return place.stop.is_set() or attempt.heartbeat.is_lost or time.monotonic() > until

    def publish() -> JsonObject:
        return publish_results(place.queue.client, attempt.bucket, attempt.places, attempt.recorder, end)

    return keep_trying(publish, give_up, place.stop.wait, _RNG)


def _why_released(attempt: Attempt, ended: Ended) -> str:
    """For a spot notice also an event: what was decided, and what it cost."""
    recorder, order = attempt.recorder, ended.order
    assert order is not None
    if order.decision is None:
        return "asked to stop"
    lost = _lost(recorder)
    text = f"spot notice: {order.decision.reason}; {lost['lost_steps']} steps lost"
    data: JsonObject = {"decision": order.decision.action, "expected_seconds": order.decision.expected_seconds, **lost}
    recorder.log("warning", "spot_notice", text, data, seq=recorder.next_seq)
    return f"spot notice, {lost['lost_steps']} steps lost"


def _lost(recorder: Recorder) -> JsonObject:
    end = recorder.attempt_end()
    return {"last_step": end.last_step, "lost_steps": end.lost_steps}


def _error_of(attempt: Attempt, ended: Ended) -> JobError:
    end, config = attempt.recorder.end, attempt.config
    secrets = secrets_of(attempt.place.environment)
    log_tail = redacted(tail(attempt.run_dir.train_log), secrets)
    if isinstance(end, Failed):
        message = redacted(end.message, secrets)
        return JobError(cause=end.cause, message=message, page_ids=end.page_ids, log_tail=log_tail)
    by = ended.order.by if ended.order else None
    if by == "max_runtime":
        text = (
            f"it ran longer than --max-runtime {config.max_runtime:g} s; 'train --resume' goes on from its checkpoint"
        )
        return JobError(cause="max_runtime", message=text, log_tail=log_tail)
    if by == "hang":
        text = f"no sign of progress for {config.hang_timeout:g} s (--hang-timeout); the log says where it stood"
        return JobError(cause="hang", message=text, log_tail=log_tail)
    if isinstance(end, Finished):
        return JobError(cause="storage", message="what the trainer finished could not be stored", log_tail=log_tail)
    if shutil.disk_usage(attempt.run_dir.path).free < FULL_DISK_BYTES:
        text = f"the disk of {attempt.run_dir.path} is full: free some of it, or give --work-dir on another"
        return JobError(cause="storage", message=text, log_tail=log_tail)
    searched = tail(attempt.run_dir.train_log, SEARCHED_LOG_LINES)
    cause, message = classify(ended.code, searched, attempt.oom.kills())
    return JobError(cause=cause, message=redacted(message, secrets), log_tail=log_tail)
