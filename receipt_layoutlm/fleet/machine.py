"""What a worker knows of the machine it runs on: its name there, price, boot, disk, and the other workers.

Whether a fleet takes jobs at the moment, as a worker asks before each claim.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import boto3
from botocore.config import Config

from receipt_dynamo import FleetRows, Job, Machine, StoreError, utcnow
from receipt_layoutlm.config import DEFAULT_WORK_DIR
from receipt_layoutlm.fleet import names as fleet_names
from receipt_layoutlm.fleet.scaler.backlog import waiting_since
from receipt_layoutlm.fleet.scaler.prices import parse_prices, price_per_hour, spot_prices
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.host.disk import DiskWatch
from receipt_layoutlm.worker.host.registry import Registration, registered, workers_dir
from receipt_layoutlm.worker.host.spot import InstanceMetadata, SpotWatch

log = logging.getLogger(__name__)

PRICES_VARIABLE = "LAYOUTLM_PRICES"  # the fleet's price table, in JSON
HUB_VARIABLE = "HF_HOME"
UPTIME = Path("/proc/uptime")
QUICK = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})  # no reason to claim late


@dataclass(frozen=True)
class MachineOptions:
    """What a worker was told of its machine. What it does for a fleet is done only where one is named."""

    fleet: str | None = None
    slot: int = 0
    price_per_hour: float | None = None  # US dollars; on a fleet's machine it is looked up
    min_free_disk: float = 0.0  # GB; 0 leaves the disk alone


@contextmanager
def on_this_machine(
    place: Workplace, options: MachineOptions, metadata: InstanceMetadata | None
) -> Iterator[Workplace]:
    """The workplace of a registered worker, with what its machine is and what it may soon do; `metadata` is EC2's.

    The handler of DRAIN_SIGNAL has to stand before.
    """
    place = _identified(place, options, metadata)
    with ExitStack() as stack:
        registration = stack.enter_context(registered(workers_dir(place.environment), place.worker_id))
        place = replace(
            place,
            spot=None if metadata is None else stack.enter_context(SpotWatch(metadata)),
            busy=registration.busy,
            disk=_disk_watch(place, options, registration),
        )
        yield place if options.fleet is None else _of_fleet(place, options.fleet, registration)


def _identified(place: Workplace, options: MachineOptions, metadata: InstanceMetadata | None) -> Workplace:
    """What this machine is; in a fleet the worker is called after it and knows its price."""
    place = replace(place, price_per_hour=lambda: options.price_per_hour)
    if metadata is None:
        return place
    machine = metadata.identity()
    place = replace(place, machine=machine)
    if options.fleet is None:
        return place
    if (instance_id := metadata.instance_id()) is not None:
        place = replace(place, worker_id=fleet_names.worker_id(instance_id, options.slot))
    if options.price_per_hour is None and machine.instance_type is not None:
        zone = metadata.zone() or machine.region or ""
        place = replace(place, price_per_hour=_found_price(machine, machine.instance_type, zone, place.environment))
    return place


def _found_price(
    machine: Machine, instance_type: str, zone: str, environ: Mapping[str, str]
) -> Callable[[], float | None]:
    """US dollars an hour, of the fleet's table or as the scaler finds them out too."""
    table = parse_prices(environ.get(PRICES_VARIABLE, ""))
    ask = spot_prices(boto3.client("ec2", region_name=machine.region, config=QUICK), utcnow)
    return partial(price_per_hour, instance_type, bool(machine.spot), zone, table, ask)


def _disk_watch(place: Workplace, options: MachineOptions, registration: Registration) -> DiskWatch | None:
    if not options.min_free_disk:
        return None
    hub = place.environment.get(HUB_VARIABLE)
    caches = [Path(hub) / "hub"] if hub else []  # huggingface_hub keeps what it downloads there
    work_dir, min_free = place.work_dir or Path(DEFAULT_WORK_DIR), int(options.min_free_disk * 1e9)
    return DiskWatch(work_dir, min_free, caches, registration.jobs_in_hand)


def _of_fleet(place: Workplace, fleet: str, registration: Registration) -> Workplace:
    """The same on a fleet's machine: it can be paused, ends as a whole, came up for a job, and tells of its claims."""
    instance_id = fleet_names.instance_of(place.worker_id)
    uptime, ready_at = uptime_seconds() if instance_id else None, place.now()  # a laptop came up for no job
    rows = FleetRows(place.queue.client)
    is_noted = False

    @contextmanager
    def busy(job_id: str) -> Iterator[None]:
        nonlocal is_noted
        with registration.busy(job_id):
            is_noted = is_noted or _note_claim(rows, fleet, instance_id)
            yield

    def boot_seconds(job: Job) -> float | None:
        if uptime is None or not registration.is_first_claim:
            return None
        try:
            return boot_of_wait(uptime, ready_at, waiting_since(place.queue.client, job, job.attempt - 1))
        except StoreError as error:
            log.warning("how long attempt %d waited for the boot is not known: %s", job.attempt, error)
            return None

    return replace(
        place,
        is_paused=PauseWatch(rows, fleet),
        busy=busy,
        others_busy=registration.others_busy,
        boot_seconds=boot_seconds,
    )


def _note_claim(rows: FleetRows, fleet: str, instance_id: str | None) -> bool:
    """So that the scaler takes this machine for a sound one after its end; not worth a job. Whether it knows now."""
    try:
        if instance_id is not None:
            rows.note_claim(fleet, instance_id)
    except StoreError as error:
        log.warning("the scaler does not know yet that this machine took a job: %s", error)
        return False
    return True


def uptime_seconds(proc_uptime: Path = UPTIME) -> float | None:
    """Since this machine was started; None where the system does not say so."""
    try:
        return float(proc_uptime.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def boot_of_wait(uptime: float, ready_at: datetime, free_at: datetime) -> float | None:
    """Seconds of a job's wait in which its machine, up for `uptime` when its worker was ready, came up.

    None for a job that became free later: the machine was there before it.
    """
    waited = (ready_at - free_at).total_seconds()
    return min(uptime, waited) if waited > 0 else None


class PauseWatch:
    """Reads the pause of a fleet, and says once why there is one and once that it is over."""

    def __init__(self, rows: FleetRows, fleet: str) -> None:
        self._rows = rows
        self._fleet = fleet
        self._reason: str | None = None  # the last that was said

    def __call__(self) -> bool:
        """Raises StoreUnavailable."""
        pause = self._rows.get_pause(self._fleet)
        reason = None if pause is None else pause.reason
        if reason != self._reason:
            if pause is None:
                log.info("fleet %s is no longer paused", self._fleet)
            else:
                log.warning("fleet %s is paused until %s: %s", self._fleet, f"{pause.until:%F %H:%M} UTC", reason)
            self._reason = reason
        return pause is not None
