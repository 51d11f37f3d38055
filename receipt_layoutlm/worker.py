"""The worker: claims jobs under a lease and runs each one's trainer as a child process. It knows no tensors.

run_worker claims until idle and rescues meanwhile; run_job is the boundary around one attempt (attempt.py).
"""

import logging
import os
import socket
import time
import uuid

from receipt_dynamo import (
    Job,
    JobError,
    JobQueue,
    JobStatus,
    Lease,
    LeaseLost,
    StoreError,
    TableNotFound,
)
from receipt_layoutlm.attempt import work_on
from receipt_layoutlm.config import ConfigError, is_known_version
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.redact import redacted, secrets_of
from receipt_layoutlm.s3 import StorageError
from receipt_layoutlm.workplace import Workplace

log = logging.getLogger(__name__)


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
    """Claim and run jobs until stopped, `max_jobs` were claimed, or `idle_timeout` seconds brought no work.

    While idle, take the jobs of dead workers away from them. A store that does not answer is waited for, up to
    the idle timeout.
    """
    ended: list[JobStatus] = []
    claimed = 0
    idle_since = rescued_at = time.monotonic()
    while not place.takes_no_more and (max_jobs is None or claimed < max_jobs):
        trouble: StoreError | None = None
        try:
            lease = place.queue.claim(place.worker_id, queue_name, accepts=accepts, machine=place.machine)
            if lease is None and time.monotonic() - rescued_at >= place.rescue_seconds:
                rescued_at = time.monotonic()
                _rescue(place.queue)
        except TableNotFound:
            raise
        except StoreError as error:
            lease, trouble = None, error
            log.warning("%s; trying again", error)
        if lease is not None:
            claimed += 1
            status = run_job(place, lease)
            ended += [status] if status is not None else []
            idle_since = time.monotonic()
        elif idle_timeout is not None and time.monotonic() - idle_since >= idle_timeout:
            if trouble is not None:
                raise trouble
            break
        else:
            place.stop.wait(place.idle_seconds if idle_timeout is None else min(place.idle_seconds, idle_timeout))
    return ended


def _rescue(queue: JobQueue) -> None:
    for job in queue.rescue():
        log.info("job %s was taken from a worker that is gone: now %s", job.name, job.status)


def run_job(place: Workplace, lease: Lease) -> JobStatus | None:
    """Work on a claimed job to its end; returns the status it ended up in, None when the lease was lost."""
    try:
        return work_on(place, lease)
    except LeaseLost as lost:
        log.error("%s", lost)
        return None
    except ConfigError as error:
        return _fail(place, lease, JobError(cause="bad_config", message=str(error)))
    except (StorageError, DamagedFolder, StoreError) as error:
        if place.takes_no_more:
            return _release(place, lease, error)
        return _fail(place, lease, JobError(cause="storage", message=str(error)))
    except Exception as error:  # the one boundary: a job must reach a state that says why
        log.exception("job %s", lease.job_id)
        return _fail(place, lease, JobError(cause="unknown", message=f"{type(error).__name__}: {error}"))


def _fail(place: Workplace, lease: Lease, error: JobError) -> JobStatus | None:
    message = redacted(error.message, secrets_of(place.environment))
    log.error("attempt %d failed: %s", lease.attempt, message)
    try:
        return place.queue.fail(lease, error.model_copy(update={"message": message}))
    except StoreError as refused:
        log.error("and that could not be stored: %s", refused)
        return None


def _release(place: Workplace, lease: Lease, error: Exception) -> JobStatus | None:
    log.warning("attempt %d was given up: %s", lease.attempt, error)
    try:
        return place.queue.release(lease, "asked to stop")
    except StoreError as refused:
        log.error("and that could not be stored: %s", refused)
        return None
