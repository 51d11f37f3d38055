"""One job from claim to end, with a real trainer process, a real table and a real bucket."""

import os
import signal
from pathlib import Path

import pytest
from pydantic import JsonValue

from receipt_dynamo import JobStatus, Storage
from receipt_layoutlm.data.frozen_split import FrozenSplit, pinned_frozen
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import facts_of
from receipt_layoutlm.run.comparability import stamp_of
from receipt_layoutlm.run.events import Checkpoint, Evaluation
from receipt_layoutlm.run.manifest import verify
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys, split_key
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.places import Place, last_weights, lease_of, signal_trainer
from tests.support.s3_wire import S3Wire
from tests.support.stores import Store
from tests.support.stranger import STRANGER, needs_root

pytestmark = pytest.mark.engine


def test_a_job_ends_succeeded_with_its_metrics_logs_checkpoint_and_best(
    place: Place, pages: list[Page], model: str, tmp_path: Path
) -> None:
    job = place.submit(pages, pretrained=model, epochs=2)

    assert place.work() is JobStatus.SUCCEEDED

    client, bucket = place.store.queue.client, place.store.bucket
    done = client.get_job(job.job_id)
    metrics = client.list_job_metrics(job.job_id)
    assert [metric.epoch for metric in metrics] == [1.0, 2.0]
    assert all(metric.train_loss and metric.lr is not None for metric in metrics)
    logs = client.list_job_logs(job.job_id)
    assert (logs[0].event, logs[-1].event) == ("run_config", "run_summary")
    assert logs[-1].data["stop_reason"] == "completed"
    lease = lease_of(place, job)
    assert lease.lease_token is None
    assert lease.checkpoint is not None and lease.checkpoint.global_step == metrics[-1].global_step
    keys = RunKeys(Storage(bucket=bucket.name), job.job_id)
    assert done.results is not None
    assert done.results["best_uri"] == keys.uri(keys.best(1))
    assert done.results["metric_value"] == max(metric.metric_value for metric in metrics)
    bucket.get_folder(keys.best(1), tmp_path / "best")
    verify(tmp_path / "best")
    names = {key.removeprefix(keys.attempt(1)) for key in bucket.list_keys(keys.attempt(1))}
    assert {"run.json", "logs/train.log", "logs/events.jsonl", "best/model.safetensors"} <= names
    assert any(name.startswith("predictions/eval-") for name in names)
    (attempt,) = client.list_attempts(job.job_id)
    assert (attempt.outcome, attempt.machine.instance_type) == ("succeeded", "test")
    assert attempt.last_step == lease.checkpoint.global_step
    assert {key.split("/")[-2].partition("-")[0] for key in marked_keys(bucket, keys)} == {"checkpoint"}


def marked_keys(bucket: Bucket, keys: RunKeys) -> list[str]:
    """What the bucket's rules let expire."""
    return [
        key
        for key in bucket.list_keys(keys.run)
        if bucket.raw.get_object_tagging(Bucket=bucket.name, Key=key)["TagSet"]
    ]


def test_the_test_part_of_a_frozen_split_is_scored_apart_and_the_results_are_stamped(
    place: Place, pages: list[Page], model: str
) -> None:
    ids = [page.page_id for page in pages]
    frozen = FrozenSplit(validation=tuple(ids[:4]), test=tuple(ids[4:7]))
    place.store.bucket.put_new(frozen.canonical(), split_key(frozen.sha256))
    job = place.submit(pages, pretrained=model, epochs=2, split=pinned_frozen("mine", frozen))

    assert place.work() is JobStatus.SUCCEEDED

    client = place.store.queue.client
    results = client.get_job(job.job_id).results or {}
    test, stamp = results["test"], stamp_of(results)
    assert isinstance(test, dict) and (test["metric_name"], test["pages"]) == ("test_f1", 3)
    assert stamp is not None and stamp.split == f"frozen {frozen.sha256}" and "4 pages" in stamp.evaluation
    assert {metric.metric_name for metric in client.list_job_metrics(job.job_id)} == {"eval_f1"}
    assert [log.data["pages"] for log in client.list_job_logs(job.job_id) if log.event == "test"] == [3]


def test_what_was_measured_what_is_wrong_and_what_classes_weighed_is_stored(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, lr=1e-9, epochs=1, class_weights="inverse", class_weight_clip=[1, 2])

    assert place.work() is JobStatus.SUCCEEDED

    client = place.store.queue.client
    results, (metric,) = client.get_job(job.job_id).results or {}, client.list_job_metrics(job.job_id)
    measured = {"f1", "macro_f1", "field_f1", "word_accuracy", "balanced_accuracy", "train_f1", "temperature", "ece"}
    assert {
        *measured,
        "ece_calibrated",
        "f1_by_decoding",
        "seen",
        "confusion",
        "o_entity_ratio",
        "hardware",
    } <= results.keys()
    assert measured <= metric.extras.keys() and metric.extras["f1"] == results["f1"]
    weights, health = results["class_weights"], results["health"]
    assert isinstance(weights, dict) and isinstance(health, list)
    assert weights["weights"]["O"] == 1 and max(weights["weights"].values()) == 2 and weights["clipped"]
    assert health == [line for line in health if line.startswith("too_short") and "--epochs 2" in line] != []
    assert metric.extras["health"] == health
    logs = {log.event: log for log in client.list_job_logs(job.job_id)}
    assert logs["class_weights"].data == weights
    assert f"O 1 ({weights['words']['O']} words)" in logs["class_weights"].message
    assert any(log.message in line for log in logs.values() for line in health)


def test_a_stopped_worker_gives_the_job_back_and_the_next_goes_on_to_the_same_weights(
    place: Place, pages: list[Page], model: str, tmp_path: Path
) -> None:
    # long enough that the stop, which takes a poll to arrive, comes before the end
    whole = place.submit(pages, pretrained=model, epochs=20)
    assert place.work() is JobStatus.SUCCEEDED
    broken = place.submit(pages, pretrained=model, epochs=20)
    place.on_event = lambda event: place.stop.set() if isinstance(event, Evaluation) else None

    assert place.work() is JobStatus.INTERRUPTED
    resume_step = lease_of(place, broken).checkpoint
    assert resume_step is not None
    bucket = place.store.bucket
    assert marked_keys(bucket, RunKeys(Storage(bucket=bucket.name), broken.job_id)) == []  # it is resumed from there
    place.stop.clear()
    place.on_event = lambda _event: None
    assert place.work() is JobStatus.SUCCEEDED

    client = place.store.queue.client
    first, second = client.list_attempts(broken.job_id)
    assert first.outcome is not None and first.outcome.startswith("interrupted")
    assert second.resume_step == resume_step.global_step > 0
    values = [[metric.metric_value for metric in client.list_job_metrics(job.job_id)] for job in (whole, broken)]
    assert values[0] == values[1]
    weights = [last_weights(place, job, tmp_path / job.job_id) for job in (whole, broken)]
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_cancel_request_ends_the_job_as_cancelled(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=2)
    place.on_event = lambda event: (
        place.store.queue.cancel(job.job_id) and None if isinstance(event, Evaluation) else None
    )

    assert place.work() is JobStatus.CANCELLED

    assert place.store.queue.client.get_job(job.job_id).results is None


def test_a_killed_trainer_is_tried_again_later(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=50)
    place.on_event = lambda event: signal_trainer(signal.SIGKILL) if isinstance(event, Checkpoint) else None

    assert place.work() is JobStatus.PENDING

    stored = place.store.queue.client.get_job(job.job_id)
    assert stored.error is not None and stored.error.cause == "killed"
    assert stored.not_before is not None and stored.not_before > place.store.clock()


def test_weights_that_do_not_exist_fail_the_job_at_once_with_the_way_out(place: Place, pages: list[Page]) -> None:
    job = place.submit(pages, pretrained="/no/such/folder", epochs=1)

    assert place.work() is JobStatus.FAILED

    stored = place.store.queue.client.get_job(job.job_id)
    assert stored.error is not None and stored.error.cause == "bad_config"
    assert "/no/such/folder" in stored.error.message


def test_a_job_whose_pages_are_gone_says_so(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    place.store.bucket.delete_prefix("datasets/")

    assert place.work() is JobStatus.PENDING

    stored = place.store.queue.client.get_job(job.job_id)
    assert stored.error is not None and stored.error.cause == "storage"


@pytest.mark.parametrize(
    ("code", "status", "cause", "text"),
    [
        ("AccessDenied", 403, "permission", "access was denied: s3://"),
        ("NoSuchBucket", 404, "missing_bucket", "the bucket does not exist: bucket '"),
    ],
)
def test_a_missing_right_and_a_missing_bucket_are_told_apart(
    place: Place, pages: list[Page], model: str, code: str, status: int, cause: str, text: str
) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    S3Wire(place.store.bucket).refuse("HeadObject", "404" if status == 404 else "403", status)
    S3Wire(place.store.bucket).refuse("ListObjectsV2", code, status)

    assert place.work() is JobStatus.PENDING

    stored = place.store.queue.client.get_job(job.job_id)
    assert stored.error is not None and stored.error.cause == cause
    assert text in why(facts_of(place.store.queue, job.job_id))


@needs_root
def test_a_folder_that_the_worker_may_not_use_is_a_missing_right_too(place: Place, pages: list[Page]) -> None:
    job = place.submit(pages, pretrained="minilm", epochs=1)
    (place.work_dir / ".attempts").mkdir(parents=True)
    os.chown(place.work_dir / ".attempts", STRANGER, STRANGER)

    assert place.work() is JobStatus.PENDING

    error = place.store.queue.client.get_job(job.job_id).error
    assert error is not None and error.cause == "permission"
    assert "belongs to 12345" in error.message and "--work-dir" in error.message


@pytest.mark.parametrize("config", [{"config_version": 99}, {"config_version": 1, "task": "not installed here"}])
def test_a_worker_that_finds_nothing_ends_and_leaves_newer_jobs_to_others(
    place: Place, store: Store, config: dict[str, JsonValue]
) -> None:
    job = store.queue.submit(name="from-the-future", config=config, created_by="tests")

    assert run_worker(place.context, ClaimOptions(max_jobs=1, idle_timeout=0)) == []

    assert store.queue.client.get_job(job.job_id).status is JobStatus.PENDING


def test_a_worker_takes_as_many_jobs_as_it_was_told(place: Place, store: Store) -> None:
    for name in ("one", "two"):
        store.queue.submit(name=name, config={"config_version": 1}, created_by="tests")

    assert run_worker(place.context, ClaimOptions(max_jobs=1, idle_timeout=0)) == [JobStatus.FAILED]

    assert [job.status for job in store.queue.client.list_jobs()] == [JobStatus.PENDING, JobStatus.FAILED]


def test_a_trainer_that_somebody_else_stopped_gives_the_job_back(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=50)
    place.on_event = lambda event: signal_trainer(signal.SIGTERM) if isinstance(event, Checkpoint) else None

    assert place.work() is JobStatus.INTERRUPTED

    assert lease_of(place, job).checkpoint is not None


def test_a_worker_takes_the_jobs_of_its_queue_only(place: Place, store: Store) -> None:
    store.submit("elsewhere", queue="gpu")

    assert run_worker(place.context, ClaimOptions(idle_timeout=0)) == []


def test_a_worker_that_was_asked_to_stop_claims_nothing(place: Place, store: Store) -> None:
    store.submit()
    place.stop.set()

    assert run_worker(place.context, ClaimOptions()) == []
    assert [job.status for job in store.queue.client.list_jobs()] == [JobStatus.PENDING]
