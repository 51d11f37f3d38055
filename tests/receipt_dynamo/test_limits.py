"""Texts that an item has no room for: refused at submit with their limit, cut where a job ends."""

from typing import Any

import pytest

from receipt_dynamo import InvalidInput, JobError, JobQueue, JobStatus
from receipt_dynamo.limits import LONGEST
from tests.support.jobs import claim, submit

ONE_TOO_MANY: dict[str, Any] = {
    **{name: "é" * (LONGEST[name] // 2) + "x" for name in ("name", "queue", "created_by", "unique_key", "description")},
    "tags": {"team": "x" * LONGEST["tags"]},
    "config": {"labels": "x" * LONGEST["config"]},
}


@pytest.mark.parametrize("name", ONE_TOO_MANY)
def test_a_text_that_is_too_long_is_refused_with_its_limit(queue: JobQueue, cloud: Any, name: str) -> None:
    given: dict[str, Any] = {"name": "a-job", "config": {"lr": 1.0}, "created_by": "me", name: ONE_TOO_MANY[name]}
    with pytest.raises(InvalidInput, match=rf"{name}( \(--[a-z-]+\))? has [\d,]+ bytes: use at most {LONGEST[name]:,}"):
        queue.submit(**given)
    assert queue.client.list_jobs() == []


def test_the_longest_texts_together_fit_into_a_row_and_the_job_can_still_fail(cloud: Any) -> None:
    queue = JobQueue(cloud)
    texts: dict[str, Any] = {name: "x" * LONGEST[name] for name in ("name", "created_by", "description", "queue")}
    tags, config = {"t": "x" * (LONGEST["tags"] - 20)}, {"c": "x" * (LONGEST["config"] - 20)}
    job = queue.submit(config=config, tags=tags, unique_key="k" * LONGEST["unique_key"], **texts)
    lease = claim(queue, queue_name=texts["queue"])
    error = JobError(cause="bad_data", message="m" * 10**6, page_ids=("p" * 10_000,) * 10_000, log_tail="l" * 10**6)
    assert queue.fail(lease, error) is JobStatus.FAILED
    stored = queue.client.get_job(job.job_id).error
    assert stored is not None and stored.message.endswith("m …")
    assert (len(stored.message), len(stored.log_tail), len(stored.page_ids)) == (8000, 40_000, 100)


def test_usual_texts_are_stored_as_they_are(cloud: Any) -> None:
    job = submit(JobQueue(cloud), "a-job", description="one line", tags={"team": "a"})
    assert (job.description, job.tags) == ("one line", {"team": "a"})


@pytest.mark.parametrize("text", ["x", "é", "\U0001f9fe", "\x00", '"'], ids=ascii)
def test_an_error_is_stored_whatever_it_is_made_of(cloud: Any, text: str) -> None:
    queue = JobQueue(cloud)
    job = queue.submit(name="a-job", config={"c": "x" * (LONGEST["config"] - 20)}, created_by="me")
    long = text * 100_000
    error = JobError(cause="bad_data", message=long, page_ids=(text * 300,) * 1000, log_tail=long)

    assert queue.fail(claim(queue), error) is JobStatus.FAILED

    stored = queue.client.get_job(job.job_id).error
    assert stored is not None and stored.message.endswith(" …")
    assert len(stored.page_ids) >= 12 and len(stored.log_tail) >= 4000
    assert len(stored.model_dump_json().encode()) < 140_000
