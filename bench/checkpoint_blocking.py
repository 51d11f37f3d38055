"""How long training stands still for a checkpoint, beside one in-memory copy of the same state.

    python bench/checkpoint_blocking.py
    python bench/checkpoint_blocking.py --data PAGES.jsonl

The real training loop in this process, on the CPU, with the weights of MiniLM-L6 (24 M parameters), saving every few
steps. Timed at every save, one right after the other and in turn the first, while nothing is being written: the loop's
_save from call to return, and a clone of every tensor of the state. On a busy machine the CPU seconds say more than
the wall's. For comparison: a copy into memory that is there already (no fresh pages), steps that begin or end while a
checkpoint is being written and steps that do not (per token, because batches differ), and the same checkpoint written
on the training thread. The epoch counts its steps without a write beside them, its evaluation and one save.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers at its import

import torch
import transformers

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import read_jsonl, write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.training import loop as train_loop
from receipt_layoutlm.training.checkpoint import CheckpointWriter, Snapshot, write_checkpoint
from receipt_layoutlm.training.evaluation import evaluate
from receipt_layoutlm.training.optimizer import optimizer_tensors, rng_tensors
from receipt_layoutlm.training.reporter import Reporter
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.step import train_step
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Epoch

PROMISED_RATIO = 1.5
PROMISED_PERCENT = 1.0
SYNCHRONOUS_WRITES = 5
EPOCHS = 2
SAVE, WRITE = train_loop._save, train_loop.write_checkpoint


@dataclass(frozen=True)
class Seconds:
    """Of one call, on its thread."""

    wall: float
    cpu: float


@dataclass
class Samples:
    """What one run gave; steps are (seconds, tokens)."""

    saves: list[Seconds] = field(default_factory=list)
    copies: list[Seconds] = field(default_factory=list)
    warm_copies: list[Seconds] = field(default_factory=list)
    on_the_thread: list[Seconds] = field(default_factory=list)
    evaluations: list[Seconds] = field(default_factory=list)
    quiet_steps: list[tuple[float, int]] = field(default_factory=list)
    steps_beside_a_write: list[tuple[float, int]] = field(default_factory=list)


def timed(call: Callable[[], object]) -> Seconds:
    wall, cpu = time.perf_counter(), time.thread_time()
    call()
    return Seconds(time.perf_counter() - wall, time.thread_time() - cpu)


def state_of(run: Run) -> list[torch.Tensor]:
    """Every tensor that a checkpoint holds."""
    parts = (
        run.task.model.state_dict(),
        optimizer_tensors(run.task.model, run.optimizer),
        rng_tensors(run.compute.device),
    )
    return [tensor.detach() for part in parts for tensor in part.values()]


class Stopwatch:
    """Stands in for the loop's own functions, calls them, and writes down how long they took."""

    def __init__(self, steps_between: int) -> None:
        self.samples = Samples()
        self.run: Run | None = None
        self._writer: CheckpointWriter | None = None
        self._steps_between, self._steps = steps_between, 0
        self._may_write = threading.Event()
        own = {
            "_save": self.save,
            "write_checkpoint": self.write,
            "train_step": self.train_step,
            "evaluate": self.evaluate,
        }
        assert own.keys() <= vars(train_loop).keys()
        vars(train_loop).update(own)

    def wants_checkpoint(self) -> bool:
        return self._steps % self._steps_between == 0

    def save(self, run: Run, writer: CheckpointWriter, reporter: Reporter) -> None:
        """Both copies are kept until both are made, so that neither gets the other's memory."""
        self.run, self._writer, samples = run, writer, self.samples
        writer.wait()  # for the save before, which the default rhythm never meets
        self._may_write.clear()
        clones: list[torch.Tensor] = []
        acts: list[Callable[[], None]] = [
            lambda: samples.copies.append(timed(lambda: clones.extend(tensor.clone() for tensor in state_of(run)))),
            lambda: samples.saves.append(timed(lambda: SAVE(run, writer, reporter))),
        ]
        for act in acts if len(samples.saves) % 2 else reversed(acts):
            act()
        samples.warm_copies.append(
            timed(lambda: [clone.copy_(tensor) for clone, tensor in zip(clones, state_of(run), strict=True)])
        )
        self._may_write.set()

    def write(self, run_dir: RunDir, *rest: Any) -> tuple[Path, str]:
        """On the writing thread; a worker removes what it has uploaded."""
        self._may_write.wait()
        for folder in run_dir.path.glob("checkpoint-*"):
            shutil.rmtree(folder)
        return WRITE(run_dir, *rest)

    def train_step(self, run: Run, epoch: Epoch, stop: Callable[[], bool]) -> bool:
        tokens = sum(
            len(run.task.encoded.train.windows[sampled.window].input_ids)
            for sampled in epoch.steps[run.state.step_in_epoch]
        )
        beside = self._is_writing()
        began = time.perf_counter()
        is_done = train_step(run, epoch, stop)
        row = time.perf_counter() - began, tokens
        (self.samples.steps_beside_a_write if beside or self._is_writing() else self.samples.quiet_steps).append(row)
        self._steps += 1
        return is_done

    def _is_writing(self) -> bool:
        return self._writer is not None and self._writer.is_busy

    def evaluate(self, *arguments: object) -> object:
        result: list[object] = []
        self.samples.evaluations.append(timed(lambda: result.append(evaluate(*arguments))))  # type: ignore[arg-type]
        return result[0]


def measured(pages: list[Page], pretrained: str, steps_between: int, folder: Path) -> tuple[Samples, Run]:
    run_dir, watch = RunDir(folder), Stopwatch(steps_between)
    write_snapshot(pages, run_dir.dataset)
    options = {"pretrained": pretrained, "epochs": EPOCHS, "device": "cpu", "split": "random"}  # else the defaults
    run_dir.config.write_text(WordLabelsConfig.model_validate(options).model_dump_json())
    end = train_loop.train(run_dir, train_loop.never, save_now=watch.wants_checkpoint)
    if watch.run is None:
        raise SystemExit(f"the training ended before its first checkpoint: {end}")
    for number in range(SYNCHRONOUS_WRITES):
        (folder / str(number)).mkdir()
        watch.samples.on_the_thread.append(timed(lambda: _write_here(watch.run, RunDir(folder / str(number)))))  # noqa: B023
        shutil.rmtree(folder / str(number))
    return watch.samples, watch.run


def _write_here(run: Run | None, run_dir: RunDir) -> None:
    """Without a copy: nothing changes the state meanwhile."""
    assert run is not None
    weights = {name: tensor.detach() for name, tensor in run.task.model.state_dict().items()}
    optimizer, rng = optimizer_tensors(run.task.model, run.optimizer), rng_tensors(run.compute.device)
    snapshot = Snapshot(state=run.state, weights=weights, optimizer=optimizer, rng=rng)
    write_checkpoint(run_dir, run.task.save, snapshot)


def figures(samples: Samples, run: Run) -> dict[str, float]:
    def middle(rows: list[Seconds], name: str) -> dict[str, float]:
        return {
            f"{name}_seconds": median(row.wall for row in rows),
            f"{name}_cpu_seconds": median(row.cpu for row in rows),
        }

    if not samples.quiet_steps or not samples.steps_beside_a_write:
        raise SystemExit("every step was beside a write, or none: give another --steps-between")
    pairs = list(zip(samples.saves, samples.copies, strict=True))
    quiet, beside = (per_token(rows) for rows in (samples.quiet_steps, samples.steps_beside_a_write))
    tokens = sum(len(window.input_ids) for window in run.task.encoded.train.windows)
    blocked = median(row.wall for row in samples.saves)
    epoch = quiet * tokens + fmean(row.wall for row in samples.evaluations) + blocked
    return {
        "state_bytes": sum(tensor.nbytes for tensor in state_of(run)),
        "samples": len(pairs),
        **middle(samples.copies, "copy"),
        **middle(samples.saves, "blocked"),
        "longest_blocked_seconds": max(row.wall for row in samples.saves),
        **middle(samples.warm_copies, "copy_into_old_memory"),
        **middle(samples.on_the_thread, "written_on_the_thread"),
        "ratio": median(save.wall / copy.wall for save, copy in pairs),
        "cpu_ratio": median(save.cpu / copy.cpu for save, copy in pairs),
        "ratio_of_medians": blocked / median(copy.wall for copy in samples.copies),
        "training_pages": len(run.task.encoded.train.pages),
        "epoch_seconds": epoch,
        "blocked_percent_of_epoch": 100 * blocked / epoch,
        "steps": len(samples.quiet_steps),
        "steps_beside_a_write": len(samples.steps_beside_a_write),
        "slower_beside_a_write_percent": 100 * (beside / quiet - 1),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }


def per_token(steps: list[tuple[float, int]]) -> float:
    """Seconds; the median, because another process on the machine lengthens some steps."""
    return median(seconds / tokens for seconds, tokens in steps)


def show(found: dict[str, float]) -> None:
    print(f"\n{found['samples']} saves of {found['state_bytes'] / 1e6:.0f} MB, medians       wall s   CPU s")
    for name, text in (
        ("copy", "one copy of the state"),
        ("blocked", "training blocked by a checkpoint"),
        ("copy_into_old_memory", "a copy into memory that is there"),
        ("written_on_the_thread", "the same written on the training thread"),
    ):
        print(f"{text:42} {found[f'{name}_seconds']:7.3f} {found[f'{name}_cpu_seconds']:7.3f}")
    print(
        f"blocked / copy, median of the pairs        {found['ratio']:7.2f} {found['cpu_ratio']:7.2f}\n"
        f"blocked, of an epoch of {found['training_pages']} pages ({found['epoch_seconds']:.0f} s): "
        f"{found['blocked_percent_of_epoch']:.2f} %\n"
        f"steps beside a write: {found['slower_beside_a_write_percent']:+.0f} % per token "
        f"({found['steps_beside_a_write']} against {found['steps']} others, {found['threads']} threads)\n"
        f"load average {found['load_average']:.1f} on {os.cpu_count()} processors\n"
        f"promised: blocked at most {PROMISED_RATIO} times one copy, and at most {PROMISED_PERCENT:g} % of an epoch"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="JSONL", help="labelled pages (default: 200 generated receipts)")
    parser.add_argument("--pages", type=int, default=200, help="of the generated receipts (default 200)")
    parser.add_argument("--pretrained", default="minilm", help="'minilm' or a model folder (default minilm)")
    parser.add_argument("--steps-between", type=int, default=3, help="optimizer steps between two saves (default 3)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    options = parser.parse_args()
    transformers.logging.disable_progress_bar()
    pages = read_jsonl(options.data) if options.data else generate_pages(options.pages, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        found = figures(*measured(pages, options.pretrained, options.steps_between, Path(folder)))
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
