"""Work jobs in this process: what `worker run` and `train --run-here` share."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

from receipt_dynamo import Job, JobStatus, Machine, Storage
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.redact import printable
from receipt_layoutlm.running_workers import DRAIN_SIGNAL, registered, workers_dir
from receipt_layoutlm.s3 import parse_s3_uri
from receipt_layoutlm.spot import SpotWatch, find_metadata
from receipt_layoutlm.trust import ANY_BUCKET, Trust
from receipt_layoutlm.worker import new_worker_id, run_job, run_worker
from receipt_layoutlm.workplace import Workplace

EXIT_CODES = {JobStatus.SUCCEEDED: 0, JobStatus.FAILED: 100, JobStatus.CANCELLED: 103}
NOT_FINISHED = 101


def exit_code(status: JobStatus | None) -> int:
    """0 succeeded, 100 failed, 103 cancelled, 101 not finished."""
    return NOT_FINISHED if status is None else EXIT_CODES.get(status, NOT_FINISHED)


@contextmanager
def open_workplace(
    connection: Connection, view: ProgressView, trust: Trust, work_dir: Path | None, price_per_hour: float | None
) -> Iterator[Workplace]:
    """A workplace that Ctrl-C and SIGTERM stop and `worker drain` drains; on EC2 its spot notices are watched.

    A second Ctrl-C or SIGTERM is left to Python and ends at once.
    """
    metadata = None if connection.is_local else find_metadata(os.environ)
    machine = Machine(region=None if connection.is_local else resolve_region(connection.region))
    machine = machine if metadata is None else metadata.identity()
    drain = drain_on_signal()
    with ExitStack() as stack:
        worker_id = new_worker_id()
        stack.enter_context(registered(workers_dir(os.environ), worker_id))
        yield Workplace(
            queue=connection.queue(),
            open_bucket=connection.open_bucket,
            stop=stop_on_signal(),
            worker_id=worker_id,
            machine=machine.model_copy(update={"price_per_hour": price_per_hour}),
            trust=trust,
            environment=os.environ,
            work_dir=work_dir,
            drain=drain,
            spot=None if metadata is None else stack.enter_context(SpotWatch(metadata)),
            observe=view.observe,
        )


def trust_of_worker(connection: Connection, accepted: Sequence[str]) -> Trust:
    """A worker that serves a queue takes jobs of its own bucket; with --local, of everything on this machine."""
    if connection.is_local:
        return Trust.of_this_machine([ANY_BUCKET])
    return Trust.of_project([Storage(bucket=connection.default_bucket()), *map(parse_s3_uri, accepted)])


def drain_on_signal() -> threading.Event:
    """An event set by the signal that `worker drain` sends."""
    drain = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        drain.set()
        _tell("draining: the job in hand is finished, no other is taken")

    signal.signal(DRAIN_SIGNAL, ask)
    return drain


def stop_on_signal() -> threading.Event:
    """An event set by the first SIGINT or SIGTERM, or when the terminal is closed."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _tell("stopping: the trainer writes a checkpoint first (again to end at once)")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    return stop


def _tell(text: str) -> None:
    with suppress(OSError, RuntimeError):  # nobody reads stderr any more, or it is being written to just now
        click.echo(text, err=True)


class PrintableFormatter(logging.Formatter):
    """Messages carry texts of the table and of the trainer's log, which must not steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def log_to_stderr() -> None:
    """What the worker has to say about itself; other libraries stay quiet."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("receipt_layoutlm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def work_here(connection: Connection, job: Job) -> int:
    """Claim and run one job in the foreground; returns the exit code."""
    log_to_stderr()
    own = [ANY_BUCKET] if connection.is_local or job.storage is None else [job.storage]
    trust = Trust.of_this_machine(own)
    with ProgressView() as view, open_workplace(connection, view, trust, None, None) as place:
        lease = place.queue.claim_job(job.job_id, place.worker_id, machine=place.machine)
        if lease is None:
            raise click.ClickException(f"job {job.job_id} is not free: another worker has claimed it")
        return exit_code(run_job(place, lease))


def work_queue(
    connection: Connection,
    queue: str,
    max_jobs: int | None,
    idle_timeout: float | None,
    work_dir: Path | None,
    accepted: Sequence[str],
    price_per_hour: float | None,
) -> list[JobStatus]:
    """Claim and run jobs of a queue until idle, stopped or drained."""
    trust = trust_of_worker(connection, accepted)
    with ProgressView() as view, open_workplace(connection, view, trust, work_dir, price_per_hour) as place:
        return run_worker(place, queue, max_jobs, idle_timeout)
