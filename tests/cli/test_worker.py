"""The worker's commands: what a machine that is about to end asks, what it leaves behind, and the options."""

import json
import os
from pathlib import Path

import pytest

from receipt_dynamo import JobQueue, JobStatus, Storage
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.cli.run_here import WorkerOptions, open_context, policy_of_worker, work_here
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.paths import DEFAULT_WORK_DIR, FolderRefused, state_dir
from receipt_layoutlm.worker.admission import JobPolicy
from receipt_layoutlm.worker.host.registry import CLAIMED, workers_dir
from tests.support.moto_worker import beside, kept_handlers, pause, run, status, submit


def test_peek_says_whether_a_worker_would_get_a_job(queue: JobQueue) -> None:
    assert run("peek").stdout == "nothing\n"
    job = submit(queue)

    assert run("peek").stdout == "claimable\n"
    assert run("peek", "--queue", "other").stdout == "nothing\n"
    assert run("peek", LAYOUTLM_QUEUE="other").stdout == "nothing\n"
    assert json.loads(run("peek", "--json").stdout) == {"claimable": True}
    assert status(queue, job) is JobStatus.PENDING


def test_peek_finds_nothing_for_a_paused_fleet_nor_in_jobs_for_newer_workers(queue: JobQueue) -> None:
    newer = submit(queue, config={"config_version": 999})
    assert run("peek").stdout == "nothing\n"
    queue.cancel(newer.job_id)
    submit(queue)
    pause(queue)

    assert run("peek", "--fleet", "layoutlm").stdout == "nothing\n"
    assert run("peek", LAYOUTLM_FLEET="layoutlm").stdout == "nothing\n"
    assert run("peek", "--fleet", "another").stdout == "claimable\n"


@pytest.mark.parametrize("job_count", [0, 1])
def test_a_worker_that_ends_in_order_says_why_and_one_that_breaks_says_nothing(
    queue: JobQueue, tmp_path: Path, job_count: int
) -> None:
    told = tmp_path / "ended-0"
    for _ in range(job_count):
        submit(queue, config={"config_version": 1})

    assert run("run", "--idle-timeout", "0", LAYOUTLM_ENDED_FILE=str(told)).exit_code == 0
    assert told.read_text() == "idle"

    told.unlink()
    broken = run("run", "--idle-timeout", "0", DYNAMO_TABLE_NAME="gone", LAYOUTLM_ENDED_FILE=str(told))
    assert broken.exit_code == 1
    assert not told.exists()


def test_an_idle_time_of_0_in_the_environment_ends_at_once_and_is_not_for_ever(queue: JobQueue) -> None:
    assert run("run", LAYOUTLM_IDLE_SECONDS="0").exit_code == 0


def test_a_job_that_is_run_here_is_in_hand_like_one_of_a_queue(queue: JobQueue) -> None:
    job = submit(queue, config={"config_version": 1, "lr": "not a number"})

    with kept_handlers():
        work_here(Connection(False, "the-table", None, "the-bucket"), job)

    assert (workers_dir(os.environ) / CLAIMED).exists()  # as each job in hand leaves it


def test_an_interrupted_job_goes_to_the_on_demand_queue_after_k_times(queue: JobQueue) -> None:
    """The option reaches the queue that the worker works with."""
    job, connection = submit(queue), Connection(False, "the-table", None, "the-bucket")
    options = WorkerOptions(ondemand_after=1)

    with open_context(connection, ProgressView(), policy_of_worker(connection, options), options) as ctx:
        lease = ctx.queue.claim("worker")
        assert lease is not None
        ctx.queue.release(lease, "spot")

    assert queue.client.get_job(job.job_id, consistent=True).queue == "default.ondemand"


def test_the_disk_is_left_alone_unless_that_was_asked_for(queue: JobQueue, tmp_path: Path) -> None:
    kept = tmp_path / "work/.attempts/a/001"
    kept.mkdir(parents=True)
    arguments = ("run", "--idle-timeout", "0", "--work-dir", str(tmp_path / "work"))

    assert run(*arguments).exit_code == 0
    assert kept.exists()

    assert run(*arguments, "--min-free-disk", "1000000").exit_code == 1
    assert not kept.exists()


def test_what_another_worker_of_this_machine_trains_on_is_not_deleted_for_room(queue: JobQueue, tmp_path: Path) -> None:
    beside(workers_dir(os.environ), "a")
    kept, old = (tmp_path / f"work/.attempts/{name}/001" for name in "ab")
    for folder in (kept, old):
        folder.mkdir(parents=True)

    run("run", "--idle-timeout", "0", "--work-dir", str(tmp_path / "work"), "--min-free-disk", "1000000")

    assert (kept.exists(), old.exists()) == (True, False)


def test_a_fleets_machine_trusts_what_its_role_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(is_local=False, table="jobs", region=None, bucket_name="runs")
    accepted = ("s3://other/team",)

    options = WorkerOptions(accepted=accepted, fleet="layoutlm")
    places = [Storage(bucket="runs"), Storage(bucket="other", prefix="team/")]

    elsewhere = policy_of_worker(connection, options)
    monkeypatch.setenv("LAYOUTLM_GROUP", "layoutlm-workers")
    there = policy_of_worker(connection, options)

    assert elsewhere == JobPolicy.of_project(places)
    assert there == JobPolicy.of_fleet("runs", places[1:])
    assert elsewhere != there


def test_with_local_and_run_here_run_directories_lie_in_the_state_folder() -> None:
    local = Connection(is_local=True, table=None, region=None, bucket_name=None)
    config = WordLabelsConfig()
    assert policy_of_worker(local, WorkerOptions()).work_dir(config) == state_dir(os.environ) / "work"
    assert policy_of_worker(local, WorkerOptions(work_dir=Path("/own"))).work_dir(config) == Path("/own")
    elsewhere = Connection(is_local=False, table="jobs", region=None, bucket_name="runs")
    assert policy_of_worker(elsewhere, WorkerOptions()).work_dir(config) == DEFAULT_WORK_DIR


@pytest.mark.parametrize(
    ("variable", "chosen", "expected"), [("", "", "state/work"), ("env", "", "env"), ("env", "chosen", "chosen")]
)
def test_run_here_works_where_the_job_says_else_the_environment_else_in_the_state_folder(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, chosen: str, expected: str
) -> None:
    monkeypatch.setenv("LAYOUTLM_STATE_DIR", str(tmp_path / "state"))
    if variable:
        monkeypatch.setenv("LAYOUTLM_WORK_DIR", str(tmp_path / variable))
    work_dir = {"work_dir": str(tmp_path / chosen)} if chosen else {}
    job = submit(queue, config={"config_version": 1, "lr": "not a number", **work_dir})

    with kept_handlers():
        work_here(Connection(False, "the-table", None, "the-bucket"), job)

    assert [path.parent.relative_to(tmp_path) for path in tmp_path.rglob(".attempts")] == [Path(expected)]


def test_without_a_safe_folder_nothing_is_claimed_and_the_line_says_what_to_do(queue: JobQueue, tmp_path: Path) -> None:
    job = submit(queue)
    state_dir(os.environ).mkdir()
    (state_dir(os.environ) / "work").symlink_to(tmp_path)

    with kept_handlers(), pytest.raises(FolderRefused, match="work is a link: name a folder of your own with --work-d"):
        work_here(Connection(False, "the-table", None, "the-bucket"), job)

    assert status(queue, job) is JobStatus.PENDING
    assert run("run", "--once", LAYOUTLM_WORK_DIR=str(tmp_path / "own")).exit_code == 0
    assert (tmp_path / "own" / ".attempts").is_dir()
