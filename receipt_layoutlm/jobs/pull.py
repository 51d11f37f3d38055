"""A job's files in the bucket: get them, verified, or remove them with the job."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import DynamoClient, Job, JobQueue, NotFound, StateConflict
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.manifest import MANIFEST, Manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys


class NothingToPull(UserError):
    """The job has no such model yet, or the folder is taken."""


@dataclass(frozen=True)
class Wanted:
    """The best model, or the whole checkpoint of a step."""

    step: int | None = None


def pull(
    client: DynamoClient, open_bucket: Callable[[str], Bucket], job: Job, wanted: Wanted, folder: Path
) -> Manifest:
    """Download into a new folder and verify each file against the manifest. Raises DamagedFolder, NothingToPull."""
    if folder.exists() and any(folder.iterdir()):
        raise NothingToPull(f"{folder} is not empty: name a new folder")
    keys = _keys_of(job)
    bucket = open_bucket(keys.storage.bucket)
    prefix = _best_prefix(bucket, keys, job) if wanted.step is None else _step_prefix(bucket, keys, wanted.step)
    return bucket.get_folder(prefix, folder)


def _keys_of(job: Job) -> RunKeys:
    if job.storage is None:
        raise NothingToPull(f"job {job.name} keeps no files in a bucket of this system")
    return RunKeys(job.storage, job.job_id)


def _best_prefix(bucket: Bucket, keys: RunKeys, job: Job) -> str:
    for attempt in range(job.attempt, 0, -1):
        if bucket.exists(keys.best(attempt) + MANIFEST):
            return keys.best(attempt)
    raise NothingToPull(f"job {job.name} is {job.status} and has published no best model; try --checkpoint STEP")


def _step_prefix(bucket: Bucket, keys: RunKeys, step: int) -> str:
    manifests = [key for key in bucket.list_keys(keys.run) if key.endswith(f"/{MANIFEST}") and "/checkpoint-" in key]
    found = {int(key.split("/checkpoint-")[1].split("/")[0]): key.removesuffix(MANIFEST) for key in sorted(manifests)}
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise NothingToPull(f"no checkpoint of step {step} is kept; there are: {there}")
    return found[step]


def delete_job(queue: JobQueue, open_bucket: Callable[[str], Bucket], job: Job) -> tuple[int, int]:
    """Remove the files, then the rows, the Job item last; so a failure on the way leaves a job to delete again.

    Returns the numbers of files and rows. Raises StateConflict for a job that has not ended.
    """
    if not queue.client.get_job(job.job_id, consistent=True).status.is_final:
        raise StateConflict(f"job {job.name} is {job.status}: cancel it first")
    files = 0
    if job.storage is not None:
        files = open_bucket(job.storage.bucket).delete_prefix(RunKeys(job.storage, job.job_id).run)
    try:
        return files, queue.delete(job.job_id)
    except NotFound:
        return files, 0
