"""Machines that do nothing and do not end: each is reported unhealthy, one a look, and its group terminates it."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from receipt_layoutlm.fleet.names import instance_of
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.figures import Costs, GroupLook, Scaler
from receipt_layoutlm.fleet.scaler.group import Group, GroupFigures

MARGIN: Final = timedelta(minutes=10)  # in which a machine terminates itself, with all its fallbacks
MOST_ASKED: Final = 10  # machines whose last claim a look reads


def replace_idle(scaler: Scaler, groups: Sequence[tuple[Group, GroupFigures, GroupLook]], costs: Costs) -> str | None:
    """Report the oldest such machine unhealthy, after the capacities were set; returns its id. Raises StoreError.

    A machine ends itself when it is not ready by the boot deadline, or idle. One that is older than both together and
    a margin, has no lease, and has not claimed or ended a job for the idle time and the margin, hangs.
    """
    now, times = scaler.now(), scaler.times
    oldest_start = now - times.boot_deadline - times.idle - MARGIN
    old = [each for each in costs.machines if each.ended_at is None and each.launched_at < oldest_start]
    old.sort(key=lambda machine: machine.launched_at)
    for group, machine in list(_without_lease(groups, old))[:MOST_ASKED]:
        active_at = scaler.rows.claimed_at(scaler.fleet, machine.instance_id)
        if active_at is not None and now - active_at <= times.idle + MARGIN:
            continue
        held = {instance_of(lease.worker_id) for _, lease in scaler.queue.held()}  # it may have claimed a job just now
        if machine.instance_id not in held:
            group.replace(machine.instance_id)
            return machine.instance_id
    return None


def _without_lease(
    groups: Sequence[tuple[Group, GroupFigures, GroupLook]], machines: Sequence[FleetInstance]
) -> Iterator[tuple[Group, FleetInstance]]:
    for machine in machines:
        for group, figures, seen in groups:
            if machine.instance_id in figures.instances - seen.busy:
                yield group, machine
