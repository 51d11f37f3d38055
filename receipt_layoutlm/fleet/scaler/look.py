"""The scaler: one look rescues dead workers' jobs, counts what waits, and raises the capacity of its groups.

It never lowers one: an idle machine ends itself. What a look did is returned; scaler_lambda.py is its entry on AWS.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import FleetPause, FleetRows, Job, JobQueue, StoreError, utcnow
from receipt_layoutlm.fleet.scaler.backlog import Hints, QueueWork, read_work, waiting_since
from receipt_layoutlm.fleet.scaler.costs import FleetInstance, Spent, meter, midnight_of
from receipt_layoutlm.fleet.scaler.group import (
    Group,
    GroupFigures,
    GroupMissing,
    Launch,
    NotSettled,
    desired_workers,
    next_trial_at,
)

log = logging.getLogger(__name__)

FRESH = timedelta(seconds=20)  # figures older than this may be of another fleet by now: they are read again
READINGS = 3
LAST_METERED = timedelta(minutes=15)  # so long after the last metering a machine may have ended that is not paid yet
LISTED_AFTER = timedelta(minutes=2)  # a machine that the group started before and does not list has ended
TROUBLE = (StoreError, ClientError, BotoCoreError, GroupMissing)


@dataclass(frozen=True)
class Scaler:
    """What a look works with. `instances` and `price` meter the fleet; a limit of 0 dollars a day is none."""

    fleet: str
    queue: JobQueue
    rows: FleetRows
    groups: Sequence[Group]
    slots: int
    instances: Callable[[], Sequence[FleetInstance]]
    price: Callable[[FleetInstance], float | None]
    max_cost_per_day: float = 0.0
    now: Callable[[], datetime] = utcnow


@dataclass(frozen=True)
class GroupLook:
    """What was found and done in one group: `raised_to` a capacity, or left as it was for a reason."""

    group: str
    claimable: int = 0  # at most one more than the group has places for
    running: int = 0
    machines: int = 0
    oldest_seconds: float = 0.0  # how long the job that waits longest has been due
    raised_to: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Costs:
    """What is left of the day's dollars (None: no limit), what was metered, and why a limit cannot be kept."""

    budget: float | None = None
    spent: Spent | None = None
    oldest_instance_hours: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class Look:
    """One look at the whole fleet."""

    rescued: Sequence[Job]
    groups: Sequence[GroupLook]
    costs: Costs
    errors: Sequence[str]


def look(scaler: Scaler, named: Sequence[str] = ()) -> Look:
    """Rescue, meter, then decide for each group. What fails is told in `errors` and stops nothing else.

    `named` are ids of jobs that just became claimable: they count even before the queue's index lists them.
    """
    errors: list[str] = []
    held = _tried(scaler.queue.held, "running jobs", errors) or []
    # first, so that the job of a dead machine counts
    rescued = _tried(lambda: scaler.queue.rescue(held), "rescue", errors) or []
    read = [(group, _tried(group.read, group.name, errors)) for group in scaler.groups]
    reached = [(group, figures) for group, figures in read if figures is not None]
    has_machines = any(figures.instances for _, figures in reached)
    costs = _tried(lambda: _costs(scaler, has_machines), "metering", errors) or _unknown_costs(scaler)
    hints = Hints(held, rescued, named)
    looks = [_guarded_look(scaler, group, figures, costs, hints, errors) for group, figures in reached]
    if costs.spent is None and any(each.raised_to is not None for each in looks):
        _tried(lambda: _begin_metering(scaler), "metering", errors)
    if any(each.reason == costs.trouble != "" for each in looks):
        errors.append(costs.trouble)  # nothing starts until somebody sees to it
    return Look(rescued, looks, costs, errors)


T = TypeVar("T")


def _tried(call: Callable[[], T], what: str, errors: list[str]) -> T | None:
    try:
        return call()
    except TROUBLE as trouble:
        errors.append(f"{what}: {trouble}")
        log.error("%s: %s", what, trouble)
        return None


def _costs(scaler: Scaler, has_machines: bool) -> Costs:
    """Meter the machines; pause the fleet until midnight (UTC) when the day's limit is reached."""
    now, limit = scaler.now(), scaler.max_cost_per_day
    stored = scaler.rows.get_cost(scaler.fleet, now.date())
    is_idle = stored.metered_until is None or now - stored.metered_until > LAST_METERED
    if is_idle and not has_machines:  # EC2 is asked nothing
        return Costs(limit - stored.dollars if limit else None)
    instances = scaler.instances()
    spent = meter(scaler.rows, stored, instances, scaler.price, now)
    hours = max(((now - each.launched_at) / timedelta(hours=1) for each in instances if not each.ended_at), default=0.0)
    if not limit:
        return Costs(spent=spent, oldest_instance_hours=hours)
    if spent.dollars >= limit:
        _pause(scaler, spent.dollars, now)
    # a limit that nobody would notice to be reached is not one
    unknown = f"the price of {', '.join(spent.unpriced)} is not known: give a price table" if spent.unpriced else ""
    return Costs(limit - spent.dollars, spent, hours, unknown)


def _begin_metering(scaler: Scaler) -> None:
    """So that machines are paid for which come and go between two looks."""
    now = scaler.now()
    scaler.rows.add_cost(scaler.rows.get_cost(scaler.fleet, now.date()), 0.0, now)


def _unknown_costs(scaler: Scaler) -> Costs:
    return Costs(trouble="what the fleet cost today is not known") if scaler.max_cost_per_day else Costs()


def _pause(scaler: Scaler, dollars: float, now: datetime) -> None:
    """Workers read this row before they claim; each finishes the job in hand. A pause that is longer stands."""
    pause, tomorrow = scaler.rows.get_pause(scaler.fleet), midnight_of(now) + timedelta(days=1)
    if pause is None or pause.until < tomorrow:
        reason = f"{dollars:.2f} dollars were spent on {now.date()}, of {scaler.max_cost_per_day:.2f} a day"
        scaler.rows.put_pause(FleetPause(fleet=scaler.fleet, reason=reason, paused_at=now, until=tomorrow))


def _guarded_look(
    scaler: Scaler, group: Group, figures: GroupFigures, costs: Costs, hints: Hints, errors: list[str]
) -> GroupLook:
    seen = _tried(lambda: _look_at(scaler, group, figures, costs, hints), group.name, errors)
    return seen or GroupLook(group.name, reason=errors[-1])


def _look_at(scaler: Scaler, group: Group, figures: GroupFigures, costs: Costs, hints: Hints) -> GroupLook:
    most = group.maximum * scaler.slots + 1
    for _ in range(READINGS):
        work = read_work(scaler.queue, group.queue, figures.instances, most, hints, scaler.now())
        since = min(
            (waiting_since(scaler.queue.client, job, job.attempt) for job in work.waiting), default=work.read_at
        )
        waited = max(0.0, (work.read_at - since).total_seconds())
        seen = GroupLook(group.name, len(work.waiting), work.running, len(figures.instances), waited)
        wanted = desired_workers(
            len(work.waiting), work.running, scaler.slots, min(group.maximum, figures.largest), costs.budget
        )
        reason = _reason_not_to(scaler, figures, work, wanted, costs)
        if not reason:
            wanted, reason = _on_trial(scaler, group, figures, since, wanted, work.read_at)
        if reason:
            return replace(seen, reason=reason)
        if scaler.now() - min(work.read_at, figures.read_at) <= FRESH:
            return _raised(group, wanted, seen)
        figures = group.read()
    return replace(seen, reason="the figures were stale each time they were read")


def _reason_not_to(scaler: Scaler, figures: GroupFigures, work: QueueWork, wanted: int, costs: Costs) -> str:
    """Why no machine is added; empty when one is."""
    if not work.waiting:
        return "nothing waits"
    if figures.unsettled:
        return figures.unsettled
    if costs.budget is not None and costs.budget <= 0:
        return "today's costs have reached their limit"
    if wanted <= figures.desired:
        return f"{wanted} machines are wanted and {figures.desired} ordered"
    pause = scaler.rows.get_pause(scaler.fleet)
    return f"paused until {pause.until:%Y-%m-%d %H:%M} UTC: {pause.reason}" if pause else costs.trouble


def _on_trial(
    scaler: Scaler, group: Group, figures: GroupFigures, since: datetime, wanted: int, now: datetime
) -> tuple[int, str]:
    """Where machines that started since the oldest job was due have ended without ever taking a job, the next one is
    tried alone, later and later, until one takes a job: what they run may be broken."""
    launches = _without_claim(scaler, group, since)
    there = [launch for launch in launches if launch.instance_id in figures.instances]
    gone = [each.started_at for each in launches if each not in there and each.started_at < now - LISTED_AFTER]
    trial_at = next_trial_at(gone)
    if trial_at is None:
        return wanted, ""
    if there:
        return figures.desired, "machines ended without taking a job: the ones that are there come first"
    if now < trial_at:
        return figures.desired, f"machines ended without taking a job: the next one is tried at {trial_at:%H:%M} UTC"
    return min(wanted, figures.desired + 1), ""


def _without_claim(scaler: Scaler, group: Group, since: datetime) -> list[Launch]:
    """Starts of machines that have taken no job, later than the last start of one that has."""
    found = []
    for launch in sorted(group.launches(since), key=lambda each: each.started_at, reverse=True):
        if scaler.rows.has_claimed(scaler.fleet, launch.instance_id):
            break
        found.append(launch)
    return found


def _raised(group: Group, wanted: int, seen: GroupLook) -> GroupLook:
    try:
        group.raise_to(wanted)
    except NotSettled as busy:
        return replace(seen, reason=f"the group has not settled: {busy}")
    return replace(seen, raised_to=wanted)
