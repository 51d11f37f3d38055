"""One look of the scaler: rescue dead workers' jobs, meter the machines, and set the capacity of the groups.

The capacity is raised for jobs that wait, and lowered to the busy machines, which are protected, where no machine may
be started: idle machines terminate themselves, and a group replaces those that only switch off. lock.py lets one look
run at a time; lambda_entry.py is the entry on AWS.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import FleetPause, Job, Lease, StoreError
from receipt_layoutlm.fleet.scaler.backlog import KnownJobs
from receipt_layoutlm.fleet.scaler.costs import meter, midnight_of
from receipt_layoutlm.fleet.scaler.figures import Costs, GroupLook, Look, Scaler
from receipt_layoutlm.fleet.scaler.group import GroupMissing
from receipt_layoutlm.fleet.scaler.idle import replace_idle
from receipt_layoutlm.fleet.scaler.served import OtherFleet, keep, move_waiting, recall, tell_waiting
from receipt_layoutlm.fleet.scaler.sizing import look_at

log = logging.getLogger(__name__)

LAST_METERED = timedelta(minutes=15)  # a machine may have ended unmetered until this long after the last metering
MOST_SIGHTINGS = 1000  # of silent leases, some 130 bytes each; the rest wait for a later look
TROUBLE = (StoreError, ClientError, BotoCoreError, GroupMissing, OtherFleet)


def look(scaler: Scaler, named: Sequence[str] = ()) -> Look:
    """Rescue, meter, then decide for each group. Failures are collected in `errors`, and do not stop the rest.

    `named` are ids of jobs that just became claimable: they count even before the queue's index lists them.
    """
    errors: list[str] = []
    scaler.queue.client.unreadable.clear()
    held = _tried(scaler.queue.held, "running jobs", errors)
    # first, so that the jobs of dead machines count as waiting
    rescued = _tried(lambda: _rescue(scaler, held or []), "rescue", errors) or []
    states = [(group, _tried(partial(recall, scaler, group), group.name, errors)) for group in scaler.groups]
    served = [state for _, state in states if state is not None]
    read = [(state, _tried(state.group.read, state.group.name, errors)) for state in served]
    reached = [(state, figures) for state, figures in read if figures is not None]
    has_machines = any(figures.instances for _, figures in reached)
    costs = _tried(lambda: _meter(scaler, has_machines), "metering", errors)
    if costs is None:
        costs = Costs(trouble="today's cost of the fleet is unknown") if scaler.max_cost_per_day else Costs()

    looks, queues, looked_at = list[GroupLook](), [], []
    for state, figures in reached:
        group, names = state.group, [*state.ordered_just_now(scaler), *named]
        if held is None:  # which machines are busy is not known
            looks.append(GroupLook(group.name, reason=errors[0]))
            continue
        known = KnownJobs(held, rescued, names)
        seen = _tried(partial(look_at, scaler, group, figures, costs, known), group.name, errors)
        looks.append(seen or GroupLook(group.name, reason=errors[-1]))
        if seen is None:
            continue
        looked_at.append((group, figures, seen))
        if (kept := _tried(partial(keep, scaler, state, seen), group.name, errors)) is not None:
            queues.append((seen, kept))
            _tried(partial(tell_waiting, scaler, seen, kept), "alerts", errors)
    moved = _tried(lambda: move_waiting(scaler, queues), "on-demand", errors) or []
    replaced = _tried(lambda: replace_idle(scaler, looked_at, costs), "idle machines", errors)
    if costs.spent is None and any(each.raised_to is not None for each in looks):
        # so that machines are metered that start and end between two looks
        now = scaler.now()
        _tried(
            lambda: scaler.rows.add_cost(scaler.rows.get_cost(scaler.fleet, now.date()), 0.0, now), "metering", errors
        )
    if any(each.reason == costs.trouble != "" for each in looks):
        errors.append(costs.trouble)  # no machine starts until it is fixed
    return Look(rescued, looks, costs, errors, moved, replaced, len(scaler.queue.client.unreadable))


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
    scaler.alerts.rescued(rescued)
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
        return Costs(None, spent, instances, hours)
    if spent.dollars >= limit:
        # workers read the pause before they claim, and finish their current job; a longer pause is kept
        pause, tomorrow = scaler.rows.get_pause(scaler.fleet), midnight_of(now) + timedelta(days=1)
        if pause is None or pause.until < tomorrow:
            reason = f"{spent.dollars:.2f} dollars were spent on {now.date()}, of {limit:.2f} a day"
            scaler.rows.put_pause(FleetPause(fleet=scaler.fleet, reason=reason, paused_at=now, until=tomorrow))
    # without all prices the limit cannot be enforced
    unpriced = ", ".join(spent.unpriced)
    trouble = f"the price of {unpriced} is unknown: give a price table" if unpriced else ""
    return Costs(limit - spent.dollars, spent, instances, hours, trouble)
