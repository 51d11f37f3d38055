"""layoutlm-cli rescue: what was taken from whom, and where it went."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from click.testing import CliRunner

from receipt_dynamo import Budgets, DynamoClient, JobQueue, Lease, Pointer, utcnow
from receipt_layoutlm.cli import cli
from tests.support.stores import Clock

LONG_AGO = timedelta(minutes=10)


@pytest.fixture
def queue(cloud: DynamoClient) -> JobQueue:
    """Works ten minutes behind this machine's clock, so that whoever claims here has been silent ever since."""
    return JobQueue(cloud, now=Clock(utcnow() - LONG_AGO))


def rescue(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["rescue", "--watch", "0.1", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def claimed(queue: JobQueue, name: str, budgets: Budgets | None = None) -> Lease:
    queue.submit(name=name, config={"config_version": 1}, created_by="me", budgets=budgets)
    lease = queue.claim(f"worker-of-{name}")
    assert lease is not None
    return lease


def status(queue: JobQueue, lease: Lease) -> str:
    return queue.client.get_job(lease.job_id).status


def test_a_silent_worker_loses_its_job_which_goes_back_into_the_queue(queue: JobQueue) -> None:
    lease = claimed(queue, "mine")

    text = rescue()

    assert text.startswith(f"rescued mine ({lease.job_id}): attempt 1 of worker worker-of-mine, silent since ")
    assert "(10 min 0" in text and "s) -> interrupted, requeued" in text
    assert status(queue, lease) == "interrupted"


def test_a_dry_run_names_the_same_jobs_and_moves_none(queue: JobQueue) -> None:
    back, spent, unwanted = claimed(queue, "back"), claimed(queue, "spent", SPENT), claimed(queue, "unwanted")
    queue.cancel(unwanted.job_id)

    foretold = json.loads(rescue("--dry-run", "--json"))
    before = [status(queue, lease) for lease in (back, spent, unwanted)]
    done = json.loads(rescue("--json"))

    assert before == ["running"] * 3
    assert {row["name"]: row["status"] for row in foretold} == {row["name"]: row["status"] for row in done}
    assert {row["name"]: row["status"] for row in done} == {
        "back": "interrupted",
        "spent": "failed",
        "unwanted": "cancelled",
    }
    assert {row["worker_id"] for row in done} == {"worker-of-back", "worker-of-spent", "worker-of-unwanted"}


SPENT = Budgets(interruptions=4, interruptions_in_a_row=4)


def test_a_checkpoint_of_the_silent_attempt_saves_a_job_on_its_last_interruption_in_a_row(queue: JobQueue) -> None:
    lease = claimed(queue, "mine", SPENT)
    queue.record_checkpoint(lease, Pointer(attempt=1, global_step=5, manifest_sha256="0" * 64), None)

    assert "-> interrupted" in rescue("--dry-run")
    assert "-> interrupted" in rescue()


def test_a_person_is_told_that_expired_leases_are_watched(queue: JobQueue) -> None:
    claimed(queue, "mine")
    text = CliRunner().invoke(cli, ["rescue", "--watch", "0.1"]).stderr
    assert "1 lease expired: watched for 0.1 s, in case a worker still renews it (Ctrl-C leaves all jobs" in text


def test_a_worker_whose_clock_is_wrong_keeps_its_job(queue: JobQueue) -> None:
    lease, stop = claimed(queue, "mine"), threading.Event()

    def renew() -> None:
        while not stop.is_set():
            queue.renew(lease)

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(renew)
        try:
            assert rescue("--watch", "1") == ""
        finally:
            stop.set()
        renewing.result()

    assert status(queue, lease) == "running"


def test_a_worker_that_renews_keeps_its_job(cloud: DynamoClient) -> None:
    lease = claimed(JobQueue(cloud), "mine")

    result = CliRunner().invoke(cli, ["rescue"])

    assert result.stdout == "" and "nothing to rescue" in result.stderr
    assert rescue("--json") == "[]\n"
    assert cloud.get_job(lease.job_id).status == "running"


def test_names_do_not_steer_the_terminal(queue: JobQueue) -> None:
    claimed(queue, "red\x9b31m")  # click itself takes away what begins with an escape

    assert "\x9b" not in rescue("--dry-run")
