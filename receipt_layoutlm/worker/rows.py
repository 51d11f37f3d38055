"""Rows of one attempt in the table: evaluations and events, without secrets, at strictly increasing times."""

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from receipt_dynamo import DynamoClient, JobLog, JobMetric, JsonObject, Lease
from receipt_dynamo.limits import cut_text
from receipt_layoutlm.redact import redacted, redacted_document
from receipt_layoutlm.run.events import Evaluation

LOG_BYTES: Final = 32_000  # of a log row's data; events.jsonl has all of it
EVENT_CHARACTERS: Final = 200

_COLUMNS: Final = ("precision", "recall", "o_entity_ratio")  # scores with a column of their own


class JobRows:
    """Adds rows. The trainer's events keep their `seq`; the worker's own rows count down from 0.

    Threads may add rows at once: a lock covers giving a time and storing.
    """

    def __init__(
        self,
        client: DynamoClient,
        lease: Lease,
        now: Callable[[], datetime],
        secrets: tuple[str, ...],
        events_uri: str,
        fit: Callable[[JsonObject, str], JsonObject],
    ) -> None:
        self._client = client
        self._lease = lease  # for its attempt and token, which stay the same
        self._now = now
        self.secrets = secrets
        self._events_uri = events_uri
        self._fit = fit
        self._last_time = client.last_event_at(lease.job_id) if lease.attempt > 1 else None
        self._own_seq = 1
        self._times: dict[int, datetime] = {}  # seq -> time of a row not known to be stored
        self._lock = threading.Lock()

    def add_evaluation(self, event: Evaluation) -> None:
        with self._lock:
            extras: JsonObject = {
                name: value for name, value in event.flat.items() if name not in _COLUMNS and value != {}
            }
            if event.health:
                extras["health"] = list(event.health)
            if event.remedy:
                extras["remedy"] = event.remedy
            labels: JsonObject = {name: score.model_dump() for name, score in event.per_label.items()}
            tables = self._fit({"per_label": labels, **extras}, f"evaluation-{event.global_step}")
            metric = JobMetric(
                job_id=self._lease.job_id,
                timestamp=self._time_of(event.seq),
                attempt=self._lease.attempt,
                seq=event.seq,
                per_label=tables.get("per_label", {}),  # type: ignore[arg-type]  # pydantic checks it
                metric_name=event.metric_name,
                metric_value=event.metric_value,
                train_loss=event.train_loss,
                eval_loss=event.eval_loss,
                lr=event.lr,
                epoch=event.epoch,
                global_step=event.global_step,
                is_best=event.is_best,
                extras={name: value for name, value in tables.items() if name != "per_label"},
                **{name: event.scores.get(name) for name in _COLUMNS},
            )
            self._stored_at(event.seq, self._client.add_job_metric(self._lease, metric).timestamp)

    def add_log(self, level: str, event: str, message: str, data: JsonObject, seq: int | None = None) -> None:
        """Store one event; without a seq it is one of the worker's own."""
        with self._lock:
            row = self._row(level, event, message, data, seq)
            assert row.seq is not None
            self._stored_at(row.seq, self._client.add_job_log(self._lease, row).timestamp)

    def last_row(self, level: str, event: str, message: str, data: JsonObject) -> JobLog:
        """Build run_summary, which the transaction that ends the attempt stores."""
        with self._lock:
            return self._row(level, event, message, data, None)

    def _row(self, level: str, event: str, message: str, data: JsonObject, seq: int | None) -> JobLog:
        if seq is None:
            self._own_seq -= 1
            seq = self._own_seq
        size = len(json.dumps(data))
        if size > LOG_BYTES:
            data = {"left_out_bytes": size, "see": self._events_uri}
        return JobLog(
            job_id=self._lease.job_id,
            timestamp=self._time_of(seq),
            level=level,
            event=cut_text(event, EVENT_CHARACTERS),
            message=cut_text(redacted(message, self.secrets)),
            data={name: redacted_document(value, self.secrets) for name, value in data.items()},
            attempt=self._lease.attempt,
            seq=seq,
        )

    def _time_of(self, seq: int) -> datetime:
        """Time after every earlier row of the job, whatever the clocks of two machines show.

        A retried row keeps its time: it may be stored, with only the reply lost.
        """
        if seq not in self._times:
            now = self._now()
            after = now if self._last_time is None else self._last_time + timedelta(microseconds=1)
            self._times[seq] = max(now, after)
        return self._times[seq]

    def _stored_at(self, seq: int, time: datetime) -> None:
        del self._times[seq]
        self._last_time = time
