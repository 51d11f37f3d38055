"""One attempt at a job: its run directory, its trainer under watch, its mirror. The composition root of a job."""

import shutil
import time
from functools import partial
from pathlib import Path

from receipt_dynamo import Job, JobStatus, Lease
from receipt_layoutlm.config import TrainConfig, from_document, halved
from receipt_layoutlm.data.splits import has_test_set
from receipt_layoutlm.redact import child_environment
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Event, Started
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.encoded_cache import Sharing, entries_of
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.outcome import Work, finish
from receipt_layoutlm.worker.patience import Patience
from receipt_layoutlm.worker.prepare import (
    download_checkpoint,
    fetch_resume_point,
    get_best,
    get_weights,
    prepare_run_dir,
)
from receipt_layoutlm.worker.process import OomCounter, find_cgroup, start_trainer
from receipt_layoutlm.worker.recorder import Recorder, Storehouse
from receipt_layoutlm.worker.rows import JobRows
from receipt_layoutlm.worker.supervisor import Ended, Signs, Watchdog, ran_before, supervise
from receipt_layoutlm.worker.table_snapshot import Pinned, pin_row, pin_snapshot


def work_on(place: Workplace, lease: Lease) -> JobStatus:
    """Train a claimed job to its end and say how it ended; returns its new status.

    Raises LeaseLost, ConfigError, StorageError, DamagedFolder, StoreError, and what pin_snapshot raises.
    """
    began = time.monotonic()
    job = place.queue.client.get_job(lease.job_id, consistent=True)
    asked = from_document(job.job_config)
    place.trust.check(job, asked)
    assert job.storage is not None  # the trust has looked
    keys, bucket = RunKeys(job.storage, job.job_id), place.open_bucket(job.storage.bucket)
    work_dir = place.trust.work_dir(asked, place.work_dir)
    recorder: Recorder | None = None
    with (
        Sharing(bucket, lambda: not place.must_go) as encoded,
        Heartbeat(place.queue, lease, lambda: recorder.progress_text if recorder else "") as heartbeat,
    ):
        patiently = Patience(place, heartbeat)
        snapshot: Pinned | None = None
        if asked.dataset is None:
            snapshot = pin_snapshot(place, job, asked, lease, bucket, patiently)
            job, asked = snapshot.job, from_document(snapshot.job.job_config)
            place.trust.check(job, asked)
        config = halved(asked, job.budgets.out_of_memory)
        run_dir = patiently.do(partial(_lay_out, place, work_dir, job, config, lease, bucket, keys))
        encoded.fetch(entries_of(config, run_dir, work_dir, keys.storage.prefix))
        download = partial(download_checkpoint, bucket, keys, run_dir)
        lease, damages = fetch_resume_point(
            place.queue, lease, config, run_dir, lambda pointer: patiently.do(partial(download, pointer))
        )
        if has_test_set(config):
            patiently.do(partial(get_best, bucket, keys, lease, run_dir))
        events_uri = keys.uri(keys.attempt(lease.attempt) + "logs/events.jsonl")
        rows = JobRows(place.queue.client, lease, place.now, place.secrets, events_uri)
        storehouse = Storehouse(bucket, keys, config.keep_checkpoints)

        def observe(event: Event) -> None:
            if isinstance(event, Started):
                encoded.keep()
            place.observe(job, event)

        recorder = Recorder(place.queue, storehouse, rows, lease, run_dir, place.now, observe)
        work = Work(place, job, config, storehouse, run_dir, heartbeat, recorder, OomCounter(find_cgroup()))
        _log_start(work, asked, damages)
        if snapshot is not None:
            _log_pin(work, snapshot)
        recorder.phase_seconds["prepare"] = round(time.monotonic() - began, 3)
        if (boot_seconds := place.boot_seconds(job)) is not None:
            recorder.phase_seconds["boot"] = round(boot_seconds, 3)
        try:
            return finish(work, _train(work))
        finally:
            _leave_no_checkpoints(run_dir)


def _lay_out(
    place: Workplace, work_dir: Path, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, keys: RunKeys
) -> RunDir:
    """A new run directory with config, pages and weights."""
    run_dir = prepare_run_dir(work_dir, job, config, lease, bucket, keys)
    get_weights(config, run_dir, place.open_bucket)
    return run_dir


def _log_start(work: Work, asked: TrainConfig, damages: list[str]) -> None:
    """run_config first; then what this attempt does otherwise than the job says."""
    rows, config = work.recorder.rows, work.config
    rows.add_log("info", "run_config", f"attempt {work.recorder.lease.attempt} of {work.job.name}", work.job.job_config)
    for damage in damages:
        rows.add_log("warning", "checkpoint_damaged", damage, {})
    if config != asked:
        size, steps = config.batch_size, config.gradient_accumulation_steps
        text = (
            f"after running out of memory: micro-batches of {size} instead of {asked.batch_size}, "
            f"{steps} to a step instead of {asked.gradient_accumulation_steps}"
        )
        sizes = {"batch_size": size, "gradient_accumulation_steps": steps, "bit_exact": False}
        rows.add_log("warning", "micro_batch_halved", text, {**sizes})


def _log_pin(work: Work, snapshot: Pinned) -> None:
    """What this attempt chose for all attempts, and what a person should judge of it."""
    work.recorder.rows.add_log("info", "dataset_pinned", *pin_row(snapshot))
    for finding in snapshot.report.warnings:
        work.recorder.rows.add_log(
            "warning", f"check_{finding.check}", finding.message, {"examples": [*finding.examples]}
        )


def _train(work: Work) -> Ended:
    place, config = work.place, work.config
    runtime_left = None
    if config.max_runtime is not None:
        runtime_left = config.max_runtime - ran_before(place.queue.client.list_attempts(work.job.job_id))
    with start_trainer(work.run_dir, child_environment(place.environment)) as trainer:
        watchdog = Watchdog(work.run_dir.events, config.hang_timeout, runtime_left)
        return supervise(trainer, work.recorder, Signs(place, work.heartbeat, watchdog, work.run_dir.path))


def _leave_no_checkpoints(run_dir: RunDir) -> None:
    """What is worth keeping is in the bucket, and best/ has links of its own; a worker's disk is small."""
    for pattern in ("checkpoint-*", "resumed-from-checkpoint-*", ".checkpoint.partial"):
        for path in run_dir.path.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
