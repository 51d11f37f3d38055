"""A paused fleet takes no job, and its workers say why and until when."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from receipt_dynamo import FleetRows, JobQueue, JobStatus, utcnow
from receipt_layoutlm.fleet.machine import PauseWatch
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.worker import run_worker
from tests.support.moto_worker import a_worker, pause, status, submit


@pytest.fixture
def place(queue: JobQueue) -> Workplace:
    return a_worker(queue)


def paused_place(place: Workplace) -> Workplace:
    return replace(place, is_paused=PauseWatch(FleetRows(place.queue.client), "layoutlm"))


def test_a_paused_fleet_takes_no_job_counts_as_idle_and_says_why_once(
    queue: JobQueue, place: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(queue)
    pause(queue)

    assert run_worker(paused_place(place), "default", None, idle_timeout=0.1) == []

    assert status(queue, job) is JobStatus.PENDING
    told = [record.message for record in caplog.records if "paused" in record.message]
    assert len(told) == 1 and "20 dollars a day are spent" in told[0]


def test_another_fleets_pause_and_one_that_is_over_stop_nobody(queue: JobQueue, place: Workplace) -> None:
    job = submit(queue)
    pause(queue, "another-fleet")
    pause(queue, until=utcnow() - timedelta(seconds=1))

    run_worker(paused_place(place), "default", 1, idle_timeout=0)

    assert status(queue, job) is not JobStatus.PENDING


def test_the_end_of_a_pause_is_noticed_and_said(
    queue: JobQueue, place: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watch = PauseWatch(FleetRows(queue.client), "layoutlm")
    pause(queue)
    assert watch()

    FleetRows(queue.client).remove_pause("layoutlm")

    assert not watch() and not watch()
    assert [record.message for record in caplog.records][-1] == "fleet layoutlm is no longer paused"
