"""Machines that do nothing and do not end: each is reported unhealthy, one a look, and its group terminates it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from receipt_layoutlm.fleet.names import instance_of
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.figures import Costs, GroupLook, Scaler
from receipt_layoutlm.fleet.scaler.group import Group, GroupChanged, GroupFigures, NotSettled

LookedAt = tuple[Group, GroupFigures, GroupLook]

MARGIN: Final = timedelta(minutes=10)  # in which a machine terminates itself, with all its fallbacks
MOST_ASKED: Final = 10  # machines whose last claim a look reads


def replace_idle(scaler: Scaler, groups: Sequence[LookedAt], costs: Costs) -> str | None:
    """Report the oldest such machine unhealthy, once the capacity has no place for it; returns its id.

    Raises StoreError, ClientError.

    A machine ends itself when it is not ready by the boot deadline, or idle. One that is older than both together and
    a margin, has no lease, and has not claimed or ended a job for the idle time and the margin, hangs.
    """
    now, times = scaler.now(), scaler.times
    oldest_start = now - times.boot_deadline - times.idle - MARGIN
    old = [each for each in costs.machines if each.ended_at is None and each.launched_at < oldest_start]
    old.sort(key=lambda machine: machine.launched_at)
    for looked_at, machine in list(_without_lease(groups, old))[:MOST_ASKED]:
        active_at = scaler.rows.claimed_at(scaler.fleet, machine.instance_id)
        if active_at is not None and now - active_at <= times.idle + MARGIN:
            continue
        held = {instance_of(lease.worker_id) for _, lease in scaler.queue.held()}  # it may have claimed a job just now
        if machine.instance_id not in held and _makes_room(*looked_at):
            looked_at[0].replace(machine.instance_id)
            return machine.instance_id
    return None


def _makes_room(group: Group, figures: GroupFigures, seen: GroupLook) -> bool:
    """Lower the capacity unless it is low enough already, so that the group launches no machine for the one that ends.

    A lower capacity than there are machines ends one that is starting: then it waits. So it does where the group is
    being changed. A look that finds a job without a machine orders one.
    """
    set_to = [capacity for capacity in (seen.raised_to, seen.lowered_to) if capacity is not None]
    desired, there = set_to[0] if set_to else figures.desired, len(figures.instances)
    if desired < there:
        return True
    if desired == there and figures.starting:
        return False
    try:
        group.lower_to(desired - 1, replace(figures, desired=desired))
    except (GroupChanged, NotSettled):
        return False
    return True


def _without_lease(
    groups: Sequence[LookedAt], machines: Sequence[FleetInstance]
) -> Iterator[tuple[LookedAt, FleetInstance]]:
    for machine in machines:
        for looked_at in groups:
            _, figures, seen = looked_at
            if machine.instance_id in figures.instances - seen.busy:
                yield looked_at, machine
