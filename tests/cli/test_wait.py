"""Waiting for a job, and what follows from its end."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from receipt_dynamo import Job, JobError, JobQueue, JobStatus, utcnow
from receipt_layoutlm.cli.ended import ended_text
from receipt_layoutlm.cli.wait import UNHELD_SECONDS, wait_for
from tests.support.commands import ok, run
from tests.support.moto_worker import run as worker
from tests.support.moto_worker import submit
from tests.support.stores import Clock


class Pace:
    """A clock that the pauses of a wait move; `then` runs in one of them."""

    def __init__(self, then: dict[int, object]) -> None:
        self.seconds, self.pauses, self.then = 0.0, 0, then

    def monotonic(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.pauses += 1
        if (act := self.then.get(self.pauses)) is not None:
            act()  # type: ignore[operator]


def waiting_in_slow(store: JobQueue) -> Job:
    return store.submit(name="a-job", config={"config_version": 1}, created_by="tests", queue="slow")


def test_a_job_without_a_worker_is_said_once_with_the_command_that_starts_one(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    job = waiting_in_slow(queue)
    pace = Pace({20: lambda: queue.cancel(job.job_id)})

    ended = wait_for(queue, job, pace.monotonic, pace.pause)

    errors = capsys.readouterr().err
    assert ended.status == "cancelled"
    assert errors.count("`layoutlm-cli worker run --queue slow` starts one") == 1
    assert pace.seconds > UNHELD_SECONDS


def test_a_job_that_a_worker_claims_in_time_is_not_explained(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(queue)
    leases = []
    pace = Pace(
        {
            1: lambda: leases.append(queue.claim("worker-1")),
            20: lambda: queue.fail(leases[0], JobError(cause="bad_data", message="no words")),
        }
    )

    assert wait_for(queue, job, pace.monotonic, pace.pause).status == "failed"
    assert "worker run" not in capsys.readouterr().err


def test_a_wait_tells_anew_whenever_the_state_of_a_lost_job_changes(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    store = JobQueue(queue.client, now=clock)
    job = submit(store)
    assert store.claim("worker-1") is not None
    clock.pass_seconds(91)
    leases = []
    pace = Pace(
        {
            20: lambda: store.rescue(watched_seconds=0),
            30: lambda: leases.append(store.claim("worker-2")),
            32: lambda: store.fail(leases[0], JobError(cause="bad_data", message="no words")),
        }
    )

    def pause(seconds: float) -> None:
        clock.pass_seconds(seconds)
        pace.pause(seconds)

    assert wait_for(store, job, pace.monotonic, pause).status == "failed"
    told = capsys.readouterr().err
    steps = [
        "can rescue the job from ",
        "can rescue the job now",
        "is interrupted",
        "worker worker-2 has claimed attempt 2",
    ]
    assert [told.count(step) for step in steps] == [1, 1, 1, 1]
    assert sorted(steps, key=told.index) == steps


def test_ctrl_c_leaves_the_job_alone_and_names_the_command_that_waits_again(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(queue)

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        wait_for(queue, job, pause=interrupt)

    assert end.value.code == 130
    assert f"`layoutlm-cli job wait {job.job_id[:8]}` follows it again" in capsys.readouterr().err
    assert queue.client.get_job(job.job_id).status == "pending"


def test_job_wait_has_the_exit_codes_of_train_wait_and_one_document(queue: JobQueue) -> None:
    failed, cancelled = submit(queue, name="failed"), submit(queue, name="cancelled")
    lease = queue.claim_job(failed.job_id, "worker-1")
    assert lease is not None
    queue.fail(lease, JobError(cause="bad_data", message="no words"))
    queue.cancel(cancelled.job_id)

    text, document = run("job", "wait", "failed"), run("job", "wait", "failed", "--json")

    assert (text.exit_code, document.exit_code, run("job", "wait", "cancelled").exit_code) == (100, 100, 103)
    assert "failed  failed (" in text.stdout and "a page cannot be used for training: no words" in text.stdout
    assert f"layoutlm-cli job why {failed.job_id[:8]}" in text.stdout
    assert json.loads(document.stdout)["status"] == "failed"


def test_the_end_of_a_success_has_score_folder_and_the_next_command(queue: JobQueue) -> None:
    job = submit(queue).model_copy(
        update={
            "status": JobStatus.SUCCEEDED,
            "results": {
                "metric_name": "eval_f1",
                "metric_value": 0.89,
                "best_epoch": 3.0,
                "best_global_step": 120,
                "best_uri": "s3://b/runs/x/best/",
                "stop_reason": "early_stopped",
            },
        }
    )
    short = job.job_id[:8]

    assert ended_text(queue, job, Path("/work/a-job")).splitlines() == [
        f"succeeded  a-job ({short}): eval_f1 0.8900 at epoch 3, step 120; early stopping ended it",
        "model      s3://b/runs/x/best/",
        "folder     /work/a-job",
        "next:",
        f"  layoutlm-cli job show {short}",
        f"  layoutlm-cli job pull {short} --to model-{short}",
    ]


def test_a_wait_for_a_job_that_ran_here_ends_with_its_folder(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOUTLM_WORK_DIR", str(tmp_path))
    job = submit(queue)
    (attempt := tmp_path / ".attempts" / job.job_id / "001").mkdir(parents=True)
    (link := tmp_path / job.name).symlink_to(attempt)
    queue.cancel(job.job_id)

    assert f"folder     {link}" in run("job", "wait", job.job_id).stdout
    assert json.loads(run("job", "wait", job.job_id, "--json").stdout)["folder"] == str(link)

    link.unlink()
    link.symlink_to(tmp_path / ".attempts" / "another-job" / "001")
    assert "folder" not in run("job", "wait", job.job_id).stdout


def test_the_end_of_an_interrupted_job_says_how_it_continues(queue: JobQueue) -> None:
    waiting_in_slow(queue)
    lease = queue.claim("worker-1", "slow")
    assert lease is not None
    queue.release(lease, "asked to stop")

    text = ended_text(queue, queue.client.get_job(lease.job_id, consistent=True))

    assert "the next worker continues from the beginning" in text
    assert "layoutlm-cli worker run --once --queue slow" in text


def test_a_worker_that_runs_once_ends_with_the_failure_and_its_command(queue: JobQueue) -> None:
    job = submit(queue, name="odd", config={"config_version": 1, "lr": "x"})
    short = job.job_id[:8]

    result = worker("run", "--once")

    assert result.exit_code == 0
    assert result.stdout.startswith("1 job failed\nfailed  odd (")
    assert result.stdout.endswith(f"  layoutlm-cli job why {short}\n  layoutlm-cli job logs {short}\n")


@pytest.mark.parametrize(
    ("expired_seconds", "state"),
    [(-10, "running"), (10, "lost, requeued in 20 s"), (40, "lost, requeued by the next rescue")],
)
def test_the_list_tells_a_lost_job_from_a_running_one(queue: JobQueue, expired_seconds: int, state: str) -> None:
    earlier = utcnow() - timedelta(seconds=90 + expired_seconds)
    behind = JobQueue(queue.client, now=lambda: earlier)
    submit(queue)
    assert behind.claim("worker-1") is not None

    listed = " ".join(ok("job", "list").split())

    assert re.sub(r"in (19|20) s", "in 20 s", listed).partition("a-job ")[2].startswith(state)


def test_a_job_without_evaluations_says_so(queue: JobQueue) -> None:
    submit(queue)

    assert "a-job has no evaluations yet" in ok("job", "metrics", "a-job")
    assert ok("job", "metrics", "a-job", "--json") == "[]\n"


@pytest.mark.parametrize("arguments", [[], ["folder", "soon"]])
def test_the_trainer_without_a_folder_says_how_it_is_called(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "receipt_layoutlm.trainer", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m receipt_layoutlm.training RUN_DIR")
