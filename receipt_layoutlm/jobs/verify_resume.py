"""Replays the steps between two stored checkpoints in a separate trainer and compares the result bit by bit."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open

from receipt_dynamo import DynamoClient, Job, Lease, Pointer
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Checkpoint, Event, EventReader, Failed, Finished
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.run.state import TrainState
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import listed, whole_checkpoints
from receipt_layoutlm.worker.prepare import get_weights, prepare_run_dir
from receipt_layoutlm.worker.process import TrainerProcess, tail

TENSOR_FILES = {
    "model.safetensors": "weights",
    "optimizer.safetensors": "moments",
    "rng.safetensors": "random states",
}
STATE = "state.json"
POLL_SECONDS = 0.2
NEVER_SECONDS = 1e9  # between timed checkpoints: a replay needs its last one only
_OF_AN_EVALUATION = {"evaluation_due", "best_step", "best_metric_value", "evaluations_without_best"}
_SINCE_AN_EVALUATION = {"loss_sum", "loss_count"}


class TensorCount(BaseModel):
    """Tensors of one kind in both checkpoints together, and how many of them differ by how much."""

    model_config = ConfigDict(frozen=True)

    tensors: int
    differing: int
    largest_difference: float  # absolute, among floats that both have in the same shape


class Comparison(BaseModel):
    """Differences between a stored checkpoint and its replay."""

    model_config = ConfigDict(frozen=True)

    tensors: dict[str, TensorCount]  # by kind
    evaluations: tuple[int, ...]  # global steps of those that differ or that only one has
    state: tuple[str, ...]  # names of other fields of the state that differ
    left_out: int | None  # step of the evaluation that the stored checkpoint did not have yet

    @property
    def is_identical(self) -> bool:
        differing = sum(count.differing for count in self.tensors.values())
        return not (differing or self.evaluations or self.state)


def compare_checkpoints(stored: Path, replayed: Path) -> Comparison:
    """Compare two verified checkpoint folders of one step."""
    old, new = (TrainState.model_validate_json((folder / STATE).read_bytes()) for folder in (stored, replayed))
    is_due = old.evaluation_due and not new.evaluation_due
    replayed_evaluations = [each for each in new.evaluations if not (is_due and each.global_step == old.global_step)]
    by_step = [
        {each.global_step: each.model_dump(exclude={"seq", "time"}) for each in evaluations}
        for evaluations in (old.evaluations, replayed_evaluations)
    ]
    steps = sorted(by_step[0].keys() | by_step[1].keys())
    ignored = {"evaluations", *(_OF_AN_EVALUATION | _SINCE_AN_EVALUATION if is_due else ())}
    return Comparison(
        tensors={kind: _compare_tensors(stored / name, replayed / name) for name, kind in TENSOR_FILES.items()},
        evaluations=tuple(step for step in steps if by_step[0].get(step) != by_step[1].get(step)),
        state=tuple(
            name for name in TrainState.model_fields if name not in ignored and getattr(old, name) != getattr(new, name)
        ),
        left_out=old.global_step if is_due else None,
    )


def _compare_tensors(first: Path, second: Path) -> TensorCount:
    """One tensor at a time, so that memory never holds two checkpoints."""
    differing, largest = 0, 0.0
    with safe_open(first, "numpy") as old, safe_open(second, "numpy") as new:
        names = set(old.keys()), set(new.keys())
        for name in names[0] & names[1]:
            one, other = old.get_tensor(name), new.get_tensor(name)
            if one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes():
                continue
            differing += 1
            if one.shape == other.shape and one.dtype.kind == "f" and one.size:
                largest = max(largest, float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)))))
    return TensorCount(
        tensors=len(names[0] | names[1]), differing=differing + len(names[0] ^ names[1]), largest_difference=largest
    )


class NothingToReplay(UserError):
    """The job does not have the two checkpoints; the text lists the stored ones."""


class ReplayFailed(UserError):
    """The trainer did not reach the step to compare; the text has the reason."""


@dataclass(frozen=True)
class ReplaySpan:
    """The steps of a job from one stored checkpoint to a later one."""

    job: Job
    config: TrainConfig
    bucket: Bucket
    keys: RunKeys
    start: Pointer
    end: Pointer

    @property
    def steps(self) -> int:
        return self.end.global_step - self.start.global_step


class Verdict(BaseModel):
    """Result of a replay."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    from_step: int
    to_step: int
    is_identical: bool
    comparison: Comparison
    reasons: tuple[str, ...]  # how this machine differs from the job's; collected after a difference only


def choose_span(
    client: DynamoClient,
    open_bucket: Callable[[str], Bucket],
    job: Job,
    from_step: int | None,
    to_step: int | None,
) -> ReplaySpan:
    """The steps to replay; by default up to the last checkpoint, from the one before. Raises NothingToReplay."""
    if job.storage is None:
        raise NothingToReplay(f"job {job.name} keeps no files in a bucket of this system")
    bucket, keys = open_bucket(job.storage.bucket), RunKeys(job.storage, job.job_id)
    whole = whole_checkpoints(bucket, keys, client.get_lease(job.job_id))
    text = f"job {job.name}: the stored checkpoints are {listed(whole)}"
    if len(whole) < 2:
        raise NothingToReplay(f"{text}, and a replay needs two: train with --keep-checkpoints 2 or more")
    end = max(whole) if to_step is None else to_step
    before = [step for step in whole if step < end]
    start = max(before, default=end) if from_step is None else from_step
    if start not in whole or end not in whole or start >= end:
        raise NothingToReplay(f"{text}: give two of them, with --from the earlier one (got {start} and {end})")
    return ReplaySpan(job, from_document(job.job_config), bucket, keys, whole[start], whole[end])


def verify_resume(
    span: ReplaySpan, open_bucket: Callable[[str], Bucket], folder: Path, observe: Callable[[Event], None]
) -> Verdict:
    """Replay and compare inside a temporary folder, without claiming the job or writing to table or bucket.

    Raises ReplayFailed, ConfigError, DamagedFolder, StorageError.
    """
    stored = folder / "stored"
    span.bucket.get_folder(span.keys.checkpoint(span.end), stored, span.end.manifest_sha256)
    (folder / "replay").mkdir()
    config = span.config.model_copy(update={"checkpoint_every": NEVER_SECONDS})
    unheld = Lease(job_id=span.job.job_id, attempt=span.start.attempt)
    run_dir = prepare_run_dir(folder / "replay", span.job, config, unheld, span.bucket, span.keys)
    get_weights(config, run_dir, open_bucket)
    start = run_dir.checkpoint(span.start.global_step)
    span.bucket.get_folder(span.keys.checkpoint(span.start), start, span.start.manifest_sha256)
    _replay(run_dir, span.end.global_step, observe)
    comparison = compare_checkpoints(stored, run_dir.checkpoint(span.end.global_step))

    reasons: list[str] = []
    if not comparison.is_identical:
        here = RunRecord.model_validate_json(run_dir.run_json.read_bytes())
        for attempt in range(max(1, span.start.attempt), span.end.attempt + 1):
            with suppress(NotStored, ValidationError):
                there = RunRecord.model_validate_json(span.bucket.get_bytes(span.keys.attempt(attempt) + "run.json"))
                reasons += [f"attempt {attempt}: {text}" for text in environment_differences(there, here)]
        if here.hardware.device != "cpu":
            reasons.append(f"on {here.hardware.device}, even two runs on one machine are not bit-identical")
    return Verdict(
        job_id=span.job.job_id,
        from_step=span.start.global_step,
        to_step=span.end.global_step,
        is_identical=comparison.is_identical,
        comparison=comparison,
        reasons=tuple(reasons),
    )


def _replay(run_dir: RunDir, until: int, observe: Callable[[Event], None]) -> None:
    """Train in a child process until the step. Raises ReplayFailed."""
    reader, end, code = EventReader(run_dir.events), None, None
    command = [sys.executable, "-m", "receipt_layoutlm.training", str(run_dir.path), str(until)]
    with run_dir.open_train_log() as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)
    trainer = TrainerProcess(process)
    try:
        while code is None:
            code = trainer.exit_code(POLL_SECONDS)
            for event in reader.read():
                observe(event)
                end = event if isinstance(event, Finished | Failed) else end
                if isinstance(event, Checkpoint) and event.global_step != until:
                    rmtree(run_dir.path / event.folder)  # the folder holds two checkpoints already
    finally:
        trainer.kill()
        if process.stdin is not None:
            process.stdin.close()
    if isinstance(end, Finished) and end.global_step == until:
        return
    reason = end.message if isinstance(end, Failed) else f"it ended at step {end.global_step}" if end else ""
    raise ReplayFailed(
        f"the replay did not reach step {until}: {reason or tail(run_dir.train_log) or f'exit code {code}'}"
    )


def environment_differences(there: RunRecord, here: RunRecord) -> list[str]:
    """Differences between the environments of two runs of one job that may change their numbers."""
    differences = []
    for name in ("device", "device_name", "machine", "threads", "precision", "processes"):
        one, other = getattr(there.hardware, name), getattr(here.hardware, name)
        differences += [f"{name.replace('_', ' ')} {one or 'unknown'} there, {other or 'unknown'} here"] * (
            one != other
        )
    for name in sorted(there.versions.keys() | here.versions.keys()):
        one, other = there.versions.get(name, "none"), here.versions.get(name, "none")
        differences += [f"{name} {one} there, {other} here"] * (one != other)
    for code, one, other in (
        ("commit", there.git_sha, here.git_sha),
        ("wheel", there.wheel_sha256, here.wheel_sha256),
    ):
        if one != other and one and other:
            differences.append(f"code of {code} {one[:12]} there, {other[:12]} here")
    if there.config.batch_size != here.config.batch_size:
        sizes = f"{there.config.batch_size} windows there, {here.config.batch_size} here"
        differences.append(f"micro-batches of {sizes}: halved after running out of memory, which is not bit-exact")
    return differences
