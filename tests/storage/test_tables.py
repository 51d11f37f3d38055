"""Tables of many labels: in the bucket with a pointer in the row, read again where they are shown."""

import json
import logging
from datetime import UTC, datetime

import pytest

from receipt_dynamo import DynamoClient, Job, JobQueue, Lease, Storage
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.tables import DOCUMENT_BYTES, PLACE, TableFolder, with_tables
from receipt_layoutlm.worker.rows import JobRows
from tests.support.commands import ok
from tests.support.jobs import claim, summary

LABELS = 20_000


def table(labels: int) -> dict[str, LabelScore]:
    return {f"SKU_{number:05d}": LabelScore(precision=1.0, recall=0.5, f1=0.25, support=3) for number in range(labels)}


@pytest.fixture
def lease(queue: JobQueue) -> Lease:
    storage = Storage(bucket="the-bucket", prefix="team/")
    queue.submit(name="many-labels", config={"epochs": 1}, created_by="me", storage=storage)
    return claim(queue)


@pytest.fixture
def folder(lease: Lease) -> TableFolder:
    return TableFolder(Bucket("the-bucket"), RunKeys(Storage(bucket="the-bucket", prefix="team/"), lease.job_id), 1)


def finish(queue: JobQueue, lease: Lease, folder: TableFolder, labels: int) -> Job:
    per_label = {name: scores.model_dump() for name, scores in table(labels).items()}
    results = folder.fit({"metric_name": "eval_f1", "metric_value": 0.5, "per_label": per_label}, "results")
    queue.complete(lease, results=results, summary=summary(lease))
    return queue.client.get_job(lease.job_id)


def test_the_scores_of_20_000_labels_fit_into_a_row_and_come_back_whole(
    queue: JobQueue, lease: Lease, folder: TableFolder
) -> None:
    job = finish(queue, lease, folder, LABELS)
    assert job.results is not None and job.results["metric_value"] == 0.5
    assert job.results[PLACE]["names"] == ["per_label"]  # type: ignore[call-overload, index]
    assert len(json.dumps(job.results)) < DOCUMENT_BYTES
    whole = with_tables(job, Bucket).results or {}
    assert len(whole["per_label"]) == LABELS and PLACE not in whole  # type: ignore[arg-type]
    assert whole["per_label"]["SKU_19999"]["f1"] == 0.25  # type: ignore[call-overload, index]


def test_a_usual_run_stores_nothing_beside_its_row(
    queue: JobQueue, lease: Lease, folder: TableFolder, cloud: DynamoClient
) -> None:
    job = finish(queue, lease, folder, 22)
    assert len((job.results or {})["per_label"]) == 22  # type: ignore[arg-type]
    assert with_tables(job, lambda name: pytest.fail(f"{name} was opened")) == job
    assert list(folder.bucket.list_keys("")) == []


def test_an_evaluation_of_20_000_labels_has_its_headline_in_the_list_and_its_table_in_the_bucket(
    queue: JobQueue, lease: Lease, folder: TableFolder
) -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    rows = JobRows(queue.client, lease, lambda: now, (), "s3://the-bucket/events", folder.fit)
    event = Evaluation(
        seq=1,
        global_step=10,
        epoch=1.0,
        metric_name="eval_f1",
        metric_value=0.75,
        train_loss=None,
        eval_loss=0.5,
        lr=1e-4,
        is_best=True,
        per_label=table(LABELS),
    )
    rows.add_evaluation(event)
    (metric,) = queue.client.list_job_metrics(lease.job_id)
    assert (metric.metric_value, metric.per_label) == (0.75, {})
    (key,) = folder.bucket.list_keys("")
    assert metric.extras[PLACE] == {"uri": f"s3://the-bucket/{key}", "names": ["per_label"]}
    assert key.startswith(f"team/runs/{lease.job_id}/attempt-001/tables/evaluation-10-")


def test_storing_a_table_again_changes_nothing(folder: TableFolder) -> None:
    document = {"value": 1, "rows": {str(number): number for number in range(30_000)}}
    assert folder.fit(document, "results") == folder.fit(document, "results")  # type: ignore[arg-type]
    assert len(list(folder.bucket.list_keys(""))) == 1


def test_only_as_much_is_moved_as_has_to_be(folder: TableFolder) -> None:
    document = {"large": "a" * DOCUMENT_BYTES, "medium": "b" * (DOCUMENT_BYTES // 2), "small": "c"}
    fitted = folder.fit(document, "results")  # type: ignore[arg-type]
    assert set(fitted) == {"medium", "small", PLACE}


@pytest.mark.parametrize("uri", ["s3://the-bucket/gone.json.gz", "s3://elsewhere/x", "none", None])
def test_without_its_tables_a_job_has_its_headline_and_the_warning_names_the_place(
    queue: JobQueue, lease: Lease, folder: TableFolder, caplog: pytest.LogCaptureFixture, uri: str | None
) -> None:
    job = finish(queue, lease, folder, LABELS)
    moved = job.model_copy(update={"results": {**(job.results or {}), PLACE: {"uri": uri}}})
    assert with_tables(moved, Bucket) == moved
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and str(uri) in record.getMessage()


def test_show_and_compare_show_the_labels_of_a_pointer(queue: JobQueue, lease: Lease, folder: TableFolder) -> None:
    finish(queue, lease, folder, 3000)
    assert "SKU_02999" in ok("job", "show", "many-labels")
    queue.submit(name="other", config={"config_version": 1}, created_by="tests")
    found = json.loads(ok("job", "compare", "many-labels", "other", "--force", "--json"))
    assert found["runs"][0]["per_label"]["SKU_02999"] == 0.25
