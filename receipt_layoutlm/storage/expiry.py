"""What of a run nobody needs any more after its end: marked for the bucket's lifecycle rules, or removed at once."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from receipt_dynamo import DynamoClient, Job, JobStatus
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.manifest import MANIFEST
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import left_folders

STATE_TAG = "layoutlm:state"  # on objects that a lifecycle rule of infra/storage.yaml expires

log = logging.getLogger(__name__)

SUPERSEDED = {STATE_TAG: "superseded"}  # the tag that a rule of infra/storage.yaml expires
ENDED = tuple(status for status in JobStatus if status.is_final)
UNITS = {"h": 1 / 24, "d": 1, "w": 7}  # in days


class BadAge(UserError):
    """An age that cannot be read."""


def mark_checkpoints(bucket: Bucket, keys: RunKeys) -> int:
    """After a success, tag every checkpoint's files: best/ holds the weights, and nobody resumes. Returns how many.

    A bucket that refuses is only said: the job has succeeded, and `job prune` removes the same files.
    """
    marked = 0
    try:
        for key in list(_checkpoint_keys(bucket, keys)):
            bucket.tag(key, SUPERSEDED)
            marked += 1
    except StorageError as error:
        log.warning("checkpoints were not marked to expire ('job prune' removes them too): %s", error)
    return marked


def _checkpoint_keys(bucket: Bucket, keys: RunKeys) -> Iterator[str]:
    for folder in left_folders(bucket, keys):
        yield from bucket.list_keys(keys.checkpoint_at(folder.attempt, folder.global_step))


def age_of(text: str) -> timedelta:
    """12h, 30d or 2w as a span of time; raises BadAge."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdecimal():
        raise BadAge(f"{text!r} is no age: write a number and h, d or w, such as 30d")
    return timedelta(days=int(number) * UNITS[unit])


@dataclass(frozen=True)
class Leftover:
    """The checkpoints that a job keeps after its end and nobody needs."""

    job: Job
    folders: tuple[str, ...]
    size: int  # bytes


def leftovers(
    client: DynamoClient, open_bucket: Callable[[str], Bucket], before: datetime, statuses: Iterable[JobStatus] = ENDED
) -> Iterator[Leftover]:
    """Jobs that ended before a time and still have such checkpoints, those of one status after the other."""
    for status in statuses:
        for job in client.iter_jobs_by_status(status):
            if job.storage is None or job.ended_at is None or job.ended_at >= before:
                continue
            found = _leftover(client, open_bucket(job.storage.bucket), RunKeys(job.storage, job.job_id), job)
            if found.folders:
                yield found


def _leftover(client: DynamoClient, bucket: Bucket, keys: RunKeys, job: Job) -> Leftover:
    stored = [keys.checkpoint_at(each.attempt, each.global_step) for each in left_folders(bucket, keys)]
    kept = _only_weights(client, bucket, keys) if stored else None
    folders = tuple(folder for folder in stored if folder != kept)
    return Leftover(job, folders, sum(size for folder in folders for _key, size in bucket.sizes(folder)))


def _only_weights(client: DynamoClient, bucket: Bucket, keys: RunKeys) -> str | None:
    """The best checkpoint of a job that has published no best/, as a failed or cancelled one; None where it has."""
    if any(key.endswith(f"/best/{MANIFEST}") for key in bucket.list_keys(keys.run)):
        return None
    lease = client.get_lease(keys.job_id)
    pointer = lease.best or lease.checkpoint
    return None if pointer is None else keys.checkpoint(pointer)


def remove(bucket: Bucket, left: Leftover) -> int:
    """Delete the checkpoints, each one's manifest first; best/, logs and rows stay. Returns the number of files."""
    return sum(bucket.delete_prefix(folder) for folder in left.folders)
