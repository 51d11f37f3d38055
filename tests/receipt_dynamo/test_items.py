"""The mapping between records and stored items, ours and those of the original system."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from receipt_dynamo import (
    Attempt,
    Budgets,
    Dataset,
    ForgottenPage,
    InvalidInput,
    Job,
    JobError,
    JobLog,
    JobMetric,
    JobStatus,
    Lease,
    Machine,
    Pointer,
    Priority,
    Storage,
    items,
)
from receipt_dynamo.queue import PROGRESS_BYTES, WORKER_ID_BYTES
from tests.support import original_system

ID = "07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab"
NOON = datetime(2026, 5, 1, 12, 0, 0, 7, tzinfo=UTC)
POINTER = Pointer(attempt=20, global_step=1_234_567, manifest_sha256="f" * 64)
JOB = Job(
    job_id=ID,
    name="receipts",
    status=JobStatus.PENDING,
    created_at=NOON,
    created_by="arn:aws:iam::1:user/me",
    job_config={"lr": 6e-5, "labels": ["DATE"], "nested": {"none": None}},
    description="a try",
    priority=Priority.HIGH,
    queue="gpu",
    interrupted_at=(NOON,),
    attempt=2,
    budgets=Budgets(errors=1),
    not_before=NOON,
    started_at=NOON,
    ended_at=NOON,
    storage=Storage(bucket="b", prefix="p/"),
    tags={"a": "b"},
    results={"f1": 0.1 + 0.2},
    error=JobError(cause="hang", message="m", page_ids=("p1",)),
    moved_at=datetime(2026, 5, 1, 13, tzinfo=UTC),
    promoted_at=datetime(2026, 5, 2, 12, tzinfo=UTC),
    max_cost=2.5,
    notify="/layoutlm/team",
)


def size_of(value: dict[str, Any]) -> int:
    """Bytes that DynamoDB counts for a value."""
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return math.ceil(len(content.strip("-0.")) / 2) + 2
    if kind == "M":
        return 3 + sum(len(name.encode()) + size_of(inner) + 1 for name, inner in content.items())
    assert kind in ("BOOL", "NULL")
    return 1


def item_size(raw: items.RawItem) -> int:
    return sum(len(name.encode()) + size_of(value) for name, value in raw.items())


def test_every_field_of_a_job_comes_back() -> None:
    assert set(JOB.model_fields_set) == set(Job.model_fields)
    assert items.job_from(items.job_item(JOB).serialize()) == JOB


def test_a_job_that_waits_for_a_time_is_stored_behind_those_that_are_ready() -> None:
    raw = items.job_item(JOB).serialize()
    assert raw["GSI3SK"]["S"] == f"LATER#1#2026-05-01T12:00:00.000007+00:00#{ID}"


def test_a_job_is_stored_under_the_documented_keys() -> None:
    raw = items.job_item(JOB.model_copy(update={"not_before": None})).serialize()
    created = "2026-05-01T12:00:00.000007+00:00"
    keys = {name: value["S"] for name, value in raw.items() if name.endswith(("PK", "SK")) or name == "TYPE"}
    assert keys == {
        "PK": f"JOB#{ID}",
        "SK": "JOB",
        "TYPE": "JOB",
        "GSI1PK": "STATUS#pending",
        "GSI1SK": f"CREATED#{created}",
        "GSI2PK": "JOB_NAME#receipts",
        "GSI2SK": f"CREATED#{created}",
        "GSI3PK": "QUEUE#gpu",
        "GSI3SK": f"1#{created}#{ID}",
    }


@pytest.mark.parametrize("status", JobStatus)
def test_queue_keys_exist_iff_the_job_is_pending_or_interrupted(status: JobStatus) -> None:
    raw = items.job_item(JOB.model_copy(update={"status": status})).serialize()
    assert ("GSI3PK" in raw, "GSI3SK" in raw) == (status.is_claimable, status.is_claimable)


def test_documents_are_json_text_with_exact_floats_and_without_nan() -> None:
    raw = items.job_item(JOB).serialize()
    assert raw["results"] == {"S": '{"f1":0.30000000000000004}'}
    with pytest.raises(InvalidInput, match="job_config"):
        items.job_item(JOB.model_copy(update={"job_config": {"lr": math.nan}})).serialize()


def full_lease() -> Lease:
    return Lease(
        job_id=ID,
        attempt=26,
        lease_token=ID,
        worker_id="w" * WORKER_ID_BYTES,
        expires_at=NOON,
        renewals=999_999,
        cancel_requested=True,
        progress="p" * PROGRESS_BYTES,
        checkpoint=POINTER,
        best=POINTER,
        previous=POINTER,
    )


def test_a_full_lease_comes_back_and_stays_under_one_write_unit() -> None:
    raw = items.lease_item(full_lease()).serialize()
    assert items.lease_from(raw) == full_lease()
    assert {"checkpoint", "best", "previous", "progress", "worker_id", "lease_token"} <= set(raw)
    assert item_size(raw) < 1024


def test_a_lease_is_in_no_index() -> None:
    assert not [name for name in items.lease_item(full_lease()).serialize() if name.startswith("GSI")]


def evaluation(labels: int = 22) -> JobMetric:
    scores = {"precision": 0.1234567890123456, "recall": 1 / 3, "f1": 0.2 / 3, "support": 12345.0}
    return JobMetric(
        job_id=ID,
        timestamp=NOON,
        metric_name="eval_f1",
        metric_value=2 / 3,
        precision=1 / 3,
        recall=1 / 7,
        per_label={f"LONG_LABEL_NAME_{number:02d}": scores for number in range(labels)},
        train_loss=0.1 / 3,
        eval_loss=0.2 / 3,
        lr=6e-5 / 7,
        o_entity_ratio=2.01,
        epoch=3.25,
        global_step=123_456,
        attempt=3,
        seq=99_999,
        is_best=True,
    )


def metric_from(raw: items.RawItem) -> JobMetric:
    return items.metric_from(ID, items.values_of(items.JobMetricItem, raw))


def test_an_evaluation_of_22_labels_comes_back_exactly_and_takes_at_most_4_kb() -> None:
    raw = items.metric_item(evaluation()).serialize()
    assert metric_from(raw) == evaluation()
    assert raw["SK"] == {"S": "METRIC#2026-05-01T12:00:00.000007+00:00"}
    assert item_size(raw) <= 4096


def test_an_evaluation_with_only_its_headline_comes_back() -> None:
    bare = JobMetric(job_id=ID, timestamp=NOON, metric_name="eval_f1", metric_value=0.0)
    assert metric_from(items.metric_item(bare).serialize()) == bare


def test_logs_attempts_and_datasets_come_back() -> None:
    log = JobLog(
        job_id=ID,
        timestamp=NOON,
        level="info",
        event="run_config",
        message="m",
        data={"a": [1, 2.5]},
        attempt=1,
        seq=0,
    )
    assert items.log_from(items.log_item(log).serialize()) == log
    attempt = Attempt(
        job_id=ID,
        attempt=7,
        worker_id="w",
        started_at=NOON,
        machine=Machine(instance_type="g5.xlarge", spot=True, region="us-east-1", price_per_hour=0.3),
        resume_step=10,
        ended_at=NOON,
        outcome="succeeded",
        last_step=20,
        lost_steps=0,
        checkpoints=2,
        ended_by=ID,
    )
    raw = items.attempt_item(attempt).serialize()
    assert (items.attempt_from(raw), raw["SK"]) == (attempt, {"S": "ATTEMPT#007"})
    dataset = Dataset(
        name="sroie", created_at=NOON, fingerprint="ab", source="x.jsonl", counts={"pages": 2}, labels={"DATE": 3}
    )
    raw = items.dataset_item(dataset).serialize()
    assert (items.dataset_from(raw), raw["PK"]) == (dataset, {"S": "DATASET#sroie"})
    page = ForgottenPage(page_id="FORGOTTEN#a#1", forgotten_at=NOON, forgotten_by="me")
    raw = items.forgotten_item(page).serialize()
    assert (items.forgotten_from(raw), raw["PK"]) == (page, {"S": "DATASETS"})


def test_a_job_of_the_original_system_is_read_with_its_maps_as_plain_values() -> None:
    job = items.job_from(original_system.job(ID))
    assert job.created_at == datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert job.job_config == {
        "learning_rate": 6e-5,
        "epochs": 20,
        "label_smoothing": None,
        "fp16": True,
        "allowed_labels": ["DATE", "AMOUNT"],
        "merges": {"AMOUNT": ["TAX", "SUBTOTAL"]},
    }
    assert isinstance(job.job_config["epochs"], int)
    assert (job.tags, job.results) == ({"family": "receipts"}, {"best_f1": 0.91, "epochs": 14})
    assert (job.status, job.attempt, job.storage) == (JobStatus.SUCCEEDED, 0, None)


def test_a_log_of_the_original_system_is_read() -> None:
    log = items.log_from(original_system.log(ID, "epoch 1", "2025-03-01T12:00:01"))
    assert log == JobLog(
        job_id=ID,
        timestamp=datetime(2025, 3, 1, 12, 0, 1, tzinfo=UTC),
        level="info",
        event="receipt_layoutlm.trainer",
        message="epoch 1",
    )
