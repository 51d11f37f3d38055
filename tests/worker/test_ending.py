"""An attempt that breaks off outside its trainer ends like any other: with run_summary and the steps it reached."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_dynamo import Attempt, DynamoClient, Job, JobLog, JobQueue, JobStatus, Storage
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.run.events import Checkpoint, Evaluation, Event
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.admission import JobPolicy
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.gateway import Answer, Gateway, gateway_to
from tests.support.places import Place
from tests.support.s3_wire import S3Wire
from tests.support.stores import Store
from tests.support.wire import retry_at_once

pytestmark = pytest.mark.engine


def end_of(place: Place, job: Job) -> tuple[Attempt, JobLog]:
    client = place.store.queue.client
    return client.list_attempts(job.job_id)[-1], client.list_job_logs(job.job_id)[-1]


def test_a_job_that_is_refused_before_it_trains_says_so_in_its_summary(place: Place, pages: list[Page]) -> None:
    job = place.submit(pages, pretrained="/etc", epochs=1)
    policy = JobPolicy.of_project([Storage(bucket=place.store.bucket.name)], place.work_dir)
    place.context = replace(place.context, policy=policy)

    assert place.work() is JobStatus.FAILED

    attempt, row = end_of(place, job)
    assert (attempt.outcome, attempt.last_step, attempt.lost_steps, attempt.checkpoints) == (
        "failed: bad_config",
        0,
        0,
        0,
    )
    assert (row.event, row.level) == ("run_summary", "error")
    assert row.message.startswith("failed: pretrained '/etc'")
    assert row.data == {"cause": "bad_config", "last_step": 0, "lost_steps": 0}


def test_pages_that_do_not_match_their_name_end_the_attempt_with_a_summary(place: Place, pages: list[Page]) -> None:
    job = place.submit(pages, pretrained="minilm", epochs=1)
    for key in list(place.store.bucket.list_keys("datasets/")):
        place.store.bucket.raw.put_object(Bucket=place.store.bucket.name, Key=key, Body=b"no pages")

    assert place.work() is JobStatus.PENDING

    attempt, row = end_of(place, job)
    assert (attempt.outcome, attempt.last_step) == ("failed: storage", 0)
    assert row.event == "run_summary" and "cannot be decompressed" in row.message


def test_a_bucket_that_denies_in_the_middle_of_training_leaves_the_steps_that_were_reached(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, epochs=4)
    wire = S3Wire(place.store.bucket)
    saved: list[int] = []

    def deny(event: Event) -> None:
        if isinstance(event, Checkpoint):
            saved.append(event.global_step)
            wire.refuse("PutObject", "AccessDenied", 403, times=1000)

    place.on_event = deny

    assert place.work() is JobStatus.PENDING

    attempt, row = end_of(place, job)
    assert (attempt.outcome, attempt.checkpoints) == ("failed: permission", 1)
    assert attempt.last_step is not None and attempt.last_step > saved[0]
    assert attempt.lost_steps == attempt.last_step - saved[0] == row.data["lost_steps"]
    assert (row.event, row.data["cause"]) == ("run_summary", "permission")
    assert "s3:PutObject" in row.message


def test_the_summary_of_a_second_attempt_comes_after_every_row_of_the_first(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, epochs=40)
    place.on_event = lambda event: place.stop.set() if isinstance(event, Evaluation) else None
    assert place.work() is JobStatus.INTERRUPTED
    place.stop.clear()
    policy = JobPolicy.of_project([], place.work_dir)
    place.context = replace(place.context, policy=policy, now=lambda: place.store.clock().replace(year=2025))

    assert place.work() is JobStatus.FAILED

    attempt, row = end_of(place, job)
    assert (row.event, row.attempt, attempt.last_step) == ("run_summary", 2, attempt.resume_step)
    assert attempt.resume_step > 0


@pytest.fixture
def gateways(dynamo_endpoint: str, s3_endpoint: str) -> Iterator[tuple[Gateway, Gateway]]:
    with gateway_to(dynamo_endpoint) as table, gateway_to(s3_endpoint) as bucket:
        yield table, bucket


@pytest.mark.parametrize("page", [Answer(502), Answer(200)], ids=["502", "200"])
def test_a_worker_behind_gateways_that_stand_in_now_and_then_finishes_its_job(
    store: Store, gateways: tuple[Gateway, Gateway], tmp_path: Path, pages: list[Page], model: str, page: Answer
) -> None:
    table, bucket = gateways
    client = DynamoClient(store.queue.client.table_name, endpoint_url=table.endpoint)
    client.raw.meta.events.register_first("needs-retry.dynamodb", retry_at_once)
    behind = Store(
        JobQueue(client, now=store.clock, rng=random.Random(0)),
        Bucket(store.bucket.name, endpoint_url=bucket.endpoint),
        store.clock,
    )
    S3Wire(behind.bucket)
    place = Place(behind, tmp_path / "work")
    job = place.submit(pages, pretrained=model, epochs=2)

    def stand_in(_event: Event) -> None:
        table.answer(page)
        bucket.answer(page)

    table.answer(page, times=2)
    bucket.answer(page, times=2)
    place.on_event = stand_in

    assert run_worker(place.context, ClaimOptions(max_jobs=1, poll_seconds=0.01)) == [JobStatus.SUCCEEDED]

    assert store.queue.client.get_job(job.job_id).attempt == 1
