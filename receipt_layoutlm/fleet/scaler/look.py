"""One look of the scaler: rescue dead workers' jobs, meter the machines, and raise the capacity of the groups.

The capacity is never lowered: idle machines terminate themselves. lambda_entry.py is the entry on AWS.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import FleetPause, FleetRows, Job, JobQueue, Lease, StoreError
from receipt_layoutlm.fleet.scaler.backlog import Backlog, KnownJobs, read_backlog
from receipt_layoutlm.fleet.scaler.costs import FleetInstance, Spent, meter, midnight_of
from receipt_layoutlm.fleet.scaler.group import (
    Group,
    GroupFigures,
    GroupMissing,
    NotSettled,
    desired_workers,
    next_trial_at,
)

log = logging.getLogger(__name__)

FRESH = timedelta(seconds=20)  # older figures are read again: the group may have changed
READINGS = 3
LAST_METERED = timedelta(minutes=15)  # a machine may have ended unmetered until this long after the last metering
LISTED_AFTER = timedelta(minutes=2)  # a machine launched earlier that the group does not list has ended
MOST_SIGHTINGS = 1000  # of silent leases, some 130 bytes each; the rest wait for a later look
TROUBLE = (StoreError, ClientError, BotoCoreError, GroupMissing)


@dataclass(frozen=True)
class Scaler:
    """Settings and sources of a look. `instances` and `price` meter the fleet; 0 dollars a day is no limit."""

    fleet: str
    queue: JobQueue
    rows: FleetRows
    groups: Sequence[Group]
    slots: int
    instances: Callable[[], Sequence[FleetInstance]]
    price: Callable[[FleetInstance], float | None]
    now: Callable[[], datetime]  # the server's time
    max_cost_per_day: float = 0.0


@dataclass(frozen=True)
class GroupLook:
    """Figures of one group, and either the capacity that it was raised to, or the reason why it was not raised."""

    group: str
    claimable: int = 0  # at most one more than the group has slots
    running: int = 0
    machines: int = 0
    oldest_seconds: float = 0.0  # time since the longest-waiting job became due
    raised_to: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Costs:
    """Rest of the day's dollars (None: no limit), metered cost, and the reason why a limit cannot be enforced."""

    budget: float | None = None
    spent: Spent | None = None
    oldest_instance_hours: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class Look:
    """Results of one look at the whole fleet."""

    rescued: Sequence[Job]
    groups: Sequence[GroupLook]
    costs: Costs
    errors: Sequence[str]
    unreadable: int = 0  # rows that were passed over


def look(scaler: Scaler, named: Sequence[str] = ()) -> Look:
    """Rescue, meter, then decide for each group. Failures are collected in `errors`, and do not stop the rest.

    `named` are ids of jobs that just became claimable: they count even before the queue's index lists them.
    """
    errors: list[str] = []
    scaler.queue.client.unreadable.clear()
    held = _tried(scaler.queue.held, "running jobs", errors) or []
    # first, so that the jobs of dead machines count as waiting
    rescued = _tried(lambda: _rescue(scaler, held), "rescue", errors) or []
    read = [(group, _tried(group.read, group.name, errors)) for group in scaler.groups]
    reached = [(group, figures) for group, figures in read if figures is not None]
    has_machines = any(figures.instances for _, figures in reached)
    costs = _tried(lambda: _meter(scaler, has_machines), "metering", errors)
    if costs is None:
        costs = Costs(trouble="today's cost of the fleet is unknown") if scaler.max_cost_per_day else Costs()

    known = KnownJobs(held, rescued, named)
    looks = []
    for group, figures in reached:
        seen = _tried(partial(_look_at, scaler, group, figures, costs, known), group.name, errors)
        looks.append(seen or GroupLook(group.name, reason=errors[-1]))
    if costs.spent is None and any(each.raised_to is not None for each in looks):
        # so that machines are metered that start and end between two looks
        now = scaler.now()
        _tried(
            lambda: scaler.rows.add_cost(scaler.rows.get_cost(scaler.fleet, now.date()), 0.0, now), "metering", errors
        )
    if any(each.reason == costs.trouble != "" for each in looks):
        errors.append(costs.trouble)  # no machine starts until it is fixed
    return Look(rescued, looks, costs, errors, len(scaler.queue.client.unreadable))


T = TypeVar("T")


def _tried(call: Callable[[], T], subject: str, errors: list[str]) -> T | None:
    try:
        return call()
    except TROUBLE as error:
        errors.append(f"{subject}: {error}")
        log.error("%s: %s", subject, error)
        return None


def _rescue(scaler: Scaler, held: Sequence[tuple[Job, Lease]]) -> Sequence[Job]:
    """Rescue by what this look and the ones before it saw, which may have run elsewhere: the row keeps silent leases.

    A look at leases that are all renewed in time costs nothing; one at silent ones 1 read unit and 1 write unit.
    """
    silent_after = timedelta(seconds=scaler.queue.timing.lease_seconds - 2 * scaler.queue.timing.renew_seconds)
    now = scaler.now()
    silent = {lease.job_id for _, lease in held if lease.expires_at and lease.expires_at < now + silent_after}
    if not silent:
        return []
    kept = scaler.rows.get_sightings(scaler.fleet)
    scaler.queue.watch.recall(kept)
    rescued = scaler.queue.rescue(held)
    moved = {job.job_id for job in rescued}
    seen = [each for each in scaler.queue.watch.sightings() if each.job_id in silent - moved][:MOST_SIGHTINGS]
    if seen != list(kept):
        scaler.rows.put_sightings(scaler.fleet, seen)
    return rescued


def _meter(scaler: Scaler, has_machines: bool) -> Costs:
    """Meter the machines; pause the fleet until midnight (UTC) when the day's limit is reached."""
    now, limit = scaler.now(), scaler.max_cost_per_day
    stored = scaler.rows.get_cost(scaler.fleet, now.date())
    is_idle = stored.metered_until is None or now - stored.metered_until > LAST_METERED
    if is_idle and not has_machines:  # no request to EC2
        return Costs(limit - stored.dollars if limit else None)
    instances = scaler.instances()
    spent = meter(scaler.rows, stored, instances, scaler.price, now)
    hours = max(((now - each.launched_at) / timedelta(hours=1) for each in instances if not each.ended_at), default=0.0)
    if not limit:
        return Costs(spent=spent, oldest_instance_hours=hours)
    if spent.dollars >= limit:
        # workers read the pause before they claim, and finish their current job; a longer pause is kept
        pause, tomorrow = scaler.rows.get_pause(scaler.fleet), midnight_of(now) + timedelta(days=1)
        if pause is None or pause.until < tomorrow:
            reason = f"{spent.dollars:.2f} dollars were spent on {now.date()}, of {limit:.2f} a day"
            scaler.rows.put_pause(FleetPause(fleet=scaler.fleet, reason=reason, paused_at=now, until=tomorrow))
    # without all prices the limit cannot be enforced
    unpriced = ", ".join(spent.unpriced)
    trouble = f"the price of {unpriced} is unknown: give a price table" if unpriced else ""
    return Costs(limit - spent.dollars, spent, hours, trouble)


def _look_at(scaler: Scaler, group: Group, figures: GroupFigures, costs: Costs, known: KnownJobs) -> GroupLook:
    maximum = group.maximum * scaler.slots + 1
    for _ in range(READINGS):
        backlog = read_backlog(scaler.queue, group.queue, figures.instances, maximum, known, scaler.now())
        oldest = min(
            (scaler.queue.client.claimable_since(job, job.attempt) for job in backlog.waiting), default=backlog.read_at
        )
        seen = GroupLook(
            group=group.name,
            claimable=len(backlog.waiting),
            running=backlog.running,
            machines=len(figures.instances),
            oldest_seconds=max(0.0, (backlog.read_at - oldest).total_seconds()),
        )
        target = desired_workers(
            len(backlog.waiting), backlog.running, scaler.slots, min(group.maximum, figures.largest), costs.budget
        )
        reason = _obstacle(scaler, figures, backlog, target, costs)
        if not reason:
            target, reason = _limited_to_trial(scaler, group, figures, oldest, target, backlog.read_at)
        if reason:
            return replace(seen, reason=reason)
        if scaler.now() - min(backlog.read_at, figures.read_at) <= FRESH:
            try:
                group.raise_to(target)
            except NotSettled as busy:
                return replace(seen, reason=f"the group has not settled: {busy}")
            return replace(seen, raised_to=target)
        figures = group.read()
    return replace(seen, reason="the figures were stale at each reading")


def _obstacle(scaler: Scaler, figures: GroupFigures, backlog: Backlog, target: int, costs: Costs) -> str:
    """The reason why the capacity is not raised; empty when it is."""
    if not backlog.waiting:
        return "no job is waiting"
    if figures.unsettled:
        return figures.unsettled
    if costs.budget is not None and costs.budget <= 0:
        return "today's cost has reached its limit"
    if target <= figures.desired:
        return f"machines needed: {target}, desired capacity: {figures.desired}"
    pause = scaler.rows.get_pause(scaler.fleet)
    return f"paused until {pause.until:%Y-%m-%d %H:%M} UTC: {pause.reason}" if pause else costs.trouble


def _limited_to_trial(
    scaler: Scaler, group: Group, figures: GroupFigures, since: datetime, target: int, now: datetime
) -> tuple[int, str]:
    """Launch one machine at a time, at growing intervals, after machines that ended without claiming a job.

    Only launches since the oldest job became due count, and only those after the last machine that claimed a job.
    What the machines run may be broken. Returns the capacity, or the reason why it is not raised.
    """
    without_claim = []
    for launch in sorted(group.launches(since), key=lambda launch: launch.started_at, reverse=True):
        if scaler.rows.has_claimed(scaler.fleet, launch.instance_id):
            break
        without_claim.append(launch)
    alive = [launch for launch in without_claim if launch.instance_id in figures.instances]
    old = [launch for launch in without_claim if launch.started_at < now - LISTED_AFTER]
    trial_at = next_trial_at([launch.started_at for launch in old if launch not in alive])
    if trial_at is None:
        return target, ""
    if alive:
        return figures.desired, "machines ended without claiming a job: waiting for the running ones"
    if now < trial_at:
        return figures.desired, f"machines ended without claiming a job: the next launch is at {trial_at:%H:%M} UTC"
    return min(target, figures.desired + 1), ""
