"""The worker: claims jobs under a lease and runs each one's trainer as a child process. It knows no tensors.

run_worker claims until idle; run_job is the composition root of one job: run directory, child process,
heartbeat, mirror, finish.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from receipt_dynamo import Job, JobError, JobQueue, JobStatus, Lease, LeaseLost, Machine, StoreError, utcnow
from receipt_layoutlm.child import describe_exit, start_trainer, tail
from receipt_layoutlm.config import ConfigError, TrainConfig, from_document, is_known_version
from receipt_layoutlm.events import Event, Failed, Finished
from receipt_layoutlm.heartbeat import Heartbeat
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.publish import publish_results
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_setup import prepare_run_dir
from receipt_layoutlm.s3 import Bucket, RunPlaces, StorageError

log = logging.getLogger(__name__)

STOP_BEFORE_SECONDS = 10.0  # the trainer is stopped this long before the lease runs out
STOP_GRACE_SECONDS = 90.0  # for a checkpoint after SIGTERM
POLL_SECONDS = 0.2
IDLE_POLL_SECONDS = 5.0


def _ignore(_job: Job, _event: Event) -> None:
    pass


@dataclass(frozen=True)
class Workplace:
    """What a worker works with. `open_bucket` is called with a job's bucket name."""

    queue: JobQueue
    open_bucket: Callable[[str], Bucket]
    stop: threading.Event  # set by a signal: finish gracefully
    worker_id: str
    machine: Machine
    work_dir: Path | None = None  # overrides the job's own
    now: Callable[[], datetime] = utcnow
    observe: Callable[[Job, Event], None] = _ignore


def new_worker_id() -> str:
    """Host, process and a random part: unique across restarts."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def accepts(job: Job) -> bool:
    """Leave a job with a newer config version to other workers, and say so."""
    if is_known_version(job.job_config):
        return True
    version = job.job_config.get("config_version")
    log.warning("job %s has config_version %s: left to a newer worker", job.name, version)
    return False


def run_worker(place: Workplace, queue_name: str, max_jobs: int | None, idle_timeout: float | None) -> list[JobStatus]:
    """Claim and run jobs until stopped, `max_jobs` were claimed, or `idle_timeout` seconds brought no work."""
    ended: list[JobStatus] = []
    claimed = 0
    idle_since = time.monotonic()
    while not place.stop.is_set() and (max_jobs is None or claimed < max_jobs):
        lease = place.queue.claim(place.worker_id, queue_name, accepts=accepts, machine=place.machine)
        if lease is not None:
            claimed += 1
            status = run_job(place, lease)
            ended += [status] if status is not None else []
            idle_since = time.monotonic()
        elif idle_timeout is not None and time.monotonic() - idle_since >= idle_timeout:
            break
        else:
            place.stop.wait(IDLE_POLL_SECONDS if idle_timeout is None else min(IDLE_POLL_SECONDS, idle_timeout))
    return ended


def run_job(place: Workplace, lease: Lease) -> JobStatus | None:
    """Work on a claimed job to its end; returns the status it ended up in, None when the lease was lost."""
    try:
        return _run_job(place, lease)
    except LeaseLost as lost:
        log.error("%s", lost)
        return None
    except ConfigError as error:
        return _fail(place, lease, JobError(cause="bad_config", message=str(error)))
    except (StorageError, DamagedFolder, StoreError) as error:
        return _fail(place, lease, JobError(cause="storage", message=str(error)))
    except Exception as error:  # the one boundary: a job must reach a state that says why
        log.exception("job %s", lease.job_id)
        return _fail(place, lease, JobError(cause="unknown", message=f"{type(error).__name__}: {error}"))


def _fail(place: Workplace, lease: Lease, error: JobError) -> JobStatus | None:
    log.error("attempt %d failed: %s", lease.attempt, error.message)
    try:
        return place.queue.fail(lease, error)
    except StoreError as refused:
        log.error("and that could not be stored: %s", refused)
        return None


def _run_job(place: Workplace, lease: Lease) -> JobStatus:
    job = place.queue.client.get_job(lease.job_id, consistent=True)
    config = from_document(job.job_config)
    if job.storage is None:
        raise ConfigError("the job names no bucket: submit it with --bucket or --output-s3-path")
    places = RunPlaces(job.storage, job.job_id)
    bucket = place.open_bucket(job.storage.bucket)
    recorder: Recorder | None = None
    with Heartbeat(place.queue, lease, lambda: recorder.progress if recorder else "") as heartbeat:
        run_dir = prepare_run_dir(_work_dir(place, config), job, config, lease, bucket, places)
        recorder = Recorder(place.queue, bucket, places, lease, run_dir, place.now, _observer(place, job))
        recorder.log("info", "run_config", f"attempt {lease.attempt} of {job.name}", job.job_config, seq=0)
        code = _supervise(place, heartbeat, recorder, run_dir)
        recorder.mirror_files()
        return _finish(place, heartbeat, recorder, bucket, places, run_dir, code)


def _work_dir(place: Workplace, config: TrainConfig) -> Path:
    return place.work_dir or Path(config.work_dir)


def _observer(place: Workplace, job: Job) -> Callable[[Event], None]:
    return lambda event: place.observe(job, event)


def _supervise(place: Workplace, heartbeat: Heartbeat, recorder: Recorder, run_dir: RunDir) -> int:
    """Run the trainer to its end while a thread mirrors it; returns its exit code.

    Raises LeaseLost when the lease is gone or about to run out; the trainer is dead then.
    """
    with ThreadPoolExecutor(1, "mirror") as pool, start_trainer(run_dir) as trainer:
        mirrored: Future[None] = pool.submit(recorder.poll)
        asked_at: float | None = None
        while (code := trainer.exit_code(POLL_SECONDS)) is None:
            if heartbeat.is_lost or heartbeat.seconds_left() < STOP_BEFORE_SECONDS:
                raise LeaseLost("the lease could not be renewed in time, so the trainer was stopped")
            if asked_at is None and (place.stop.is_set() or heartbeat.cancel_requested):
                trainer.ask_to_stop()
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() - asked_at > STOP_GRACE_SECONDS:
                trainer.kill()
            if mirrored.done():
                mirrored.result()
                mirrored = pool.submit(recorder.poll)
        mirrored.result()
        recorder.poll()
    return code


def _finish(
    place: Workplace,
    heartbeat: Heartbeat,
    recorder: Recorder,
    bucket: Bucket,
    places: RunPlaces,
    run_dir: RunDir,
    code: int,
) -> JobStatus:
    """Say how the attempt ended. What the trainer said last decides, whatever its exit code."""
    end, queue, lease = recorder.end, place.queue, recorder.lease
    if isinstance(end, Finished) and end.reason != "stop_requested":
        results = publish_results(queue.client, bucket, places, recorder, end)
        summary = recorder.log_row("info", "run_summary", f"stopped: {end.reason}", results, recorder.next_seq)
        return queue.complete(lease, results=results, summary=summary, end=recorder.attempt_end())
    if heartbeat.cancel_requested:
        return queue.acknowledge_cancel(lease, end=recorder.attempt_end())
    if place.stop.is_set() or isinstance(end, Finished):
        return queue.release(lease, "asked to stop", end=recorder.attempt_end())
    error = _error_of(end, code, run_dir)
    log.error(
        "attempt %d of %s failed (%s): %s\n%s", lease.attempt, lease.job_id, error.cause, error.message, error.log_tail
    )
    summary = recorder.log_row(
        "error", "run_summary", f"failed: {error.message}", {"cause": error.cause}, recorder.next_seq
    )
    return queue.fail(lease, error, summary=summary, end=recorder.attempt_end())


def _error_of(end: Failed | Finished | None, code: int, run_dir: RunDir) -> JobError:
    log_tail = tail(run_dir.train_log)
    if isinstance(end, Failed):
        return JobError(cause=end.cause, message=end.message, page_ids=end.page_ids, log_tail=log_tail)
    cause, message = describe_exit(code)
    return JobError(cause=cause, message=message, log_tail=log_tail)
