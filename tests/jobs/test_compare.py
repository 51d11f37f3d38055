"""Jobs compared page by page, from predictions and pages in the bucket: of merchants, with the pages that flipped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from receipt_dynamo import Job, JobLog, JsonObject, Machine, Storage, utcnow
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.jobs.compare import RECIPE, Comparison, compare_jobs
from receipt_layoutlm.run.comparability import FIELDS, make_stamp
from receipt_layoutlm.run.predictions import PredictedPage, write_predictions
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine

PAGES = tiny_pages(12)
Submit = Callable[..., Job]


def predicted(page: Page, is_right: bool) -> PredictedPage:
    tags = page.tags if is_right else ("O",) * len(page.tags)
    sure = (0.9,) * len(page.words)
    return PredictedPage(page.page_id, tuple(range(len(page.words))), page.words, page.tags, tags, sure, sure)


@pytest.fixture
def succeeded(store: Store, tmp_path: Path) -> Submit:
    """Ends a job whose predictions are right on some pages, and wrong on the others."""
    dataset = describe_dataset("receipts", PAGES, "test", store.clock())
    pin = pinned(add_snapshot(store.queue.client, store.bucket, dataset, PAGES))

    def end(name: str, right: set[int], seed: int = 1, lr: float = 5e-5) -> Job:
        config = to_document(WordLabelsConfig(dataset=pin, seed=seed, lr=lr), {})
        storage = Storage(bucket=store.bucket.name)
        job = store.queue.submit(name=name, config=config, created_by="tests", storage=storage)
        rows = [predicted(page, number in right) for number, page in enumerate(PAGES)]
        write_predictions(rows, tmp_path / "eval-3.jsonl.gz")
        key = f"{RunKeys(storage, job.job_id).attempt(1)}predictions/eval-3.jsonl.gz"
        store.bucket.put_file(tmp_path / "eval-3.jsonl.gz", key)
        lease = store.queue.claim_job(job.job_id, "worker-1", machine=Machine())
        assert lease is not None
        results: JsonObject = {"metric_name": "eval_f1", "metric_value": len(right) / len(PAGES), "best_global_step": 3}
        results["comparability"] = make_stamp(dict.fromkeys(FIELDS, "equal")).model_dump(mode="json")
        row = JobLog(
            job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="", attempt=1, seq=9
        )
        store.queue.complete(lease, results=results, summary=row)
        return store.queue.client.get_job(job.job_id)

    return end


def compared(store: Store, *jobs: Job, group_by: str | None = None) -> Comparison:
    return compare_jobs(store.queue.client, jobs, lambda _: store.bucket, group_by, lambda: None)


def test_two_jobs_are_compared_on_their_validation_pages_by_merchant(store: Store, succeeded: Submit) -> None:
    (found,) = compared(store, succeeded("one", {0, 1}), succeeded("two", {1, 2, 3})).against_first

    assert found.scores is not None
    assert (found.first, found.other, found.scores.pages) == ("one", "two", 12)
    assert found.scores.groups == len({page.group for page in PAGES})
    assert found.scores.became_right == (PAGES[2].page_id, PAGES[3].page_id)
    assert found.scores.became_wrong == (PAGES[0].page_id,)
    assert found.scores.f1.other > found.scores.f1.first > 0


def test_the_seeds_of_a_recipe_are_compared_as_one(store: Store, succeeded: Submit) -> None:
    jobs = [succeeded(f"slow-{seed}", set(range(seed)), seed=seed) for seed in (1, 2)]
    jobs.append(succeeded("fast", set(range(12)), lr=1e-3))

    (found,) = compared(store, *jobs, group_by=RECIPE).against_first

    assert found.scores is not None
    assert (found.first, found.other) == ("slow-1", "fast")
    assert found.scores.f1.other == 1.0 and 0 < found.scores.f1.first < 0.5
    assert found.scores.became_right == ()


def test_jobs_of_one_name_are_told_apart(store: Store, succeeded: Submit) -> None:
    (found,) = compared(store, succeeded("same", {0}), second := succeeded("same", {1})).against_first

    assert (found.first, found.other) == ("same", f"same ({second.job_id[:8]})")


def test_a_job_whose_predictions_are_gone_is_ranked_all_the_same(store: Store, succeeded: Submit) -> None:
    one, two = succeeded("one", {0, 1}), succeeded("two", {1, 2, 3})
    store.bucket.delete_prefix(f"runs/{two.job_id}/")

    found = compared(store, one, two)

    assert [run.name for run in found.runs] == ["two", "one"]
    assert found.against_first[0].scores is None
    assert "no stored predictions" in (found.against_first[0].missing or "")
