"""The worker: claims jobs under a lease and runs the trainer of each as a child process.

run_worker claims, run_job is the boundary around one attempt, run_attempt is the attempt: prepare, supervise, finish.
"""

import errno
import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job, JobStatus, Lease, LeaseLost, StoreError, StoreUnavailable
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import from_document, missing_support
from receipt_layoutlm.data.check_report import CheckFailed
from receipt_layoutlm.data.labels import LabelError
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.datasets.table_snapshots import NoLabels
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.paths import WORK_ADVICE, FolderRefused
from receipt_layoutlm.run.directory import FULL_DISK, full_disk
from receipt_layoutlm.run.manifest import DamagedFolder
from receipt_layoutlm.storage.errors import AccessDenied, NoBucket, StorageError
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.worker.attempt import prepare_attempt, remove_checkpoints
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.cost_limit import CostReached, check_cost, knows_cost
from receipt_layoutlm.worker.encoded_cache import EncodedCache
from receipt_layoutlm.worker.end_report import make_report
from receipt_layoutlm.worker.ending import Ending
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.outcome import finish
from receipt_layoutlm.worker.patience import Patience, Stopped
from receipt_layoutlm.worker.recorder import RunStorage
from receipt_layoutlm.worker.supervisor import supervise

log = logging.getLogger(__name__)

UNFIT_AFTER = 3  # different jobs in a row that failed in a way that another machine would try again


class WorkerUnfit(UserError):
    """Job after job fails here: the machine is to blame, not the jobs."""


@dataclass(frozen=True)
class ClaimOptions:
    """Which jobs a worker claims, and when it ends by itself."""

    queue: str = "default"
    max_jobs: int | None = None
    idle_timeout: float | None = None  # seconds without a job; None: never
    poll_seconds: float = 5.0  # between two looks into an empty queue
    rescue_seconds: float = 20.0  # between two looks for dead workers: 90 + 30 + 20 + 5 < 150 s to be found


def new_worker_id() -> str:
    """Host, process and a random part: unique across restarts."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def accepts(job: Job) -> bool:
    """Leave a job with a newer config version or an unknown task to other workers, with a log line."""
    if (missing := missing_support(job.job_config)) is None:
        return True
    log.warning("job %s has %s: left to a worker that knows it", job.name, missing)
    return False


def run_worker(ctx: WorkerContext, options: ClaimOptions) -> list[JobStatus]:
    """Claim and run jobs until stopped, drained, idle for too long, or `max_jobs` were claimed.

    Rescues jobs of dead workers before a claim, at intervals. Waits for a table that does not answer, up to the idle
    timeout; a pause counts as idle, another busy worker of this machine does not. A machine that EC2 may soon take
    away claims no further job; one that has run none yet still does, or the next machine would be lost to the same
    advice. Nor does one that has become too old. Raises WorkerUnfit.
    """
    statuses: list[JobStatus] = []
    failing: set[str] = set()  # jobs in a row that failed here and will be tried again
    claimed = 0
    idle_since = rescue_at = time.monotonic()
    ctx.host.notifier.ready()
    while not ctx.must_stop and not ctx.drain.is_set() and (options.max_jobs is None or claimed < options.max_jobs):
        if ctx.host.is_at_risk and claimed:
            log.info("EC2 may soon take this machine away: no further job is claimed")
            break
        if ctx.host.is_outdated:
            log.info("this machine is old: no further job is claimed, so that a new one with newer packages starts")
            break
        ctx.host.notifier.alive()
        lease, outage = None, None
        try:
            if time.monotonic() >= rescue_at:
                rescue_at = time.monotonic() + options.rescue_seconds
                rescued = ctx.queue.rescue()
                for job in rescued:
                    log.info("job %s was rescued from a dead worker: now %s", job.name, job.status)
                ctx.alerts.rescued(rescued)
            lease = claim_job(ctx, options.queue)
        except StoreUnavailable as error:
            outage = error
            log.warning("%s; trying again", error)
        if lease is None:
            timeout = options.idle_timeout
            if ctx.host.others_busy():  # the workers of a fleet's machine end together
                idle_since, timeout = time.monotonic(), None
            if timeout is not None and time.monotonic() - idle_since >= timeout:
                if outage is not None:
                    raise outage
                break
            ctx.stop.wait(options.poll_seconds if timeout is None else min(options.poll_seconds, timeout))
            continue
        claimed += 1
        ctx.host.notifier.status(f"job {lease.job_id}, attempt {lease.attempt}")
        with ctx.host.busy(lease.job_id):
            status = run_job(ctx, lease)
        ctx.ended(lease.job_id)
        ctx.host.notifier.status("looking for a job")
        statuses += [status] if status is not None else []
        failing = failing | {lease.job_id} if status is JobStatus.PENDING else set()
        if len(failing) >= UNFIT_AFTER:
            raise WorkerUnfit(f"{UNFIT_AFTER} jobs in a row failed on this machine: check its disk and device")
        idle_since = time.monotonic()
    ctx.host.notifier.stopping()
    ctx.alerts.wait()
    return statuses


def claim_job(ctx: WorkerContext, queue_name: str) -> Lease | None:
    """Claim the next job unless the fleet is paused. Raises WorkerUnfit when the disk has no room for one."""
    if ctx.host.is_paused():
        return None
    if ctx.host.disk is not None and (shortage := ctx.host.disk.before_claim()) is not None:
        raise WorkerUnfit(f"no job is claimed: {shortage}")
    machine = ctx.machine
    return ctx.queue.claim(
        ctx.identity.worker_id,
        queue_name,
        accepts=lambda job: accepts(job) and knows_cost(job, machine),
        machine=machine,
    )


def run_job(ctx: WorkerContext, lease: Lease) -> JobStatus | None:
    """Run a claimed job to its end, tell of it and make a report; returns its new status, None for a lost lease."""
    status = _run_leased(ctx, lease)
    if status is not None and status.is_final:
        ctx.alerts.ended(lease.job_id)
    if status is not None:
        make_report(ctx, lease)
    return status


def _run_leased(ctx: WorkerContext, lease: Lease) -> JobStatus | None:
    with Heartbeat(ctx.queue, lease) as heartbeat:
        ending = Ending(ctx, lease, Patience(ctx, heartbeat))
        try:
            return run_attempt(ctx, lease, heartbeat, ending)
        except LeaseLost as lost:
            log.error("%s", lost)
            return None
        except (ConfigError, LabelError) as error:
            return ending.fail("bad_config", str(error))
        except Stopped as stopped:
            return ending.release(str(stopped))
        except CostReached as reached:
            return ending.fail("cost_limit", str(reached))
        except (CheckFailed, DataError, NoLabels) as error:
            return ending.fail("bad_data", str(error))
        except (StorageError, DamagedFolder, StoreError, FolderRefused, OSError) as error:
            if ctx.must_stop:
                log.warning("attempt %d was given up: %s", lease.attempt, error)
                return ending.release("asked to stop")
            return ending.fail(*_cause_of(error))
        except Exception as error:  # the one boundary: a job must reach a state that says why
            log.exception("job %s", lease.job_id)
            return ending.fail("unknown", f"{type(error).__name__}: {error}")


def run_attempt(ctx: WorkerContext, lease: Lease, heartbeat: Heartbeat, ending: Ending) -> JobStatus:
    """Prepare one attempt, supervise its trainer, and record how it ended; returns the job's new status.

    `ending` learns how far the attempt has come. Raises LeaseLost, Stopped, ConfigError, StorageError, DamagedFolder,
    StoreError, and what pin_snapshot raises.
    """
    job = ending.patience.retry_while_leased(lambda: ctx.queue.client.get_job(lease.job_id, consistent=True))
    config = from_document(job.job_config)
    ctx.policy.check(job, config)
    if job.max_cost is not None:
        attempts = ending.patience.retry_while_leased(lambda: ctx.queue.client.list_attempts(job.job_id))
        check_cost(job.max_cost, attempts, ctx.now())
    assert job.storage is not None  # checked by the policy
    keys, bucket = RunKeys(job.storage, job.job_id), ctx.open_bucket(job.storage.bucket)
    storage = RunStorage(bucket, keys, config.keep_checkpoints)
    with EncodedCache(bucket, lambda: not ctx.must_stop) as encoded:
        attempt = prepare_attempt(ctx, job, lease, storage, encoded, heartbeat)
        ending.recorder = attempt.recorder
        try:
            report = supervise(attempt)
            return finish(attempt, report)
        finally:
            remove_checkpoints(attempt.run_dir)


def _cause_of(error: Exception) -> tuple[str, str]:
    """Cause and message of a failure of the bucket, the table or the disk."""
    if isinstance(error, FolderRefused | AccessDenied):
        return "permission", str(error)
    if isinstance(error, NoBucket):
        return "missing_bucket", str(error)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "permission", f"the worker may not write to {error.filename} ({error.strerror}): {WORK_ADVICE}"
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return "storage", full_disk(Path(error.filename or "the work folder"), error)
    return "storage", str(error)
