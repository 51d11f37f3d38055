"""Mirrors a run directory to AWS, event by event in the order of seq.

evaluation -> JobMetric; log, started -> JobLog; checkpoint -> bucket, then the fenced pointer; progress -> the
lease's short text. A pointer therefore moves only after every event of lower seq is stored.
"""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from receipt_dynamo import (
    AttemptEnd,
    DynamoClient,
    JobLog,
    JobMetric,
    JobQueue,
    JsonObject,
    Lease,
    Pointer,
)
from receipt_layoutlm.events import (
    Checkpoint,
    Evaluation,
    Event,
    EventReader,
    Failed,
    Finished,
    Log,
    Progress,
    Started,
)
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.s3 import Bucket, RunPlaces

MIRROR_SECONDS: Final = 15.0  # between two uploads of the growing log files
LOG_BYTES: Final = 32_000  # of a log row's data; the rest is in train.log


class Recorder:
    """The state of one attempt's mirror. `lease` is always the newest one known here."""

    def __init__(
        self,
        queue: JobQueue,
        bucket: Bucket,
        places: RunPlaces,
        lease: Lease,
        run_dir: RunDir,
        now: Callable[[], datetime],
        observe: Callable[[Event], None],
    ) -> None:
        self.lease = lease
        self.end: Failed | Finished | None = None
        self.progress = ""
        self._queue = queue
        self._client: DynamoClient = queue.client
        self._bucket = bucket
        self._places = places
        self._run_dir = run_dir
        self._now = now
        self._observe = observe
        self._reader = EventReader(run_dir.events)
        self._committed: list[Pointer] = []
        self._last_step = lease.checkpoint.global_step if lease.checkpoint else 0
        self._last_seq = 0
        self._last_time = self._client.last_event_at(lease.job_id) if lease.attempt > 1 else None
        self._mirrored_at: datetime | None = None

    def poll(self) -> None:
        """Record what the trainer wrote since the last call."""
        for event in self._reader.read():
            self._record(event)
            self._last_seq = event.seq
            self._observe(event)
        self._mirror_growing_files()

    def _record(self, event: Event) -> None:
        match event:
            case Progress():
                self._last_step = event.global_step
                self.progress = json.dumps([event.phase, event.global_step, event.total_steps, round(event.epoch, 2)])
            case Evaluation():
                self._record_evaluation(event)
            case Checkpoint():
                self._record_checkpoint(event)
            case Started():
                document = event.model_dump(mode="json", exclude={"seq", "time", "kind"})
                self.log("info", "started", f"training on {event.device}", document, event.seq)
            case Log():
                self.log(event.level, event.event, event.message, event.data, event.seq)
            case Failed() | Finished():
                self.end = event

    def _record_evaluation(self, event: Evaluation) -> None:
        self._last_step = event.global_step
        metric = JobMetric(
            job_id=self.lease.job_id,
            timestamp=self.next_time(),
            attempt=self.lease.attempt,
            seq=event.seq,
            per_label={name: score.model_dump() for name, score in event.per_label.items()},
            **event.model_dump(include=_METRIC_FIELDS),
        )
        self._last_time = self._client.add_job_metric(self.lease, metric).timestamp

    def _record_checkpoint(self, event: Checkpoint) -> None:
        pointer = Pointer(
            attempt=self.lease.attempt,
            global_step=event.global_step,
            manifest_sha256=event.manifest_sha256,
        )
        folder = self._run_dir.path / event.folder
        self._bucket.put_folder(folder, self._places.checkpoint(pointer))
        best = pointer if event.is_best else None
        self.lease = self._queue.record_checkpoint(self.lease, pointer, best)
        self._committed.append(pointer)
        shutil.rmtree(folder)
        self._prune()

    def _prune(self) -> None:
        """Keep what the lease names: the resume point, the one before it, and the best."""
        named = {self.lease.checkpoint, self.lease.previous, self.lease.best}
        for pointer in [pointer for pointer in self._committed if pointer not in named]:
            self._bucket.delete_prefix(self._places.checkpoint(pointer))
            self._committed.remove(pointer)

    def log(self, level: str, event: str, message: str, data: JsonObject, seq: int) -> None:
        """Store one JobLog row; data that is too large for a row is left to train.log."""
        stored = self._client.add_job_log(self.lease, self.log_row(level, event, message, data, seq))
        self._last_time = stored.timestamp

    def log_row(self, level: str, event: str, message: str, data: JsonObject, seq: int) -> JobLog:
        """The row as it would be stored, at the next free time."""
        size = len(json.dumps(data))
        if size > LOG_BYTES:
            place = self._places.uri(self._places.attempt(self.lease.attempt) + "logs/events.jsonl")
            data = {"left_out_bytes": size, "see": place}
        return JobLog(
            job_id=self.lease.job_id,
            timestamp=self.next_time(),
            level=level,
            event=event,
            message=message,
            data=data,
            attempt=self.lease.attempt,
            seq=seq,
        )

    def next_time(self) -> datetime:
        """Strictly after every event of the job, whatever the clocks of two machines say."""
        now = self._now()
        return now if self._last_time is None else max(now, self._last_time + timedelta(microseconds=1))

    @property
    def next_seq(self) -> int:
        """For the row that the worker adds after the trainer's last."""
        return self._last_seq + 1

    def attempt_end(self) -> AttemptEnd:
        """Steps beyond the resume point are lost when this attempt does not finish the job."""
        resume = self.lease.checkpoint.global_step if self.lease.checkpoint else 0
        return AttemptEnd(
            last_step=self._last_step,
            lost_steps=max(0, self._last_step - resume),
            checkpoints=len(self._committed),
        )

    def _mirror_growing_files(self) -> None:
        if self._mirrored_at is not None and self._now() - self._mirrored_at < timedelta(seconds=MIRROR_SECONDS):
            return
        self.mirror_files()

    def mirror_files(self) -> None:
        """Upload train.log, events.jsonl and run.json as they are now."""
        prefix = self._places.attempt(self.lease.attempt)
        logs = [self._run_dir.train_log, self._run_dir.events]
        places = [(path, f"{prefix}logs/{path.name}") for path in logs]
        for path, key in [*places, (self._run_dir.run_json, prefix + "run.json")]:
            if path.exists():
                self._bucket.put_file(path, key)
        self._mirrored_at = self._now()

    def put_predictions(self) -> None:
        """Upload the predictions of the best and the last evaluation."""
        prefix = self._places.attempt(self.lease.attempt) + "predictions/"
        for path in sorted(self._run_dir.predictions.glob("*")):
            self._bucket.put_file(path, prefix + path.name)


_METRIC_FIELDS = {
    "metric_name",
    "metric_value",
    "precision",
    "recall",
    "train_loss",
    "eval_loss",
    "lr",
    "o_entity_ratio",
    "epoch",
    "global_step",
    "is_best",
}
