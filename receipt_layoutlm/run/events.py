"""events.jsonl: events from the trainer to the worker, one JSON line each.

The trainer appends through EventWriter; the worker reads with EventReader. `seq` counts from 1 within an
attempt and `time` is aware UTC.
"""

import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from receipt_layoutlm.paths import private
from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.scores import Scores

log = logging.getLogger(__name__)

FailureCause = Literal[
    "out_of_memory",
    "non_finite_loss",
    "bad_data",
    "bad_config",
    "hub_unavailable",
    "killed",
    "device_error",
    "hang",
    "storage",
    "unknown",
]
FinishReason = Literal["completed", "early_stopped", "stop_requested"]
FINISH_TEXTS: dict[str, str] = {
    "completed": "all epochs were trained",
    "early_stopped": "early stopping ended it",
    "stop_requested": "it was asked to stop",
}
"""The reason why a trainer finished, in words."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: Annotated[int, Field(ge=0)] = 0
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Started(_Event):
    """Data is encoded and the model is built: sizes and length of the run."""

    kind: Literal["started"] = "started"
    device: str
    hardware: Hardware | None = None  # None in events of earlier versions
    train_pages: int
    eval_pages: int
    test_pages: int = 0
    train_windows: int
    eval_windows: int
    parameters: int
    trainable_parameters: int
    steps_per_epoch: int
    total_steps: int
    label_counts: dict[str, int]  # entities of the training set after merges and whitelist
    resumed_from: int | None = None  # global_step of the checkpoint this attempt continues

    @property
    def place(self) -> str:
        """The hardware, for people."""
        return self.device if self.hardware is None else self.hardware.text


class Progress(_Event):
    """At most one a second."""

    kind: Literal["progress"] = "progress"
    phase: Literal["encode", "train", "evaluate"]
    global_step: int
    total_steps: int
    epoch: float
    train_loss: float | None = None
    lr: float | None = None
    pages_per_second: float | None = None  # windows, in the time of training steps alone, as those below
    tokens_per_second: float | None = None
    mfu: float | None = None  # share of the GPU's dense peak, None where no data sheet is known
    gpu_memory: int | None = None  # bytes, the most that this process had in use


class Evaluation(_Event, Scores):
    """One evaluation; metric_value is the headline and always greater-is-better."""

    kind: Literal["evaluation"] = "evaluation"
    global_step: int
    epoch: float
    metric_name: str
    metric_value: float
    train_loss: float | None  # mean since the last evaluation
    lr: float
    health: tuple[str, ...] = ()  # findings, one line each
    remedy: dict[str, JsonValue] = {}  # option -> value to try first
    is_best: bool


class Checkpoint(_Event):
    """A checkpoint folder was renamed into place and its manifest is final."""

    kind: Literal["checkpoint"] = "checkpoint"
    global_step: int
    folder: str  # name inside the run directory
    manifest_sha256: str
    is_best: bool
    size: int = 0  # bytes
    write_seconds: float = 0.0  # on the writing thread
    phase_seconds: dict[str, float] = {}  # of this attempt so far


class Log(_Event):
    kind: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    event: str
    message: str
    data: dict[str, JsonValue] = {}


class Failed(_Event):
    kind: Literal["failed"] = "failed"
    cause: FailureCause
    message: str
    page_ids: tuple[str, ...] = ()
    phase_seconds: dict[str, float] = {}


class Finished(_Event):
    kind: Literal["finished"] = "finished"
    reason: FinishReason
    global_step: int
    best_global_step: int | None
    best_metric_value: float | None
    phase_seconds: dict[str, float] = {}


Event = Annotated[Started | Progress | Evaluation | Checkpoint | Log | Failed | Finished, Field(discriminator="kind")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


LONGEST_LINE: Final = 32 << 20  # bytes; an evaluation of 1,000 labels has less than one million


class EventWriter:
    """Appends events to a file, whole lines only: what a full disk took of a line is removed again.

    The training thread and the one that writes checkpoints share it.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._file = open(path, "ab", buffering=0, opener=private)  # noqa: SIM115 - closed by close()
        self._now = now
        self._seq = 0
        self._lock = threading.Lock()
        self._is_torn = self._file.tell() > 0 and not _ends_line(path)

    def write(self, event: Event) -> None:
        """Raises OSError for a line that could not be written whole; nothing of it stays, and the next one may."""
        with self._lock:
            stamped = event.model_copy(update={"seq": self._seq + 1, "time": self._now()})
            line = memoryview(b"\n" * self._is_torn + stamped.model_dump_json().encode() + b"\n")
            size = os.fstat(self._file.fileno()).st_size
            try:
                while line:
                    line = line[self._file.write(line) :]  # a disk that is almost full takes a part
            except OSError:
                self._cut(size)
                raise
            self._seq, self._is_torn = self._seq + 1, False

    def _cut(self, size: int) -> None:
        """Remove a torn line; one that stays is ended by the next event, and readers pass it over."""
        try:
            self._file.truncate(size)
        except OSError:
            self._is_torn = True

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _ends_line(path: Path) -> bool:
    with open(path, "rb", opener=private) as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


class EventReader:
    """Yields the whole lines that were appended since the last call; a torn tail waits for its end.

    Lines that are no events are passed over: `skipped` counts them, and the first is logged.
    """

    def __init__(self, path: Path) -> None:
        self.skipped = 0
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        if not self._path.exists():
            return []
        events: list[Event] = []
        with open(self._path, "rb", opener=private) as file:
            file.seek(self._offset)
            while line := file.readline(LONGEST_LINE):
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    break
                self._offset += len(line)
                if line.strip():
                    events += self._parsed(line)
        return events

    def _parsed(self, line: bytes) -> list[Event]:
        try:
            return [_EVENT.validate_json(line)]
        except ValidationError:
            self.skipped += 1
            if self.skipped == 1:
                log.warning("%s has a line that is no event, which is passed over: %r", self._path, line[:100])
            return []
