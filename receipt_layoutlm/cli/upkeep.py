"""Expiry on this machine. On AWS, the bucket's lifecycle rules do it; the embedded S3 has none."""

import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from receipt_dynamo import JobStatus, StoreError
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.infra import superseded_days
from receipt_layoutlm.paths import local_work_dir, state_dir

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0


def expire(connection: Connection) -> None:
    """Delete checkpoints of jobs that succeeded some days ago, and run directories of that age.

    The age is that of the lifecycle rule in infra/storage.yaml. Stored are then best/, run.json, logs and predictions,
    and every file of a job that failed or was cancelled. A refusal is only logged: `job prune` removes the same.
    """
    age = timedelta(days=superseded_days())
    _expire_run_directories(local_work_dir(os.environ), age)
    if not connection.is_local:
        return
    from receipt_layoutlm.local.aws import reclaim
    from receipt_layoutlm.storage.expiry import leftovers, remove

    try:
        size = 0
        queue = connection.queue()
        for left in leftovers(queue, connection.open_bucket, age, [JobStatus.SUCCEEDED]):
            assert left.job.storage is not None  # leftovers looked
            if remove(queue, connection.open_bucket(left.job.storage.bucket), left) is not None:
                size += left.size
        if size:
            reclaim(state_dir(os.environ))
            log.info("%.1f MB of checkpoints of jobs that succeeded %d days ago expired", size / 1e6, age.days)
    except (StoreError, UserError) as error:
        log.warning("old checkpoints did not expire (`layoutlm-cli job prune` removes them too): %s", error)


def _expire_run_directories(work_dir: Path, age: timedelta) -> None:
    from receipt_layoutlm.worker.host.disk import remove_run_directories, run_directories
    from receipt_layoutlm.worker.host.registry import running_workers, workers_dir

    before = time.time() - age.total_seconds()  # by this machine's clock, which dates its files
    in_hand = {worker.job_id for worker in running_workers(workers_dir(os.environ))}
    old = [
        path for path in run_directories(work_dir) if path.parent.name not in in_hand and path.stat().st_mtime < before
    ]
    remove_run_directories(work_dir, old)


class Upkeep:
    """Expiry after a worker's jobs, at most once a day."""

    def __init__(self, connection: Connection, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection, self._monotonic = connection, monotonic
        self._due_at = float("-inf")

    def __call__(self) -> None:
        if self._monotonic() >= self._due_at:
            self._due_at = self._monotonic() + DAY_SECONDS
            expire(self._connection)
