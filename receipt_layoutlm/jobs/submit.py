"""Submission of a training job: `prepare_submission` reads and checks, `submit` writes.

A continuation is prepared by `prepare_continuation`; a dry run ends after the preparation.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from receipt_dynamo import Dataset, DynamoClient, Job, JobQueue, JsonObject, NotFound, Storage, utcnow
from receipt_dynamo.entities import new_job_id
from receipt_dynamo.limits import check_lengths, cut_text
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.frozen_split import FrozenSplit, is_pinned
from receipt_layoutlm.data.page import DEFAULT_ORDER, WordOrder
from receipt_layoutlm.datasets.checks import (
    keep_order_command,
    pin_split,
    put_split,
    put_summary,
    read_split,
    stored_pages,
    without_errors,
)
from receipt_layoutlm.datasets.choice import ChosenDataset, NoDatasetChosen, check_worker_can_snapshot, choose_dataset
from receipt_layoutlm.datasets.receipt_snapshot import SnapshotProgress
from receipt_layoutlm.datasets.snapshots import ensure_snapshot_at, find_dataset, pinned
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.jobs.continuation import PARENT_TAG, Parent, continued, copy_checkpoint, find_parent
from receipt_layoutlm.jobs.option_checks import doubtful
from receipt_layoutlm.jobs.plan import TrainingPlan, learned_labels, make_plan, with_estimate
from receipt_layoutlm.jobs.request import JobRequest, ResolvedOptions
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys, parse_s3_uri
from receipt_layoutlm.storage.weights import mirrored

WARNING_CHARACTERS = 1000  # in a job: a warning may name every label, and the stored report has all of it


@dataclass(frozen=True)
class SubmitContext:
    """The table and buckets of a submission. A dry run may lack the table, the training bucket, or both."""

    client: DynamoClient | None
    open_bucket: Callable[[str], Bucket]
    training_bucket: str | None


class KeyTaken(UserError):
    """The unique key belongs to a job with other options; the text shows what differs."""


@dataclass(frozen=True)
class Submitted:
    """The job of a submission. `is_new` is False where its unique key had been submitted before, with these options."""

    job: Job
    is_new: bool


@dataclass(frozen=True)
class Submission:
    """A checked job that is not submitted yet: everything that `submit` writes, and `train --dry-run` shows.

    The dataset and its plan are None where the worker takes the pages, or where a dry run has no table or no data.
    """

    config: TrainConfig  # dataset, validation dataset and split pinned
    given: Mapping[str, str]
    request: JobRequest
    storage: Storage | None
    dataset: ChosenDataset | None = None
    evaluation: Dataset | None = None
    frozen: FrozenSplit | None = None
    report: CheckReport | None = None
    plan: TrainingPlan | None = None
    parent: Parent | None = None
    recipe: str | None = None
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # option -> labels that are not learned

    def __post_init__(self) -> None:
        tags: JsonObject = dict(self.request.all_tags())
        check_lengths(description=self.request.description, tags=tags, config=self.document)

    def require_dataset(self) -> None:
        """Raises NoDatasetChosen when there is nothing to train on."""
        if self.dataset is None and not self.config.snapshot_on_worker:
            raise NoDatasetChosen(
                "the store has no dataset: give --data FILE, or import one: `layoutlm-cli dataset import --help` lists "
                "the formats, `layoutlm-cli dataset import sample` generates receipts"
            )

    def check_time(self, now: datetime) -> None:
        """Raises ConfigError for a time that has passed. A second submit of a key comes later than its first."""
        if (due := self.request.not_before) is not None and due <= now:
            raise ConfigError(
                f"--not-before {due.isoformat()} has passed (it is {now.isoformat(timespec='seconds')}): give a later "
                "time, or leave it out to start at once"
            )

    @property
    def document(self) -> JsonObject:
        """The job_config to store."""
        warnings = self.plan.warnings if self.plan else doubtful(self.config, None)
        shown = [cut_text(text, WARNING_CHARACTERS) for text in warnings]
        return to_document(self.config, self.given, shown, self.recipe)


def prepare_submission(
    context: SubmitContext,
    resolved: ResolvedOptions,
    file: Path | None,
    on_progress: Callable[[SnapshotProgress], None],
    order: WordOrder = DEFAULT_ORDER,
) -> Submission:
    """Choose, check and pin what a new job trains on; `order` is that of the words in a file. Writes nothing.

    Raises CheckFailed, ConfigError, DataError, LabelError, NoDatasetChosen, NoLabels, NotFound, StorageError.
    """
    client, config, request = context.client, resolved.config, resolved.request
    home = context.open_bucket(context.training_bucket) if context.training_bucket else None
    home_storage = Storage(bucket=home.name) if home else None
    storage = parse_s3_uri(request.output_s3_path) if request.output_s3_path else home_storage
    if home is not None:
        config = mirrored(home, config)

    dataset = None
    if not config.snapshot_on_worker:
        now = client.now() if client else utcnow()
        dataset = choose_dataset(client, home, config, file, now, on_progress, order)
    elif client is not None:
        check_worker_can_snapshot(client, home_storage, storage)
    held_out = config.eval_dataset
    evaluation = find_dataset(client, held_out, "eval_dataset") if client and held_out else None
    if storage is not None:
        config, frozen = pin_split(config, context.open_bucket(storage.bucket), storage.prefix)
    else:
        config, frozen = (config, None) if is_pinned(config.split) else read_split(config)
    pins = {"dataset": dataset and pinned(dataset.dataset), "eval_dataset": evaluation and pinned(evaluation)}
    config = config.model_copy(update={name: pin for name, pin in pins.items() if pin is not None})

    report, plan, left_out = None, None, {}
    if dataset is not None:
        keep_order = (
            f"`layoutlm-cli train --data {shlex.quote(str(file))} --order given`"
            if file
            else keep_order_command(dataset.dataset)
        )
        report = _check(home, dataset, evaluation, frozen, config, keep_order)
    if dataset is not None or config.snapshot_on_worker:
        learned = learned_labels(config, None if dataset is None else dataset.dataset, report)
        whole, config = config, config.without_unlearned(resolved.from_recipe, learned)
        left_out = _left_out(whole, config, resolved.from_recipe)
    if dataset is not None:
        plan = make_plan(config, dataset.dataset, evaluation, report)
        plan = with_estimate(plan, client, config) if client else plan
    return Submission(
        config=config,
        given=resolved.given,
        request=request,
        storage=storage,
        dataset=dataset,
        evaluation=evaluation,
        frozen=frozen,
        report=report,
        plan=plan,
        recipe=resolved.recipe,
        left_out=left_out,
    )


def _left_out(whole: TrainConfig, fitted: TrainConfig, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Values of these options that the fitted config lacks."""
    values = {name: (getattr(whole, name), getattr(fitted, name)) for name in names}
    return {name: tuple(sorted({*before} - {*now})) for name, (before, now) in values.items() if before != now}


def _check(
    home: Bucket | None,
    dataset: ChosenDataset,
    evaluation: Dataset | None,
    frozen: FrozenSplit | None,
    config: TrainConfig,
    keep_order: str,
) -> CheckReport | None:
    """The report on the pages; None where a dry run cannot reach them, or the split. Raises CheckFailed."""
    if is_pinned(config.split) and frozen is None:
        return None
    pages, held_out = dataset.pages, None
    if home is not None:
        pages = stored_pages(home, dataset.dataset) if pages is None else pages
        held_out = None if evaluation is None else stored_pages(home, evaluation)
    elif pages is None or evaluation is not None:
        return None
    return without_errors(check_dataset(CheckInput(pages, held_out, frozen, keep_order=keep_order), config))


def prepare_continuation(
    context: SubmitContext, reference: str, flags: Mapping[str, object], file: Mapping[str, object]
) -> Submission:
    """Find the checkpoint that a new job resumes from (JOB or JOB@STEP) and check its options. Writes nothing.

    Raises ConfigError, DamagedFolder, NotContinuable, NotFound, StorageError.
    """
    client = context.client
    assert client is not None
    parent = find_parent(client, context.open_bucket, reference)
    resolved = continued(parent, flags, file)
    config, storage = resolved.config, parent.keys.storage
    if resolved.request.output_s3_path:
        storage = parse_s3_uri(resolved.request.output_s3_path)
    if storage.bucket != parent.bucket.name:
        raise StorageError(
            f"--output-s3-path: a checkpoint is copied inside one bucket, so name a place in s3://{parent.bucket.name}"
        )
    _, frozen = pin_split(config, parent.bucket, parent.keys.storage.prefix)
    dataset = find_dataset(client, config.dataset or "")
    evaluation = find_dataset(client, config.eval_dataset) if config.eval_dataset else None
    plan = make_plan(config, dataset, evaluation)
    plan = plan.model_copy(update={"steps": max(0, plan.steps - parent.state.global_step)})
    return Submission(
        config=config,
        given=resolved.given,
        request=resolved.request,
        storage=storage,
        dataset=ChosenDataset(dataset),
        evaluation=evaluation,
        frozen=frozen,
        plan=with_estimate(plan, client, config),
        parent=parent,
        recipe=parent.recipe,
    )


def submit(
    context: SubmitContext, submission: Submission, created_by: str, unique_key: str | None, summary: str | None
) -> Submitted:
    """Store the pages and the summary of their check, copy a parent's checkpoint, then create the job.

    The same unique key again returns the first job and copies nothing. Raises ForgottenMeanwhile, KeyTaken,
    NoDatasetChosen, NotContinuable, StorageError.
    """
    client, storage, request, parent = context.client, submission.storage, submission.request, submission.parent
    assert client is not None and storage is not None  # only a dry run may lack them
    submission.require_dataset()
    check_lengths(created_by=created_by)  # before anything is stored
    if (earlier := earlier_job(context, submission, unique_key)) is not None:
        return Submitted(earlier, is_new=False)
    submission.check_time(client.now())

    job_id, checkpoint, best = new_job_id(unique_key), None, None
    target = context.open_bucket(storage.bucket)
    if parent is not None:
        source, source_prefix = parent.bucket, parent.keys.storage.prefix
    else:
        assert context.training_bucket is not None
        source, source_prefix = context.open_bucket(context.training_bucket), ""
    if submission.dataset is not None:
        dataset = submission.dataset.store(client, source)
        ensure_snapshot_at(source, source_prefix, target, storage.prefix, dataset)
        if summary is not None:
            put_summary(source, dataset, summary)
    if submission.evaluation is not None:
        ensure_snapshot_at(source, source_prefix, target, storage.prefix, submission.evaluation)
    if submission.frozen is not None:
        put_split(target, storage.prefix, submission.frozen)
    if parent is not None:
        checkpoint, best = copy_checkpoint(parent, RunKeys(storage, job_id))
    job = JobQueue(client).submit(
        name=request.job_name,
        config=submission.document,
        created_by=created_by,
        queue=request.queue,
        priority=request.priority,
        description=request.description,
        tags={**request.all_tags(), **({PARENT_TAG: parent.job.job_id} if parent else {})},
        storage=storage,
        job_id=job_id,
        checkpoint=checkpoint,
        best=best,
        not_before=request.not_before,
        max_cost=request.max_cost,
        notify=request.notify,
    )
    # of two submits of a key at once, the queue returns the job of the first to both
    return Submitted(job if unique_key is None else _same(submission, job, unique_key), is_new=True)


def earlier_job(context: SubmitContext, submission: Submission, unique_key: str | None) -> Job | None:
    """The job that has this key already, with these options. Raises InvalidInput, KeyTaken."""
    check_lengths(unique_key=unique_key)
    if unique_key is None or context.client is None:
        return None
    with suppress(NotFound):
        return _same(submission, context.client.get_job(new_job_id(unique_key), consistent=True), unique_key)
    return None


def _same(submission: Submission, job: Job, unique_key: str) -> Job:
    """The stored job of a key. Raises KeyTaken if it was submitted with other options."""
    request, config = submission.request, submission.config.model_dump(mode="json")
    parent = {PARENT_TAG: submission.parent.job.job_id} if submission.parent else {}
    now: dict[str, object] = {
        **config,
        "priority": request.priority,
        "queue": request.queue,
        "description": request.description,
        "tags": {**request.all_tags(), **parent},
        "max_cost": request.max_cost,
        "notify": request.notify,
    }
    before: dict[str, object] = {
        **{name: job.job_config.get(name, value) for name, value in config.items()},
        **{name: getattr(job, name) for name in ("priority", "queue", "description", "tags", "max_cost", "notify")},
    }
    if job.attempt == 0:  # later it is the end of a backoff
        now["not_before"], before["not_before"] = request.not_before, job.not_before
    if request.job_name is not None:
        now["job_name"], before["job_name"] = request.job_name, job.name
    if request.output_s3_path is not None:
        now["output_s3_path"], before["output_s3_path"] = submission.storage, job.storage
    if changed := [name for name in now if now[name] != before[name]]:
        differing = ", ".join(f"{flag_of(name)} {_shown(before[name])}, now {_shown(now[name])}" for name in changed)
        raise KeyTaken(
            f"--unique-key {unique_key} is the key of job {job.name} ({job.job_id}, {job.status}), which was submitted "
            f"with other options: {differing}. Use another key, or the options of that job"
        )
    return job


def _shown(value: object) -> str:
    if isinstance(value, Storage):
        return f"s3://{value.bucket}/{value.prefix}"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        value = [f"{key}={each}" for key, each in value.items()]
    if value is None or value == "" or value == []:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
