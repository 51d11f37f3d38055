"""Reports of a run: events for the worker, lines on stdout for people."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.events import Checkpoint, Evaluation, EventWriter, Log, Progress
from receipt_layoutlm.run.record import FinalScores, started_event
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.throughput import StepWorkload, peak_flops

PROGRESS_SECONDS = 1.0  # at least, between two progress events
SILENCE_SECONDS = 30.0  # at most, while steps are done: a longer silence counts as a hang

RATES = ("precision", "recall")  # shown beside the headline where a task has them

Phase = Literal["start", "cached", "encode", "train", "evaluate", "checkpoint"]


class Reporter:
    """Writes events and lines; `clock` is monotonic, in seconds, and limits the rate of progress events."""

    def __init__(self, events: EventWriter, clock: Callable[[], float], began: float) -> None:
        self._events = events
        self._clock = clock
        self._phase: Phase = "start"
        self._phase_since = began
        self._seconds: dict[str, float] = {}
        self._reported_at = clock() - PROGRESS_SECONDS
        self._workload = StepWorkload()
        self._trained_until = 0.0  # seconds of training steps, at the last progress event
        self._run: Run | None = None

    def enter(self, phase: Phase) -> None:
        """From now on time counts for this phase."""
        now = self._clock()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._phase_since
        self._phase, self._phase_since = phase, now

    def phase_seconds(self) -> dict[str, float]:
        """Seconds of each phase so far, on the training thread."""
        self.enter(self._phase)
        return {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}

    @property
    def was_silent(self) -> bool:
        """Whether the next progress event is wanted whatever the rhythm."""
        return self._clock() - self._reported_at >= SILENCE_SECONDS

    def warn(self, event: str, message: str) -> None:
        """A warning for the job's log."""
        print(f"warning: {message}", flush=True)
        self._events.write(Log(level="warning", event=event, message=message))

    def trained(self, workload: StepWorkload) -> None:
        """Count an optimizer step for the rates of the next progress event."""
        self._workload += workload

    def progress(self, progress: Progress) -> None:
        """Write it, unless the last one is less than a second old."""
        now = self._clock()
        if now - self._reported_at < PROGRESS_SECONDS:
            return
        self._reported_at = now
        trained = self.phase_seconds().get("train", 0.0)
        rates = self._rates(trained - self._trained_until) if self._workload.examples else {}
        self._workload, self._trained_until = StepWorkload(), trained
        self._events.write(progress.model_copy(update=rates))

    def _rates(self, seconds: float) -> dict[str, float | int | None]:
        """Of the steps since the last progress event."""
        if self._run is None or seconds <= 0:
            return {}
        device, mfu = self._run.compute.device, None
        if device.type == "cuda":
            peak = peak_flops(torch.cuda.get_device_name(device), self._run.compute.precision)
            mfu = None if peak is None else self._workload.flops / seconds / (peak * self._run.compute.group.size)
        return {
            "pages_per_second": self._workload.examples / seconds,
            "tokens_per_second": self._workload.tokens / seconds,
            "mfu": mfu,
            "gpu_memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        }

    def started(self, run: Run) -> None:
        """Device, sizes, and the task's description and notes."""
        self._run, description = run, run.task.description
        parameters = list(run.task.model.parameters())
        started = started_event(
            run.record,
            examples=(description.train_examples, description.validation_examples),
            parameters=(
                sum(parameter.numel() for parameter in parameters),
                sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            ),
            steps=(run.plan.steps_per_epoch, run.plan.total_steps),
            resumed_from=run.resumed_from,
        )
        print(
            f"{run.record.hardware.text}: {started.total_steps} steps, {started.parameters:,} parameters "
            f"({started.trainable_parameters:,} trainable)\n{description.text}",
            flush=True,
        )
        self._events.write(started)
        for note in description.notes:
            print(f"warning: {note.message}" if note.level == "warning" else note.message, flush=True)
            self._events.write(note)

    def evaluated(self, evaluation: Evaluation, findings: Sequence[Finding], before: Sequence[Finding]) -> None:
        """One line and one event, and a warning for each finding that the evaluation before did not have."""
        train_loss = "-" if evaluation.train_loss is None else f"{evaluation.train_loss:.4f}"
        rates = "".join(f" {name} {evaluation.scores[name]:.4f}" for name in RATES if name in evaluation.scores)
        print(
            f"epoch {evaluation.epoch:.2f} step {evaluation.global_step}: "
            f"{evaluation.metric_name} {evaluation.metric_value:.4f}{rates} "
            f"train_loss {train_loss} eval_loss {evaluation.eval_loss:.4f}"
            f"{' (new best)' if evaluation.is_best else ''}",
            flush=True,
        )
        self._events.write(evaluation)
        known = {finding.check for finding in before}
        for finding in findings:
            if finding.check not in known:
                self.warn(finding.check, finding.message)

    def tested(self, scores: FinalScores | None) -> None:
        """The scores of the test set, as a row of the job's log, where model selection never sees them."""
        if scores is None:
            self.warn("test_left_out", "the best weights are not on this machine, so the test set was not scored")
            return
        print(scores.text, flush=True)
        self._events.write(Log(event="test", message=scores.text, data=scores.model_dump(mode="json")))

    def not_saved(self, reason: str) -> None:
        """A checkpoint could not be written. Called on the thread that tried."""
        self.warn("checkpoint_failed", f"a checkpoint could not be written, training continues: {reason}")

    def checkpointed(self, checkpoint: Checkpoint) -> None:
        """A checkpoint is in place. Called on the thread that wrote it."""
        self._events.write(checkpoint)
