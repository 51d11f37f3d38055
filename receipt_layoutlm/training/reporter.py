"""What a run tells the outside: events for the worker, lines on stdout for a person."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.run.class_weights import ClassWeights, weights_text
from receipt_layoutlm.run.events import Checkpoint, Evaluation, EventWriter, Log, Progress, Started
from receipt_layoutlm.run.health import health
from receipt_layoutlm.run.record import DatasetRecord, FinalScores
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.throughput import Work, peak_flops

PROGRESS_SECONDS = 1.0  # at least, between two progress events
SILENCE_SECONDS = 30.0  # at most, while steps are done: who watches takes a longer silence for a hang

Phase = Literal["start", "cached", "encode", "train", "evaluate", "checkpoint"]


class Reporter:
    """Writes events and lines; `clock` is monotonic, in seconds, and decides how often progress is told."""

    def __init__(self, events: EventWriter, clock: Callable[[], float], began: float) -> None:
        self._events = events
        self._clock = clock
        self._phase: Phase = "start"
        self._phase_since = began
        self._seconds: dict[str, float] = {}
        self._told_at = clock() - PROGRESS_SECONDS
        self._work = Work()
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
        return self._clock() - self._told_at >= SILENCE_SECONDS

    def warn(self, event: str, message: str) -> None:
        """A warning for the job's log."""
        print(f"warning: {message}", flush=True)
        self._events.write(Log(level="warning", event=event, message=message))

    def trained(self, work: Work) -> None:
        """Count an optimizer step for the rates of the next progress event."""
        self._work += work

    def progress(self, progress: Progress) -> None:
        """Write it, unless the last one is less than a second old."""
        now = self._clock()
        if now - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = now
        trained = self.phase_seconds().get("train", 0.0)
        rates = self._rates(trained - self._trained_until) if self._work.windows else {}
        self._work, self._trained_until = Work(), trained
        self._events.write(progress.model_copy(update=rates))

    def _rates(self, seconds: float) -> dict[str, float | int | None]:
        """Of the steps since the last progress event."""
        if self._run is None or seconds <= 0:
            return {}
        device, mfu = self._run.device, None
        if device.type == "cuda":
            peak = peak_flops(torch.cuda.get_device_name(device), self._run.state.precision)
            mfu = None if peak is None else self._work.flops / seconds / (peak * self._run.team.size)
        return {
            "pages_per_second": self._work.windows / seconds,
            "tokens_per_second": self._work.tokens / seconds,
            "mfu": mfu,
            "gpu_memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        }

    def started(self, run: Run) -> None:
        """Device, sizes and labels; what labels weigh in the loss; then what is odd about the labels."""
        started, self._run = _started(run), run
        print(
            f"{run.record.hardware.text}: {started.train_pages} training pages, {started.eval_pages} evaluation pages, "
            f"{started.total_steps} steps, {started.parameters:,} parameters "
            f"({started.trainable_parameters:,} trainable)\n"
            f"entities for training: {started.label_counts}",
            flush=True,
        )
        self._events.write(started)
        if run.record.class_weights is not None and not run.record.class_weights.is_plain:
            self._weighted(run.record.class_weights)
        self._warn_about_labels(run.record.dataset, run.label_map.merges)

    def _weighted(self, weights: ClassWeights) -> None:
        text = f"class weights in the loss, {weights_text(weights)}"
        print(text, flush=True)
        self._events.write(Log(event="class_weights", message=text, data=weights.model_dump(mode="json")))

    def _warn_about_labels(self, dataset: DatasetRecord, merges: dict[str, str]) -> None:
        if empty := [label for label, count in dataset.train_label_counts.items() if count == 0]:
            self.warn("labels_without_examples", f"no example to train on: {', '.join(empty)}")
        if dropped := [source for source, target in merges.items() if target == OUTSIDE]:
            self.warn("merge_drops", f"dropped by a merge into {OUTSIDE}: {', '.join(dropped)}")

    def evaluated(self, history: Sequence[Evaluation]) -> None:
        """One line and one event for the latest, and a warning for what was not wrong at the one before."""
        evaluation = history[-1]
        train_loss = "-" if evaluation.train_loss is None else f"{evaluation.train_loss:.4f}"
        print(
            f"epoch {evaluation.epoch:.2f} step {evaluation.global_step}: "
            f"{evaluation.metric_name} {evaluation.metric_value:.4f} precision {evaluation.precision:.4f} "
            f"recall {evaluation.recall:.4f} train_loss {train_loss} eval_loss {evaluation.eval_loss:.4f}"
            f"{' (new best)' if evaluation.is_best else ''}",
            flush=True,
        )
        self._events.write(evaluation)
        config = None if self._run is None else self._run.config
        known = {finding.check for finding in health(history[:-1], config)}
        for finding in health(history, config):
            if finding.check not in known:
                self.warn(finding.check, finding.message)

    def tested(self, scores: FinalScores | None) -> None:
        """The scores of the test part, as a row of the job's log: what selects by metrics never sees them."""
        if scores is None:
            self.warn("test_left_out", "the best weights are not on this machine, so the test part was not scored")
            return
        print(scores.text, flush=True)
        self._events.write(Log(event="test", message=scores.text, data=scores.model_dump(mode="json")))

    def not_saved(self, reason: str) -> None:
        """A checkpoint could not be written. Called on the thread that tried."""
        self.warn("checkpoint_failed", f"a checkpoint could not be written, training goes on: {reason}")

    def checkpointed(self, checkpoint: Checkpoint) -> None:
        """A checkpoint is in place. Called on the thread that wrote it."""
        self._events.write(checkpoint)


def _started(run: Run) -> Started:
    parameters = list(run.model.parameters())
    return Started(
        device=run.device.type,
        hardware=run.record.hardware,
        train_pages=len(run.train.pages),
        eval_pages=len(run.evaluation.pages),
        test_pages=0 if run.test is None else len(run.test.pages),
        train_windows=len(run.train.windows),
        eval_windows=len(run.evaluation.windows),
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        steps_per_epoch=run.plan.steps_per_epoch,
        total_steps=run.plan.total_steps,
        label_counts=run.record.dataset.train_label_counts,
        resumed_from=run.resumed_from,
    )
