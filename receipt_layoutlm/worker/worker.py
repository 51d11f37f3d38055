"""The worker: claims jobs under a lease and runs each one's trainer as a child process. It knows no tensors.

run_worker claims until idle and rescues between; run_job is the boundary around one attempt (attempt.py).
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable

from receipt_dynamo import Job, JobError, JobQueue, JobStatus, Lease, LeaseLost, StoreError, StoreUnavailable
from receipt_layoutlm.config import ConfigError, is_known_version
from receipt_layoutlm.data.check_report import CheckFailed
from receipt_layoutlm.data.labels import LabelError
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.datasets.table_snapshots import NoLabels
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.redact import redacted
from receipt_layoutlm.run.manifest import DamagedFolder
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.worker.attempt import work_on
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.patience import Stopped

log = logging.getLogger(__name__)

UNFIT_AFTER = 3  # different jobs in a row that failed in a way that another machine would try again


class WorkerUnfit(UserError):
    """One job after the other fails here: the machine, not the jobs, is to blame."""


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

    Before a claim, from time to time, the jobs of dead workers are taken away from them. A table that does not
    answer is waited for, up to the idle timeout; a pause counts as idle, another busy worker of this machine does
    not. A machine that EC2 may soon take away takes no further job; one that has done none yet still does, or the
    next machine would be lost to the same advice. Raises WorkerUnfit.
    """
    ended: list[JobStatus] = []
    failing: set[str] = set()  # jobs in a row that failed here and will be tried again
    claimed = 0
    idle_since = rescue_at = time.monotonic()
    place.notify.ready()
    while not place.takes_no_more and (max_jobs is None or claimed < max_jobs):
        if place.is_at_risk and claimed:
            log.info("EC2 may soon take this machine away: no further job is taken")
            break
        place.notify.alive()
        lease, trouble = None, None
        try:
            if time.monotonic() >= rescue_at:
                rescue_at = time.monotonic() + place.rescue_seconds
                _rescue(place.queue)
            lease = _claim(place, queue_name)
        except StoreUnavailable as error:
            trouble = error
            log.warning("%s; trying again", error)
        if lease is None:
            since = _wait(place, idle_since, idle_timeout, trouble)
            if since is None:
                break
            idle_since = since
            continue
        claimed += 1
        status = _work(place, lease)
        ended += [status] if status is not None else []
        failing = failing | {lease.job_id} if status is JobStatus.PENDING else set()
        if len(failing) >= UNFIT_AFTER:
            raise WorkerUnfit(f"{UNFIT_AFTER} jobs in a row failed on this machine: look at its disk and device")
        idle_since = time.monotonic()
    place.notify.stopping()
    return ended


def _wait(
    place: Workplace, idle_since: float, idle_timeout: float | None, trouble: StoreUnavailable | None
) -> float | None:
    """Until the next look; returns since when there was no work, None after too long. Raises the trouble then."""
    if place.others_busy():  # one machine ends as a whole
        idle_since, idle_timeout = time.monotonic(), None
    if idle_timeout is not None and time.monotonic() - idle_since >= idle_timeout:
        if trouble is not None:
            raise trouble
        return None
    place.stop.wait(place.idle_seconds if idle_timeout is None else min(place.idle_seconds, idle_timeout))
    return idle_since


def _work(place: Workplace, lease: Lease) -> JobStatus | None:
    """As run_job, told to the other workers of this machine and to its service manager."""
    place.notify.status(f"job {lease.job_id}, attempt {lease.attempt}")
    with place.busy(lease.job_id):
        status = run_job(place, lease)
    place.notify.status("looking for a job")
    return status


def _claim(place: Workplace, queue_name: str) -> Lease | None:
    """The next job, unless the fleet is paused. WorkerUnfit when the disk has no room for one."""
    if place.is_paused():
        return None
    if place.disk is not None and (lack := place.disk.before_claim()) is not None:
        raise WorkerUnfit(f"no job is taken: {lack}")
    return place.queue.claim(place.worker_id, queue_name, accepts=accepts, machine=place.priced_machine)


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
    except (ConfigError, LabelError) as error:
        return _fail(place, lease, "bad_config", str(error))
    except Stopped as stopped:
        reason = str(stopped)
        return _said(lambda: place.queue.release(lease, reason))
    except (CheckFailed, DataError, NoLabels) as error:
        return _fail(place, lease, "bad_data", str(error))
    except (StorageError, DamagedFolder, StoreError, OSError) as error:
        if place.must_go:
            log.warning("attempt %d was given up: %s", lease.attempt, error)
            return _said(lambda: place.queue.release(lease, "asked to stop"))
        return _fail(place, lease, "storage", str(error))
    except Exception as error:  # the one boundary: a job must reach a state that says why
        log.exception("job %s", lease.job_id)
        return _fail(place, lease, "unknown", f"{type(error).__name__}: {error}")


def _fail(place: Workplace, lease: Lease, cause: str, text: str) -> JobStatus | None:
    error = JobError(cause=cause, message=redacted(text, place.secrets))
    log.error("attempt %d failed: %s", lease.attempt, error.message)
    return _said(lambda: place.queue.fail(lease, error))


def _said(end: Callable[[], JobStatus]) -> JobStatus | None:
    """The status; None when the table does not take it: the lease runs out then, and a rescue takes the job."""
    try:
        return end()
    except StoreError as refused:
        log.error("and that could not be stored: %s", refused)
        return None
