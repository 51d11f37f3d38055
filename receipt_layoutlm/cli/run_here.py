"""Runs jobs in this process, for `worker run` and `train --run-here`."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import click

from receipt_dynamo import Job, JobQueue, Machine, Storage, Timing
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.ended import EndedJob
from receipt_layoutlm.cli.output import PrintableFormatter, say
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.cli.upkeep import Upkeep
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.fleet import names as fleet_names
from receipt_layoutlm.fleet.scaler.prices import machine_price
from receipt_layoutlm.paths import given_work_dir, local_work_dir, prepare_default_work_dir, private_files
from receipt_layoutlm.references import safe_name
from receipt_layoutlm.storage.keys import parse_s3_uri
from receipt_layoutlm.worker.admission import ANY_BUCKET, JobPolicy
from receipt_layoutlm.worker.context import Host, WorkerContext, WorkerIdentity
from receipt_layoutlm.worker.host.disk import DiskWatch
from receipt_layoutlm.worker.host.fleet import FleetMembership, uptime_seconds
from receipt_layoutlm.worker.host.registry import DRAIN_SIGNAL, registered, workers_dir
from receipt_layoutlm.worker.host.spot import SpotWatch, find_metadata
from receipt_layoutlm.worker.host.systemd import take_notifier
from receipt_layoutlm.worker.prepare import prepare_work_dir
from receipt_layoutlm.worker.worker import ClaimOptions, new_worker_id, run_job, run_worker

GROUP_VARIABLE = "LAYOUTLM_GROUP"  # of the autoscaling group; only machines of a fleet have it
HUB_VARIABLE = "HF_HOME"


@dataclass(frozen=True)
class WorkerOptions:
    """Options of `worker run`. Those of a fleet apply only where one is named."""

    claims: ClaimOptions = field(default_factory=ClaimOptions)
    work_dir: Path | None = None
    accepted: Sequence[str] = ()
    ondemand_after: int = 0
    fleet: str | None = None
    slot: int = 0
    price_per_hour: float | None = None  # US dollars; on a fleet's machine it is looked up
    min_free_disk: float = 0.0  # GB; 0 leaves the disk alone
    ended_file: Path | None = None
    drain_after: timedelta | None = None  # age of a fleet's machine


@contextmanager
def open_context(
    connection: Connection,
    view: ProgressView,
    policy: JobPolicy,
    options: WorkerOptions,
    ended: Callable[[str], None] = lambda _job_id: None,
) -> Iterator[WorkerContext]:
    """Build the context of this process's worker, registered on this machine until the end of the block.

    Ctrl-C and SIGTERM stop it, `worker drain` drains it; a second Ctrl-C or SIGTERM ends the process at once. On EC2
    spot notices are watched. In a fleet the worker is named after its instance and knows its price. Raises
    FolderRefused when there is no safe folder for run directories.
    """
    stop, drain = stop_on_signal(), drain_on_signal()  # before the registration, which invites the drain signal
    client = connection.client()
    metadata = None if connection.is_local else find_metadata(os.environ)
    if metadata is None:
        machine = Machine(region=None if connection.is_local else resolve_region(connection.region))
    else:
        machine = metadata.identity()
    instance_id = None if metadata is None or options.fleet is None else metadata.instance_id()
    worker_id = new_worker_id() if instance_id is None else fleet_names.worker_id(instance_id, options.slot)
    price_lookup = None
    if options.price_per_hour is None and options.fleet is not None and metadata is not None:
        price_lookup = machine_price(machine, metadata.zone(), os.environ)
    fleet = None
    if options.fleet is not None:
        fleet = FleetMembership(client, options.fleet, instance_id, uptime_seconds(), drain_after=options.drain_after)
    with ExitStack() as stack:
        if policy.own_work_dir is None:
            default = prepare_default_work_dir(policy.default_work_dir, os.environ)
            policy = replace(policy, default_work_dir=default)
            stack.enter_context(private_files())
        work_dir = policy.own_work_dir or policy.default_work_dir
        prepare_work_dir(work_dir)
        registry = stack.enter_context(registered(workers_dir(os.environ), worker_id))
        disk = None
        if options.min_free_disk:
            hub = os.environ.get(HUB_VARIABLE)
            caches = [Path(hub) / "hub"] if hub else []  # where huggingface_hub keeps its downloads
            disk = DiskWatch(work_dir, int(options.min_free_disk * 1e9), caches, registry.jobs_in_hand)
        yield WorkerContext(
            identity=WorkerIdentity(worker_id, machine),
            policy=policy,
            host=Host(
                spot=None if metadata is None else stack.enter_context(SpotWatch(metadata, now=client.now)),
                disk=disk,
                registry=registry,
                fleet=fleet,
                price_per_hour=price_lookup or (lambda: options.price_per_hour),
                notifier=take_notifier(os.environ),
                upkeep=Upkeep(connection),
            ),
            queue=JobQueue(client, timing=Timing(ondemand_after=options.ondemand_after)),
            open_bucket=connection.open_bucket,
            environment=os.environ,
            stop=stop,
            drain=drain,
            observe=view.observe,
            now=client.now,
            ended=ended,
            report_command=(sys.executable, "-m", "receipt_layoutlm.cli", "report", *connection.words, "--store"),
        )


def policy_of_worker(connection: Connection, options: WorkerOptions) -> JobPolicy:
    """Accept jobs of the worker's own bucket; with --local every job, on a fleet's machine what its role may reach."""
    if connection.is_local:
        return JobPolicy.of_this_machine([ANY_BUCKET], options.work_dir, local_work_dir(os.environ))
    accepted = [parse_s3_uri(uri) for uri in options.accepted]
    if GROUP_VARIABLE in os.environ:
        return JobPolicy.of_fleet(connection.default_bucket(), accepted, options.work_dir)
    return JobPolicy.of_project([Storage(bucket=connection.default_bucket()), *accepted], options.work_dir)


def drain_on_signal() -> threading.Event:
    """An event set by the signal that `worker drain` sends."""
    drain = threading.Event()

    def request(_number: int, _frame: object) -> None:
        drain.set()
        _echo("draining: the job in hand is finished, no other is claimed")

    signal.signal(DRAIN_SIGNAL, request)
    return drain


def stop_on_signal() -> threading.Event:
    """An event set by the first SIGINT or SIGTERM, or when the terminal is closed."""
    stop = threading.Event()

    def request(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _echo(
            "stopping: the trainer writes a checkpoint first (again to end at once: two minutes later "
            "`layoutlm-cli rescue` requeues the job)"
        )

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, request)
    return stop


def _echo(text: str) -> None:
    with suppress(OSError, RuntimeError):  # stderr is closed, or being written to at this moment
        say(text, err=True)


def log_to_stderr() -> None:
    """Log this package's messages to stderr, and those of no other library."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("receipt_layoutlm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def work_here(connection: Connection, job: Job) -> EndedJob:
    """Claim and run one job in the foreground."""
    log_to_stderr()
    own = [ANY_BUCKET] if connection.is_local or job.storage is None else [job.storage]
    chosen = job.job_config.get("work_dir")
    work_dir = Path(str(chosen)) if chosen else given_work_dir(os.environ)
    policy = JobPolicy.of_this_machine(own, work_dir, local_work_dir(os.environ))
    with ProgressView() as view, open_context(connection, view, policy, WorkerOptions()) as ctx:
        lease = ctx.queue.claim_job(job.job_id, ctx.identity.worker_id, machine=ctx.machine)
        if lease is None:
            raise click.ClickException(
                f"job {job.job_id} is not free: another worker has claimed it; "
                f"`layoutlm-cli job wait {job.job_id[:8]}` waits for it"
            )
        with ctx.host.busy(job.job_id):
            run_job(ctx, lease)
        ctx.alerts.wait()
        return _ended(ctx, job.job_id)


def work_queue(connection: Connection, options: WorkerOptions) -> list[EndedJob]:
    """Claim and run jobs of a queue until idle, stopped or drained; writes the reason to the ended file."""
    policy, job_ids = policy_of_worker(connection, options), list[str]()
    with ProgressView() as view, open_context(connection, view, policy, options, job_ids.append) as ctx:
        run_worker(ctx, options.claims)
        if options.ended_file is not None:
            options.ended_file.write_text(ctx.end_reason)
        return [_ended(ctx, job_id) for job_id in job_ids]


def _ended(ctx: WorkerContext, job_id: str) -> EndedJob:
    job = ctx.queue.client.get_job(job_id, consistent=True)
    try:
        folder = ctx.policy.work_dir(from_document(job.job_config)) / safe_name(job.name)
    except ConfigError:  # the attempt ended before it had one
        return EndedJob(job, None)
    return EndedJob(job, folder if folder.exists() else None)
