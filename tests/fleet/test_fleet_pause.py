"""A paused fleet takes no job, and its workers say why and until when."""

import logging
from datetime import timedelta

import pytest

from receipt_dynamo import FleetRows, JobQueue, JobStatus, utcnow
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.host.fleet import FleetMembership
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.moto_worker import a_worker, on_host, pause, status, submit


@pytest.fixture
def place(queue: JobQueue) -> WorkerContext:
    return a_worker(queue)


def paused_place(place: WorkerContext) -> WorkerContext:
    return on_host(place, fleet=FleetMembership(place.queue.client, "layoutlm"))


def test_a_paused_fleet_takes_no_job_counts_as_idle_and_says_why_once(
    queue: JobQueue, place: WorkerContext, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(queue)
    pause(queue)

    assert run_worker(paused_place(place), ClaimOptions(idle_timeout=0.1)) == []

    assert status(queue, job) is JobStatus.PENDING
    told = [record.message for record in caplog.records if "paused" in record.message]
    assert len(told) == 1 and "20 dollars a day are spent" in told[0]


def test_another_fleets_pause_and_one_that_is_over_stop_nobody(queue: JobQueue, place: WorkerContext) -> None:
    job = submit(queue)
    pause(queue, "another-fleet")
    pause(queue, until=utcnow() - timedelta(seconds=1))

    run_worker(paused_place(place), ClaimOptions(max_jobs=1, idle_timeout=0))

    assert status(queue, job) is not JobStatus.PENDING


def test_the_end_of_a_pause_is_noticed_and_said(
    queue: JobQueue, place: WorkerContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fleet = FleetMembership(queue.client, "layoutlm")
    pause(queue)
    assert fleet.is_paused()

    FleetRows(queue.client).remove_pause("layoutlm")

    assert not fleet.is_paused() and not fleet.is_paused()
    assert [record.message for record in caplog.records][-1] == "fleet layoutlm is no longer paused"
