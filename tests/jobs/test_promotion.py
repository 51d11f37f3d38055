"""A model comes into use behind gates, each with its figure; the one before can be brought back."""

from pathlib import Path

import pytest

from receipt_dynamo import Job, JsonObject
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.promotion import PRODUCTION, Candidate, Gates, NotPromoted, examine, promote, rollback
from receipt_layoutlm.run.manifest import MANIFEST
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.judged_jobs import JudgedJobs
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine

PAGES = tiny_pages(24)
MOST, ALL = set(range(20)), set(range(24))


@pytest.fixture
def jobs(store: Store, tmp_path: Path) -> JudgedJobs:
    return JudgedJobs(store, PAGES, tmp_path)


def published(jobs: JudgedJobs, name: str, right: set[int], results: JsonObject | None = None) -> Job:
    job = jobs.end(name, right, results)
    assert job.storage is not None
    (jobs.folder / MANIFEST).write_text('{"global_step": 3, "files": {}}')
    jobs.store.bucket.put_file(jobs.folder / MANIFEST, RunKeys(job.storage, job.job_id).best(1) + MANIFEST)
    return job


def examined(store: Store, job: Job, **gates: float | None) -> Candidate:
    return examine(store.queue, lambda _: store.bucket, job, PRODUCTION, Gates.model_validate(gates))


def brought_into_use(store: Store, job: Job, reason: str = "better") -> None:
    assert promote(store.queue, lambda _: store.bucket, examined(store, job), PRODUCTION, reason)


def test_the_first_model_comes_into_use_and_is_named_by_its_stage(store: Store, jobs: JudgedJobs) -> None:
    job = published(jobs, "one", MOST)

    brought_into_use(store, job, "the first")

    (version,) = store.queue.client.list_promotions(PRODUCTION)
    assert (version.version, version.action, version.job_id, version.reason) == (1, "promote", job.job_id, "the first")
    assert version.model_uri.endswith(f"{job.job_id}/attempt-001/best/")
    assert find_job(store.queue.client, "@production").job_id == job.job_id


def test_a_model_that_loses_against_the_one_in_use_is_refused_with_the_figures(store: Store, jobs: JudgedJobs) -> None:
    brought_into_use(store, published(jobs, "good", ALL))
    worse = published(jobs, "worse", MOST)

    (refusal,) = examined(store, worse, max_label_loss=None, max_slice_loss=None).refusals
    assert refusal.startswith("F1 goes from 1.0000 to 0.9") and refusal.endswith("it may lose 0")
    assert examined(store, worse, max_loss=0.5, max_label_loss=None, max_slice_loss=None).refusals == []
    assert examined(store, worse, max_loss=None, max_label_loss=None, max_slice_loss=None).gates == ()


def test_labels_and_lengths_of_pages_have_gates_of_their_own(store: Store, jobs: JudgedJobs) -> None:
    brought_into_use(store, published(jobs, "good", ALL))
    asked = [each.gate for each in examined(store, published(jobs, "new", ALL)).gates]

    labels = {tag[2:] for page in PAGES for tag in page.tags if tag[0] == "B"}
    assert {f"f1_{label}" for label in labels} | {"f1"} <= set(asked)
    assert any(each.startswith("words ") for each in asked)


@pytest.mark.parametrize(
    ("results", "gates", "refusal"),
    [
        ({"ece_calibrated": 0.2, "ece": 0.01}, {}, "calibration error is 0.2000, asked is at most 0.1"),
        ({"ece_calibrated": 0.05, "ece": 0.2}, {}, None),
        ({}, {}, None),
        ({}, {"min_score": 0.9}, "eval_f1 is 0.8333, asked is at least 0.9"),
        ({}, {"min_score": 0.8}, None),
        (
            {"balanced_accuracy": 0.7},
            {"min_balanced_accuracy": 0.85},
            "balanced accuracy is 0.7000, asked is at least 0.85",
        ),
        ({}, {"min_balanced_accuracy": 0.85}, "balanced accuracy is unknown, asked is at least 0.85"),
        (
            {"false_reject_rate": 0.2},
            {"max_false_reject_rate": 0.1},
            "false-reject rate is 0.2000, asked is at most 0.1",
        ),
    ],
)
def test_gates_of_the_model_alone_refuse_with_their_figure(
    store: Store, jobs: JudgedJobs, results: JsonObject, gates: dict[str, float], refusal: str | None
) -> None:
    assert examined(store, published(jobs, "one", MOST, results), **gates).refusals == ([refusal] if refusal else [])


def test_scores_that_are_not_comparable_with_those_of_the_model_in_use_are_refused(
    store: Store, jobs: JudgedJobs
) -> None:
    brought_into_use(store, published(jobs, "one", MOST))
    other = published(jobs, "other", ALL, {"comparability": None})

    with pytest.raises(NotPromoted, match="cannot be compared with the model in use, one: other has no comparability"):
        examined(store, other)


def test_another_model_that_came_into_use_meanwhile_is_compared_with_first(store: Store, jobs: JudgedJobs) -> None:
    candidate = examined(store, published(jobs, "slow", MOST))
    brought_into_use(store, published(jobs, "quick", ALL))

    assert promote(store.queue, lambda _: store.bucket, candidate, PRODUCTION, "too late") is None
    assert [each.job_name for each in store.queue.client.list_promotions(PRODUCTION)] == ["quick"]
    assert examined(store, candidate.job).refusals


def test_a_rollback_brings_the_model_before_or_a_version_back_and_stays_in_the_history(
    store: Store, jobs: JudgedJobs
) -> None:
    for name in ("one", "two", "three"):
        brought_into_use(store, published(jobs, name, ALL))

    assert rollback(store.queue, PRODUCTION, None, "three is slow").job_name == "two"
    assert rollback(store.queue, PRODUCTION, 1, "two as well").job_name == "one"

    history = store.queue.client.list_promotions(PRODUCTION)
    assert [(each.version, each.job_name, each.action) for each in history][:2] == [
        (5, "one", "rollback"),
        (4, "two", "rollback"),
    ]
    with pytest.raises(NotPromoted, match="no earlier model 99"):
        rollback(store.queue, PRODUCTION, 99, "?")


def test_without_a_model_in_use_the_next_command_is_named(store: Store) -> None:
    with pytest.raises(NotPromoted, match="model promote"):
        rollback(store.queue, PRODUCTION, None, "?")
