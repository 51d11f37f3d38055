"""Stored predictions of jobs on their validation and test pages, and the snapshot of these pages."""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.run.predictions import PredictedPage, read_predictions
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
    return HeldOut(held_out_pages(jobs[0], open_bucket), predicted, evaluations)


def held_out_pages(job: Job, open_bucket: Callable[[str], Bucket]) -> dict[str, Page]:
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
    stored = prediction_keys(bucket.list_keys(keys.run))
    best = (job.results or {}).get("best_global_step")
    chosen = chosen_step(stored, best if isinstance(best, int) else None)
    if chosen is None:
        raise NoPredictions(f"job {job.name} is {job.status} and has no stored predictions: wait for its checkpoints")
    found = {
        step: read_predictions(bucket.get_bytes(stored[step]), keys.uri(stored[step]))
        for step in {chosen, None} & stored.keys()
    }
    return StoredPredictions(chosen, found[chosen], found.get(None, []))


class EvaluatedJobs:
    """The validation predictions of jobs, and the pages of their snapshots, each read once. Raise NoPredictions."""

    def __init__(self, open_bucket: Callable[[str], Bucket]) -> None:
        self._open_bucket = open_bucket
        self._predicted: dict[str, dict[str, PredictedPage]] = {}  # by job id
        self._pages: dict[str, dict[str, Page]] = {}  # by fingerprint

    def predicted(self, job: Job) -> dict[str, PredictedPage]:
        """By page id."""
        if job.job_id not in self._predicted:
            stored = stored_predictions(job, self._open_bucket)
            self._predicted[job.job_id] = {page.page_id: page for page in stored.validation}
        return self._predicted[job.job_id]

    def pages(self, job: Job) -> dict[str, Page]:
        """By page id."""
        fingerprint = held_out_fingerprint(job)
        if fingerprint not in self._pages:
            self._pages[fingerprint] = held_out_pages(job, self._open_bucket)
        return self._pages[fingerprint]

    def groups(self, job: Job) -> dict[str, str]:
        """The group, such as a merchant, of each page id."""
        return {page.page_id: page.group for page in self.pages(job).values()}


def prediction_keys(keys: Iterable[str]) -> dict[int | None, str]:
    """Among the keys of a run, the predictions of the newest attempt by step of the evaluation; None: the test set."""
    newest: dict[int | None, tuple[int, str]] = {}
    for key in keys:
        if match := _FILE.search(key):
            step, found = int(match[2]) if match[2] else None, (int(match[1]), key)
            newest[step] = max(newest.get(step, found), found)
    return {step: key for step, (_, key) in newest.items()}


def chosen_step(stored: Mapping[int | None, str], best: int | None) -> int | None:
    """The step of the best evaluation if its predictions are stored, else of the last that has some; None without."""
    steps = [step for step in stored if step is not None]
    return best if best in steps else max(steps, default=None)
