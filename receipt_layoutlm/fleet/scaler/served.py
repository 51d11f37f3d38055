"""What the scaler remembers of a queue: who serves it, what it ordered, and since when no machine comes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from receipt_dynamo import Job, ServedQueue
from receipt_dynamo.entities import ondemand_queue
from receipt_layoutlm.fleet.scaler.failures import failed_text
from receipt_layoutlm.fleet.scaler.figures import GroupLook, Scaler
from receipt_layoutlm.fleet.scaler.group import Group

WRITTEN_EVERY: Final = timedelta(minutes=10)  # while nothing changes
INDEX_LAG: Final = timedelta(minutes=1)  # the queue's index lists a job at the latest so long after it was submitted
MOST_NAMED: Final = 100  # jobs of an order
TOLD_AFTER: Final = timedelta(minutes=10)  # without a machine; starting one takes some 3 minutes


class OtherFleet(Exception):
    """Another fleet serves this queue of this table."""


@dataclass(frozen=True)
class GroupState:
    """A group with what earlier looks kept of its queue."""

    group: Group
    before: ServedQueue | None

    def ordered_just_now(self, scaler: Scaler) -> Sequence[str]:
        """Jobs for which machines were ordered, while the index may not list them yet."""
        kept = self.before
        if kept is None or kept.ordered_at is None or scaler.now() - kept.ordered_at > INDEX_LAG:
            return ()
        return kept.ordered_for


def recall(scaler: Scaler, group: Group) -> GroupState:
    """Read what earlier looks kept. Raises OtherFleet, StoreError."""
    before = scaler.rows.get_served(group.queue)
    if before is not None and before.fleet != scaler.fleet and before.is_current(scaler.now()):
        raise OtherFleet(
            f"queue {group.queue!r} of this table is served by fleet {before.fleet!r}: destroy one of the two fleets, "
            "or deploy one of them with another --queue-name"
        )
    return GroupState(group, before)


def keep(scaler: Scaler, state: GroupState, seen: GroupLook) -> ServedQueue:
    """Write what this look saw where it differs from before, and now and then. Raises StoreError, ClientError."""
    group, before, now = state.group, state.before, scaler.now()
    mine = before if before is not None and before.fleet == scaler.fleet else None
    served = mine or ServedQueue(queue=group.queue, fleet=scaler.fleet, seen_at=now)
    if seen.raised_to is not None:
        ids = tuple(job.job_id for job, _ in seen.waiting[:MOST_NAMED])
        served = served.model_copy(update={"ordered_at": now, "ordered_for": ids})
    unfilled_since = _unfilled_since(group, served, seen, now)
    failure = group.failure() if unfilled_since is not None and seen.missing else None
    failed = "" if failure is None else failed_text(failure)
    trouble = "; ".join(filter(None, (seen.hold, failed)))
    served = served.model_copy(update={"unfilled_since": unfilled_since, "trouble": trouble})
    if served != mine or now - served.seen_at >= WRITTEN_EVERY:
        served = served.model_copy(update={"seen_at": now})
        scaler.rows.put_served(served)
    return served


def _unfilled_since(group: Group, served: ServedQueue, seen: GroupLook, now: datetime) -> datetime | None:
    """Since when machines are ordered and none came; counted anew from each one that comes."""
    ordered = next(
        (capacity for capacity in (seen.raised_to, seen.lowered_to) if capacity is not None),
        seen.machines + seen.missing,
    )
    if not seen.waiting or ordered <= seen.machines:
        return None
    since = served.unfilled_since
    return now if since is None or group.launches(since) else since


def tell_waiting(scaler: Scaler, seen: GroupLook, served: ServedQueue) -> None:
    """Tell of the jobs for which machines are ordered, while none has come for some time. Raises StoreError."""
    now, since = scaler.now(), served.unfilled_since
    if since is None or now - since < TOLD_AFTER:
        return
    reason = f" ({served.trouble})" if served.trouble else ""
    for job, waits_since in seen.waiting:
        if now - waits_since >= TOLD_AFTER:
            minutes = (now - waits_since) // timedelta(minutes=1)
            text = f"has waited {minutes} min for a machine: fleet {scaler.fleet} ordered one, and none came{reason}"
            scaler.alerts.waits_for_capacity(job, text)


def move_waiting(scaler: Scaler, queues: Sequence[tuple[GroupLook, ServedQueue]]) -> list[Job]:
    """Move jobs for which no machine came for long enough to the queue of the other market. Raises StoreError.

    To the on-demand queue at most as many as its group has free places: the others may still get a spot machine. Where
    on-demand machines do not come either, as without a quota, its jobs go back, and for as long none is moved again.
    """
    wait, now, moved = scaler.times.ondemand_wait, scaler.now(), list[Job]()
    by_queue = {served.queue: (seen, served) for seen, served in queues}
    for group in scaler.groups:
        spot, ondemand = by_queue.get(group.queue), by_queue.get(ondemand_queue(group.queue))
        if not wait or spot is None or ondemand is None or spot is ondemand:
            continue
        if _is_unfilled(ondemand[1], now, wait):
            moved += _return(scaler, *ondemand)
        elif _is_unfilled(spot[1], now, wait) and not _rests(ondemand[1], now, wait):
            long = [job for job, since in spot[0].waiting if now - since >= wait]
            moved += filter(None, map(scaler.queue.move_to_ondemand, long[: _free_places(scaler, *ondemand)]))
    return moved


def _return(scaler: Scaler, seen: GroupLook, served: ServedQueue) -> Iterable[Job]:
    """Jobs that were submitted to the on-demand queue by a person stay."""
    jobs = [job for job, _ in seen.waiting if job.moved_at is not None]
    if jobs:
        scaler.rows.put_served(served.model_copy(update={"returned_at": scaler.now()}))
    return filter(None, map(scaler.queue.return_to_spot, jobs))


def _is_unfilled(served: ServedQueue, now: datetime, wait: timedelta) -> bool:
    return served.unfilled_since is not None and now - served.unfilled_since >= wait


def _rests(served: ServedQueue, now: datetime, wait: timedelta) -> bool:
    return served.returned_at is not None and now - served.returned_at < wait


def _free_places(scaler: Scaler, seen: GroupLook, served: ServedQueue) -> int:
    (group,) = (each for each in scaler.groups if each.queue == served.queue)
    return max(0, group.maximum * scaler.slots - seen.claimable - seen.running)
