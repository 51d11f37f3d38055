"""What jobs have stored of the pages that they did not learn from, and the snapshot that these pages stand in."""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job
from receipt_layoutlm.config import from_document
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.run.predictions import TEST, PredictedPage, evaluation_name, read_predictions
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys, dataset_key

_FILE = re.compile(r"/attempt-(\d+)/predictions/(?:eval-(\d+)|test)\.jsonl\.gz$")


class NoPredictions(UserError):
    """A job has none, or jobs have them of different pages."""


@dataclass(frozen=True)
class HeldOut:
    """Pages of one snapshot and what jobs said of those that they held out."""

    pages: dict[str, Page]
    predicted: list[PredictedPage]
    evaluations: list[tuple[str, int]]  # name of each job and the step of the evaluation that was read

    @property
    def covered(self) -> int:
        """Pages of the snapshot that a job held out."""
        return len({view.page_id for view in self.predicted})


def read_held_out(jobs: Sequence[Job], open_bucket: Callable[[str], Bucket], on_job: Callable[[], None]) -> HeldOut:
    """The evaluation part at its best step and the test part of each job; `on_job` is called after each."""
    keys = [_keys_of(job) for job in jobs]
    fingerprints = {_held_out_snapshot(job): job for job in jobs}
    if len(fingerprints) > 1:
        told = ", ".join(f"{job.name}: {fingerprint[:12]}" for fingerprint, job in fingerprints.items())
        raise NoPredictions(f"these jobs held out pages of different snapshots ({told}): give jobs of one snapshot")
    predicted: list[PredictedPage] = []
    evaluations: list[tuple[str, int]] = []
    for job, place in zip(jobs, keys, strict=True):
        step, of_job = _predictions(open_bucket(place.storage.bucket), place, job)
        evaluations.append((job.name, step))
        predicted += of_job
        on_job()
    (fingerprint,) = fingerprints
    storage = keys[0].storage
    pages = _pages(open_bucket(storage.bucket), dataset_key(fingerprint, storage.prefix), fingerprint)
    return HeldOut(pages, predicted, evaluations)


def _keys_of(job: Job) -> RunKeys:
    if job.storage is None:
        raise NoPredictions(f"job {job.name} keeps no files in a bucket of this system")
    return RunKeys(job.storage, job.job_id)


def _held_out_snapshot(job: Job) -> str:
    config = from_document(job.job_config)
    return fingerprint_of(config.eval_dataset or config.dataset)


def _predictions(bucket: Bucket, keys: RunKeys, job: Job) -> tuple[int, list[PredictedPage]]:
    """Of the step and its evaluation: the best one, where its file is this job's, else the last."""
    newest: dict[int | None, int] = {}  # attempt by step; None: the test part
    for key in bucket.list_keys(keys.run):
        if match := _FILE.search(key):
            step = int(match[2]) if match[2] else None
            newest[step] = max(newest.get(step, 0), int(match[1]))
    steps = [step for step in newest if step is not None]
    if not steps:
        raise NoPredictions(
            f"job {job.name} is {job.status} and has stored no predictions: they come with its checkpoints"
        )
    best = (job.results or {}).get("best_global_step")
    step = best if isinstance(best, int) and best in steps else max(steps)
    found: list[PredictedPage] = []
    for each in (step, *({None} & newest.keys())):
        name = TEST if each is None else evaluation_name(each)
        key = f"{keys.attempt(newest[each])}predictions/{name}"
        found += read_predictions(bucket.get_bytes(key), keys.uri(key))
    return step, found


def _pages(bucket: Bucket, key: str, fingerprint: str) -> dict[str, Page]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        bucket.get_file(key, path)
        return {page.page_id: page for page in read_snapshot(path, fingerprint)}
