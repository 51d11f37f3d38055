"""What the scaler remembers of a queue: who serves it, what it ordered, and since when no machine comes."""

from collections.abc import Sequence
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
    """Move jobs that waited long enough for spot machines, while none came, to the on-demand queue. Raises StoreError.

    At most as many as the on-demand group has free places: the others may still get a spot machine.
    """
    wait, now, moved = scaler.times.ondemand_wait, scaler.now(), list[Job]()
    places = {
        group.queue: group.maximum * scaler.slots - seen.claimable - seen.running
        for group in scaler.groups
        for seen, served in queues
        if served.queue == group.queue
    }
    for seen, served in queues:
        free = max(0, places.get(ondemand_queue(served.queue), 0))
        is_due = wait and served.unfilled_since is not None and now - served.unfilled_since >= wait
        if not is_due or ondemand_queue(served.queue) == served.queue:
            continue
        long = [job for job, since in seen.waiting if now - since >= wait]
        moved += filter(None, map(scaler.queue.move_to_ondemand, long[:free]))
    return moved
