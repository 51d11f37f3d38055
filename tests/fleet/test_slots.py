"""What several workers of one machine see of each other: who has a job, who claimed first, who may end."""

import os
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest

from receipt_dynamo import JobQueue
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.host.fleet import FleetMembership
from receipt_layoutlm.worker.host.registry import Registration, RunningWorker, registered, running_workers, workers_dir
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.moto_worker import a_worker, beside, on_host, submit


@pytest.fixture
def place(queue: JobQueue) -> WorkerContext:
    return a_worker(queue)


@pytest.fixture
def folder() -> Path:
    return workers_dir(os.environ)


def in_fleet(place: WorkerContext, registration: Registration) -> WorkerContext:
    """The same worker on a fleet's machine, which ends as a whole."""
    return on_host(place, registry=registration, fleet=FleetMembership(place.queue.client, "layoutlm"))


def test_a_worker_shows_that_it_is_busy_while_it_has_a_job(folder: Path) -> None:
    with registered(folder, "worker-1") as registration:
        with registration.busy("job-1"):
            assert [(each.busy, each.job_id) for each in running_workers(folder)] == [(True, "job-1")]
            assert '"busy":true' in (folder / f"{os.getpid()}.json").read_text()  # as terminate_instance.sh reads it
        assert [(each.busy, each.job_id) for each in running_workers(folder)] == [(False, None)]


def test_a_worker_is_busy_from_its_claim_to_the_jobs_end(folder: Path, queue: JobQueue, place: WorkerContext) -> None:
    job = submit(queue)
    shown: list[str | None] = []  # at each transaction

    def look(request: AWSPreparedRequest, **_: object) -> None:
        shown.extend(each.job_id for each in running_workers(folder))

    with registered(folder, "worker-1") as registration:
        queue.client.raw.meta.events.register_first("before-send.dynamodb.TransactWriteItems", look)
        run_worker(on_host(place, registry=registration), ClaimOptions(max_jobs=1, idle_timeout=0))
        assert [each.job_id for each in running_workers(folder)] == [None]

    assert shown == [None, job.job_id, job.job_id]  # the claim, the end of the job as failed, and the alert of that


def test_the_jobs_in_hand_are_those_of_all_workers_of_a_machine(folder: Path) -> None:
    with registered(folder, "worker-1") as registration:
        assert registration.jobs_in_hand() == set()
        beside(folder, "job-2")
        with registration.busy("job-1"):
            assert registration.jobs_in_hand() == {"job-1", "job-2"}


def test_a_worker_with_a_job_is_no_other_to_itself(folder: Path) -> None:
    with registered(folder, "worker-1") as registration, registration.busy("job-1"):
        assert not registration.others_busy()


def test_only_the_first_claim_on_a_machine_is_the_first(folder: Path) -> None:
    with registered(folder, "worker-1") as registration:
        with registration.busy("job-1"):
            assert registration.is_first_claim
        with registration.busy("job-1"):
            assert not registration.is_first_claim
    with registered(folder, "worker-2") as registration, registration.busy("job-1"):
        assert not registration.is_first_claim
    assert (folder / "claimed").exists()


def test_a_slot_does_not_end_idle_while_another_one_has_a_job(folder: Path, place: WorkerContext) -> None:
    entry = beside(folder, "job-2")
    looks: list[bool] = []

    class Watched(Registration):
        def others_busy(self) -> bool:
            looks.append(super().others_busy())
            if len(looks) == 5:
                entry.unlink()  # it has ended
            return looks[-1]

    registration = Watched(folder, RunningWorker(pid=os.getpid(), worker_id="worker-1", started=""))

    run_worker(in_fleet(place, registration), ClaimOptions(idle_timeout=0, poll_seconds=0.01))

    assert looks == [True] * 5 + [False]


def test_a_slot_beside_an_idle_one_ends(folder: Path, place: WorkerContext) -> None:
    beside(folder, None)

    with registered(folder, "worker-1") as registration:
        assert run_worker(in_fleet(place, registration), ClaimOptions(idle_timeout=0)) == []
