"""One attempt at a job: its run directory, its trainer under watch, its mirror. The composition root of a job."""

import random
import time
from collections.abc import Callable

from receipt_dynamo import Job, JobStatus, Lease
from receipt_layoutlm.attempt_end import Attempt, finish
from receipt_layoutlm.child import start_trainer
from receipt_layoutlm.config import TrainConfig, from_document, halved
from receipt_layoutlm.events import Event
from receipt_layoutlm.exits import OomCounter, find_cgroup
from receipt_layoutlm.heartbeat import Heartbeat
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.redact import child_environment, secrets_of
from receipt_layoutlm.resume_point import fetch_resume_point
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_setup import get_best, get_weights, prepare_run_dir
from receipt_layoutlm.s3 import Bucket, RunPlaces, keep_trying
from receipt_layoutlm.splits import has_test_part
from receipt_layoutlm.supervisor import Ended, Signs, supervise
from receipt_layoutlm.watchdog import Watchdog, ran_before
from receipt_layoutlm.workplace import Workplace


def work_on(place: Workplace, lease: Lease) -> JobStatus:
    """Train a claimed job to its end and say how it ended; returns its new status.

    Raises LeaseLost, ConfigError, StorageError, DamagedFolder, StoreError.
    """
    began = time.monotonic()
    job = place.queue.client.get_job(lease.job_id, consistent=True)
    asked = from_document(job.job_config)
    place.trust.check(job, asked)
    assert job.storage is not None  # the trust has looked
    config = halved(asked, job.budgets.out_of_memory)
    places, bucket = RunPlaces(job.storage, job.job_id), place.open_bucket(job.storage.bucket)
    recorder: Recorder | None = None
    with Heartbeat(place.queue, lease, lambda: recorder.progress if recorder else "") as heartbeat:
        run_dir = _laid_out(place, job, config, lease, bucket, places)
        lease, damages = fetch_resume_point(place.queue, lease, bucket, places, run_dir, place.stop)
        if has_test_part(config):
            _get_best(place, bucket, places, lease, run_dir)
        recorder = Recorder(
            place.queue,
            bucket,
            places,
            lease,
            run_dir,
            place.now,
            _observer(place, job),
            config.keep_checkpoints,
            secrets_of(place.environment),
        )
        attempt = Attempt(place, job, config, bucket, places, run_dir, heartbeat, recorder, OomCounter(find_cgroup()))
        _log_start(attempt, asked, damages)
        recorder.phase_seconds["prepare"] = round(time.monotonic() - began, 3)
        return finish(attempt, _train(attempt))


def _laid_out(
    place: Workplace, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, places: RunPlaces
) -> RunDir:
    """A new run directory with pages and weights; a bucket that is away is waited for until the worker has to stop."""

    def lay_out() -> RunDir:
        run_dir = prepare_run_dir(place.trust.work_dir(config, place.work_dir), job, config, lease, bucket, places)
        get_weights(config, run_dir, place.open_bucket)
        return run_dir

    return keep_trying(lay_out, place.stop.is_set, place.stop.wait, random.Random())


def _get_best(place: Workplace, bucket: Bucket, places: RunPlaces, lease: Lease, run_dir: RunDir) -> None:
    def get() -> None:
        get_best(bucket, places, lease, run_dir)

    keep_trying(get, place.stop.is_set, place.stop.wait, random.Random())


def _log_start(attempt: Attempt, asked: TrainConfig, damages: list[str]) -> None:
    """run_config first; then what this attempt does otherwise than the job says."""
    recorder, job, config = attempt.recorder, attempt.job, attempt.config
    recorder.log("info", "run_config", f"attempt {recorder.lease.attempt} of {job.name}", job.job_config, seq=0)
    for damage in damages:
        recorder.log("warning", "checkpoint_damaged", damage, {}, seq=0)
    if config != asked:
        text = (
            f"after running out of memory: micro-batches of {config.batch_size} instead of {asked.batch_size}, "
            f"{config.gradient_accumulation_steps} to a step instead of {asked.gradient_accumulation_steps}"
        )
        steps = config.gradient_accumulation_steps
        recorder.log(
            "warning",
            "micro_batch_halved",
            text,
            {"batch_size": config.batch_size, "gradient_accumulation_steps": steps, "bit_exact": False},
            seq=0,
        )


def _observer(place: Workplace, job: Job) -> Callable[[Event], None]:
    return lambda event: place.observe(job, event)


def _train(attempt: Attempt) -> Ended:
    place, config = attempt.place, attempt.config
    runtime_left = None
    if config.max_runtime is not None:
        runtime_left = config.max_runtime - ran_before(place.queue.client.list_attempts(attempt.job.job_id))
    with start_trainer(attempt.run_dir, child_environment(place.environment)) as trainer:
        watchdog = Watchdog(attempt.run_dir.events, config.hang_timeout, runtime_left)
        return supervise(trainer, attempt.recorder, Signs(place.stop, place.spot, attempt.heartbeat, watchdog))
