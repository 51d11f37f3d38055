"""checkpoint-{step}/: written whole or not at all, read only after every file was checked against its manifest.

Only safetensors and JSON, so reading a checkpoint runs no code. A folder is never changed or deleted here: its reader
and its uploader need no lock. A background thread writes from a copy of the state while training continues.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.manifest import MANIFEST, MODEL, RESUME_ONLY, verify, write_manifest
from receipt_layoutlm.run.state import TrainState

OPTIMIZER = "optimizer.safetensors"
RNG = "rng.safetensors"
STATE = "state.json"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a run at one moment, on the CPU; all that resuming needs."""

    state: TrainState
    weights: Tensors
    optimizer: Tensors
    rng: Tensors


def copied(tensors: Tensors) -> Tensors:
    """A copy in this machine's memory, which the next optimizer step does not change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def write_checkpoint(
    run_dir: RunDir, save_model: Callable[[Path, Tensors, Evaluation | None], None], snapshot: Snapshot
) -> tuple[Path, str]:
    """Write checkpoint-{global_step}/; returns its folder and the manifest's SHA-256. `save_model` is the task's.

    The name may be taken by the checkpoint from which this attempt resumed, when only the evaluation due there was
    added. That folder is moved aside, not changed.
    """
    step = snapshot.state.global_step
    final = run_dir.checkpoint(step)
    partial = run_dir.path / ".checkpoint.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a checkpoint that could not be written
    partial.mkdir()
    save_model(partial, snapshot.weights, next(reversed(snapshot.state.evaluations), None))
    save_file(snapshot.optimizer, partial / OPTIMIZER)
    save_file(snapshot.rng, partial / RNG)
    (partial / STATE).write_text(snapshot.state.model_dump_json(indent=1))
    for path in partial.iterdir():
        _sync(path)
    manifest_sha256 = write_manifest(partial, step)
    _sync(partial / MANIFEST)
    _sync(partial)
    if final.exists():
        final.rename(run_dir.path / f"resumed-from-{final.name}")
    partial.rename(final)
    _sync(run_dir.path)
    return final, manifest_sha256


def read_checkpoint(folder: Path) -> Snapshot:
    """Check a checkpoint and read it; raises DamagedFolder."""
    verify(folder)
    return Snapshot(
        state=TrainState.model_validate_json((folder / STATE).read_bytes()),
        weights=load_file(folder / MODEL),
        optimizer=load_file(folder / OPTIMIZER),
        rng=load_file(folder / RNG),
    )


def newest_checkpoint(run_dir: RunDir) -> Path | None:
    """The checkpoint of the highest step; the worker puts one there when an attempt has to resume from it."""
    names = [path.name.removeprefix("checkpoint-") for path in run_dir.path.glob("checkpoint-*")]
    steps = [int(name) for name in names if name.isdigit()]
    return run_dir.checkpoint(max(steps)) if steps else None


def link_best(run_dir: RunDir, folder: Path) -> None:
    """Let best/ show the model files of a checkpoint, loadable with from_pretrained.

    best is a symbolic link, replaced in one step, to a folder of hard links: they outlive the checkpoint.
    """
    linked = run_dir.path / f".best-{folder.name}"
    shutil.rmtree(linked, ignore_errors=True)
    linked.mkdir()
    for path in folder.iterdir():
        if path.name not in RESUME_ONLY and path.name != MANIFEST:
            os.link(path, linked / path.name)
    new_link = run_dir.path / ".best.new"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(linked.name)
    new_link.replace(run_dir.best)
    for path in run_dir.path.glob(".best-*"):
        if path != linked:
            shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


WRITE_ERRORS = (OSError, SafetensorError)  # a full disk raises either


class CheckpointWriter:
    """Writes one checkpoint at a time; the next one waits for it.

    One that cannot be written is reported to `on_error` and training continues: the next one may fit. `failed` says
    whether the last one failed, so that the run does not count as saved.
    """

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._on_error = on_error
        self._running: Future[None] | None = None
        self.failed = False

    @property
    def is_busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self, write: Callable[[], None]) -> None:
        """Run `write` on the thread, after the one before is done; raises what that one raised."""
        self.wait()
        self._running = self._pool.submit(self._write, write)

    def wait(self) -> None:
        """Until nothing is being written; raises what was raised there."""
        if self._running is not None:
            self._running.result()
            self._running = None

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
            self.failed = False
        except WRITE_ERRORS as error:
            self.failed = True
            self._on_error(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()  # waits: the event of the last checkpoint precedes the end of the run
