"""layoutlm-cli job: what a person asks afterwards, as a table and as JSON."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import JsonValue

from receipt_dynamo import (
    AttemptEnd,
    DynamoClient,
    Job,
    JobError,
    JobLog,
    JobMetric,
    JobQueue,
    Lease,
    Machine,
    Pointer,
    Storage,
    Timing,
    utcnow,
)
from receipt_layoutlm.cli import cli
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.run.progress import LeaseProgress
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support import original_system
from tests.support.stores import Clock


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["job", *arguments])


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def submit(queue: JobQueue, name: str = "mine") -> Job:
    config = {"config_version": 1, "epochs": 3, "lr": 6e-5, "dataset": "shop@abc", "given": {"epochs": "flag"}}
    return queue.submit(name=name, config=config, created_by="me", storage=Storage(bucket="the-bucket"))


def claim(queue: JobQueue) -> Lease:
    lease = queue.claim("worker-1")
    assert lease is not None
    return lease


def log(lease: Lease, seq: int, event: str, message: str = "m") -> JobLog:
    return JobLog(
        job_id=lease.job_id,
        timestamp=utcnow(),
        level="info",
        event=event,
        message=message,
        attempt=lease.attempt,
        seq=seq,
    )


def evaluate(queue: JobQueue, lease: Lease, step: int, value: float) -> None:
    metric = JobMetric(
        job_id=lease.job_id,
        timestamp=utcnow(),
        metric_name="eval_f1",
        metric_value=value,
        global_step=step,
        attempt=lease.attempt,
        seq=step,
        is_best=True,
    )
    queue.client.add_job_metric(lease, metric)


def succeed(queue: JobQueue, lease: Lease, folder: Path) -> None:
    """Checkpoint, best/ and the end, as a worker leaves them."""
    keys, bucket = RunKeys(Storage(bucket="the-bucket"), lease.job_id), Bucket("the-bucket")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    pointer = Pointer(attempt=1, global_step=7, manifest_sha256=write_manifest(folder, 7))
    bucket.put_folder(folder, keys.checkpoint(pointer))
    bucket.put_folder(folder, keys.best(1))
    lease = queue.record_checkpoint(lease, pointer, pointer)
    results = {
        "metric_value": 0.75,
        "per_label": {"DATE": {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 4}},
    }
    queue.complete(lease, results=results, summary=log(lease, 9, "run_summary"))  # type: ignore[arg-type]


def test_jobs_are_listed_newest_first_by_status_name_and_limit(queue: JobQueue) -> None:
    first, second = submit(queue, "one"), submit(queue, "two")
    queue.cancel(first.job_id)

    assert [job["name"] for job in json.loads(ok("list", "--json"))] == ["two", "one"]
    assert [job["name"] for job in json.loads(ok("list", "--json", "--status", "cancelled"))] == ["one"]
    assert [job["job_id"] for job in json.loads(ok("list", "--json", "--name", "two"))] == [second.job_id]
    assert len(json.loads(ok("list", "--json", "--limit", "1"))) == 1
    assert "two" in ok("list").splitlines()[2]


def test_an_unknown_status_and_a_limit_of_0_are_usage_errors(queue: JobQueue) -> None:
    assert run("list", "--status", "sleeping").exit_code == 2
    assert run("list", "--limit", "0").exit_code == 2


def test_show_tells_what_was_asked_for_what_came_out_and_each_attempt(queue: JobQueue, tmp_path: Path) -> None:
    job = submit(queue)
    succeed(queue, claim(queue), tmp_path / "run")

    text, told = ok("show", "mine"), json.loads(ok("show", "mine", "--json"))

    assert job.job_id in text and "epochs=3" in text and "0.6667" in text
    assert told["results"]["metric_value"] == 0.75
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["succeeded"]


def test_show_has_the_confusion_matrix_alone_where_one_is_stored(queue: JobQueue) -> None:
    submit(queue)
    confusion = {"O": {"O": 90, "DATE": 2}, "DATE": {"O": 4, "DATE": 5, "TOTAL": 1}}
    assert "mine is pending and has no confusion matrix" in ok("show", "mine", "--confusion")
    assert json.loads(ok("show", "mine", "--confusion", "--json")) == {}

    lease = claim(queue)
    results = {"metric_value": 0.5, "confusion": confusion}
    queue.complete(lease, results=results, summary=log(lease, 9, "run_summary"))  # type: ignore[arg-type]

    lines = [line.split("   ") for line in ok("show", "mine", "--confusion").splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:] if cell.strip()] for cells in lines}
    assert rows["O"] == ["92", "90", "98 %", "DATE 2"]
    assert rows["DATE"] == ["10", "5", "50 %", "O 4, TOTAL 1"]
    assert rows["TOTAL"] == ["0", "0"]
    assert json.loads(ok("show", "mine", "--confusion", "--json")) == confusion


def test_show_reports_health_weights_decodings_and_scores_of_entities_and_of_words(queue: JobQueue) -> None:
    submit(queue)
    lease = claim(queue)
    results = {
        "metric_value": 0.75,
        "macro_f1": 0.3125,
        "ece_calibrated": 0.0625,
        "per_label": {"DATE": {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 4}},
        "seen": {"DATE": 77},
        "f1_by_decoding": {"argmax": 0.5, "viterbi": 0.75},
        "confusion": {"O": {"O": 90, "DATE": 2}, "DATE": {"O": 4, "DATE": 4}},
        "class_weights": {
            "scheme": "inverse",
            "weights": {"O": 1.0, "DATE": 10.0},
            "words": {"O": 900, "DATE": 9},
            "clipped": ["DATE"],
        },
        "health": ["labels_never_found: raise --class-weights"],
        "test": {
            "global_step": 9,
            "metric_name": "test_f1",
            "metric_value": 0.5,
            "precision": 0.5,
            "recall": 0.5,
            "per_label": {},
            "loss": 1.0,
            "pages": 6,
            "field_f1": 0.625,
            "ece_calibrated": 0.03125,
        },
        "hardware": {
            "device": "cuda",
            "device_name": "Tesla T4",
            "machine": "x86_64",
            "cpus": 4,
            "threads": 4,
            "precision": "fp16",
            "tf32": False,
            "processes": 2,
        },
    }
    queue.complete(lease, results=results, summary=log(lease, 9, "run_summary"))  # type: ignore[arg-type]

    text, told = ok("show", "mine"), json.loads(ok("show", "mine", "--json"))

    facts = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)
    assert facts["health"].strip() == "labels never found: raise --class-weights"
    assert facts["hardware"].strip() == "cuda (Tesla T4), fp16, 2 processes, 4 threads"
    told_of_test = "test_f1 0.5000, field F1 0.6250, ECE calibrated 0.0312 of the best weights on 6 test pages"
    assert facts["test set"].strip() == told_of_test
    assert facts["class weights"].strip() == "inverse: O 1 (900 words), DATE 10 (9 words); clipped: DATE"
    assert facts["F1 by decoding"].strip() == "argmax 0.5000, viterbi 0.7500"
    assert facts["scores"].strip() == "ECE calibrated 0.0625, macro F1 0.3125"
    entities, words = text.partition("entity level")[2].split("word level (single words, no entity F1)")
    assert re.search(r"DATE +1\.0000 +0\.5000 +0\.6667 +4 +77", entities)
    assert re.search(r"DATE +0\.667 +0\.500 +0\.571 +8", words) and "balanced 0.739" in words
    assert told["word_report"]["rows"]["DATE"]["word_recall"] == 0.5
    assert told["word_report"]["weighted"]["words"] == 100
    assert told["health"] == results["health"] and told["results"] == results


def test_show_tells_the_health_of_a_job_that_still_runs_by_its_last_evaluation(queue: JobQueue) -> None:
    submit(queue)
    lease = claim(queue)
    for step, said in ((1, ["collapsed: lower --lr"]), (2, ["overfitting: \x1b[31m raise --dropout"])):
        metric = JobMetric(
            job_id=lease.job_id,
            timestamp=utcnow(),
            metric_name="eval_f1",
            metric_value=0.5,
            global_step=step,
            attempt=lease.attempt,
            seq=step,
            extras={"health": said, "macro_f1": 0.125 * step},
        )
        queue.client.add_job_metric(lease, metric)

    text, told = ok("show", "mine"), json.loads(ok("show", "mine", "--json"))

    assert "overfitting" in text and "collapsed" not in text and "\x1b" not in text
    assert told["health"] == ["overfitting: \x1b[31m raise --dropout"] and told["word_report"] is None
    header, _, *rows = ok("metrics", "mine").splitlines()
    assert "macro_f1" in header and "field_f1" not in header
    assert ["0.1250" in rows[0], "0.2500" in rows[1]] == [True, True]


def test_show_has_a_timeline_of_waits_phases_losses_and_costs(cloud: DynamoClient) -> None:
    clock = Clock()
    queue = JobQueue(cloud, now=clock)
    submit(queue)
    clock.pass_seconds(41)
    lease = queue.claim("worker-1", machine=Machine(instance_type="g5.xlarge", spot=True, price_per_hour=0.36))
    assert lease is not None
    clock.pass_seconds(1000)
    phases = {"start": 2.5, "encode": 65.0, "train": 900.0}
    end = AttemptEnd(last_step=120, lost_steps=20, phase_seconds=phases)
    queue.release(lease, "spot notice", end=end)
    clock.pass_seconds(90)
    second = queue.claim("worker-2\x9b31m")
    assert second is not None
    queue.cancel(second.job_id)
    clock.pass_seconds(3600)
    queue.acknowledge_cancel(second)

    text, told = ok("show", "mine"), json.loads(ok("show", "mine", "--json"))

    first, other = told["timeline"]
    assert (first["wait_seconds"], first["lost_steps"], first["phase_seconds"]) == (pytest.approx(41), 120, phases)
    assert (other["wait_seconds"], other["outcome"]) == (pytest.approx(90), "cancelled")
    assert told["totals"]["cost"] == first["cost"] == pytest.approx(0.1)
    for shown in ("g5.xlarge spot", "0 -> 120", "interrupted: spot notice", "41 s", "1 min 05 s", "16 min 40 s"):
        assert shown in text
    assert "wall time 1 h 18 min, running 1 h 16 min, waiting 2 min 11 s, lost steps at least 120, cost 0.1000" in text
    assert "\x9b" not in text


def test_show_says_how_far_a_running_attempt_was_when_last_heard_of(queue: JobQueue) -> None:
    submit(queue)
    lease = queue.claim("worker-1", machine=Machine(price_per_hour=3.6))
    assert lease is not None
    queue.renew(lease, json.dumps(["train", 120, 400, 3.0]))

    text = ok("show", "mine")

    assert "0 -> at least 120" in text and " so far" in text


def test_show_fits_a_terminal_and_leaves_out_what_nobody_measured(queue: JobQueue) -> None:
    submit(queue)
    lease = queue.claim("ip-10-0-12-200-1234-abcdef")
    assert lease is not None
    phases = dict.fromkeys(("start", "encode", "train", "evaluate", "checkpoint", "upload"), 3900.0)
    queue.release(lease, "rebalance recommendation", end=AttemptEnd(last_step=1200, phase_seconds=phases))
    queue.release(claim(queue), "spot notice")

    tables = "attempt" + ok("show", "mine").partition("attempt")[2]

    assert max(len(line) for line in tables.splitlines()) <= 128
    assert "checkpoint" in tables and "machine" not in tables and "cost" not in tables


def test_show_reads_a_job_of_the_original_system(cloud: DynamoClient) -> None:
    job_id = "6f6a1c1e-8f57-4d2a-9f0e-2c7a1f0f3b11"
    cloud.raw.put_item(TableName="the-table", Item=original_system.job(job_id))

    assert "layoutlm-a" in ok("show", job_id)
    told = json.loads(ok("show", job_id, "--json"))
    assert (told["timeline"], told["totals"]) == ([], None)
    assert "belongs to the original system" in ok("why", job_id)
    assert "read-only" in run("retry", failed_original(cloud)).stderr


def failed_original(cloud: DynamoClient) -> str:
    job_id = "6f6a1c1e-8f57-4d2a-9f0e-2c7a1f0f3b12"
    cloud.raw.put_item(TableName="the-table", Item=original_system.job(job_id, status="failed"))
    return job_id


def test_why_names_the_due_jobs_that_are_claimed_first(queue: JobQueue) -> None:
    patient = JobQueue(queue.client, timing=Timing(first_backoff_seconds=1e9, longest_backoff_seconds=1e9))
    submit(queue, "not-due")
    patient.fail(claim(queue), JobError(cause="killed", message="m"))
    submit(queue, "old")
    mine = submit(queue)
    submit(queue, "young")
    high = queue.submit(name="high", config={"config_version": 1}, created_by="me", priority="high")

    text, told = ok("why", "mine"), json.loads(ok("why", "mine", "--json"))

    assert "2 due jobs are ahead of it" in text and "the first is high (priority high" in text
    assert (told["due_jobs_ahead"], told["first_ahead"]) == (2, high.job_id)
    assert (told["job_id"], told["status"]) == (mine.job_id, "pending")
    assert told["why"].partition("(")[0] == text.partition("(")[0]
    assert "It is first in queue default" in ok("why", "high")
    assert "`layoutlm-cli job cancel" in ok("why", "not-due")


def test_why_tells_who_holds_a_job_but_never_the_token_or_what_would_steer_a_terminal(queue: JobQueue) -> None:
    submit(queue, "red\x1b[31m")
    lease = queue.claim("worker-1\x07")
    assert lease is not None and lease.lease_token is not None

    text, document = ok("why", lease.job_id), ok("why", lease.job_id, "--json")

    assert "has held attempt 1" in text
    assert "\x1b" not in text and "\x07" not in text
    assert lease.lease_token not in document and json.loads(document)["lease"]["attempt"] == 1


def test_a_failed_job_is_retried_and_not_in_a_dry_run(queue: JobQueue) -> None:
    job = submit(queue)
    queue.fail(claim(queue), JobError(cause="bad_data", message="no words"))

    tried = run("retry", "mine", "--dry-run")
    assert (
        "would requeue mine" in tried.stdout
        and "a page cannot be used for training, which is likely to recur" in tried.stderr
    )
    assert queue.client.get_job(job.job_id).status == "failed"

    assert "mine: pending, starts from the beginning" in ok("retry", "mine")
    assert queue.client.get_job(job.job_id).status == "pending"
    assert "it was retried by a person" in ok("why", "mine")


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_only_a_failed_job_is_retried_and_the_error_says_what_to_do_instead(
    queue: JobQueue, tmp_path: Path, dry_run: list[str]
) -> None:
    def refused() -> str:
        result = run("retry", "mine", *dry_run)
        assert result.exit_code == 1
        return result.stderr

    submit(queue)
    assert "mine is pending, and only a failed job can be retried" in refused()
    succeed(queue, claim(queue), tmp_path / "run")
    assert "`layoutlm-cli train --resume" in refused()
    cancelled = submit(queue)
    queue.cancel(cancelled.job_id)
    assert f"submit it again; `layoutlm-cli job show {cancelled.job_id[:8]}`" in refused()


def test_metrics_hide_what_a_later_attempt_ran_again_unless_asked(queue: JobQueue) -> None:
    job = submit(queue)
    lease = claim(queue)
    evaluate(queue, lease, 5, 0.1)
    queue.release(lease, "spot")
    evaluate(queue, claim(queue), 5, 0.2)

    seen = json.loads(ok("metrics", job.job_id, "--json"))
    everything = json.loads(ok("metrics", job.job_id, "--json", "--all-attempts"))

    assert [metric["metric_value"] for metric in seen] == [0.2]
    assert [metric["metric_value"] for metric in everything] == [0.1, 0.2]
    assert "0.2000" in ok("metrics", "@last")


def test_logs_come_in_time_order_without_what_would_steer_a_terminal(queue: JobQueue) -> None:
    job = submit(queue)
    lease = claim(queue)
    queue.client.add_job_log(lease, log(lease, 0, "run_config"))
    queue.client.add_job_log(lease, log(lease, 1, "note", "red\x1b[31m"))

    text = ok("logs", job.job_id)

    assert text.index("run config") < text.index("note")
    assert "\x1b" not in text
    assert [row["event"] for row in json.loads(ok("logs", job.job_id, "--json", "--limit", "1"))] == ["run_config"]


def test_cancel_is_done_at_once_or_asked_of_the_worker_and_not_in_a_dry_run(queue: JobQueue) -> None:
    job = submit(queue)
    ok("cancel", "mine", "--dry-run")
    assert queue.client.get_job(job.job_id).status == "pending"

    assert "cancelled" in ok("cancel", "mine")
    assert queue.client.get_job(job.job_id).status == "cancelled"

    lease = (submit(queue, "held"), claim(queue))[1]
    assert "asked to stop" in ok("cancel", "held")
    assert queue.client.get_lease(lease.job_id).cancel_requested


def test_cancel_of_a_job_that_has_ended_says_how_it_ended(queue: JobQueue, tmp_path: Path) -> None:
    queue.cancel(submit(queue).job_id)
    for arguments in (("mine",), ("mine", "--dry-run")):
        assert ok("cancel", *arguments).startswith("mine was already cancelled at ")

    submit(queue, "done")
    succeed(queue, claim(queue), tmp_path / "run")
    refused = run("cancel", "done")
    assert refused.exit_code == 1
    assert "done has succeeded at " in refused.stderr
    assert "only a job that has not ended can be cancelled: `layoutlm-cli job why" in refused.stderr


def test_show_words_what_a_run_reached(queue: JobQueue) -> None:
    submit(queue)
    results: dict[str, JsonValue] = {"metric_name": "eval_f1", "metric_value": 0.5, "best_epoch": 2.0}
    results |= {"best_global_step": 20, "stop_reason": "early_stopped", "global_step": 30, "evaluations": 3}
    results |= {"new_best_steps": [10, 20], "bit_exact": True, "f1": 0.5, "of_a_later_version": "word"}
    lease = claim(queue)
    queue.complete(lease, results=results, summary=log(lease, 9, "run_summary"))

    lines = ok("show", "mine").splitlines()

    assert "result            eval_f1 0.5000 at epoch 2, step 20; early stopping ended it" in lines
    assert "trained           30 steps, 3 evaluations, a new best at step 10, 20" in lines
    assert "reproducible      bit by bit: interruptions did not change the weights" in lines
    assert "scores            F1 0.5000" in lines
    assert "of a later version  word" in lines


def test_pull_brings_the_best_model_or_a_named_checkpoint_verified(queue: JobQueue, tmp_path: Path) -> None:
    submit(queue)
    succeed(queue, claim(queue), tmp_path / "run")

    assert "all verified" in ok("pull", "mine", "--to", str(tmp_path / "best"))
    ok("pull", "mine", "--checkpoint", "7", "--to", str(tmp_path / "seven"))

    assert (tmp_path / "best" / "model.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "seven" / "model.safetensors").read_bytes() == b"weights"


def test_pull_says_what_there_is_and_never_overwrites(queue: JobQueue, tmp_path: Path) -> None:
    submit(queue)
    lease = claim(queue)
    assert "no best model" in run("pull", "mine", "--to", str(tmp_path / "a")).stderr
    succeed(queue, lease, tmp_path / "run")

    assert "there are: 7" in run("pull", "mine", "--checkpoint", "8", "--to", str(tmp_path / "b")).stderr
    assert "not empty" in run("pull", "mine", "--to", str(tmp_path / "run")).stderr


def test_delete_removes_files_and_rows_of_an_ended_job_only(queue: JobQueue, tmp_path: Path) -> None:
    job = submit(queue)
    lease = claim(queue)
    assert "cancel it first" in run("delete", "mine", "--yes").stderr
    succeed(queue, lease, tmp_path / "run")

    ok("delete", "mine", "--dry-run")
    assert queue.client.get_job(job.job_id).status == "succeeded"
    ok("delete", "mine", "--yes")

    assert list(Bucket("the-bucket").list_keys("")) == []
    assert list(queue.client.iter_job_rows(job.job_id)) == []


def test_a_job_that_does_not_exist_is_one_line_and_exit_code_1(queue: JobQueue) -> None:
    result = run("show", "nothing")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no job 'nothing'") and "Traceback" not in result.stderr


def test_a_running_job_shows_its_share_of_steps_and_the_time_left_in_list_and_show(queue: JobQueue) -> None:
    submit(queue)
    queue.renew(claim(queue), LeaseProgress("train", 41, 100, 1.2, left_seconds=185).text)

    assert "running: 41 %, 3 min 05 s left" in ok("list")
    assert "running: 41 %, 3 min 05 s left" in ok("show", "mine")
