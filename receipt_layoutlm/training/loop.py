"""The training loop: one flat sequence from a run directory to its end.

The order is fixed: step, evaluation if due, record, checkpoint, end conditions, stop flag. A run that resumes enters at
the evaluation, so a due one comes first, then the end conditions, then the next step.
"""

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import ValidationError

from receipt_layoutlm.config_documents import read_config
from receipt_layoutlm.data.page import DataError, validation_reason
from receipt_layoutlm.errors import HubUnavailable, UserError
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import (
    FINISH_TEXTS,
    Checkpoint,
    EventWriter,
    Failed,
    Finished,
    FinishReason,
    Progress,
)
from receipt_layoutlm.run.record import FinalScores, Summary, write_run_record
from receipt_layoutlm.run.state import NonFiniteLoss, StopRequested, TrainState, end_reason
from receipt_layoutlm.training.checkpoint import (
    WRITE_ERRORS,
    CheckpointWriter,
    Snapshot,
    copied,
    link_best,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from receipt_layoutlm.training.distributed import SINGLE, ProcessGroup, own_folder
from receipt_layoutlm.training.evaluation import evaluate, score_test_set
from receipt_layoutlm.training.optimizer import optimizer_tensors, rng_tensors
from receipt_layoutlm.training.reporter import Reporter
from receipt_layoutlm.training.setup import Run, prepare_run
from receipt_layoutlm.training.step import rate_of_last_step, train_step
from receipt_layoutlm.training.task import SetupCallbacks

FREE_DISK = "free disk space, or give --work-dir on another disk"


class Unsaved(Exception):
    """A checkpoint that the run depends on could not be written."""


def never() -> bool:
    return False


def train(
    run_dir: RunDir,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    *,
    save_now: Callable[[], bool] = never,
    until: int | None = None,
    began: float | None = None,
    group: ProcessGroup = SINGLE,
) -> Finished | Failed:
    """Train what the run directory holds, from its newest checkpoint if there is one; returns the last event.

    `stop` is asked at every micro-batch and every evaluation batch, and stays true once it was; `save_now` is true once
    for each checkpoint requested out of turn; after step `until` the run stops as if asked to. `began` is the start of
    the process, by `clock`. Faults of data, options, numbers or the disk end in Failed; anything else is raised.
    """
    began = clock() if began is None else began
    if not group.is_first:
        group.wait()  # rank 0 prepares first
        run_dir = own_folder(run_dir, group.rank)
    events = EventWriter(run_dir.events)
    reporter = Reporter(events, clock, began)
    snapshot: Snapshot | None = None
    run: Run | None = None
    test: FinalScores | None = None
    end: Finished | Failed
    try:
        config = read_config(run_dir.config.read_bytes())
        folder = newest_checkpoint(run_dir)
        snapshot = None if folder is None else read_checkpoint(folder)
        start = 0 if snapshot is None else snapshot.state.global_step
        run = prepare_run(run_dir, config, snapshot, _setup_callbacks(stop, reporter, start), group)
        if group.is_first:
            group.wait()  # the other ranks prepare now
        run.join_group()
        stop = group.broadcast(stop)
        if folder is not None and run.state.is_at_best and group.is_first:
            link_best(run_dir, folder)
        _write_record(run)
        reporter.started(run)
        with CheckpointWriter(reporter.not_saved) as writer:
            reason = _loop(run, writer, stop, save_now, until, clock, reporter)
        group.wait()  # for the best weights to be written
        if run.task.has_test_set and reason != "stop_requested" and until is None:
            reporter.enter("evaluate")
            test = score_test_set(run, _on_batch(run, stop, reporter))  # a stop leaves the scores to the next attempt
            reporter.tested(test)
        end = _finished(reason, run.state)
    except StopRequested:
        state = run.state if run is not None else None if snapshot is None else snapshot.state
        end = _finished("stop_requested", state)
    except NonFiniteLoss as error:
        end = Failed(cause="non_finite_loss", message=str(error), page_ids=error.page_ids)
    except Unsaved as error:
        end = Failed(cause="storage", message=str(error))
    except torch.OutOfMemoryError as error:
        end = Failed(cause="out_of_memory", message=str(error).split("\n")[0])
    except DataError as error:
        end = Failed(cause="bad_data", message=str(error))
    except ValidationError as error:
        end = Failed(cause="bad_config", message=validation_reason(error))  # its own text quotes the input
    except HubUnavailable as error:
        end = Failed(cause="hub_unavailable", message=str(error))
    except UserError as error:
        end = Failed(cause="bad_config", message=str(error))
    if run is not None:
        _write_record(run, test, _summary(end, run.state, clock() - began))
    print(FINISH_TEXTS[end.reason] if isinstance(end, Finished) else f"{end.cause}: {end.message}", flush=True)
    end = end.model_copy(update={"phase_seconds": reporter.phase_seconds()})
    events.write(end)
    events.close()
    return end


def _loop(
    run: Run,
    writer: CheckpointWriter,
    stop: Callable[[], bool],
    save_now: Callable[[], bool],
    until: int | None,
    clock: Callable[[], float],
    reporter: Reporter,
) -> FinishReason:
    state, plan, config = run.state, run.plan, run.config
    epoch = _epoch(run, max(state.global_step - 1, 0) // plan.steps_per_epoch, stop, reporter)
    saved, saved_at, is_requested = _position(state), clock(), False
    while True:
        evaluated = state.evaluation_due and _evaluate(run, epoch, stop, reporter)
        stopping = stop() or state.global_step == until
        is_requested = is_requested or save_now()
        timed = clock() - saved_at >= config.checkpoint_every and not writer.is_busy
        is_due = evaluated or timed or stopping or is_requested
        if run.compute.group.is_first and _position(state) != saved and is_due:
            _save(run, writer, reporter)
            saved, saved_at, is_requested = _position(state), clock(), False
        if not state.evaluation_due and (reason := end_reason(state, plan)) is not None:
            _finish_saving(writer)
            return reason
        if stopping:
            _finish_saving(writer)
            return "stop_requested"
        if epoch.number != state.epoch:
            try:
                epoch = _epoch(run, state.epoch, stop, reporter)
            except StopRequested:
                continue
        reporter.enter("train")
        workload = run.task.workload(epoch, state.step_in_epoch)
        if train_step(run, epoch, stop):
            reporter.trained(workload)
            if state.global_step % config.logging_steps == 0 or reporter.was_silent:
                reporter.progress(_progress(run, "train"))


def _epoch(run: Run, number: int, stop: Callable[[], bool], reporter: Reporter) -> Any:
    """The task's plan of an epoch; StopRequested when a stop came while examples were made for it."""

    def on_example() -> None:
        _check_stop(stop)
        reporter.enter("encode")
        reporter.progress(_progress(run, "encode"))

    return run.task.epoch(number, on_example)


def _evaluate(run: Run, epoch: Any, stop: Callable[[], bool], reporter: Reporter) -> bool:
    """Evaluate and record; False when a stop came in between: nothing of it counts then, and it stays due."""
    reporter.enter("evaluate")
    try:
        evaluation, findings = evaluate(run, epoch, _on_batch(run, stop, reporter))
    except StopRequested:
        return False
    run.state.record(evaluation)
    reporter.evaluated(evaluation, findings, run.findings)
    run.findings = findings
    trim_heap()
    _write_record(run)
    return True


def _check_stop(stop: Callable[[], bool]) -> None:
    if stop():
        raise StopRequested


def _on_batch(run: Run, stop: Callable[[], bool], reporter: Reporter) -> Callable[[], None]:
    """Called before each evaluation batch: raises StopRequested, or reports progress."""

    def on_batch() -> None:
        _check_stop(stop)
        reporter.progress(_progress(run, "evaluate"))

    return on_batch


def _setup_callbacks(stop: Callable[[], bool], reporter: Reporter, step: int) -> SetupCallbacks:
    """For the preparation: every callback may raise StopRequested. `step` is that of the checkpoint, or 0."""

    def on_open() -> None:
        _check_stop(stop)
        reporter.enter("cached")

    def on_example() -> None:
        _check_stop(stop)
        reporter.enter("encode")
        reporter.progress(Progress(phase="encode", global_step=step, total_steps=0, epoch=0.0))

    def on_model() -> None:
        _check_stop(stop)
        reporter.enter("start")

    return SetupCallbacks(on_open, on_example, on_model, reporter.warn)


def _save(run: Run, writer: CheckpointWriter, reporter: Reporter) -> None:
    """Copy the state as it stands and write it on the background thread: checkpoint, best/ if it is the best, event."""
    reporter.enter("checkpoint")
    writer.wait()
    snapshot = take_snapshot(run)
    is_best, phase_seconds = run.state.is_at_best, reporter.phase_seconds()

    def write() -> None:
        began = time.monotonic()
        try:
            folder, digest = write_checkpoint(run.run_dir, run.task.save, snapshot)
        except WRITE_ERRORS as error:
            if is_best:  # the run would end with another model as the best one
                raise Unsaved(f"the best checkpoint could not be written ({error}): {FREE_DISK}") from error
            raise
        if is_best:
            link_best(run.run_dir, folder)
        reporter.checkpointed(
            Checkpoint(
                global_step=snapshot.state.global_step,
                folder=folder.name,
                manifest_sha256=digest,
                is_best=is_best,
                size=sum(path.stat().st_size for path in folder.iterdir()),
                write_seconds=round(time.monotonic() - began, 3),
                phase_seconds=phase_seconds,
            )
        )

    writer.start(write)


def take_snapshot(run: Run) -> Snapshot:
    """A copy of everything that the next steps change."""
    update = {"evaluations": list(run.state.evaluations), "loss_scale": run.scaler.state_dict()}
    return Snapshot(
        state=run.state.model_copy(update=update),
        weights=copied(run.task.model.state_dict()),
        optimizer=copied(optimizer_tensors(run.task.model, run.optimizer)),
        rng=rng_tensors(run.compute.device),
    )


def _finish_saving(writer: CheckpointWriter) -> None:
    """The last checkpoint has to be in place before a run may report how it ended."""
    writer.wait()
    if writer.failed:
        raise Unsaved(f"the last checkpoint could not be written: {FREE_DISK}")


def _position(state: TrainState) -> tuple[int, bool]:
    """Difference between two states that are worth two checkpoints."""
    return state.global_step, state.evaluation_due


def _progress(run: Run, phase: Literal["encode", "train", "evaluate"]) -> Progress:
    return Progress(
        phase=phase,
        global_step=run.state.global_step,
        total_steps=run.plan.total_steps,
        epoch=run.state.global_step / run.plan.steps_per_epoch,
        train_loss=run.state.train_loss,
        lr=rate_of_last_step(run),
    )


def _finished(reason: FinishReason, state: TrainState | None) -> Finished:
    """`state` is None when the run was stopped before it had one."""
    return Finished(
        reason=reason,
        global_step=0 if state is None else state.global_step,
        best_global_step=None if state is None else state.best_step,
        best_metric_value=None if state is None else state.best_metric_value,
    )


def _summary(end: Finished | Failed, state: TrainState, wall_seconds: float) -> Summary:
    return Summary(
        stop_reason=end.reason if isinstance(end, Finished) else end.cause,
        global_step=state.global_step,
        best_global_step=state.best_step,
        best_metric_value=state.best_metric_value,
        wall_seconds=wall_seconds,
        cpu_seconds=time.process_time(),
    )


def _write_record(run: Run, test: FinalScores | None = None, summary: Summary | None = None) -> None:
    update = {"evaluations": tuple(run.state.evaluations), "health": tuple(run.findings)}
    record = run.record.model_copy(update={**update, "test": test, "summary": summary})
    write_run_record(record, run.run_dir.run_json)


def trim_heap() -> bool:
    """Return freed memory to the system by glibc's malloc_trim; False where there is none.

    Batches differ in length, so freed tensors leave holes that no later one fits: a training of ten epochs grew from
    1.4 to 3.5 GB of which it used 1.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is None:
        return False
    trim(0)
    return True
