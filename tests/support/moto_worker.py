"""A worker on moto that accepts no bucket: each job that it claims ends at once as failed, which is all that is wanted.

And what stands around it: other workers of its machine, pauses of its fleet, the command.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import FleetPause, FleetRows, Job, JobQueue, JobStatus, Machine, Storage, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.worker.admission import JobPolicy
from receipt_layoutlm.worker.context import Host, WorkerContext, WorkerIdentity
from receipt_layoutlm.worker.host.registry import DRAIN_SIGNAL, RunningWorker, process_start


def a_worker(queue: JobQueue) -> WorkerContext:
    return WorkerContext(
        queue=queue,
        open_bucket=lambda name: pytest.fail(f"bucket {name} was opened"),
        stop=threading.Event(),
        identity=WorkerIdentity("worker-1", Machine()),
        policy=JobPolicy.of_project([]),
        host=Host(),
        environment={},
    )


def on_host(context: WorkerContext, **parts: object) -> WorkerContext:
    """The same worker on a machine with these parts."""
    return replace(context, host=replace(context.host, **parts))  # type: ignore[arg-type]


def submit(queue: JobQueue, **more: object) -> Job:
    given = {"name": "a-job", "config": {"config_version": 1}, "created_by": "tests", **more}
    return queue.submit(storage=Storage(bucket="the-bucket"), **given)  # type: ignore[arg-type]


def status(queue: JobQueue, job: Job) -> JobStatus:
    return queue.client.get_job(job.job_id).status


def pause(queue: JobQueue, fleet: str = "layoutlm", until: datetime | None = None) -> None:
    later = until or utcnow() + timedelta(hours=1)
    row = FleetPause(fleet=fleet, reason="20 dollars a day are spent", paused_at=utcnow(), until=later)
    FleetRows(queue.client).put_pause(row)


def beside(folder: Path, job_id: str | None) -> Path:
    """A second worker of this machine: the process that started this one, which outlives the test."""
    pid = os.getppid()
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / f"{pid}.json"
    other = RunningWorker(
        pid=pid, worker_id="worker-2", started=process_start(pid) or "", busy=job_id is not None, job_id=job_id
    )
    entry.write_text(other.model_dump_json())
    return entry


@contextmanager
def kept_handlers() -> Iterator[None]:
    """A worker takes the signals and the log of its process for its own: here they are given back."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, DRAIN_SIGNAL)
    before, logger = [signal.getsignal(number) for number in signals], logging.getLogger("receipt_layoutlm")
    handlers, level = list(logger.handlers), logger.level
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
        logger.handlers[:] = handlers
        logger.setLevel(level)


def run(*arguments: str, **environment: str) -> Result:
    """`worker …` in this process."""
    with kept_handlers():
        return CliRunner().invoke(cli, ["worker", *arguments], env=environment)
