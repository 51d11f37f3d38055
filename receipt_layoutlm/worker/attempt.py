"""One attempt at a job, from its lease to the moment before its trainer starts."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from receipt_dynamo import Job, JsonObject, Lease
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.data.splits import has_test_set
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, Event, Started
from receipt_layoutlm.storage.tables import TableFolder
from receipt_layoutlm.worker.alerts import collapse_text
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.encoded_cache import EncodedCache, entries_of
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.patience import Patience
from receipt_layoutlm.worker.prepare import fetch_resume_point, get_best, get_weights, prepare_run_dir
from receipt_layoutlm.worker.recorder import Recorder, RunStorage
from receipt_layoutlm.worker.rows import JobRows
from receipt_layoutlm.worker.table_snapshot import Pinned, pin_row, pin_snapshot


@dataclass(frozen=True)
class AttemptContext:
    """An attempt that is ready to train: its inputs lie in the run directory, its rows go through the recorder."""

    ctx: WorkerContext
    job: Job
    config: TrainConfig  # of this attempt: after running out of memory its micro-batch is half the job's
    run_dir: RunDir
    storage: RunStorage
    recorder: Recorder
    heartbeat: Heartbeat
    patience: Patience


def prepare_attempt(
    ctx: WorkerContext, job: Job, lease: Lease, storage: RunStorage, encoded: EncodedCache, heartbeat: Heartbeat
) -> AttemptContext:
    """Pin the dataset where the job has none, fetch the trainer's inputs, log the start.

    Waits for a bucket that is away. Raises as run_attempt.
    """
    began = time.monotonic()
    patience = Patience(ctx, heartbeat)
    bucket, keys = storage.bucket, storage.keys
    requested = from_document(job.job_config)
    snapshot: Pinned | None = None
    if requested.dataset is None:
        snapshot = pin_snapshot(ctx, job, requested, lease, bucket, patience)
        job, requested = snapshot.job, from_document(snapshot.job.job_config)
        ctx.policy.check(job, requested)
    config = requested.halved(job.budgets.out_of_memory)
    work_dir = ctx.policy.work_dir(requested)

    def fetch_inputs() -> RunDir:
        run_dir = prepare_run_dir(work_dir, job, config, lease, bucket, keys)
        get_weights(config, run_dir, ctx.open_bucket)
        return run_dir

    run_dir = patience.retry_until_stopped(fetch_inputs)
    encoded.fetch(entries_of(config, run_dir, work_dir, keys.storage.prefix))
    resumed, damages = fetch_resume_point(ctx.queue, lease, config, run_dir, storage, patience)
    if has_test_set(config):
        patience.retry_until_stopped(lambda: get_best(bucket, keys, resumed, run_dir))

    was_told = list[int]()  # of a collapse; the row would refuse it again

    def observe(event: Event) -> None:
        if isinstance(event, Started):
            encoded.keep()
        if isinstance(event, Evaluation) and event.collapsed and not was_told:
            ctx.alerts.while_held(job, lease, "collapsed", "warning", collapse_text(event))
            was_told.append(event.global_step)
        ctx.observe(job, event)

    events_uri = keys.uri(keys.attempt(lease.attempt) + "logs/events.jsonl")
    fit = TableFolder(bucket, keys, lease.attempt).fit
    rows = patience.retry_while_leased(
        lambda: JobRows(ctx.queue.client, resumed, ctx.now, ctx.secrets, events_uri, fit)
    )
    recorder = Recorder(ctx.queue, storage, rows, resumed, run_dir, heartbeat, observe, ctx.now)
    _log_start(rows, lease.attempt, job, requested, config, damages, snapshot)
    recorder.phase_seconds["prepare"] = round(time.monotonic() - began, 3)
    if (boot_seconds := ctx.host.boot_seconds(job)) is not None:
        recorder.phase_seconds["boot"] = round(boot_seconds, 3)
    return AttemptContext(ctx, job, config, run_dir, storage, recorder, heartbeat, patience)


def _log_start(
    rows: JobRows,
    attempt: int,
    job: Job,
    requested: TrainConfig,
    config: TrainConfig,
    damages: Sequence[str],
    snapshot: Pinned | None,
) -> None:
    """Log run_config first, then how this attempt differs from the job, then the snapshot that it pinned."""
    rows.add_log("info", "run_config", f"attempt {attempt} of {job.name}", job.job_config)
    for damage in damages:
        rows.add_log("warning", "checkpoint_damaged", damage, {})
    if config != requested:
        size, steps = config.batch_size, config.gradient_accumulation_steps
        text = (
            f"after running out of memory: micro-batches of {size} instead of {requested.batch_size}, "
            f"{steps} to a step instead of {requested.gradient_accumulation_steps}"
        )
        sizes = {"batch_size": size, "gradient_accumulation_steps": steps, "bit_exact": False}
        rows.add_log("warning", "micro_batch_halved", text, {**sizes})
    if snapshot is not None:
        rows.add_log("info", "dataset_pinned", *pin_row(snapshot))
        for finding in snapshot.report.warnings:
            data: JsonObject = {"examples": [*finding.examples]}
            rows.add_log("warning", f"check_{finding.check}", finding.message, data)


def remove_checkpoints(run_dir: RunDir) -> None:
    """Free the disk of checkpoints: those worth keeping are in the bucket, and best/ has links of its own."""
    for pattern in ("checkpoint-*", "resumed-from-checkpoint-*", ".checkpoint.partial"):
        for path in run_dir.path.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
