"""Work jobs in this process: what `worker run` and `train --run-here` share."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click

from receipt_dynamo import FleetRows, Job, JobQueue, JobStatus, Machine, Storage, Timing, utcnow
from receipt_dynamo.client import resolve_region
from receipt_layoutlm import fleet_names
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.config import DEFAULT_WORK_DIR
from receipt_layoutlm.disk_watch import DiskWatch
from receipt_layoutlm.fleet_pause import PauseWatch
from receipt_layoutlm.prices import parse_prices, price_per_hour, spot_prices
from receipt_layoutlm.redact import printable
from receipt_layoutlm.running_workers import DRAIN_SIGNAL, Registration, registered, workers_dir
from receipt_layoutlm.s3 import parse_s3_uri
from receipt_layoutlm.spot import InstanceMetadata, SpotWatch, find_metadata
from receipt_layoutlm.systemd_notify import take_notifier
from receipt_layoutlm.trust import ANY_BUCKET, Trust
from receipt_layoutlm.worker import new_worker_id, run_job, run_worker
from receipt_layoutlm.workplace import Workplace

EXIT_CODES = {JobStatus.SUCCEEDED: 0, JobStatus.FAILED: 100, JobStatus.CANCELLED: 103}
NOT_FINISHED = 101


PRICES_VARIABLE = "LAYOUTLM_PRICES"  # the fleet's price table, in JSON
HUB_VARIABLE = "HF_HOME"
UPTIME = Path("/proc/uptime")


@dataclass(frozen=True)
class WorkerOptions:
    """What `worker run` was asked for."""

    queue: str
    max_jobs: int | None = None
    idle_timeout: float | None = None
    work_dir: Path | None = None
    accepted: Sequence[str] = ()
    price_per_hour: float | None = None
    fleet: str | None = None
    slot: int = 0
    ondemand_after: int = 0
    min_free_disk: float = 0.0  # GB; 0 leaves the disk alone
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
    notify = take_notifier(os.environ)
    metadata = None if connection.is_local else find_metadata(os.environ)
    drain = drain_on_signal()
    with ExitStack() as stack:
        worker_id = _worker_id(options, metadata)
        registration = stack.enter_context(registered(workers_dir(os.environ), worker_id))
        place = Workplace(
            queue=JobQueue(connection.client(), timing=Timing(ondemand_after=options.ondemand_after)),
            open_bucket=connection.open_bucket,
            stop=stop_on_signal(),
            worker_id=worker_id,
            machine=_machine(connection, metadata, options),
            trust=trust,
            environment=os.environ,
            work_dir=options.work_dir,
            drain=drain,
            spot=None if metadata is None else stack.enter_context(SpotWatch(metadata)),
            observe=view.observe,
            busy=registration.busy,
            disk=_disk_watch(options),
            notify=notify,
        )
        yield place if options.fleet is None else _of_fleet(place, options.fleet, registration)


def _of_fleet(place: Workplace, fleet: str, registration: Registration) -> Workplace:
    """The same on a machine of a fleet: it can be paused, and it ends as a whole."""
    booted = uptime_seconds()
    return replace(
        place,
        is_paused=PauseWatch(FleetRows(place.queue.client), fleet),
        others_busy=registration.others_busy,
        boot_seconds=lambda: booted if registration.is_first_claim else None,
    )


def uptime_seconds(proc_uptime: Path = UPTIME) -> float | None:
    """Since this machine was started; None where the system does not say so."""
    try:
        return float(proc_uptime.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _worker_id(options: WorkerOptions, metadata: InstanceMetadata | None) -> str:
    instance_id = metadata.instance_id() if metadata is not None and options.fleet is not None else None
    return new_worker_id() if instance_id is None else fleet_names.worker_id(instance_id, options.slot)


def _machine(connection: Connection, metadata: InstanceMetadata | None, options: WorkerOptions) -> Machine:
    """What this machine is, with its price: as it was given, else on a fleet's machine as it can be found out."""
    if metadata is None:
        machine = Machine(region=None if connection.is_local else resolve_region(connection.region))
    else:
        machine = metadata.identity()
    price = options.price_per_hour
    if price is None and metadata is not None and options.fleet is not None:
        price = _found_price(machine, metadata)
    return machine.model_copy(update={"price_per_hour": price})


def _found_price(machine: Machine, metadata: InstanceMetadata) -> float | None:
    """US dollars an hour, looked up once; a spot price moves little while a job runs."""
    import boto3
    from botocore.config import Config

    if machine.instance_type is None:
        return None
    table = parse_prices(os.environ.get(PRICES_VARIABLE, ""))
    patience = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})  # no reason to start late
    ask = spot_prices(boto3.client("ec2", region_name=machine.region, config=patience), utcnow)
    place = metadata.zone() or machine.region or ""
    return price_per_hour(machine.instance_type, bool(machine.spot), place, table, ask)


def _disk_watch(options: WorkerOptions) -> DiskWatch | None:
    if not options.min_free_disk:
        return None
    hub = os.environ.get(HUB_VARIABLE)
    caches = [Path(hub) / "hub"] if hub else []  # huggingface_hub keeps what it downloads there
    return DiskWatch(options.work_dir or Path(DEFAULT_WORK_DIR), int(options.min_free_disk * 1e9), caches)


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
    with ProgressView() as view, open_workplace(connection, view, trust, WorkerOptions(job.queue)) as place:
        lease = place.queue.claim_job(job.job_id, place.worker_id, machine=place.machine)
        if lease is None:
            raise click.ClickException(f"job {job.job_id} is not free: another worker has claimed it")
        return exit_code(run_job(place, lease))


def work_queue(connection: Connection, options: WorkerOptions) -> list[JobStatus]:
    """Claim and run jobs of a queue until idle, stopped or drained; which of these goes into the file for it."""
    trust = trust_of_worker(connection, options.accepted)
    with ProgressView() as view, open_workplace(connection, view, trust, options) as place:
        ended = run_worker(place, options.queue, options.max_jobs, options.idle_timeout)
        if options.ended_file is not None:
            options.ended_file.write_text(place.why_ended)
        return ended
