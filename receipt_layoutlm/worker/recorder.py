"""Records a run directory in AWS, event by event in the order of seq.

evaluation -> JobMetric; log, started -> JobLog; checkpoint -> bucket, then the fenced pointer; progress -> the
lease's short text. So a pointer moves only after every event of lower seq is stored. RecorderThread polls on a thread
of its own, so that a slow upload does not hold up the supervision of the lease.
"""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from receipt_dynamo import AttemptEnd, JobQueue, Lease, Pointer, StoreUnavailable
from receipt_layoutlm.redact import redacted_bytes, redacted_lines
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import (
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
from receipt_layoutlm.run.progress import Pace
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError, StorageUnavailable, keep_trying
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import Keep, StoredCheckpoint, left_folders, superseded
from receipt_layoutlm.storage.upload import FolderUpload
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.log_mirror import EVENTS_KEPT_BYTES, LOG_KEPT_BYTES, LogMirror
from receipt_layoutlm.worker.rows import JobRows

log = logging.getLogger(__name__)

MIRROR_SECONDS: Final = 15.0  # between two uploads of the growing log files


@dataclass(frozen=True)
class RunStorage:
    """Bucket and keys of one run, and how many checkpoints it keeps there."""

    bucket: Bucket
    keys: RunKeys
    keep_checkpoints: Keep


@dataclass(frozen=True)
class LastSave:
    """Size and duration of the last committed checkpoint."""

    size: int  # bytes
    write_seconds: float
    upload_seconds: float


class Recorder:
    """Recording state of one attempt. `lease` is the newest one known here.

    `poll` runs on one thread at a time; meanwhile another thread may read the attributes and add rows.
    """

    def __init__(
        self,
        queue: JobQueue,
        storage: RunStorage,
        rows: JobRows,
        lease: Lease,
        run_dir: RunDir,
        heartbeat: Heartbeat,
        observe: Callable[[Event], None],
        now: Callable[[], datetime],
    ) -> None:
        self.lease = lease
        self.rows = rows
        self.end: Failed | Finished | None = None
        self.last_save: LastSave | None = None
        self.phase_seconds: dict[str, float] = {}
        self._queue = queue
        self._bucket, self._keys, self._keep = storage.bucket, storage.keys, storage.keep_checkpoints
        self._run_dir = run_dir
        self._heartbeat = heartbeat
        self._now = now
        self._observe = observe
        self._reader = EventReader(run_dir.events)
        self._pending: deque[Event] = deque()
        self._upload: tuple[int, FolderUpload] | None = None  # with the seq of its event
        self._committed = 0
        self._stored: list[StoredCheckpoint] | None = None  # None: those of earlier attempts are not listed yet
        self._last_step = lease.checkpoint.global_step if lease.checkpoint else 0
        self._last_seq = 0
        self._pace = Pace()
        logs = self._keys.attempt(lease.attempt) + "logs/"
        train_log, events = run_dir.train_log, run_dir.events
        self.train_log = LogMirror(
            train_log, self._bucket, logs + train_log.name, rows.secrets, redacted_bytes, LOG_KEPT_BYTES
        )
        self._events_log = LogMirror(
            events, self._bucket, logs + events.name, rows.secrets, redacted_lines, EVENTS_KEPT_BYTES
        )
        self._run_json = b""
        self._predictions: dict[str, int] = {}  # sent files, by name, with the time of their last change in ns
        self._mirrored_at: datetime | None = None
        self._given_up = threading.Event()

    def poll(self) -> None:
        """Record the events since the last call. One that could not be stored is recorded by the next call."""
        self._pending.extend(self._reader.read())
        while self._pending:
            event = self._pending[0]
            self._record(event)
            self._last_seq = event.seq
            self._observe(event)
            self._pending.popleft()
        if self._mirrored_at is None or self._now() - self._mirrored_at >= timedelta(seconds=MIRROR_SECONDS):
            self.mirror_files()

    def give_up(self) -> None:
        """End a running upload: the lease is lost, or no time is left."""
        self._given_up.set()

    @property
    def is_up_to_date(self) -> bool:
        """Whether every event that was read is stored."""
        return not self._pending

    @property
    def has_events(self) -> bool:
        """Whether the trainer has written any event yet."""
        return self._last_seq > 0

    def _record(self, event: Event) -> None:
        match event:
            case Progress():
                self._last_step = event.global_step
                self._heartbeat.progress = self._pace.progress(event).text
            case Evaluation():
                self._last_step = event.global_step
                self.rows.add_evaluation(event)
            case Checkpoint():
                self._record_checkpoint(event)
            case Started():
                document = event.model_dump(mode="json", exclude={"seq", "time", "kind"})
                self.rows.add_log("info", "started", f"training on {event.place}", document, event.seq)
            case Log():
                self.rows.add_log(event.level, event.event, event.message, event.data, event.seq)
            case Failed() | Finished():
                self.phase_seconds.update(event.phase_seconds)
                self.end = event

    def _record_checkpoint(self, event: Checkpoint) -> None:
        self._last_step = max(self._last_step, event.global_step)
        self.phase_seconds.update(event.phase_seconds)
        is_started = self._upload is not None and self._upload[0] == event.seq
        if is_started or not self._is_superseded(event):
            self._commit(event)
        # a folder named by this side, never by a text of the trainer's, because it is removed
        shutil.rmtree(self._run_dir.checkpoint(event.global_step), ignore_errors=True)

    def _is_superseded(self, event: Checkpoint) -> bool:
        """Whether uploads lag so far that a later checkpoint that serves every use of this one is waiting."""
        self._pending.extend(self._reader.read())
        later = [other for other in self._pending if isinstance(other, Checkpoint) and other is not event]
        return any(other.is_best or not event.is_best for other in later)

    def _commit(self, event: Checkpoint) -> None:
        """Upload the files, then the manifest, then move the pointer; then remove what it supersedes."""
        pointer = Pointer(
            attempt=self.lease.attempt, global_step=event.global_step, manifest_sha256=event.manifest_sha256
        )
        if self._upload is None or self._upload[0] != event.seq:  # else a retry, which sends only what is missing
            folder, prefix = self._run_dir.checkpoint(event.global_step), self._keys.checkpoint(pointer)
            self._upload = event.seq, self._bucket.folder_upload(folder, prefix, self._given_up.is_set)
        upload = self._upload[1]
        keep_trying(upload.run, self._given_up.is_set, self._given_up.wait)
        keep_trying(self.put_predictions, self._given_up.is_set, self._given_up.wait)
        self.lease = self._queue.record_checkpoint(self.lease, pointer, pointer if event.is_best else None)
        self.last_save = LastSave(upload.size, event.write_seconds, upload.seconds)
        self.phase_seconds["upload"] = round(self.phase_seconds.get("upload", 0.0) + upload.seconds, 3)
        self._upload = None
        self._committed += 1
        self._prune(StoredCheckpoint(pointer.attempt, pointer.global_step))

    def _prune(self, newest: StoredCheckpoint) -> None:
        """Remove checkpoints that neither the lease nor --keep-checkpoints keeps. Failing to is only logged."""
        try:
            if self._stored is None:
                is_first = self.lease.attempt == 1 and self.lease.previous is None
                self._stored = [] if is_first else left_folders(self._bucket, self._keys)
            self._stored = [*(stored for stored in self._stored if stored != newest), newest]
            for old in superseded(self._stored, self.lease, self._keep):
                self._bucket.delete_prefix(self._keys.checkpoint_at(old.attempt, old.global_step))
                self._stored.remove(old)
        except StorageError as error:
            log.warning("an old checkpoint stays in the bucket: %s", error)

    def attempt_end(self) -> AttemptEnd:
        """Numbers for the attempt's row. Steps beyond the resume point are lost unless the job is finished."""
        resume = self.lease.checkpoint.global_step if self.lease.checkpoint else 0
        return AttemptEnd(
            last_step=self._last_step,
            lost_steps=max(0, self._last_step - resume),
            checkpoints=self._committed,
            phase_seconds=dict(self.phase_seconds),
        )

    def run_record(self) -> RunRecord:
        """run.json, which includes earlier attempts and the job that this one continues."""
        return RunRecord.model_validate_json(self._run_dir.run_json.read_bytes())

    def mirror_files(self) -> None:
        """Send what is new in train.log, events.jsonl and run.json. Failing to is only logged."""
        self._mirror(lambda log: log.send())

    def finish_files(self) -> None:
        """The same after the trainer's end, with what stands in a last line without an end."""
        self._mirror(lambda log: log.finish())

    def _mirror(self, send: Callable[[LogMirror], None]) -> None:
        try:
            for mirror in (self.train_log, self._events_log):
                send(mirror)
            if self._run_dir.run_json.exists():
                data = redacted_lines(self._run_dir.run_json.read_bytes(), self.rows.secrets)
                if data != self._run_json:
                    self._bucket.put_bytes(data, self._keys.attempt(self.lease.attempt) + "run.json")
                    self._run_json = data
        except (StorageError, OSError) as error:
            log.warning("the log files could not be uploaded: %s", error)
        self._mirrored_at = self._now()

    def put_predictions(self) -> None:
        """Upload the predictions of the best and the last evaluation and of the test set, where they exist."""
        prefix = self._keys.attempt(self.lease.attempt) + "predictions/"
        for path in sorted(self._run_dir.predictions.glob("*.jsonl.gz")):
            with suppress(FileNotFoundError):  # the trainer removes what a newer evaluation replaces
                changed = path.stat().st_mtime_ns
                if self._predictions.get(path.name) != changed:
                    self._bucket.put_file(path, prefix + path.name)
                    self._predictions[path.name] = changed


class RecorderThread:
    """Polls a recorder on a thread. Retries while table or bucket are away; `check` and `finish` raise other errors."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pool = ThreadPoolExecutor(1, "recorder")
        self._running = self._pool.submit(self._poll)

    def check(self) -> None:
        """Start the next poll when the last one is done."""
        if self._running.done():
            self._running.result()
            self._running = self._pool.submit(self._poll)

    def finish(self, may_continue: Callable[[], bool], poll_seconds: float) -> bool:
        """Record the remaining events after the trainer's end; returns whether everything is stored."""
        polls = 0  # since the trainer's end: the one that was running then may have missed the last lines
        while may_continue():
            if wait([self._running], poll_seconds).done:
                self._running.result()
                if polls > 0 and self._recorder.is_up_to_date:
                    return True
                self._running = self._pool.submit(self._poll)
                polls += 1
        return False

    def close(self) -> None:
        """Abandon the thread, which ends with its current request."""
        self._recorder.give_up()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _poll(self) -> None:
        try:
            self._recorder.poll()
        except (StorageUnavailable, StoreUnavailable) as error:
            log.warning("events cannot be stored now, trying again: %s", error)
