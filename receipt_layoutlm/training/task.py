"""The seam between the training loop and a task.

The loop knows steps, time, state, checkpoints and evaluations; a task knows what is learned. `prepare(run_dir, config,
callbacks)` of a task's module returns a Task.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.events import Evaluation, Log
from receipt_layoutlm.run.hardware import Precision
from receipt_layoutlm.run.record import FinalScores, TaskRecord
from receipt_layoutlm.run.scores import Scores
from receipt_layoutlm.training.distributed import ProcessGroup
from receipt_layoutlm.training.precision import autocast
from receipt_layoutlm.training.throughput import StepWorkload

B = TypeVar("B")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class SetupCallbacks:
    """Reports the progress of a task's preparation. The first three may raise to stop it."""

    on_open: Callable[[], None]  # before encoded examples are opened
    on_example: Callable[[], None]  # before an example is encoded
    check_stop: Callable[[], None]
    warn: Callable[[str, str], None]  # name and text of a warning


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and in which number format forward passes run, and the processes that share them."""

    device: torch.device
    precision: Precision
    group: ProcessGroup

    def autocast(self) -> AbstractContextManager[None]:
        """For a forward pass; does nothing for fp32."""
        return autocast(self.device, self.precision)


@dataclass(frozen=True, slots=True)
class StepBatches(Generic[B]):
    """Micro-batches of one process in an optimizer step; `weight` is the divisor of their summed losses."""

    micro: Sequence[B]
    weight: float


class EpochPlan(Protocol):
    """Examples of each optimizer step of an epoch; a pure function of seed, number and data."""

    @property
    def number(self) -> int: ...
    @property
    def steps(self) -> Sequence[Sequence[object]]: ...


E = TypeVar("E", bound=EpochPlan)


@dataclass(frozen=True, slots=True)
class TaskDescription:
    """Facts of a run before its first step. `text` is for people; `notes` become rows of the job's log."""

    record: TaskRecord
    text: str
    notes: Sequence[Log]
    train_examples: int
    validation_examples: int


class Task(Protocol[E, B]):
    """What the loop asks of a task. Its attributes do not change while the run trains, but for the model's weights."""

    model: nn.Module
    fresh: Collection[str]  # parameters without pretrained weights
    fingerprints: Sequence[str]  # SHA-256 of each set of examples that decides the weights
    epochs: int  # pre-training phase included
    steps_per_epoch: int
    has_test_set: bool
    description: TaskDescription

    def epoch(self, number: int, on_example: Callable[[], None]) -> E:
        """Epoch `number` (from 0); `on_example` is called before each example that is made anew and may raise."""

    def batches(self, epoch: E, step: int, compute: Compute) -> StepBatches[B]:
        """This process's share of an optimizer step, on its device; never empty, since all processes take part."""

    def loss(self, batch: B, compute: Compute) -> torch.Tensor:
        """Summed loss of a micro-batch, a scalar in fp32 with its graph."""

    def workload(self, epoch: E, step: int) -> StepWorkload:
        """Size of an optimizer step, of all processes together."""

    def example_ids(self, epoch: E, step: int) -> tuple[str, ...]:
        """Ids of the examples of an optimizer step, sorted."""

    def validate(self, epoch: E, compute: Compute, on_batch: Callable[[], None]) -> tuple[Scores, Sequence[object]]:
        """Scores of the validation set after `epoch`, and its predictions as rows; the model is in training mode again.

        `on_batch` is called before each batch and may raise to stop.
        """

    def test(
        self, best: Evaluation, compute: Compute, on_batch: Callable[[], None]
    ) -> tuple[FinalScores, Sequence[object]]:
        """Scores and predictions of the test set; what has to be fitted was fitted by the evaluation `best`."""

    def findings(self, history: Sequence[Evaluation]) -> list[Finding]:
        """Problems by the latest of these evaluations, each with its remedy; none for an empty history."""

    def save(self, folder: Path, weights: Tensors, latest: Evaluation | None) -> None:
        """Write the model's files, and what resuming and inference need beside weights, into a checkpoint's folder.

        `latest` is the last evaluation up to the checkpoint.
        """
