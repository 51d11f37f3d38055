"""The report at the end of an attempt: made by a child of the worker, which it neither fails nor holds up."""

import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, JobQueue, JobStatus
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.end_report import seconds_for
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.moto_worker import a_worker, on_host, status, submit


@pytest.fixture
def queue(cloud: DynamoClient) -> JobQueue:
    return JobQueue(cloud)


def with_child(queue: JobQueue, program: str, **more: object) -> WorkerContext:
    return replace(a_worker(queue), report_command=(sys.executable, "-c", program), **more)  # type: ignore[arg-type]


def test_the_report_is_of_the_attempt_and_is_made_after_its_outcome_is_stored(
    queue: JobQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    job = submit(queue)
    program = f"import sys, json; json.dump(sys.argv[1:], open({str(tmp_path / 'args')!r}, 'w')); print('stored it')"
    assert run_worker(with_child(queue, program), ClaimOptions(max_jobs=1)) == [JobStatus.FAILED]
    assert json.loads((tmp_path / "args").read_text()) == [job.job_id, "--attempt", "1"]
    assert "report: stored it" in caplog.text


def test_a_report_that_fails_is_one_line_and_the_job_keeps_its_state(
    queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(queue)
    context = with_child(queue, "import sys; print('first'); sys.exit('no \\x1b[31mroom')")
    assert run_worker(context, ClaimOptions(max_jobs=1)) == [JobStatus.FAILED]
    assert status(queue, job) is JobStatus.FAILED
    lines = [record.getMessage() for record in caplog.records if "report" in record.getMessage()]
    assert lines == ["no report was made: no  [31mroom"]


def test_a_program_that_is_not_there_is_one_line_too(queue: JobQueue, caplog: pytest.LogCaptureFixture) -> None:
    submit(queue)
    context = replace(a_worker(queue), report_command=("/nonexistent/program",))
    assert run_worker(context, ClaimOptions(max_jobs=1)) == [JobStatus.FAILED]
    assert "no report was made" in caplog.text


def test_a_report_that_takes_too_long_is_ended_with_its_children(
    queue: JobQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    submit(queue)
    child = f"import time; time.sleep(20); open({str(tmp_path / 'late')!r}, 'w')"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    began = time.monotonic()
    assert run_worker(with_child(queue, program, report_seconds=0.5), ClaimOptions(max_jobs=1)) == [JobStatus.FAILED]
    assert time.monotonic() - began < 15
    assert "it took longer than" in caplog.text
    assert not (tmp_path / "late").exists()


class Notice:
    """A spot watch that EC2 has told of an interruption."""

    interruption = "notice"

    def __init__(self, left: float) -> None:
        self._left = left

    def seconds_left(self) -> float:
        return self._left


def test_less_time_is_given_to_a_worker_that_was_asked_to_stop_or_whose_machine_leaves(queue: JobQueue) -> None:
    context = a_worker(queue)
    assert seconds_for(context) == 60
    assert seconds_for(on_host(context, spot=Notice(45))) == 40
    assert seconds_for(on_host(context, spot=Notice(9))) is None
    context.stop.set()
    assert seconds_for(context) == 15
