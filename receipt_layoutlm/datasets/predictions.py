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
    keys_of: list[RunKeys] = []
    fingerprints: dict[str, Job] = {}
    for job in jobs:
        if job.storage is None:
            raise NoPredictions(f"job {job.name} has no files in a bucket of this system")
        keys_of.append(RunKeys(job.storage, job.job_id))
        config = from_document(job.job_config)
        fingerprints[fingerprint_of(config.eval_dataset or config.dataset)] = job
    if len(fingerprints) > 1:
        names = ", ".join(f"{job.name}: {fingerprint[:12]}" for fingerprint, job in fingerprints.items())
        raise NoPredictions(f"these jobs held out pages of different snapshots ({names}): give jobs of one snapshot")
    predicted: list[PredictedPage] = []
    evaluations: list[tuple[str, int]] = []
    for job, keys in zip(jobs, keys_of, strict=True):
        step, of_job = _predictions(open_bucket(keys.storage.bucket), keys, job)
        evaluations.append((job.name, step))
        predicted += of_job
        on_job()
    (fingerprint,) = fingerprints
    storage = keys_of[0].storage
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        open_bucket(storage.bucket).get_file(dataset_key(fingerprint, storage.prefix), path)
        pages = {page.page_id: page for page in read_snapshot(path, fingerprint)}
    return HeldOut(pages, predicted, evaluations)


def _predictions(bucket: Bucket, keys: RunKeys, job: Job) -> tuple[int, list[PredictedPage]]:
    """The step and the predictions of the best evaluation if stored, else of the last, and of the test set."""
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
    predicted: list[PredictedPage] = []
    for step in (chosen, *({None} & attempts.keys())):
        name = TEST if step is None else evaluation_name(step)
        key = f"{keys.attempt(attempts[step])}predictions/{name}"
        predicted += read_predictions(bucket.get_bytes(key), keys.uri(key))
    return chosen, predicted
