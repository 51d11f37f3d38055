"""The training loop: one flat sequence from a run directory to its end.

The order is fixed: step, evaluation if due, record, checkpoint, end conditions, stop flag. A run that resumes
enters at the evaluation, so a due one comes first, then the end conditions, then the next step.

Memory that malloc keeps though nobody uses it.
"""

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import ValidationError

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.labels import LabelError
from receipt_layoutlm.data.page import DataError, validation_reason
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Checkpoint, EventWriter, Failed, Finished, FinishReason, Progress
from receipt_layoutlm.run.health import health
from receipt_layoutlm.run.record import Summary, write_run_record
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
from receipt_layoutlm.training.distributed import ALONE, Team, own_folder
from receipt_layoutlm.training.optimizer import optimizer_tensors, rng_tensors
from receipt_layoutlm.training.reporter import Reporter
from receipt_layoutlm.training.setup import Run, prepare
from receipt_layoutlm.training.step import in_team, rate_of_last_step, train_step
from receipt_layoutlm.training.tasks.word_labels.evaluation import evaluate, score_test_part
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Epoch, plan_epoch
from receipt_layoutlm.training.tasks.word_labels.parts import Watch
from receipt_layoutlm.training.throughput import EncoderSize, work_of

FREE_DISK = "free disk space, or give --work-dir on another disk"


class Unsaved(Exception):
    """A checkpoint that cannot be done without could not be written."""


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
    team: Team = ALONE,
) -> Finished | Failed:
    """Train what the run directory says, from its newest checkpoint if there is one; returns the last event.

    `stop` is asked at every micro-batch and every evaluation batch, and stays true once it was; `save_now` is
    true once for each checkpoint that is wanted out of turn; after step `until` the run stops as if asked to.
    `began` is when the process did, by `clock`. What is wrong with data, options, numbers or the disk ends in
    Failed; anything else is raised.
    """
    began = clock() if began is None else began
    if not team.is_first:
        team.wait()  # for what the first one prepares
        run_dir = own_folder(run_dir, team.rank)
    events = EventWriter(run_dir.events)
    reporter = Reporter(events, clock, began)
    snapshot: Snapshot | None = None
    run: Run | None = None
    end: Finished | Failed
    try:
        config = TrainConfig.model_validate_json(run_dir.config.read_bytes())
        folder = newest_checkpoint(run_dir)
        snapshot = None if folder is None else read_checkpoint(folder)
        run = _prepare(run_dir, config, snapshot, stop, reporter, team)
        if team.is_first:
            team.wait()  # the others prepare theirs
        run, stop = in_team(run), team.agreed(stop)
        if folder is not None and run.state.is_at_best and team.is_first:
            link_best(run_dir, folder)
        _write_record(run, summary=None)
        reporter.started(run)
        with CheckpointWriter(reporter.not_saved) as writer:
            reason = _loop(run, writer, stop, save_now, until, clock, reporter)
        team.wait()  # for the best weights to be written
        if run.test is not None and reason != "stop_requested" and until is None:
            run, reason = _tested(run, run.test, stop, reason, reporter)
        end = _finished(reason, run.state)
    except StopRequested:
        end = _finished("stop_requested", None if snapshot is None else snapshot.state)
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
    except (UserError, LabelError) as error:
        end = Failed(cause="bad_config", message=str(error))
    if run is not None:
        _write_record(run, _summary(end, run.state, clock() - began))
    print(end.reason if isinstance(end, Finished) else f"{end.cause}: {end.message}", flush=True)
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
    saved, saved_at, wanted = _position(state), clock(), False
    size = EncoderSize.of(run.model.config)
    while True:
        evaluated = state.evaluation_due and _evaluate(run, epoch, stop, reporter)
        stopping = stop() or state.global_step == until
        wanted = wanted or save_now()
        timed = clock() - saved_at >= config.checkpoint_every and not writer.is_busy
        if run.team.is_first and _position(state) != saved and (evaluated or timed or stopping or wanted):
            _save(run, writer, reporter)
            saved, saved_at, wanted = _position(state), clock(), False
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
        shown = epoch.steps[state.step_in_epoch]
        done = train_step(run, epoch, stop)
        if done:
            reporter.trained(work_of(shown, epoch.part, size))
        if done and (state.global_step % config.logging_steps == 0 or reporter.was_silent):
            reporter.progress(_progress(run, "train"))


def _epoch(run: Run, number: int, stop: Callable[[], bool], reporter: Reporter) -> Epoch:
    """What an epoch shows; StopRequested when a stop came while pages were made for it."""

    def on_page() -> None:
        if stop():
            raise StopRequested
        reporter.enter("encode")
        reporter.progress(_progress(run, "encode"))

    return plan_epoch(run.config, run.showing.part(number, on_page), number, run.showing.windows)


def _evaluate(run: Run, epoch: Epoch, stop: Callable[[], bool], reporter: Reporter) -> bool:
    """Evaluate and record; False when a stop came in between: then nothing of it counts and it stays due."""

    def on_batch() -> None:
        if stop():
            raise StopRequested
        reporter.progress(_progress(run, "evaluate"))

    reporter.enter("evaluate")
    try:
        evaluation = evaluate(run, epoch, on_batch)
    except StopRequested:
        return False
    run.state.record(evaluation)
    reporter.evaluated(run.state.evaluations)
    trim_heap()
    _write_record(run, summary=None)
    return True


def _tested(
    run: Run, part: EncodedPart, stop: Callable[[], bool], reason: FinishReason, reporter: Reporter
) -> tuple[Run, FinishReason]:
    """The run with the test scores in its record; a stop in between leaves them to the next attempt."""

    def on_batch() -> None:
        if stop():
            raise StopRequested
        reporter.progress(_progress(run, "evaluate"))

    reporter.enter("evaluate")
    try:
        scores = score_test_part(run, part, on_batch)
    except StopRequested:
        return run, "stop_requested"
    reporter.tested(scores)
    return replace(run, record=run.record.model_copy(update={"test": scores})), reason


def _save(run: Run, writer: CheckpointWriter, reporter: Reporter) -> None:
    """Copy the state as it stands and have it written while training goes on."""
    reporter.enter("checkpoint")
    writer.wait()
    snapshot = take_snapshot(run)
    is_best, seconds = run.state.is_at_best, reporter.phase_seconds()
    writer.start(partial(_write, run, snapshot, is_best, seconds, reporter))


def take_snapshot(run: Run) -> Snapshot:
    """A copy of everything that the next steps change."""
    return Snapshot(
        state=run.state.model_copy(
            update={"evaluations": list(run.state.evaluations), "loss_scale": run.scaler.state_dict()}
        ),
        weights=copied(run.model.state_dict()),
        optimizer=copied(optimizer_tensors(run.model, run.optimizer)),
        rng=rng_tensors(run.device),
    )


def _write(run: Run, snapshot: Snapshot, is_best: bool, phase_seconds: dict[str, float], reporter: Reporter) -> None:
    """On the writing thread: the checkpoint, best/ if it is the best, and the event that says so."""
    began = time.monotonic()
    try:
        folder, digest = write_checkpoint(run.run_dir, run.model, run.tokenizer, run.label_map, snapshot)
    except WRITE_ERRORS as error:
        if is_best:  # going on would end with another model as the best one
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


def _finish_saving(writer: CheckpointWriter) -> None:
    """Before a run may say how it ended, its last checkpoint has to be there."""
    writer.wait()
    if writer.failed:
        raise Unsaved(f"the last checkpoint could not be written: {FREE_DISK}")


def _position(state: TrainState) -> tuple[int, bool]:
    """What differs between two states that are worth two checkpoints."""
    return state.global_step, state.evaluation_due


def _prepare(
    run_dir: RunDir,
    config: TrainConfig,
    snapshot: Snapshot | None,
    stop: Callable[[], bool],
    reporter: Reporter,
    team: Team,
) -> Run:
    step = 0 if snapshot is None else snapshot.state.global_step

    def check_stop() -> None:
        if stop():
            raise StopRequested

    def on_open() -> None:
        check_stop()
        reporter.enter("cached")

    def on_page() -> None:
        check_stop()
        reporter.enter("encode")
        reporter.progress(Progress(phase="encode", global_step=step, total_steps=0, epoch=0.0))

    def on_model() -> None:
        check_stop()
        reporter.enter("start")

    return prepare(run_dir, config, snapshot, Watch(on_open, on_page, on_model, reporter.warn), team)


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
    """state: None when the run was stopped before it had one."""
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


def _write_record(run: Run, summary: Summary | None) -> None:
    evaluations = tuple(run.state.evaluations)
    update = {"evaluations": evaluations, "health": tuple(health(evaluations, run.config)), "summary": summary}
    write_run_record(run.record.model_copy(update=update), run.run_dir.run_json)


def trim_heap() -> bool:
    """Give free memory back to the system; whether there is a way to (glibc's malloc_trim).

    Batches are of different lengths, so freed tensors leave holes that no later one fits into: a training of ten
    epochs grew from 1.4 to 3.5 GB of which it used 1.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is None:
        return False
    trim(0)
    return True
