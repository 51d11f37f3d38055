"""Download and removal of a job's files."""

from collections.abc import Callable
from pathlib import Path

from receipt_dynamo import Job, JobQueue, NotFound
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.models import best_prefix, run_folder
from receipt_layoutlm.run.manifest import Manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import stored_checkpoints


class NothingToPull(UserError):
    """The job has no such checkpoint, or the folder is not empty."""


def pull(open_bucket: Callable[[str], Bucket], job: Job, step: int | None, folder: Path) -> Manifest:
    """Download the best model, or the checkpoint of a step, into a new folder and verify it against its manifest.

    Raises DamagedFolder, NoModel, NothingToPull.
    """
    if folder.exists() and not folder.is_dir():
        raise NothingToPull(f"{folder} is a file: name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise NothingToPull(f"{folder} is not empty: name a new folder")
    bucket, keys = run_folder(open_bucket, job)
    if step is not None:
        prefixes = {
            stored.global_step: keys.checkpoint_at(stored.attempt, stored.global_step)
            for stored in stored_checkpoints(bucket, keys)  # of one step the newest attempt's
        }
        if step not in prefixes:
            stored = ", ".join(map(str, sorted(prefixes))) or "none"
            raise NothingToPull(f"no checkpoint of step {step} is kept; there are: {stored}")
        return bucket.get_folder(prefixes[step], folder)
    return bucket.get_folder(best_prefix(bucket, keys, job), folder)


def delete_job(queue: JobQueue, open_bucket: Callable[[str], Bucket], job: Job) -> tuple[int, int]:
    """Decide, so that nobody retries the job meanwhile, then remove the files and the rows, the Job item last.

    A deletion that failed can be repeated. Returns the numbers of files and rows. Raises NotFound, and StateConflict
    for a job that has not ended.
    """
    queue.decide_to_delete(job.job_id)
    files = 0
    if job.storage is not None:
        files = open_bucket(job.storage.bucket).delete_prefix(RunKeys(job.storage, job.job_id).run)
    try:
        return files, queue.delete(job.job_id)
    except NotFound:
        return files, 0
