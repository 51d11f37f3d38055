"""job watch and job logs: what is shown while a job runs, over attempts, and until its end."""

import json
from datetime import timedelta

import boto3
import pytest
from rich.cells import cell_len

from receipt_dynamo import JobError, JobLog, JobQueue, Lease
from receipt_layoutlm.cli.job.logs import print_events, stored_events
from receipt_layoutlm.cli.job.watch import plain_lines, watch_text
from receipt_layoutlm.cli.output import wrapped
from receipt_layoutlm.cli.wait import Look, follow, looks
from receipt_layoutlm.jobs.train_log import TrainLog
from receipt_layoutlm.jobs.why_facts import lease_or_none, state_text
from receipt_layoutlm.run.progress import LeaseProgress
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.cli.test_wait import Pace
from tests.support.commands import ok, run
from tests.support.jobs import NOON, evaluation
from tests.support.moto_worker import submit

HALF = LeaseProgress("train", 50, 100, 1.5, 185.0, 0.321, 12_345.6, 0.43, 5.2e9)


def held(queue: JobQueue, job_id: str) -> Lease:
    lease = queue.claim_job(job_id, "worker-1")
    assert lease is not None
    return lease


def event(lease: Lease, seq: int, message: str) -> JobLog:
    return JobLog(
        job_id=lease.job_id,
        timestamp=NOON + timedelta(seconds=100 * lease.attempt + seq),
        level="info",
        event="note",
        message=message,
        attempt=lease.attempt,
        seq=seq,
    )


def test_the_display_has_share_time_left_loss_speed_gpu_and_the_course_of_the_score(queue: JobQueue) -> None:
    job = submit(queue)
    lease = queue.renew(held(queue, job.job_id), HALF.text)
    history = [evaluation(lease, f1=f1, step=10 * place) for place, f1 in enumerate((0.1, 0.8, 0.45), 1)]
    job = queue.client.get_job(job.job_id)
    state = state_text(job, lease, queue.timing, queue.now())

    text = watch_text(Look(job, lease, state, ()), history, queue.client.list_attempts(job.job_id))

    for shown in (
        "running",
        "1, worker worker-1",
        "training, step 50 of 100, epoch 1.5, 50 %, 3 min 05 s left",
        "eval_f1 0.4500, best 0.8000 at step 20  ▁█▄",
        "loss 0.321, 12,350 tokens/s, GPU 43 %, 5.2 GB of GPU memory",
    ):
        assert shown in text
    assert all(cell_len(line) <= 60 for row in text.split("\n") for line in wrapped(row, 60).split("\n"))


def test_the_display_of_a_job_that_waits_has_no_figures(queue: JobQueue) -> None:
    job = submit(queue)

    look = Look(job, lease_or_none(queue, job.job_id), "pending", ())

    assert watch_text(look, [], []).splitlines() == [f"job          a-job ({job.job_id[:8]})", "status       pending"]


def test_without_a_terminal_each_evaluation_and_each_percent_is_a_line(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(queue)
    lease = held(queue, job.job_id)

    def at(step: int) -> None:
        queue.renew(lease, LeaseProgress("train", step, 1000, 1.0).text)

    pace = Pace(
        {
            1: lambda: at(500),
            2: lambda: at(501),
            3: lambda: queue.client.add_job_metric(lease, evaluation(lease, step=501)),
            4: lambda: at(510),
            5: lambda: queue.fail(lease, JobError(cause="bad_data", message="no words")),
        }
    )
    with plain_lines(err=False) as show:
        follow(queue, job.job_id, show, pace.monotonic, pace.pause)

    assert capsys.readouterr().out.splitlines() == [
        "running, attempt 1",
        "running, attempt 1: training, step 500 of 1000, epoch 1, 50 %",
        "step 501: eval_f1 0.5000",
        "running, attempt 1: training, step 510 of 1000, epoch 1, 51 %",
        "failed, attempt 1",
    ]


def test_watch_ends_with_the_exit_code_of_the_job_and_one_document(queue: JobQueue) -> None:
    job = submit(queue)
    queue.cancel(job.job_id)

    text, document = run("job", "watch", "a-job"), run("job", "watch", "a-job", "--json")

    assert (text.exit_code, document.exit_code) == (103, 103)
    assert text.stdout.startswith("cancelled\n") and "\x1b" not in text.stdout
    assert json.loads(document.stdout)["status"] == "cancelled"


def test_followed_events_are_neither_lost_nor_doubled_over_attempts(
    queue: JobQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(queue)
    leases = [held(queue, job.job_id)]

    def again() -> None:
        queue.release(leases[0], "asked to stop")
        leases.append(held(queue, job.job_id))
        queue.client.add_job_log(leases[1], event(leases[1], 1, "fourth"))

    def end() -> None:
        queue.client.add_job_log(leases[1], event(leases[1], 2, "fifth"))
        queue.fail(leases[1], JobError(cause="bad_data", message="x"), summary=event(leases[1], 3, "last"))

    for seq, message in enumerate(("first", "second"), 1):
        queue.client.add_job_log(leases[0], event(leases[0], seq, message))
    third = event(leases[0], 3, "third")
    pace = Pace({1: lambda: queue.client.add_job_log(leases[0], third), 3: again, 5: end})

    print_events(stored_events(queue.client, looks(queue, job.job_id, pace.pause), None, 1), False)

    shown = [line.split()[-1] if "note" in line else line for line in capsys.readouterr().out.splitlines()]
    assert shown == ["── attempt 1 ──", "second", "third", "── attempt 2 ──", "fourth", "fifth", "last"]


def test_the_tail_has_the_last_events_in_time_order(queue: JobQueue) -> None:
    lease = held(queue, submit(queue).job_id)
    for seq in range(1, 5):
        queue.client.add_job_log(lease, event(lease, seq, f"m{seq}"))
    queue.fail(lease, JobError(cause="bad_data", message="x"))

    assert [row["message"] for row in json.loads(ok("job", "logs", "a-job", "--json", "--tail", "2"))] == ["m3", "m4"]
    followed = ok("job", "logs", "a-job", "-f", "--json").splitlines()
    assert [json.loads(line)["message"] for line in followed] == ["m1", "m2", "m3", "m4"]
    assert run("job", "logs", "a-job", "--tail", "2", "--limit", "1").exit_code == 2


def test_raw_is_what_the_trainers_printed_piece_by_piece(queue: JobQueue) -> None:
    job = submit(queue)
    queue.release(held(queue, job.job_id), "asked to stop")
    queue.fail(held(queue, job.job_id), JobError(cause="bad_data", message="x"))
    assert job.storage is not None
    keys, bucket = RunKeys(job.storage, job.job_id), boto3.client("s3")
    bucket.create_bucket(Bucket=job.storage.bucket)
    pieces = [(1, "", b"a\nb\n"), (2, "", b"c\n"), (2, ".2", b"d\x1b[2J\n"), (2, ".10", b"e\n")]
    for attempt, piece, text in pieces:
        bucket.put_object(Bucket=job.storage.bucket, Key=f"{keys.attempt(attempt)}logs/train.log{piece}", Body=text)

    result = run("job", "logs", "a-job", "--raw")

    assert [line[0] for line in result.stdout.splitlines()] == ["a", "b", "c", "d", "e"]
    assert "\x1b" not in result.stdout
    assert result.stderr.splitlines() == ["── attempt 1 ──", "── attempt 2 ──"]
    assert ok("job", "logs", "a-job", "--raw", "--tail", "1", "-f") == "e\n"


def test_a_piece_that_begins_anew_is_printed_from_its_beginning_and_only_newlines_end_lines(queue: JobQueue) -> None:
    job = submit(queue)
    assert job.storage is not None
    keys, bucket = RunKeys(job.storage, job.job_id), boto3.client("s3")
    bucket.create_bucket(Bucket=job.storage.bucket)
    log, key = TrainLog(Bucket(job.storage.bucket), keys), f"{keys.attempt(1)}logs/train.log.2"

    def printed(text: str) -> list[str]:
        bucket.put_object(Bucket=keys.storage.bucket, Key=key, Body=text.encode())
        return [line for _, line in log.new_lines(1)]

    assert printed("first\nsecond\n") == ["first", "second"]
    assert printed("first\nsecond\nthird\r\n") == ["third"]
    assert printed("anew, and longer than what was read before\n") == ["anew, and longer than what was read before"]
    assert printed("short\u2028er\n") == ["short\u2028er"]


def test_evaluations_that_a_later_attempt_repeats_are_told_apart(queue: JobQueue) -> None:
    job = submit(queue)
    for attempt in (1, 2):
        lease = held(queue, job.job_id)
        queue.client.add_job_metric(lease, evaluation(lease, f1=0.5, step=20, seq=attempt, at=queue.now()))
        if attempt == 1:
            queue.release(lease, "asked to stop")
        else:
            queue.fail(lease, JobError(cause="bad_data", message="x"))

    lines = [line for line in run("job", "watch", "a-job").stdout.splitlines() if line.startswith("step 20")]

    assert lines == ["step 20: eval_f1 0.5000", "step 20: eval_f1 0.5000 (attempt 2)"]
