"""Tags or deletes checkpoints of finished runs."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from receipt_dynamo import DynamoClient, Job, JobQueue, JobStatus, NotFound, UnreadableRow
from receipt_layoutlm.run.manifest import MANIFEST
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import left_folders

STATE_TAG = "layoutlm:state"  # on objects that a lifecycle rule of infra/storage.yaml expires

log = logging.getLogger(__name__)

SUPERSEDED = {STATE_TAG: "superseded"}  # the tag that a rule of infra/storage.yaml expires
ENDED = tuple(status for status in JobStatus if status.is_final)


def mark_checkpoints(bucket: Bucket, keys: RunKeys) -> int:
    """Tag the checkpoints of a succeeded job to expire; best/ holds the weights. Returns the number of files.

    A refusal of the bucket is a warning only: the job has succeeded, and `job prune` removes the same files.
    """
    marked = 0
    try:
        for folder in left_folders(bucket, keys):
            for key in list(bucket.list_keys(keys.checkpoint_at(folder.attempt, folder.global_step))):
                bucket.tag(key, SUPERSEDED)
                marked += 1
    except StorageError as error:
        log.warning(
            "checkpoints were not tagged to expire (`layoutlm-cli job prune --older-than 30d` removes them too): %s",
            error,
        )
    return marked


@dataclass(frozen=True)
class Leftover:
    """Checkpoints that a finished job no longer needs."""

    job: Job
    folders: tuple[str, ...]
    size: int  # bytes


def leftovers(
    queue: JobQueue, open_bucket: Callable[[str], Bucket], age: timedelta, statuses: Iterable[JobStatus] = ENDED
) -> Iterator[Leftover]:
    """Jobs that ended longer ago than this, by the server's time, and still have such checkpoints, by status."""
    client = queue.client
    for status in statuses:
        for job in client.iter_jobs_by_status(status):
            if job.storage is None or job.ended_at is None or job.ended_at >= queue.now() - age:
                continue
            bucket, keys = open_bucket(job.storage.bucket), RunKeys(job.storage, job.job_id)
            stored = [keys.checkpoint_at(each.attempt, each.global_step) for each in left_folders(bucket, keys)]
            try:
                kept = _only_weights(client, bucket, keys) if stored else None
            except (NotFound, UnreadableRow) as error:  # which of them is the best is not known
                log.warning("job %s keeps its checkpoints: %s", job.job_id, error)
                continue
            folders = tuple(folder for folder in stored if folder != kept)
            if folders:
                yield Leftover(job, folders, sum(size for folder in folders for _key, size in bucket.sizes(folder)))


def _only_weights(client: DynamoClient, bucket: Bucket, keys: RunKeys) -> str | None:
    """The best checkpoint of a job without best/, such as a failed or cancelled one; None if best/ exists."""
    if any(key.endswith(f"/best/{MANIFEST}") for key in bucket.list_keys(keys.run)):
        return None
    lease = client.get_lease(keys.job_id)
    pointer = lease.best or lease.checkpoint
    return None if pointer is None else keys.checkpoint(pointer)


def remove(queue: JobQueue, bucket: Bucket, left: Leftover) -> int | None:
    """Delete the checkpoints, manifests first; best/, logs and rows stay. Returns the bytes that were still there.

    The lease stops naming them first, so that a retry starts over; None, and nothing deleted, if the job was retried
    since it was read. A removal that failed can be repeated.
    """
    assert left.job.storage is not None  # leftovers looked
    keys = RunKeys(left.job.storage, left.job.job_id)
    if not queue.decide_to_prune(left.job, lambda pointer: keys.checkpoint(pointer) in left.folders):
        return None
    size = sum(size for folder in left.folders for _key, size in bucket.sizes(folder))
    for folder in left.folders:
        bucket.delete_prefix(folder)
    return size
