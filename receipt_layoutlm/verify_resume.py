"""job verify-resume: replays the steps between two stored checkpoints in a trainer of its own; compares every bit."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from pydantic import BaseModel, ConfigDict, ValidationError

from receipt_dynamo import DynamoClient, Job, Lease, Pointer
from receipt_layoutlm.checkpoint_compare import Comparison, compare
from receipt_layoutlm.checkpoint_history import listed, whole_checkpoints
from receipt_layoutlm.child import Trainer, tail
from receipt_layoutlm.config import TrainConfig, from_document
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.events import Checkpoint, Event, EventReader, Failed, Finished
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import RunRecord
from receipt_layoutlm.run_setup import get_weights, prepare_run_dir
from receipt_layoutlm.s3 import Bucket, NotStored, RunPlaces

POLL_SECONDS = 0.2
NEVER_SECONDS = 1e9  # between timed checkpoints: a replay needs its last one only


class NothingToReplay(UserError):
    """There are no two such checkpoints; the text lists those there are."""


class ReplayFailed(UserError):
    """The trainer did not come to the step that was to be compared; the text says why."""


@dataclass(frozen=True)
class Span:
    """The steps of a job from one stored checkpoint to a later one."""

    job: Job
    config: TrainConfig
    bucket: Bucket
    places: RunPlaces
    start: Pointer
    end: Pointer

    @property
    def steps(self) -> int:
        return self.end.global_step - self.start.global_step


class Verdict(BaseModel):
    """What a replay has shown."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    from_step: int
    to_step: int
    is_identical: bool
    comparison: Comparison
    reasons: tuple[str, ...]  # how this machine is unlike those that the job ran on; asked only after a difference


def choose_span(
    client: DynamoClient,
    open_bucket: Callable[[str], Bucket],
    job: Job,
    from_step: int | None,
    to_step: int | None,
) -> Span:
    """By default the last checkpoint and the stored one before it. Raises NothingToReplay, ConfigError."""
    if job.storage is None:
        raise NothingToReplay(f"job {job.name} keeps no files in a bucket of this system")
    bucket, places = open_bucket(job.storage.bucket), RunPlaces(job.storage, job.job_id)
    whole = whole_checkpoints(bucket, places, client.get_lease(job.job_id))
    text = f"job {job.name}: the stored checkpoints are {listed(whole)}"
    if len(whole) < 2:
        raise NothingToReplay(
            f"{text}, and a replay leads from one to another: train with --keep-checkpoints 2 or more"
        )
    end = max(whole) if to_step is None else to_step
    before = [step for step in whole if step < end]
    start = max(before, default=end) if from_step is None else from_step
    if start not in whole or end not in whole or start >= end:
        raise NothingToReplay(f"{text}: give two of them, --from the earlier one (got {start} and {end})")
    return Span(job, from_document(job.job_config), bucket, places, whole[start], whole[end])


def verify_resume(
    span: Span, open_bucket: Callable[[str], Bucket], folder: Path, observe: Callable[[Event], None]
) -> Verdict:
    """Replay and compare inside a folder, which may be removed afterwards.

    Raises ReplayFailed, ConfigError, DamagedFolder, StorageError.
    """
    stored = folder / "stored"
    span.bucket.get_folder(span.places.checkpoint(span.end), stored, span.end.manifest_sha256)
    run_dir = _prepare(span, open_bucket, folder / "replay")
    _replay(span, run_dir, observe)
    comparison = compare(stored, run_dir.checkpoint(span.end.global_step))
    return Verdict(
        job_id=span.job.job_id,
        from_step=span.start.global_step,
        to_step=span.end.global_step,
        is_identical=comparison.is_identical,
        comparison=comparison,
        reasons=() if comparison.is_identical else _reasons(span, run_dir),
    )


# the replay


def _prepare(span: Span, open_bucket: Callable[[str], Bucket], folder: Path) -> RunDir:
    """As a worker does it, but for the lease: nothing is claimed and nothing is written to table or bucket."""
    folder.mkdir()
    config = span.config.model_copy(update={"checkpoint_every": NEVER_SECONDS})
    nobody = Lease(job_id=span.job.job_id, attempt=span.start.attempt)
    run_dir = prepare_run_dir(folder, span.job, config, nobody, span.bucket, span.places)
    get_weights(config, run_dir, open_bucket)
    start = run_dir.checkpoint(span.start.global_step)
    span.bucket.get_folder(span.places.checkpoint(span.start), start, span.start.manifest_sha256)
    return run_dir


def _replay(span: Span, run_dir: RunDir, observe: Callable[[Event], None]) -> None:
    until = span.end.global_step
    reader, end = EventReader(run_dir.events), None
    with _start_trainer(run_dir, until) as trainer:
        code = None
        while code is None:
            code = trainer.exit_code(POLL_SECONDS)
            for event in reader.read():
                observe(event)
                end = event if isinstance(event, Finished | Failed) else end
                if isinstance(event, Checkpoint) and event.global_step != until:
                    rmtree(run_dir.path / event.folder)  # one more would be as large as the first
    if isinstance(end, Finished) and end.global_step == until:
        return
    why = end.message if isinstance(end, Failed) else f"it ended at step {end.global_step}" if end else ""
    raise ReplayFailed(
        f"the replay did not come to step {until}: {why or tail(run_dir.train_log) or f'exit code {code}'}"
    )


@contextmanager
def _start_trainer(run_dir: RunDir, until: int) -> Iterator[Trainer]:
    """As child.start_trainer, but it ends after a step; it is gone after the block."""
    command = [sys.executable, "-m", "receipt_layoutlm.trainer", str(run_dir.path), str(until)]
    with run_dir.train_log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)
    trainer = Trainer(process)
    try:
        yield trainer
    finally:
        trainer.kill()
        if process.stdin is not None:
            process.stdin.close()


# why a replay may differ


def _reasons(span: Span, run_dir: RunDir) -> tuple[str, ...]:
    """How the machines of the attempts between the checkpoints are unlike this one."""
    here = RunRecord.model_validate_json(run_dir.run_json.read_bytes())
    found: list[str] = []
    for attempt in range(max(1, span.start.attempt), span.end.attempt + 1):
        record = _record_of(span, attempt)
        found += [] if record is None else [f"attempt {attempt}: {text}" for text in unlike(record, here)]
    if here.hardware.device != "cpu":
        found.append(f"on {here.hardware.device} not even two runs on one machine are equal bit by bit")
    return tuple(found)


def _record_of(span: Span, attempt: int) -> RunRecord | None:
    try:
        return RunRecord.model_validate_json(span.bucket.get_bytes(span.places.attempt(attempt) + "run.json"))
    except (NotStored, ValidationError):
        return None


def unlike(there: RunRecord, here: RunRecord) -> list[str]:
    """What two runs of one job did not have in common and their numbers may depend on, in words."""
    found = []
    for name in ("device", "device_name", "machine", "threads", "precision", "processes"):
        one, other = getattr(there.hardware, name), getattr(here.hardware, name)
        found += [f"{name.replace('_', ' ')} {one or 'unknown'} there, {other or 'unknown'} here"] * (one != other)
    for name in sorted(there.versions.keys() | here.versions.keys()):
        one, other = there.versions.get(name, "none"), here.versions.get(name, "none")
        found += [f"{name} {one} there, {other} here"] * (one != other)
    for code, one, other in (
        ("commit", there.git_sha, here.git_sha),
        ("wheel", there.wheel_sha256, here.wheel_sha256),
    ):
        if one != other and one and other:
            found.append(f"code of {code} {one[:12]} there, {other[:12]} here")
    if there.config.batch_size != here.config.batch_size:
        sizes = f"{there.config.batch_size} windows there, {here.config.batch_size} here"
        found.append(f"micro-batches of {sizes}: halved after running out of memory, which is not bit-exact")
    return found
