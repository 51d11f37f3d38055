"""PynamoDB items: the mapping between records and the table, and the only place with key strings.

The models serve as the mapping alone (attributes, serialize, discriminators, expressions). Requests go
through DynamoClient, because a PynamoDB model is bound to one table for the whole process.
"""

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import JsonValue
from pynamodb.attributes import (
    BooleanAttribute,
    DiscriminatorAttribute,
    MapAttribute,
    UnicodeAttribute,
)
from pynamodb.models import Model

from receipt_dynamo.attributes import (
    SHOWN,
    DocumentAttribute,
    NumericAttribute,
    TimeAttribute,
    ValueAttribute,
    number_of,
    stamp,
    stored_values,
    time_of,
)
from receipt_dynamo.entities import (
    Attempt,
    Dataset,
    ForgottenPage,
    Job,
    JobLog,
    JobMetric,
    JobStatus,
    JsonObject,
    Lease,
    Pointer,
    Priority,
    Storage,
    as_utc,
    parse_job_id,
)

# An item or a key as botocore speaks it: {"name": {"S": "…"}}. It never leaves this package.
RawItem = dict[str, Any]

JOB_SK = "JOB"
LEASE_SK = "LEASE"
METRIC_PREFIX = "METRIC#"
LOG_PREFIX = "LOG#"
ATTEMPT_PREFIX = "ATTEMPT#"
CREATED_PREFIX = "CREATED#"
TimeRange = tuple[datetime | None, datetime | None]
ALWAYS: TimeRange = (None, None)
SNAPSHOT_PREFIX = "SNAPSHOT#"
DATASETS_KEY = "DATASETS"
FORGOTTEN_PREFIX = "FORGOTTEN#"
EXCLUSIONS_SK = "EXCLUSIONS"


def job_pk(job_id: str) -> str:
    return f"JOB#{job_id}"


def status_pk(status: JobStatus) -> str:
    return f"STATUS#{status}"


def name_pk(name: str) -> str:
    return f"JOB_NAME#{name}"


def queue_pk(queue: str) -> str:
    return f"QUEUE#{queue}"


def queue_sk(priority: Priority, created_at: datetime, job_id: str) -> str:
    return f"{priority.rank}#{stamp(created_at)}#{job_id}"


LATER_PREFIX = "LATER#"  # sorts after every rank


def later_sk(priority: Priority, not_before: datetime, job_id: str) -> str:
    """The queue's sort key of a job that waits for a time: behind those that are ready, by priority, then its time."""
    return f"{LATER_PREFIX}{priority.rank}#{stamp(not_before)}#{job_id}"


READY_RANGE = "0", LATER_PREFIX  # of the queue's sort keys without those of jobs that wait


def due_range(priority: Priority, now: datetime) -> tuple[str, str]:
    """The first and last key of a priority's jobs that waited until now at most."""
    return f"{LATER_PREFIX}{priority.rank}#", f"{LATER_PREFIX}{priority.rank}#{stamp(now)}~"


def created_range(created: TimeRange) -> tuple[str, str]:
    """The first and last key of the jobs that were submitted in this time."""
    since, until = created
    return CREATED_PREFIX + (stamp(since) if since else ""), CREATED_PREFIX + (stamp(until) if until else "~")


def is_later(raw: RawItem) -> bool:
    """Whether a row of the queue has the key of a job that waits, or waited, for a time."""
    return str(raw["GSI3SK"]["S"]).startswith(LATER_PREFIX)


def dataset_pk(name: str) -> str:
    return f"DATASET#{name}"


def key(pk: str, sk: str) -> RawItem:
    return {"PK": {"S": pk}, "SK": {"S": sk}}


def forgotten_key(page_id: str) -> RawItem:
    return key(DATASETS_KEY, f"{FORGOTTEN_PREFIX}{page_id}")


def exclusions_key() -> RawItem:
    return key(DATASETS_KEY, EXCLUSIONS_SK)


def job_key(job_id: str) -> RawItem:
    return key(job_pk(job_id), JOB_SK)


def lease_key(job_id: str) -> RawItem:
    return key(job_pk(job_id), LEASE_SK)


def attempt_key(job_id: str, attempt: int) -> RawItem:
    return key(job_pk(job_id), f"{ATTEMPT_PREFIX}{attempt:03d}")


class PointerMap(MapAttribute[str, Any]):
    attempt = NumericAttribute()
    global_step = NumericAttribute()
    manifest_sha256 = UnicodeAttribute()


class TableItem(Model):
    """Keys and indexes; GSI3 carries the claim queue."""

    class Meta:
        table_name = "named-by-each-client"

    cls = DiscriminatorAttribute(attr_name="TYPE")
    pk = UnicodeAttribute(hash_key=True, attr_name="PK")
    sk = UnicodeAttribute(range_key=True, attr_name="SK")
    gsi1_pk = UnicodeAttribute(null=True, attr_name="GSI1PK")
    gsi1_sk = UnicodeAttribute(null=True, attr_name="GSI1SK")
    gsi2_pk = UnicodeAttribute(null=True, attr_name="GSI2PK")
    gsi2_sk = UnicodeAttribute(null=True, attr_name="GSI2SK")
    gsi3_pk = UnicodeAttribute(null=True, attr_name="GSI3PK")
    gsi3_sk = UnicodeAttribute(null=True, attr_name="GSI3SK")


M = TypeVar("M", bound=TableItem)


def item_at(model: type[M], row: RawItem, /, **values: Any) -> M:
    """The item of a model under the key of a row."""
    return model(pk=row["PK"]["S"], sk=row["SK"]["S"], **values)


def values_of(model: type[TableItem], raw: RawItem) -> dict[str, Any]:
    """The attributes of a row by their names in its model, without keys. Raises as stored_values, or ValueError."""
    if "TYPE" in raw and raw["TYPE"].get("S") != TableItem.cls.get_discriminator(model):
        raise ValueError(f"TYPE {str(raw['TYPE'])[:SHOWN]} is not the type of rows with this key")
    return stored_values(model, raw)


class JobItem(TableItem, discriminator="JOB"):
    name = UnicodeAttribute()
    status = UnicodeAttribute()
    created_at = TimeAttribute()
    created_by = UnicodeAttribute()
    job_config = DocumentAttribute()
    description = UnicodeAttribute(null=True)
    priority = UnicodeAttribute(null=True)
    queue = UnicodeAttribute(null=True)
    interrupted_at = DocumentAttribute(null=True)
    attempt = NumericAttribute(null=True)
    budgets = DocumentAttribute(null=True)
    not_before = TimeAttribute(null=True)
    started_at = TimeAttribute(null=True)
    ended_at = TimeAttribute(null=True)
    storage = DocumentAttribute(null=True)
    tags = DocumentAttribute(null=True)
    results = DocumentAttribute(null=True)
    error = DocumentAttribute(null=True)
    moved_at = TimeAttribute(null=True)
    promoted_at = TimeAttribute(null=True)
    max_cost = NumericAttribute(null=True)
    notify = UnicodeAttribute(null=True)


class LeaseItem(TableItem, discriminator="LEASE"):
    attempt = NumericAttribute()
    lease_token = UnicodeAttribute(null=True)
    worker_id = UnicodeAttribute(null=True)
    expires_at = TimeAttribute(null=True)
    renewals = NumericAttribute()
    cancel_requested = BooleanAttribute()
    progress = UnicodeAttribute(null=True)
    checkpoint = PointerMap(null=True)  # type: ignore[no-untyped-call]
    best = PointerMap(null=True)  # type: ignore[no-untyped-call]
    previous = PointerMap(null=True)  # type: ignore[no-untyped-call]
    previous_best = PointerMap(null=True)  # type: ignore[no-untyped-call]
    deleting_at = TimeAttribute(null=True)


class AttemptItem(TableItem, discriminator="ATTEMPT"):
    attempt = NumericAttribute()
    worker_id = UnicodeAttribute()
    started_at = TimeAttribute()
    machine = DocumentAttribute()
    resume_step = NumericAttribute()
    ended_at = TimeAttribute(null=True)
    outcome = UnicodeAttribute(null=True)
    last_step = NumericAttribute(null=True)
    lost_steps = NumericAttribute(null=True)
    checkpoints = NumericAttribute(null=True)
    phase_seconds = DocumentAttribute(null=True)
    progress = UnicodeAttribute(null=True)
    ended_by = UnicodeAttribute(null=True)


class JobMetricItem(TableItem, discriminator="JOB_METRIC"):
    timestamp = TimeAttribute()
    metric_name = UnicodeAttribute()
    metric_value = NumericAttribute(null=True)
    scores = DocumentAttribute(null=True)  # the rest of the evaluation
    global_step = NumericAttribute(null=True)
    attempt = NumericAttribute(null=True)
    seq = NumericAttribute(null=True)
    # rows of the original system, one value each
    value = ValueAttribute(null=True)
    step = NumericAttribute(null=True)
    epoch = NumericAttribute(null=True)


class JobLogItem(TableItem, discriminator="JOB_LOG"):
    level = UnicodeAttribute(null=True)
    event = UnicodeAttribute(null=True)
    message = UnicodeAttribute()
    data = DocumentAttribute(null=True)
    attempt = NumericAttribute(null=True)
    seq = NumericAttribute(null=True)
    # the original system's names
    log_level = UnicodeAttribute(null=True)
    source = UnicodeAttribute(null=True)
    exception = UnicodeAttribute(null=True)


class DatasetItem(TableItem, discriminator="DATASET"):
    name = UnicodeAttribute()
    created_at = TimeAttribute()
    fingerprint = UnicodeAttribute()
    source = UnicodeAttribute()
    counts = DocumentAttribute()
    labels = DocumentAttribute()


class ForgottenPageItem(TableItem, discriminator="FORGOTTEN_PAGE"):
    forgotten_at = TimeAttribute()
    forgotten_by = UnicodeAttribute()


class ExclusionsItem(TableItem, discriminator="EXCLUSIONS"):
    """Counts the exclusions, so that a snapshot made meanwhile is noticed."""

    version = NumericAttribute()


def job_item(job: Job) -> JobItem:
    """Queue keys exist iff the job is pending or interrupted."""
    item = JobItem(
        pk=job_pk(job.job_id),
        sk=JOB_SK,
        gsi1_pk=status_pk(job.status),
        gsi1_sk=CREATED_PREFIX + stamp(job.created_at),
        gsi2_pk=name_pk(job.name),
        gsi2_sk=CREATED_PREFIX + stamp(job.created_at),
        **job.model_dump(exclude={"job_id", "interrupted_at"}, exclude_none=True, mode="python"),
    )
    if job.interrupted_at:
        item.interrupted_at = times_document(job.interrupted_at)
    if job.status.is_claimable:
        item.gsi3_pk = queue_pk(job.queue)
        item.gsi3_sk = (
            queue_sk(job.priority, job.created_at, job.job_id)
            if job.not_before is None
            else later_sk(job.priority, job.not_before, job.job_id)
        )
    return item


def job_from(raw: RawItem) -> Job:
    values = values_of(JobItem, raw)
    return Job(
        job_id=parse_job_id(id_of(raw)),
        **values
        | {
            "status": JobStatus(values["status"]),
            "job_config": _object(values["job_config"]),
            "description": values.get("description") or "",
            "priority": Priority(values.get("priority") or Priority.MEDIUM),
            "queue": values.get("queue") or "default",
            "interrupted_at": _times(values.get("interrupted_at")),
            "attempt": int(values.get("attempt") or 0),
            "budgets": values.get("budgets") or {},
            "storage": _storage_from(values.get("storage")),
            "tags": {name: str(value) for name, value in _object(values.get("tags")).items()},
            "results": _object(values["results"]) if values.get("results") is not None else None,
            "error": values.get("error") or None,
        },
    )


def results_from(raw: RawItem) -> tuple[str, JsonObject]:
    """Id and results of a job's row, of which only these were read."""
    stored = raw.get("results")
    results = JobItem.results.deserialize(JobItem.results.get_value(stored)) if stored else None
    return parse_job_id(id_of(raw)), _object(results)


def _storage_from(document: JsonValue) -> Storage | None:
    # the original system keeps other locations under the same name
    if not isinstance(document, dict) or "bucket" not in document or set(document) - {"bucket", "prefix"}:
        return None
    return Storage.model_validate(document)


POINTERS = ("checkpoint", "best", "previous", "previous_best")


def lease_item(lease: Lease) -> LeaseItem:
    fields = lease.model_dump(exclude={"job_id", *POINTERS}, exclude_none=True)
    item = LeaseItem(pk=job_pk(lease.job_id), sk=LEASE_SK, **fields)
    for name in POINTERS:
        pointer = getattr(lease, name)
        if pointer is not None:
            setattr(item, name, PointerMap(**pointer.model_dump()))  # type: ignore[no-untyped-call]
    return item


def pointer_map(pointer: Pointer) -> RawItem:
    """A pointer as an update sets it."""
    return {
        "M": {
            "attempt": {"N": str(pointer.attempt)},
            "global_step": {"N": str(pointer.global_step)},
            "manifest_sha256": {"S": pointer.manifest_sha256},
        }
    }


def lease_from(raw: RawItem) -> Lease:
    return Lease(job_id=id_of(raw), **values_of(LeaseItem, raw))


def attempt_item(attempt: Attempt) -> AttemptItem:
    row = attempt_key(attempt.job_id, attempt.attempt)
    return item_at(AttemptItem, row, **attempt.model_dump(exclude={"job_id"}, exclude_none=True))


def attempt_from(raw: RawItem) -> Attempt:
    values = values_of(AttemptItem, raw)
    phases = _object(values.pop("phase_seconds", None))
    seconds = {name: float(number_of(str(value))) for name, value in phases.items()}
    return Attempt(job_id=id_of(raw), phase_seconds=seconds, **values)


def metric_key(job_id: str, timestamp: datetime) -> RawItem:
    return key(job_pk(job_id), METRIC_PREFIX + stamp(timestamp))


def log_key(job_id: str, timestamp: datetime) -> RawItem:
    return key(job_pk(job_id), LOG_PREFIX + stamp(timestamp))


_METRIC_COLUMNS = frozenset({"job_id", "timestamp", "metric_name", "metric_value", "global_step", "attempt", "seq"})


def metric_item(metric: JobMetric) -> JobMetricItem:
    scores = metric.model_dump(exclude=set(_METRIC_COLUMNS), exclude_none=True, exclude_defaults=True)
    columns = metric.model_dump(include=set(_METRIC_COLUMNS) - {"job_id"}, exclude_none=True)
    return JobMetricItem(pk=job_pk(metric.job_id), sk=METRIC_PREFIX + stamp(metric.timestamp), scores=scores, **columns)


def metric_from(job_id: str, values: dict[str, Any]) -> JobMetric:
    """From the values of a row that has a metric_value."""
    columns = {name: values[name] for name in _METRIC_COLUMNS & values.keys()}
    return JobMetric(job_id=job_id, **columns, **_object(values.get("scores")))  # type: ignore[arg-type]


def own_event_time(raw: RawItem) -> datetime | None:
    """Time of an evaluation or event that a worker of this product stored; None for any other row."""
    text = str(raw["SK"]["S"]).removeprefix(METRIC_PREFIX).removeprefix(LOG_PREFIX)
    with contextlib.suppress(ValueError):
        time = time_of(text)
        if stamp(time) == text and time.tzinfo is not None and "attempt" in raw:
            return as_utc(time)
    return None


def log_item(log: JobLog) -> JobLogItem:
    return JobLogItem(
        pk=job_pk(log.job_id),
        sk=LOG_PREFIX + stamp(log.timestamp),
        **log.model_dump(exclude={"job_id", "timestamp"}, exclude_none=True),
    )


def log_from(raw: RawItem) -> JobLog:
    values, timestamp = values_of(JobLogItem, raw), time_of(raw["SK"]["S"].removeprefix(LOG_PREFIX))
    original: JsonObject = {"exception": values["exception"]} if values.get("exception") else {}
    return JobLog(
        job_id=id_of(raw),
        timestamp=timestamp,
        level=(values.get("level") or values.get("log_level") or "info").lower(),
        event=values.get("event") or values.get("source") or "log",
        message=values["message"],
        data=_object(values.get("data")) or original,
        attempt=values.get("attempt"),
        seq=values.get("seq"),
    )


def dataset_item(dataset: Dataset) -> DatasetItem:
    created = stamp(dataset.created_at)
    return DatasetItem(
        pk=dataset_pk(dataset.name),
        sk=SNAPSHOT_PREFIX + created,
        gsi1_pk=DATASETS_KEY,
        gsi1_sk=CREATED_PREFIX + created,
        **dataset.model_dump(),
    )


def dataset_from(raw: RawItem) -> Dataset:
    return Dataset(**values_of(DatasetItem, raw))


def forgotten_item(page: ForgottenPage) -> ForgottenPageItem:
    return item_at(ForgottenPageItem, forgotten_key(page.page_id), **page.model_dump(exclude={"page_id"}))


def forgotten_from(raw: RawItem) -> ForgottenPage:
    """Its key alone excludes a page: whatever else cannot be read, it must not come back into a snapshot."""
    page_id = str(raw["SK"]["S"]).removeprefix(FORGOTTEN_PREFIX)
    try:
        return ForgottenPage(page_id=page_id, **values_of(ForgottenPageItem, raw))
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return ForgottenPage(page_id=page_id, forgotten_at=datetime.fromtimestamp(0, UTC), forgotten_by="unknown")


def times_document(times: Iterable[datetime]) -> JsonValue:
    """Times as a stored document."""
    return [stamp(time) for time in times]


def _times(document: JsonValue) -> tuple[datetime, ...]:
    return tuple(time_of(str(text)) for text in document) if isinstance(document, list) else ()


def id_of(raw: RawItem) -> str:
    return str(raw["PK"]["S"]).partition("#")[2]


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}
