"""Work jobs in this process: what `worker run` and `train --run-here` share."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from receipt_dynamo import Job, JobQueue, JobStatus, Machine, Storage, Timing
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.fleet.machine import MachineOptions, on_this_machine
from receipt_layoutlm.redact import printable
from receipt_layoutlm.storage.keys import parse_s3_uri
from receipt_layoutlm.worker.admission import ANY_BUCKET, Trust
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.host.registry import DRAIN_SIGNAL
from receipt_layoutlm.worker.host.spot import find_metadata
from receipt_layoutlm.worker.host.systemd import take_notifier
from receipt_layoutlm.worker.worker import new_worker_id, run_job, run_worker

EXIT_CODES = {JobStatus.SUCCEEDED: 0, JobStatus.FAILED: 100, JobStatus.CANCELLED: 103}
NOT_FINISHED = 101
GROUP_VARIABLE = "LAYOUTLM_GROUP"  # of the autoscaling group; only machines of a fleet have it


@dataclass(frozen=True)
class WorkerOptions:
    """What `worker run` was asked for."""

    queue: str
    max_jobs: int | None = None
    idle_timeout: float | None = None
    work_dir: Path | None = None
    accepted: Sequence[str] = ()
    ondemand_after: int = 0
    machine: MachineOptions = field(default_factory=MachineOptions)
    ended_file: Path | None = None


def exit_code(status: JobStatus | None) -> int:
    """0 succeeded, 100 failed, 103 cancelled, 101 not finished."""
    return NOT_FINISHED if status is None else EXIT_CODES.get(status, NOT_FINISHED)


@contextmanager
def open_workplace(
    connection: Connection, view: ProgressView, trust: Trust, options: WorkerOptions
) -> Iterator[Workplace]:
    """A workplace that Ctrl-C and SIGTERM stop and `worker drain` drains; on EC2 its spot notices are watched.

    A second Ctrl-C or SIGTERM is left to Python and ends at once.
    """
    place = Workplace(
        queue=JobQueue(connection.client(), timing=Timing(ondemand_after=options.ondemand_after)),
        open_bucket=connection.open_bucket,
        stop=stop_on_signal(),
        worker_id=new_worker_id(),
        machine=Machine(region=None if connection.is_local else resolve_region(connection.region)),
        trust=trust,
        environment=os.environ,
        work_dir=options.work_dir,
        drain=drain_on_signal(),
        observe=view.observe,
        notify=take_notifier(os.environ),
    )
    metadata = None if connection.is_local else find_metadata(os.environ)
    with on_this_machine(place, options.machine, metadata) as here:
        yield here


def trust_of_worker(connection: Connection, options: WorkerOptions) -> Trust:
    """A worker that serves a queue takes jobs of its own bucket; with --local, of everything on this machine; where a
    machine belongs to a group, of what its role reaches."""
    if connection.is_local:
        return Trust.of_this_machine([ANY_BUCKET])
    accepted = [parse_s3_uri(each) for each in options.accepted]
    if GROUP_VARIABLE in os.environ:
        return Trust.of_fleet(connection.default_bucket(), accepted)
    return Trust.of_project([Storage(bucket=connection.default_bucket()), *accepted])


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
    with ProgressView() as view, open_workplace(connection, view, trust, WorkerOptions(job.queue)) as place:
        lease = place.queue.claim_job(job.job_id, place.worker_id, machine=place.priced_machine)
        if lease is None:
            raise click.ClickException(f"job {job.job_id} is not free: another worker has claimed it")
        with place.busy(job.job_id):
            return exit_code(run_job(place, lease))


def work_queue(connection: Connection, options: WorkerOptions) -> list[JobStatus]:
    """Claim and run jobs of a queue until idle, stopped or drained; which of these goes into the file for it."""
    trust = trust_of_worker(connection, options)
    with ProgressView() as view, open_workplace(connection, view, trust, options) as place:
        ended = run_worker(place, options.queue, options.max_jobs, options.idle_timeout)
        if options.ended_file is not None:
            options.ended_file.write_text(place.why_ended)
        return ended
