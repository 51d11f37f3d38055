"""Mirrors a run directory to AWS, event by event in the order of seq.

evaluation -> JobMetric; log, started -> JobLog; checkpoint -> bucket, then the fenced pointer; progress -> the
lease's short text. A pointer therefore moves only after every event of lower seq is stored.
"""

import json
import logging
import random
import shutil
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
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
from receipt_layoutlm.folder_upload import FolderUpload
from receipt_layoutlm.notice import LastSave
from receipt_layoutlm.redact import redacted, redacted_document
from receipt_layoutlm.retention import StoredCheckpoint, stored_checkpoints, superseded
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import RunRecord
from receipt_layoutlm.s3 import Bucket, RunPlaces, StorageError, StorageUnavailable, keep_trying

log = logging.getLogger(__name__)
_RNG = random.Random()

MIRROR_SECONDS: Final = 15.0  # between two uploads of the growing log files
LOG_BYTES: Final = 32_000  # of a log row's data; the rest is in train.log


class Recorder:
    """The state of one attempt's mirror. `lease` is always the newest one known here.

    `poll` runs on one thread at a time; another one may read the attributes meanwhile, and add log rows.
    """

    def __init__(
        self,
        queue: JobQueue,
        bucket: Bucket,
        places: RunPlaces,
        lease: Lease,
        run_dir: RunDir,
        now: Callable[[], datetime],
        observe: Callable[[Event], None],
        keep_checkpoints: int,
        secrets: tuple[str, ...],
    ) -> None:
        self.lease = lease
        self.end: Failed | Finished | None = None
        self.progress = ""
        self.last_save: LastSave | None = None
        self.phase_seconds: dict[str, float] = {}
        self._queue = queue
        self._client: DynamoClient = queue.client
        self._bucket = bucket
        self._places = places
        self._run_dir = run_dir
        self._now = now
        self._observe = observe
        self._keep = keep_checkpoints
        self._secrets = secrets
        self._reader = EventReader(run_dir.events)
        self._pending: deque[Event] = deque()
        self._committed = 0
        self._stored = stored_checkpoints(bucket, places) if lease.attempt > 1 or lease.checkpoint else []
        self._last_step = lease.checkpoint.global_step if lease.checkpoint else 0
        self._last_seq = 0
        self._last_time = self._client.last_event_at(lease.job_id) if lease.attempt > 1 else None
        self._mirrored_at: datetime | None = None
        self._times: dict[int, datetime] = {}  # seq -> time of a row that is not known to be stored
        self._given_up = threading.Event()
        self._rows = threading.Lock()  # one row at a time gets its time and is stored

    def poll(self) -> None:
        """Record what the trainer wrote since the last call. What could not be stored is tried again next time."""
        self._pending.extend(self._reader.read())
        while self._pending:
            event = self._pending[0]
            self._record(event)
            self._last_seq = event.seq
            self._observe(event)
            self._pending.popleft()
        self._mirror_growing_files()

    def give_up(self) -> None:
        """End an upload that goes on in vain: the lease is gone, or there is no time left."""
        self._given_up.set()

    @property
    def is_up_to_date(self) -> bool:
        """Whether everything that was read is stored."""
        return not self._pending

    @property
    def has_heard(self) -> bool:
        """Whether the trainer has said anything yet."""
        return self._last_seq > 0

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
                self._add_seconds(event.phase_seconds)
                self.end = event

    def _add_seconds(self, phase_seconds: dict[str, float]) -> None:
        self.phase_seconds.update(phase_seconds)

    def _record_evaluation(self, event: Evaluation) -> None:
        self._last_step = event.global_step
        with self._rows:
            metric = JobMetric(
                job_id=self.lease.job_id,
                timestamp=self._time_of(event.seq),
                attempt=self.lease.attempt,
                seq=event.seq,
                per_label={name: score.model_dump() for name, score in event.per_label.items()},
                **event.model_dump(include=_METRIC_FIELDS),
            )
            self._stored_at(event.seq, self._client.add_job_metric(self.lease, metric).timestamp)

    def _record_checkpoint(self, event: Checkpoint) -> None:
        self._last_step = max(self._last_step, event.global_step)
        self._add_seconds(event.phase_seconds)
        folder = self._run_dir.checkpoint(event.global_step)  # not by a text of the trainer's: it is removed below
        if not self._is_overtaken(event):
            self._commit(event, folder)
        shutil.rmtree(folder)

    def _is_overtaken(self, event: Checkpoint) -> bool:
        """Whether uploads lag so far that a later checkpoint waits already which does all that this one does."""
        self._pending.extend(self._reader.read())
        later = [other for other in self._pending if isinstance(other, Checkpoint) and other is not event]
        return any(other.is_best or not event.is_best for other in later)

    def _commit(self, event: Checkpoint, folder: Path) -> None:
        """Files, then the manifest, then the pointer; then what it supersedes goes."""
        pointer = Pointer(
            attempt=self.lease.attempt, global_step=event.global_step, manifest_sha256=event.manifest_sha256
        )
        upload = FolderUpload(self._bucket, folder, self._places.checkpoint(pointer))
        try:
            keep_trying(upload.run, self._given_up.is_set, self._given_up.wait, _RNG)
        except StorageError:
            upload.abandon()
            raise
        self.last_save = LastSave(upload.size, event.write_seconds, upload.seconds)
        self.phase_seconds["upload"] = round(self.phase_seconds.get("upload", 0.0) + upload.seconds, 3)
        self.lease = self._queue.record_checkpoint(self.lease, pointer, pointer if event.is_best else None)
        self._committed += 1
        self._stored.append(StoredCheckpoint(pointer.attempt, pointer.global_step))
        self._prune()

    def _prune(self) -> None:
        """Remove what neither the lease names nor --keep-checkpoints asks for. Trouble with that stops nobody."""
        for old in superseded(self._stored, self.lease, self._keep):
            try:
                self._bucket.delete_prefix(self._places.checkpoint_at(old.attempt, old.global_step))
            except StorageError as error:
                log.warning("an old checkpoint stays in the bucket: %s", error)
            self._stored.remove(old)

    def log(self, level: str, event: str, message: str, data: JsonObject, seq: int) -> None:
        """Store one JobLog row; data that is too large for a row is left to train.log."""
        with self._rows:
            stored = self._client.add_job_log(self.lease, self.log_row(level, event, message, data, seq))
            self._stored_at(seq, stored.timestamp)

    def log_row(self, level: str, event: str, message: str, data: JsonObject, seq: int) -> JobLog:
        """The row as it would be stored, at the next free time."""
        size = len(json.dumps(data))
        if size > LOG_BYTES:
            place = self._places.uri(self._places.attempt(self.lease.attempt) + "logs/events.jsonl")
            data = {"left_out_bytes": size, "see": place}
        return JobLog(
            job_id=self.lease.job_id,
            timestamp=self._time_of(seq),
            level=level,
            event=event,
            message=redacted(message, self._secrets),
            data={name: redacted_document(value, self._secrets) for name, value in data.items()},
            attempt=self.lease.attempt,
            seq=seq,
        )

    def _time_of(self, seq: int) -> datetime:
        """Strictly after every row of the job, whatever the clocks of two machines say.

        A row that is tried again keeps its time: perhaps it is stored, and only the reply was lost.
        """
        if seq not in self._times:
            now = self._now()
            after = now if self._last_time is None else self._last_time + timedelta(microseconds=1)
            self._times[seq] = max(now, after)
        return self._times[seq]

    def _stored_at(self, seq: int, time: datetime) -> None:
        self._times.pop(seq, None)
        self._last_time = time

    @property
    def next_seq(self) -> int:
        """For the row that the worker adds after the trainer's last."""
        return self._last_seq + 1

    def evaluations(self) -> tuple[Evaluation, ...]:
        """The whole history of the weights: also that of earlier attempts and of the job that this one continues."""
        return self.run_record().evaluations

    def run_record(self) -> RunRecord:
        """run.json as the trainer left it."""
        return RunRecord.model_validate_json(self._run_dir.run_json.read_bytes())

    def attempt_end(self) -> AttemptEnd:
        """Steps beyond the resume point are lost when this attempt does not finish the job."""
        resume = self.lease.checkpoint.global_step if self.lease.checkpoint else 0
        return AttemptEnd(
            last_step=self._last_step,
            lost_steps=max(0, self._last_step - resume),
            checkpoints=self._committed,
            phase_seconds=dict(self.phase_seconds),
        )

    def _mirror_growing_files(self) -> None:
        if self._mirrored_at is not None and self._now() - self._mirrored_at < timedelta(seconds=MIRROR_SECONDS):
            return
        self.mirror_files()

    def mirror_files(self) -> None:
        """Upload train.log, events.jsonl and run.json as they are now, or say that it could not be done."""
        try:
            self._put_growing_files()
        except StorageUnavailable as error:
            log.warning("the log files are not mirrored just now: %s", error)
        self._mirrored_at = self._now()

    def _put_growing_files(self) -> None:
        prefix = self._places.attempt(self.lease.attempt)
        logs = [self._run_dir.train_log, self._run_dir.events]
        places = [(path, f"{prefix}logs/{path.name}") for path in logs]
        for path, key in [*places, (self._run_dir.run_json, prefix + "run.json")]:
            if path.exists():
                self._bucket.put_file(path, key)

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
