"""A job by id, name, @last, or the beginning of its id."""

import pytest

from receipt_dynamo import NotFound
from receipt_layoutlm.jobs.find import AmbiguousJob, find_job, find_job_to
from tests.support.stores import Store

pytestmark = pytest.mark.engine


def test_the_same_job_by_each_of_its_names(store: Store) -> None:
    store.submit("older")
    job = store.submit("newer")
    client = store.queue.client

    assert [find_job(client, way).job_id for way in (job.job_id, job.job_id[:8], "newer", "@last")] == [job.job_id] * 4


def test_a_name_used_twice_means_the_newest(store: Store) -> None:
    store.submit("twice")
    second = store.submit("twice")

    assert find_job(store.queue.client, "twice").job_id == second.job_id


def test_last_is_the_newest_of_every_status(store: Store) -> None:
    job = store.submit("old")
    newest = store.submit("new")
    store.queue.cancel(newest.job_id)

    assert find_job(store.queue.client, "@last").job_id == newest.job_id != job.job_id


def test_what_does_not_exist_says_where_to_look(store: Store) -> None:
    for reference in ("nothing", "@last", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(NotFound):
            find_job(store.queue.client, reference)


def test_a_beginning_of_several_ids_lists_them(store: Store) -> None:
    # ids are made from the keys, and those of these two begin alike
    first, second = store.submit("one", unique_key="key-134"), store.submit("two", unique_key="key-165")
    assert first.job_id[:4] == second.job_id[:4]

    with pytest.raises(AmbiguousJob, match=second.job_id):
        find_job(store.queue.client, first.job_id[:4])


def test_a_name_of_two_open_jobs_asks_which_one_a_command_is_to_change(store: Store) -> None:
    first, second = store.submit("twice"), store.submit("twice")
    client = store.queue.client

    with pytest.raises(AmbiguousJob, match="2 jobs are called twice: name one by its id") as refusal:
        find_job_to(client, "twice", lambda job: not job.status.is_final)
    assert all(f"{job.job_id} (pending" in str(refusal.value) for job in (first, second))
    assert find_job_to(client, first.job_id, lambda job: True).job_id == first.job_id
    assert find_job_to(client, first.job_id[:8], lambda job: True).job_id == first.job_id

    store.queue.cancel(second.job_id)
    assert find_job_to(client, "twice", lambda job: not job.status.is_final).job_id == first.job_id
    assert find_job_to(client, "twice", lambda job: job.status == "failed").job_id == second.job_id  # the newest


def test_a_misspelt_name_suggests_the_nearest(store: Store) -> None:
    store.submit("nightly")
    store.submit("tiny")

    with pytest.raises(NotFound, match=r"did you mean nightly\?"):
        find_job(store.queue.client, "nigthly")
    with pytest.raises(NotFound, match=r"did you mean tiny\?"):  # of two swapped letters among four
        find_job(store.queue.client, "tyni")
