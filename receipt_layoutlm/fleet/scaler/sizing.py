"""The capacity of one group: raised for jobs that wait, lowered to the busy machines where none may be started."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from receipt_layoutlm.fleet.scaler.backlog import Backlog, KnownJobs, read_backlog
from receipt_layoutlm.fleet.scaler.figures import Costs, GroupLook, Scaler
from receipt_layoutlm.fleet.scaler.group import Group, GroupChanged, GroupFigures, Launch, NotSettled
from receipt_layoutlm.fleet.scaler.wish import Wish, desired_workers, enough, none_more, trial

log = logging.getLogger(__name__)

FRESH = timedelta(seconds=20)  # older figures are read again: the group may have changed
READINGS = 3
MOST_TRIED = 50  # launches without a claim that a look asks about


def look_at(scaler: Scaler, group: Group, figures: GroupFigures, costs: Costs, known: KnownJobs) -> GroupLook:
    """Set the capacity of one group. Raises StoreError, ClientError, GroupMissing."""
    maximum, missing = group.maximum * scaler.slots + 1, max(0, figures.desired - len(figures.instances))
    for _ in range(READINGS):
        backlog = read_backlog(scaler.queue, group.queue, figures.instances, maximum, known, scaler.now())
        client = scaler.queue.client
        waiting = tuple((job, client.claimable_since(job, job.attempt)) for job in backlog.waiting)
        oldest = min((since for _, since in waiting), default=backlog.read_at)
        seen = GroupLook(
            group=group.name,
            claimable=len(waiting),
            running=backlog.running,
            machines=len(figures.instances),
            missing=missing,
            oldest_seconds=max(0.0, (backlog.read_at - oldest).total_seconds()),
            waiting=waiting,
            busy=backlog.busy,
        )
        if figures.is_being_deleted:
            return replace(seen, reason=figures.unsettled or "")
        wish = _wish(scaler, group, figures, costs, backlog, oldest)
        if scaler.now() - min(backlog.read_at, figures.read_at) <= FRESH:
            try:
                return _set(group, figures, wish, seen)
            except NotSettled as busy:
                return replace(seen, reason=f"the group has not settled: {busy}")
            except GroupChanged:
                log.info("group %s has changed since it was read", group.name)
        figures = group.read()
    return replace(seen, reason="the figures were stale at each reading")


def _set(group: Group, figures: GroupFigures, wish: Wish, seen: GroupLook) -> GroupLook:
    if wish.capacity > figures.desired:
        group.raise_to(wish.capacity)
        return replace(seen, raised_to=wish.capacity)
    reason = wish.hold or f"capacity needed: {wish.capacity}, desired: {figures.desired}"
    seen = replace(seen, reason=reason, hold=wish.hold if seen.waiting else "")
    if wish.capacity == figures.desired:
        return seen
    group.lower_to(wish.capacity, figures)
    return replace(seen, lowered_to=wish.capacity)


def _wish(
    scaler: Scaler, group: Group, figures: GroupFigures, costs: Costs, backlog: Backlog, oldest: datetime
) -> Wish:
    busy = len(backlog.busy)
    if not backlog.waiting:
        return none_more(figures, max(busy, _ordered_ahead(scaler, group, figures, busy)), "no job is waiting")
    if costs.budget is not None and costs.budget <= 0:
        return none_more(figures, busy, "today's cost has reached its limit")
    if pause := scaler.rows.get_pause(scaler.fleet):
        return none_more(figures, busy, f"paused until {pause.until:%Y-%m-%d %H:%M} UTC: {pause.reason}")
    if figures.unsettled:
        return Wish(figures.desired, figures.unsettled)
    needed = desired_workers(
        len(backlog.waiting), backlog.running, scaler.slots, min(group.maximum, figures.largest), costs.budget
    )
    tried = None
    if busy < needed:
        launches = _without_claim(scaler, group, oldest)
        warm = _ordered_ahead(scaler, group, figures, busy)
        tried = trial(figures, launches, backlog.busy, warm, needed, backlog.read_at)
    if tried is not None and tried.hold:
        return tried
    if costs.trouble:
        return none_more(figures, len(backlog.busy | figures.starting), costs.trouble)
    return tried or enough(figures, needed)


def _ordered_ahead(scaler: Scaler, group: Group, figures: GroupFigures, busy: int) -> int:
    """Machines that a person ordered ahead of jobs, in the first group. Read only where the capacity may be lowered."""
    if figures.desired <= busy or group is not scaler.groups[0]:
        return 0
    warm = scaler.rows.get_warm_up(scaler.fleet)
    return 0 if warm is None else warm.machines


def _without_claim(scaler: Scaler, group: Group, since: datetime) -> Sequence[Launch]:
    """Launches since the oldest job became due, after the last machine that claimed a job."""
    without_claim: list[Launch] = []
    launches = sorted(group.launches(since), key=lambda launch: launch.started_at, reverse=True)
    for launch in launches[:MOST_TRIED]:
        if scaler.rows.claimed_at(scaler.fleet, launch.instance_id) is not None:
            break
        without_claim.append(launch)
    return without_claim
