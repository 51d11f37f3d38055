"""Jobs compared page by page, from predictions and pages in the bucket: of merchants, with the pages that flipped."""

from pathlib import Path

import pytest

from receipt_dynamo import Job
from receipt_layoutlm.datasets.predictions import EvaluatedJobs
from receipt_layoutlm.jobs.compare import RECIPE, RunComparison, compare_jobs
from tests.support.judged_jobs import JudgedJobs
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine

PAGES = tiny_pages(12)


@pytest.fixture
def jobs(store: Store, tmp_path: Path) -> JudgedJobs:
    return JudgedJobs(store, PAGES, tmp_path)


def compared(store: Store, *jobs: Job, group_by: str | None = None) -> RunComparison:
    return compare_jobs(store.queue.client, jobs, EvaluatedJobs(lambda _: store.bucket), group_by, lambda: None)


def test_two_jobs_are_compared_on_their_validation_pages_by_merchant(store: Store, jobs: JudgedJobs) -> None:
    (found,) = compared(store, jobs.end("one", {0, 1}), jobs.end("two", {1, 2, 3})).against_first

    assert found.scores is not None
    assert (found.first, found.other, found.scores.pages) == ("one", "two", 12)
    assert found.scores.groups == len({page.group for page in PAGES})
    assert found.scores.became_right == (PAGES[2].page_id, PAGES[3].page_id)
    assert found.scores.became_wrong == (PAGES[0].page_id,)
    assert found.scores.f1.other > found.scores.f1.first > 0


def test_the_seeds_of_a_recipe_are_compared_as_one(store: Store, jobs: JudgedJobs) -> None:
    slow = [jobs.end(f"slow-{seed}", set(range(seed)), seed=seed) for seed in (1, 2)]
    fast = jobs.end("fast", set(range(12)), lr=1e-3)

    (found,) = compared(store, *slow, fast, group_by=RECIPE).against_first

    assert found.scores is not None
    assert (found.first, found.other) == ("slow-1", "fast")
    assert found.scores.f1.other == 1.0 and 0 < found.scores.f1.first < 0.5
    assert found.scores.became_right == ()


def test_jobs_of_one_name_are_told_apart(store: Store, jobs: JudgedJobs) -> None:
    (found,) = compared(store, jobs.end("same", {0}), second := jobs.end("same", {1})).against_first

    assert (found.first, found.other) == ("same", f"same ({second.job_id[:8]})")


def test_a_job_whose_predictions_are_gone_is_ranked_all_the_same(store: Store, jobs: JudgedJobs) -> None:
    one, two = jobs.end("one", {0, 1}), jobs.end("two", {1, 2, 3})
    store.bucket.delete_prefix(f"runs/{two.job_id}/")

    found = compared(store, one, two)

    assert [run.name for run in found.runs] == ["two", "one"]
    assert found.against_first[0].scores is None
    assert "no stored predictions" in (found.against_first[0].missing or "")
