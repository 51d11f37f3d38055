"""The protocol broken on purpose, one safety rule at a time. Only for proofs: nothing of the product knows of it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from receipt_dynamo import Job, JobStatus, Lease, client, items, queue, server_clock, transitions
from receipt_dynamo.client import fence
from receipt_dynamo.items import LeaseItem, lease_key
from receipt_dynamo.lease_watch import Sighting
from receipt_dynamo.writes import Write, put, update
from receipt_layoutlm.fleet.scaler import look
from receipt_layoutlm.fleet.scaler.look import Scaler
from tests.receipt_dynamo import protocol_worker
from tests.receipt_dynamo.protocol_model import Laboratory, broken_among

Patch = tuple[object, str, object]  # where, which name, what instead

ALWAYS = LeaseItem.pk.exists()
claim, take_away, end = transitions.claim_writes, transitions.take_away_writes, transitions.end_writes  # as they are


def unconditional(write: Write) -> Write:
    condition = write.parameters["ConditionExpression"]
    either = f"{condition} OR attribute_exists(PK) OR attribute_not_exists(PK)"  # AND binds closer
    return replace(write, parameters={**write.parameters, "ConditionExpression": either})


def claims_without_condition(*given: Any) -> list[Write]:
    return [unconditional(write) for write in claim(*given)]


def claims_that_put_the_lease(seen: Lease, lease: Lease, *given: Any) -> list[Write]:
    job, _, attempt = claim(seen, lease, *given)
    bare = lease.model_copy(update=dict.fromkeys(items.POINTERS, None) | {"renewals": 0})
    condition = (LeaseItem.attempt == seen.attempt) & LeaseItem.lease_token.does_not_exist() & ~transitions.WANTS_CANCEL
    return [job, put(items.lease_item(bare), condition), attempt]


def claims_that_keep_queue_keys(*given: Any) -> list[Write]:
    job, *others = claim(*given)
    expression = job.parameters["UpdateExpression"].partition(" REMOVE ")[0]
    used = f"{expression} {job.parameters['ConditionExpression']}"
    names = {alias: name for alias, name in job.parameters["ExpressionAttributeNames"].items() if _is_used(alias, used)}
    parameters = {**job.parameters, "UpdateExpression": expression, "ExpressionAttributeNames": names}
    return [replace(job, parameters=parameters), *others]


def _is_used(alias: str, text: str) -> bool:
    return any(word.strip("(),") == alias for word in text.replace(",", " ").split())


def rescues_without_compare_and_set(lease: Lease, moved: Any, _condition: Any, now: Any) -> list[Write]:
    return take_away(lease, moved, LeaseItem.attempt == lease.attempt, now)


def takes_away_but_leaves_the_token(lease: Lease, moved: Any, condition: Any, now: Any) -> list[Write]:
    if moved.status is not JobStatus.INTERRUPTED:
        return take_away(lease, moved, condition, now)
    left = [LeaseItem.expires_at.remove(), LeaseItem.worker_id.remove()]
    return [transitions.job_write(lease, moved, now), update(lease_key(lease.job_id), left, condition)]


def completes_a_cancelled_job(
    lease: Lease, moved: Any, outcome: str, how: Any, condition: Any, now: Any
) -> list[Write]:
    ignored = fence(lease) if moved.status is JobStatus.SUCCEEDED else condition
    return end(lease, moved, outcome, how, ignored, now)


def largest_stored(lease: Lease, checkpoints: dict[tuple[str, Any], Any]) -> Any:
    return max((place for _, place in checkpoints), key=lambda place: (place[1], place[0]), default=None)


def expired_anyway(_self: object, lease: Lease, *_: object) -> bool:
    return lease.lease_token is not None


def overdue_by_its_clock(scaler: Scaler, held: Any) -> list[Job]:
    clock = scaler.now
    assert isinstance(clock, server_clock.ServerClock)
    clock.offset = timedelta(0)
    return scaler.queue.rescue(held, watched_seconds=0.0)


def of_the_same_attempt(self: Sighting, lease: Lease) -> bool:
    return (self.job_id, self.attempt) == (lease.job_id, lease.attempt)


def always(*_given: object) -> Any:
    return ALWAYS


@dataclass(frozen=True)
class Break:
    """One rule that the code no longer keeps."""

    rule: str
    how: str
    patches: tuple[Patch, ...]


BREAKS = (
    Break(
        "no fence",
        "a worker's writes ask only that the lease exists",
        ((client, "fence", always), (queue, "fence", always)),
    ),
    Break(
        "unconditional claim",
        "the claim's three conditions are dropped",
        ((queue, "claim_writes", claims_without_condition),),
    ),
    Break(
        "rescue without compare-and-set",
        "the rescue asks for the attempt alone, not for renewals, token, cancel and pointer as read",
        ((queue, "take_away_writes", rescues_without_compare_and_set),),
    ),
    Break(
        "resume from a listing",
        "an attempt begins at the largest step that any attempt stored",
        ((protocol_worker, "resume_point", largest_stored),),
    ),
    Break("no visibility rule", "every evaluation is shown", ((client, "visible", lambda metrics, _: list(metrics)),)),
    Break(
        "pointer before the events",
        "a checkpoint is recorded before the events of lower seq",
        ((protocol_worker, "in_recording_order", lambda events: events[::-1]),),
    ),
    Break(
        "token left after release",
        "the release does not remove lease_token",
        ((transitions, "take_away_writes", takes_away_but_leaves_the_token),),
    ),
    Break(
        "token left after rescue",
        "the rescue does not remove lease_token",
        ((queue, "take_away_writes", takes_away_but_leaves_the_token),),
    ),
    Break(
        "claim overwrites the lease",
        "the claim puts a new Lease instead of updating it",
        ((queue, "claim_writes", claims_that_put_the_lease),),
    ),
    Break(
        "cancel ignored by complete",
        "complete does not ask for cancel_requested",
        ((queue, "end_writes", completes_a_cancelled_job),),
    ),
    Break(
        "unique key ignored",
        "each submit makes an id of its own",
        ((queue, "new_job_id", lambda _=None: str(uuid.uuid4())),),
    ),
    Break(
        "queue keys left on running",
        "the claim does not remove the GSI3 keys",
        ((queue, "claim_writes", claims_that_keep_queue_keys),),
    ),
    Break(
        "rescue of the living",
        "every held lease counts as expired",
        ((queue.JobQueue, "_is_overdue", expired_anyway), (queue.JobQueue, "_stands_still", expired_anyway)),
    ),
    Break(
        "rescue by the date alone",
        "a lease is taken without a look that saw it standing still",
        ((queue.JobQueue, "_stands_still", expired_anyway),),
    ),
    Break(
        "every machine's own time",
        "the dates of replies correct no clock",
        ((server_clock.ServerClock, "learn", lambda *_: None),),
    ),
    Break(
        "scaler by its own clock",
        "the scaler takes what is overdue by its clock, which the dates of replies do not correct",
        ((look, "_rescue", overdue_by_its_clock),),
    ),
    Break(
        "look that counts after a renewal",
        "what a rescuer or the scaler saw of an attempt's lease counts whatever was renewed since",
        ((Sighting, "is_of", of_the_same_attempt),),
    ),
    Break(
        "rescue that does not see a moved pointer",
        "the pointer is left out of the rescue's compare-and-set",
        ((queue, "pointer_as_read", always),),
    ),
)


@contextmanager
def broken(how: Break) -> Iterator[None]:
    kept = [(where, name, getattr(where, name)) for where, name, _ in how.patches]
    try:
        for where, name, instead in how.patches:
            setattr(where, name, instead)
        yield
    finally:
        for where, name, original in kept:
            setattr(where, name, original)


def catches(opened: Laboratory, how: Break, schedules: int, seed: int) -> Iterator[tuple[int, str]]:
    """The schedules, counted from 1, in which the broken code is caught, each with the rule that caught it."""
    with broken(how):
        yield from broken_among(opened, schedules, seed)
