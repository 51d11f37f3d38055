"""Files of a job in the bucket, as a report needs them: record, predictions, pages, and what is stored beside them.

A file that is missing or cannot be read is left out, and a note says so: a report is made for every job.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from receipt_dynamo import Job, Lease
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import sample_pages
from receipt_layoutlm.datasets.predictions import chosen_step, prediction_keys
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.held_out import split_of_job
from receipt_layoutlm.jobs.models import NoModel, published, run_folder
from receipt_layoutlm.run.predictions import PredictedPage, read_predictions
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys, dataset_key

REPORT: Final = "report.html"
_RECORD = re.compile(r"/attempt-(\d+)/run\.json$")
_LOG = re.compile(r"/attempt-(\d+)/logs/(train\.log|events\.jsonl)$")


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file or folder of a run. sha256: of its content, or of a folder's manifest; None where it was not read."""

    name: str
    uri: str
    size: int | None = None  # bytes
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Without a bucket, or for a job of the original system, everything is empty.

    step: of the evaluation with the predictions. pages: by id. trained_on: groups of the training set, if known.
    """

    record: RunRecord | None = None
    step: int | None = None
    predicted: Sequence[PredictedPage] = ()
    pages: Mapping[str, Page] = field(default_factory=dict)
    trained_on: Set[str] | None = None
    stored: Sequence[RunFile] = ()
    notes: Sequence[str] = ()


def read_run_files(open_bucket: Callable[[str], Bucket], job: Job, lease: Lease | None) -> RunFiles:
    """The files of a job in any state; what the bucket refuses is a note."""
    try:
        bucket, keys = run_folder(open_bucket, job)
        sizes = dict(bucket.sizes(keys.run))
    except NoModel as error:
        return RunFiles(notes=[str(error)])
    except UserError as error:
        return RunFiles(notes=[f"the bucket cannot be read: {error}"])
    notes, stored = list[str](), list[RunFile]()

    def content(key: str, name: str) -> bytes:
        data = bucket.get_bytes(key)
        stored.append(RunFile(name, keys.uri(key), len(data), hashlib.sha256(data).hexdigest()))
        return data

    record = None
    if (key := newest(_RECORD, sizes)) is not None:
        try:
            record = RunRecord.model_validate_json(content(key, "record of the run"))
        except (UserError, ValidationError, ValueError) as error:
            reason, _, _ = str(error).partition("\n")
            notes.append(f"{keys.uri(key)} cannot be read by this version: {reason}")
    elif job.attempt:
        notes.append("no attempt has stored a record of the run (run.json)")
    by_step = prediction_keys(sizes)
    step, predicted = chosen_step(by_step, best_step(job, record)), list[PredictedPage]()
    if step is not None:
        try:
            predicted = read_predictions(content(by_step[step], "predictions"), keys.uri(by_step[step]))
        except UserError as error:
            notes.append(f"predictions: {error}")
    elif job.attempt:
        notes.append("no predictions are stored, so there are no pages, slices or cells to open")
    pages, trained_on = dict[str, Page](), None
    if predicted:
        try:
            pages, trained_on = _pages(open_bucket, job)
        except UserError as error:
            notes.append(f"pages of the dataset: {error}")
    try:
        stored += _models(bucket, keys, job, lease)
    except UserError as error:
        notes.append(f"model: {error}")
    stored += _snapshots(keys, job)
    for name in ("train.log", "events.jsonl"):
        log = newest(_LOG, {key: size for key, size in sizes.items() if key.endswith(name)})
        stored += [] if log is None else [RunFile(name, keys.uri(log), sizes[log])]
    return RunFiles(record, step if predicted else None, predicted, pages, trained_on, stored, notes)


def newest(pattern: re.Pattern[str], keys: Mapping[str, int]) -> str | None:
    """The key of the newest attempt that matches."""
    found = [(int(match[1]), key) for key in keys if (match := pattern.search(key))]
    return max(found)[1] if found else None


def newest_report(open_bucket: Callable[[str], Bucket], job: Job) -> str | None:
    """Place of the report that the newest attempt with one has stored. Raises StorageError."""
    if job.storage is None or not job.attempt:
        return None
    bucket, keys = run_folder(open_bucket, job)
    places = (keys.attempt(attempt) + REPORT for attempt in range(job.attempt, 0, -1))
    return next((keys.uri(key) for key in places if bucket.exists(key)), None)


def best_step(job: Job, record: RunRecord | None) -> int | None:
    """The step of the best evaluation, also of a job that has not ended."""
    step = (job.results or {}).get("best_global_step")
    if isinstance(step, int):
        return step
    kept = [each.global_step for each in record.evaluations if each.is_best] if record else []
    return kept[-1] if kept else None


def _pages(open_bucket: Callable[[str], Bucket], job: Job) -> tuple[dict[str, Page], Set[str]]:
    config, split = from_document(job.job_config), split_of_job(open_bucket, job)
    train = split.train
    if config.sample_size is not None:
        train = sample_pages(train, config.sample_size, config.seed)
    pages = [*split.train, *split.left_out, *split.test, *split.validation]
    return {page.page_id: page for page in pages}, {page.group for page in train}


def _snapshots(keys: RunKeys, job: Job) -> list[RunFile]:
    found = []
    for name, title in (("dataset", "pages"), ("eval_dataset", "validation pages")):
        fingerprint = str(job.job_config.get(name) or "").partition("@")[2]
        if fingerprint:
            uri = keys.uri(dataset_key(fingerprint, keys.storage.prefix))
            found.append(RunFile(f"{title}, their uncompressed lines", uri, None, fingerprint))
    return found


def _models(bucket: Bucket, keys: RunKeys, job: Job, lease: Lease | None) -> list[RunFile]:
    found = []
    if (prefix := next(published(bucket, keys, job), None)) is not None:
        files = bucket.get_manifest(prefix).files
        found += [
            RunFile(f"best model: {name}", keys.uri(prefix + name), file.size, file.sha256)
            for name, file in sorted(files.items())
        ]
    for name, pointer in (
        ("checkpoint to resume from", lease and lease.checkpoint),
        ("best checkpoint", lease and lease.best),
    ):
        if pointer:
            uri = keys.uri(keys.checkpoint(pointer))
            found.append(RunFile(f"{name}, its manifest", uri, None, pointer.manifest_sha256))
    return found
