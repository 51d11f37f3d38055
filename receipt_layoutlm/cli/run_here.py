"""Work jobs in this process: what `worker run` and `train --run-here` share."""

import logging
import signal
import threading
from pathlib import Path

import click

from receipt_dynamo import Job, JobStatus, Machine
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.worker import Workplace, new_worker_id, run_job, run_worker

EXIT_CODES = {JobStatus.SUCCEEDED: 0, JobStatus.FAILED: 100, JobStatus.CANCELLED: 103}
NOT_FINISHED = 101


def exit_code(status: JobStatus | None) -> int:
    """0 succeeded, 100 failed, 103 cancelled, 101 not finished."""
    return NOT_FINISHED if status is None else EXIT_CODES.get(status, NOT_FINISHED)


def open_workplace(connection: Connection, view: ProgressView, work_dir: Path | None) -> Workplace:
    """A workplace whose stop flag Ctrl-C and SIGTERM set; a second one is left to Python and ends at once."""
    return Workplace(
        queue=connection.queue(),
        open_bucket=connection.open_bucket,
        stop=stop_on_signal(),
        worker_id=new_worker_id(),
        machine=Machine(region=None if connection.is_local else resolve_region(connection.region)),
        work_dir=work_dir,
        observe=view.observe,
    )


def stop_on_signal() -> threading.Event:
    """An event set by the first SIGINT or SIGTERM."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        click.echo("stopping: the trainer writes a checkpoint first (again to end at once)", err=True)
        stop.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    return stop


def log_to_stderr() -> None:
    """What the worker has to say about itself; other libraries stay quiet."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("receipt_layoutlm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def work_here(connection: Connection, job: Job) -> int:
    """Claim and run one job in the foreground; returns the exit code."""
    log_to_stderr()
    with ProgressView() as view:
        place = open_workplace(connection, view, None)
        lease = place.queue.claim_job(job.job_id, place.worker_id, machine=place.machine)
        if lease is None:
            raise click.ClickException(f"job {job.job_id} is not free: another worker has claimed it")
        return exit_code(run_job(place, lease))


def work_queue(
    connection: Connection, queue: str, max_jobs: int | None, idle_timeout: float | None, work_dir: Path | None
) -> list[JobStatus]:
    """Claim and run jobs of a queue until idle or stopped."""
    with ProgressView() as view:
        return run_worker(open_workplace(connection, view, work_dir), queue, max_jobs, idle_timeout)
