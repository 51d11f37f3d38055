"""Tiny runs that were trained in this process, and jobs that have them stored as a worker stores them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job, JobError, JobLog, Lease, Pointer, Storage
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.snapshot import fingerprint
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Checkpoint, Evaluation
from receipt_layoutlm.run.manifest import MANIFEST, write_manifest
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.training.loop import train
from tests.support.runs import events_of, never, new_run
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

PAGES = 12
EPOCH = 3  # steps: half of the pages train, 2 a step


def tiny_run(folder: Path, model: Path, **options: object) -> RunDir:
    """A run trained to its end."""
    dataset = f"tiny@{fingerprint(tiny_pages(PAGES))}"
    run_dir = new_run(folder, model, PAGES, dataset=dataset, batch_size=2, **options)
    train(run_dir, never)
    return run_dir


def changed(run_dir: RunDir, folder: Path, step: int, change: Callable[[Path], None]) -> RunDir:
    """A copy in which something was done to one checkpoint, before its manifest: it is valid in itself."""
    shutil.copytree(run_dir.path, folder, symlinks=True)
    change(folder / f"checkpoint-{step}")
    write_manifest(folder / f"checkpoint-{step}", step)
    return RunDir(folder)


@dataclass
class Trained:
    """One job, what its only attempt wrote, and its lease."""

    store: Store
    job: Job
    lease: Lease
    run_dir: RunDir

    @property
    def keys(self) -> RunKeys:
        return RunKeys(Storage(bucket=self.store.bucket.name), self.job.job_id)

    @property
    def evaluations(self) -> list[Evaluation]:
        return [event for event in events_of(self.run_dir) if isinstance(event, Evaluation)]

    def pointer(self, step: int) -> Pointer:
        digest = hashlib.sha256((self.run_dir.checkpoint(step) / MANIFEST).read_bytes()).hexdigest()
        return Pointer(attempt=1, global_step=step, manifest_sha256=digest)

    def keep(self, event: Checkpoint) -> None:
        pointer = self.pointer(event.global_step)
        self.store.bucket.put_folder(self.run_dir.checkpoint(event.global_step), self.keys.checkpoint(pointer))
        self.lease = self.store.queue.record_checkpoint(self.lease, pointer, pointer if event.is_best else None)

    def fail(self) -> None:
        self.store.queue.fail(self.lease, JobError(cause="bad_data", message="made up"))

    def succeed(self) -> None:
        """Without the files of best/."""
        row = JobLog(
            job_id=self.job.job_id,
            timestamp=self.store.clock(),
            level="info",
            event="run_summary",
            message="",
            attempt=1,
            seq=99,
        )
        self.store.queue.complete(self.lease, results={}, summary=row)


def stored(store: Store, run_dir: RunDir, name: str = "parent") -> Trained:
    """A running job whose checkpoints are all stored, in the bucket and in the lease."""
    pages = tiny_pages(PAGES)
    add_snapshot(store.queue.client, store.bucket, describe_dataset("tiny", pages, "test", store.clock()), pages)
    config = WordLabelsConfig.model_validate_json(run_dir.config.read_bytes())
    job = store.queue.submit(
        name=name,
        config=to_document(config, {"epochs": "flag"}),
        created_by="tests",
        storage=Storage(bucket=store.bucket.name),
    )
    lease = store.queue.claim_job(job.job_id, "worker-1")
    assert lease is not None
    whole = Trained(store, job, lease, run_dir)
    for event in events_of(run_dir):
        if isinstance(event, Checkpoint):
            whole.keep(event)
    store.bucket.put_file(run_dir.run_json, whole.keys.attempt(1) + "run.json")
    return whole


def succeeded(store: Store, run_dir: RunDir, name: str = "parent") -> Trained:
    """As `stored`, and ended."""
    whole = stored(store, run_dir, name)
    whole.succeed()
    return whole


def change_state(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    """Does something to state.json of a checkpoint."""

    def rewrite(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_bytes())
        change(state)
        (folder / "state.json").write_text(json.dumps(state))

    return rewrite
