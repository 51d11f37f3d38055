"""From a run directory to everything the loop needs: task, optimizer and state."""

import platform
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.hardware import Hardware, usable_cpus
from receipt_layoutlm.run.record import RunRecord, TaskRecord, bundle_sha256, git_sha, versions, wheel_sha256
from receipt_layoutlm.run.state import Plan, TrainState, initial_state, resumed_state
from receipt_layoutlm.training.checkpoint import Snapshot
from receipt_layoutlm.training.distributed import SINGLE, ProcessGroup
from receipt_layoutlm.training.optimizer import freeze, make_optimizer, restore_optimizer, restore_rng
from receipt_layoutlm.training.precision import available, choose, loss_scaler, use_tf32
from receipt_layoutlm.training.task import Compute, SetupCallbacks, StepBatches, Task

T = TypeVar("T")


class Objective(nn.Module):
    """The loss of a task as a module, which is what DistributedDataParallel wraps."""

    def __init__(self, task: Task[Any, Any], compute: Compute) -> None:
        super().__init__()
        self.task, self.model, self.compute = task, task.model, compute

    def forward(self, batch: Any) -> torch.Tensor:
        return self.task.loss(batch, self.compute)


class Prefetcher(Generic[T]):
    """Makes things by number, and if enabled the next one on a thread while the present one is in use.

    Hides packing and copying on a GPU; a CPU has no time to spare for it.
    """

    def __init__(self, is_enabled: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "prefetch") if is_enabled else None
        self._pending: tuple[tuple[int, int], Future[T]] | None = None

    def get(self, make: Callable[[int], T], series: int, number: int, count: int) -> T:
        """Result of `make(number)`, one of `count` in this series; raises what it raises."""
        if self._pending is not None and self._pending[0] == (series, number):
            made = self._pending[1].result()
        else:
            made = make(number)
        self._pending = None
        if self._pool is not None and number + 1 < count:
            self._pending = (series, number + 1), self._pool.submit(make, number + 1)
        return made


@dataclass(slots=True)
class Run:
    """All of a run. The loop changes the model, the optimizer, the scaler, the state and the record, nothing else."""

    run_dir: RunDir
    config: TrainConfig
    task: Task[Any, Any]
    compute: Compute
    objective: nn.Module  # batch -> summed loss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    prefetcher: Prefetcher[StepBatches[Any]]
    plan: Plan
    state: TrainState
    record: RunRecord
    findings: list[Finding]  # of the latest evaluation
    resumed_from: int | None

    def join_group(self) -> None:
        """Average the gradients of backward passes over the process group."""
        if self.compute.group.size > 1:
            self.objective = DistributedDataParallel(
                self.objective, broadcast_buffers=False, gradient_as_bucket_view=True
            )


def prepare_run(
    run_dir: RunDir,
    config: TrainConfig,
    snapshot: Snapshot | None,
    callbacks: SetupCallbacks,
    group: ProcessGroup = SINGLE,
) -> Run:
    """Build a run, at its beginning or at a snapshot.

    Raises DataError, ConfigError and other UserErrors, and what the task raises when it loads weights.
    """
    torch.set_num_threads(config.threads or max(1, min(torch.get_num_threads(), usable_cpus()) // group.size))
    task: Task[Any, Any] = import_module(config.trainer).prepare(run_dir, config, callbacks)
    device = resolve_device(config.device, group)
    tf32 = use_tf32(device)
    freeze(task.model, config, task.fresh)
    if snapshot is None:
        state = initial_state(config, list(task.fingerprints))
    else:
        state = resumed_state(snapshot.state, config, list(task.fingerprints))
        task.model.load_state_dict(snapshot.weights, strict=True)
    precision = choose(config.precision, None if snapshot is None else state.precision, available(device))
    if precision.instead_of is not None:
        text = f"this machine has no {precision.instead_of}: resuming in {precision.precision}, not bit-exact"
        callbacks.warn("precision_changed", text)
    state.precision = precision.precision
    scaler = loss_scaler(device, state.precision)
    if state.loss_scale:
        scaler.load_state_dict(state.loss_scale)
    task.model.to(device)
    optimizer = make_optimizer(task.model, config, task.fresh)
    if snapshot is None:
        torch.manual_seed(config.seed)  # of dropout
    else:
        restore_optimizer(task.model, optimizer, snapshot.optimizer)
        restore_rng(device, snapshot.rng)
    callbacks.check_stop()
    compute = Compute(device, state.precision, group)
    return Run(
        run_dir=run_dir,
        config=config,
        task=task,
        compute=compute,
        objective=Objective(task, compute),
        optimizer=optimizer,
        scaler=scaler,
        prefetcher=Prefetcher(device.type == "cuda"),
        plan=Plan(
            steps_per_epoch=task.steps_per_epoch,
            total_steps=task.epochs * task.steps_per_epoch,
            evaluation_steps=None if config.eval_every == "epoch" else config.eval_every,
            patience=config.early_stopping_patience,
        ),
        state=state,
        record=make_record(config, task.description.record, compute, tf32),
        findings=task.findings(state.evaluations),
        resumed_from=None if snapshot is None else state.global_step,
    )


def resolve_device(name: str, group: ProcessGroup = SINGLE) -> torch.device:
    """`auto` is cuda, else mps, else cpu; ConfigError when the requested device is missing.

    Each process of a group has its own GPU.
    """
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in is_available.items() if is_there)
    if name == "cuda" and torch.cuda.is_available() and group.size > 1:
        if group.local_size > torch.cuda.device_count():
            raise ConfigError(f"processes={group.size}, but there are {torch.cuda.device_count()} GPUs: one for each")
        torch.cuda.set_device(group.local_rank)
        return torch.device("cuda", group.local_rank)
    if not is_available[name]:
        raise ConfigError(f"device {name} is not available here: give auto or cpu")
    return torch.device(name)


def make_record(config: TrainConfig, of_task: TaskRecord, compute: Compute, tf32: bool) -> RunRecord:
    """All of run.json that is known before the first step."""
    device = compute.device
    return RunRecord(
        **dict(of_task),
        config=config,
        versions=versions(),
        git_sha=git_sha(),
        wheel_sha256=wheel_sha256(),
        bundle_sha256=bundle_sha256(),
        hardware=Hardware(
            device=device.type,
            device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            machine=platform.machine(),
            cpus=usable_cpus(),
            threads=torch.get_num_threads(),
            precision=compute.precision,
            tf32=tf32,
            processes=compute.group.size,
        ),
    )
