"""Stored predictions of jobs on their validation and test pages, and the snapshot of these pages."""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.run.predictions import TEST, PredictedPage, evaluation_name, read_predictions
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys, dataset_key

_FILE = re.compile(r"/attempt-(\d+)/predictions/(?:eval-(\d+)|test)\.jsonl\.gz$")


class NoPredictions(UserError):
    """A job has no predictions, or the jobs have predictions of different snapshots."""


@dataclass(frozen=True)
class HeldOut:
    """Pages of one snapshot, and the predictions of jobs on those that they held out."""

    pages: dict[str, Page]
    predicted: list[PredictedPage]
    evaluations: list[tuple[str, int]]  # job name and step of the evaluation

    @property
    def covered(self) -> int:
        """The number of pages that some job held out."""
        return len({page.page_id for page in self.predicted})


def read_held_out(jobs: Sequence[Job], open_bucket: Callable[[str], Bucket], on_job: Callable[[], None]) -> HeldOut:
    """The predictions of each job on its validation set, at the best step, and on its test set.

    `on_job` is called after each job. Raises NoPredictions.
    """
    fingerprints = {held_out_fingerprint(job): job for job in jobs}
    if len(fingerprints) > 1:
        names = ", ".join(f"{job.name}: {fingerprint[:12]}" for fingerprint, job in fingerprints.items())
        raise NoPredictions(f"these jobs held out pages of different snapshots ({names}): give jobs of one snapshot")
    predicted: list[PredictedPage] = []
    evaluations: list[tuple[str, int]] = []
    for job in jobs:
        stored = stored_predictions(job, open_bucket)
        evaluations.append((job.name, stored.step))
        predicted += [*stored.validation, *stored.test]
        on_job()
    return HeldOut(pages_of(jobs[0], open_bucket), predicted, evaluations)


def pages_of(job: Job, open_bucket: Callable[[str], Bucket]) -> dict[str, Page]:
    """The pages of the snapshot that a job was evaluated on, by id. Raises NoPredictions."""
    keys, fingerprint = _keys(job), held_out_fingerprint(job)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        open_bucket(keys.storage.bucket).get_file(dataset_key(fingerprint, keys.storage.prefix), path)
        return {page.page_id: page for page in read_snapshot(path, fingerprint)}


def held_out_fingerprint(job: Job) -> str:
    """Of the snapshot that a job was evaluated on."""
    config = from_document(job.job_config)
    return fingerprint_of(config.eval_dataset or config.dataset)


def _keys(job: Job) -> RunKeys:
    if job.storage is None:
        raise NoPredictions(f"job {job.name} has no files in a bucket of this system")
    return RunKeys(job.storage, job.job_id)


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions of a job: on its validation set, at the best evaluation or else the last one, and on its test set."""

    step: int
    validation: list[PredictedPage]
    test: list[PredictedPage]


def stored_predictions(job: Job, open_bucket: Callable[[str], Bucket]) -> StoredPredictions:
    """What a job has in the bucket. Raises NoPredictions."""
    keys = _keys(job)
    bucket = open_bucket(keys.storage.bucket)
    attempts: dict[int | None, int] = {}  # newest attempt by step; None: the test set
    for key in bucket.list_keys(keys.run):
        if match := _FILE.search(key):
            step = int(match[2]) if match[2] else None
            attempts[step] = max(attempts.get(step, 0), int(match[1]))
    steps = [step for step in attempts if step is not None]
    if not steps:
        raise NoPredictions(f"job {job.name} is {job.status} and has no stored predictions: wait for its checkpoints")
    best = (job.results or {}).get("best_global_step")
    chosen = best if isinstance(best, int) and best in steps else max(steps)
    found: dict[int | None, list[PredictedPage]] = {}
    for each in {chosen, None} & attempts.keys():
        name = TEST if each is None else evaluation_name(each)
        key = f"{keys.attempt(attempts[each])}predictions/{name}"
        found[each] = read_predictions(bucket.get_bytes(key), keys.uri(key))
    return StoredPredictions(chosen, found[chosen], found.get(None, []))
