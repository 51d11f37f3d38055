"""Which of a job's stored predictions are read, and of which snapshot their pages are."""

from pathlib import Path

import pytest

from receipt_dynamo import Job, Storage
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.predictions import HeldOut, NoPredictions, read_held_out
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.run.predictions import PredictedPage, write_predictions
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine

TRAINED, HELD = tiny_pages(3), tiny_pages(9)


@pytest.fixture
def pins(store: Store) -> dict[str, str]:
    """NAME@FINGERPRINT of two snapshots."""
    found = {}
    for name, pages in (("trained", TRAINED), ("held", HELD)):
        dataset = describe_dataset(name, pages, "test", store.clock())
        found[name] = pinned(add_snapshot(store.queue.client, store.bucket, dataset, pages))
    return found


def submit(store: Store, name: str, dataset: str, eval_dataset: str | None = None) -> Job:
    config = WordLabelsConfig(dataset=dataset, eval_dataset=eval_dataset)
    storage = Storage(bucket=store.bucket.name)
    return store.queue.submit(name=name, config=to_document(config, {}), created_by="tests", storage=storage)


def put(store: Store, job: Job, attempt: int, name: str, page: Page, tmp_path: Path, confidence: float = 0.5) -> None:
    size = len(page.words)
    row = PredictedPage(
        page.page_id, tuple(range(size)), page.words, page.tags, page.tags, (confidence,) * size, (confidence,) * size
    )
    write_predictions([row], tmp_path / name)
    assert job.storage is not None
    keys = RunKeys(job.storage, job.job_id)
    store.bucket.put_file(tmp_path / name, f"{keys.attempt(attempt)}predictions/{name}")


def read(store: Store, *jobs: Job) -> HeldOut:
    return read_held_out(jobs, lambda _: store.bucket, lambda: None)


def seen(found: HeldOut) -> list[tuple[str, float]]:
    return [(page.page_id, page.confidence[0]) for page in found.predicted]


def test_the_evaluation_at_the_best_step_and_the_test_part_of_the_newest_attempt_are_read(
    store: Store, pins: dict[str, str], tmp_path: Path
) -> None:
    job = submit(store, "a-job", pins["held"])
    for attempt in (1, 2):
        put(store, job, attempt, "eval-3.jsonl.gz", HELD[0], tmp_path, attempt / 10)
        put(store, job, attempt, "test.jsonl.gz", HELD[2], tmp_path, attempt / 10)
    put(store, job, 2, "eval-12.jsonl.gz", HELD[1], tmp_path)

    best = read(store, job.model_copy(update={"results": {"best_global_step": 3}}))
    assert (best.evaluations, seen(best)) == ([("a-job", 3)], [("page-000", 0.2), ("page-002", 0.2)])
    # of a job that has not ended, or whose best step another job evaluated
    for results in (None, {"best_global_step": 7}):
        last = read(store, job.model_copy(update={"results": results}))
        assert (last.evaluations, seen(last)[0]) == ([("a-job", 12)], ("page-001", 0.5))
    assert (best.covered, len(best.pages)) == (2, 9)


def test_the_pages_are_those_of_the_evaluation_dataset_where_there_is_one(
    store: Store, pins: dict[str, str], tmp_path: Path
) -> None:
    apart, together = submit(store, "apart", pins["trained"], pins["held"]), submit(store, "together", pins["held"])
    for number, job in enumerate((apart, together)):
        put(store, job, 1, "eval-3.jsonl.gz", HELD[number], tmp_path)

    assert list(read(store, apart).pages.values()) == HELD
    assert read(store, apart, together).covered == 2
    with pytest.raises(NoPredictions, match="different snapshots"):
        read(store, apart, submit(store, "other", pins["trained"]))


def test_a_job_that_has_stored_none_is_named_with_its_state(store: Store, pins: dict[str, str]) -> None:
    with pytest.raises(NoPredictions, match="job a-job is pending and has no stored predictions"):
        read(store, submit(store, "a-job", pins["held"]))
