"""The rules that every stored write has to keep, told from what was stored before and after it.

Written from docs/protocol.md alone: nothing of the run store's own conditions, budgets or views is used, except
the view of the evaluations, which is what is being judged.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from receipt_dynamo import Timing
from receipt_dynamo import client as client_module
from tests.receipt_dynamo.protocol_faults import Broken, Operation
from tests.receipt_dynamo.protocol_store import RawRow

CLAIMABLE, FINAL = ("pending", "interrupted"), ("succeeded", "failed", "cancelled")
TIMING = Timing()
CLOCK = timedelta(seconds=3)  # a corrected clock is off by less
History = tuple[tuple[int, int], ...]  # evaluations as (attempt, step)
Place = tuple[int, int]  # a checkpoint as (attempt, step)


def require(holds: bool, rule: str, *facts: object) -> None:
    if not holds:
        raise Broken(f"{rule}: {' · '.join(map(str, facts))}")


@dataclass(frozen=True)
class Stored:
    """All that is stored about one job, as plain values."""

    raw: dict[str, tuple[RawRow, dict[str, Any]]]  # by sort key, as stored and plain
    job: dict[str, Any]
    lease: dict[str, Any]
    attempts: dict[int, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    logs: dict[str, dict[str, Any]]

    @property
    def status(self) -> str:
        return str(self.job["status"])

    @property
    def token(self) -> str | None:
        return self.lease.get("lease_token")

    @property
    def number(self) -> int:
        return int(self.lease["attempt"])

    @cached_property
    def budgets(self) -> dict[str, int]:
        return json.loads(self.job["budgets"])  # type: ignore[no-any-return]

    def place(self, name: str = "checkpoint") -> Place | None:
        pointer = self.lease.get(name)
        return (pointer["attempt"], pointer["global_step"]) if pointer else None

    def is_due(self, now: datetime) -> bool:
        return self.status in CLAIMABLE and self.job.get("not_before", "") <= now.isoformat(timespec="microseconds")

    def has_event(self, attempt: int, seq: int) -> bool:
        rows = (*self.metrics.values(), *self.logs.values())
        return any((row["attempt"], row["seq"]) == (attempt, seq) for row in rows)


def read_stored(rows: list[RawRow], before: Stored | None = None) -> Stored:
    """`before` is the same job as it was read last: rows that are the same are not read again."""
    found: dict[str, RawRow] = {row["SK"]["S"]: row for row in rows}
    known = before.raw if before else {}
    plain = {
        sk: known[sk][1] if sk in known and known[sk][0] is row else {name: _plain(each) for name, each in row.items()}
        for sk, row in found.items()
    }
    require("JOB" in plain and "LEASE" in plain, "a job has a Job and a Lease item", sorted(plain))
    return Stored(
        {sk: (row, plain[sk]) for sk, row in found.items()},
        plain["JOB"],
        plain["LEASE"],
        {int(row["attempt"]): row for sk, row in plain.items() if sk.startswith("ATTEMPT#")},
        {sk.partition("#")[2]: row for sk, row in plain.items() if sk.startswith("METRIC#")},
        {sk.partition("#")[2]: row for sk, row in plain.items() if sk.startswith("LOG#")},
    )


def _plain(value: dict[str, Any]) -> Any:
    ((sort, inner),) = value.items()
    if sort == "N":
        return float(inner) if "." in inner else int(inner)
    return {name: _plain(each) for name, each in inner.items()} if sort == "M" else inner


@dataclass
class Rules:
    """Judges each stored write of one schedule. `checkpoints` is the bucket: what each checkpoint's files hold."""

    checkpoints: dict[tuple[str, Place], tuple[History, bool]]  # evaluations, and whether one is due
    began: dict[str, tuple[History, bool]] = field(default_factory=dict)  # of the newest attempt, by job
    cancelled: set[str] = field(default_factory=set)  # jobs whose cancel was acknowledged
    renewed: dict[str, datetime] = field(default_factory=dict)  # when the holder of each job last renewed, in truth

    def judge(self, operation: Operation, old: Stored | None, new: Stored, now: datetime) -> None:
        check_shape(new)
        if old is None:
            require(operation.name == "submit" and new.status == "pending", "only submit makes a job", operation.name)
            self.began[new.lease["PK"]] = (), False
            return
        if old == new:
            return  # repeated under the same ClientRequestToken
        check_fence(operation, old, new, now)
        if operation.name in ("claim", "renew"):
            self.renewed[new.lease["PK"]] = now
        if operation.name == "rescue":
            silent = (now - self.renewed[new.lease["PK"]]).total_seconds()
            require(silent > TIMING.lease_seconds - 1, "only a dead worker is rescued", silent)
        check_final(operation, old, new)
        check_cancel(old, new)
        check_attempts(operation, old, new)
        check_pointers(operation, old, new)
        check_events(operation, old, new)
        check_budgets(operation, old, new)
        self._note_beginning(operation, new)
        if new.metrics != old.metrics or new.attempts.keys() != old.attempts.keys() or operation.name == "fall_back":
            self.check_view(new)

    def _note_beginning(self, operation: Operation, new: Stored) -> None:
        if operation.name in ("claim", "fall_back"):
            place = new.place()
            job_id = new.lease["PK"].partition("#")[2]
            nothing: tuple[History, bool] = ((), False)
            self.began[new.lease["PK"]] = nothing if place is None else self.checkpoints[job_id, place]

    def check_view(self, stored: Stored) -> None:
        """SampledWindow: the history inside the checkpoint that training began from, and what the attempt added."""
        shown = view_of(stored)
        history, was_due = self.began[stored.lease["PK"]]
        own = [place for place in map(place_of, ordered(stored.metrics)) if place[0] == stored.number]
        # an evaluation that was due at the resume point and was made already is shown until it is made again
        begun_at = stored.attempts[stored.number]["resume_step"] if stored.number else 0
        extra = [
            place
            for place in shown
            if was_due and place[1] == begun_at and place not in history and place[0] < stored.number
        ]
        if not any(step == begun_at for _, step in own):
            shown = [place for place in shown if place not in extra]
        require(shown == [*history, *own], "the shown evaluations are the history", shown, history, own)


class _Evaluation(NamedTuple):
    attempt: int
    global_step: int


class _Attempt(NamedTuple):
    attempt: int
    resume_step: int


def view_of(stored: Stored) -> list[Place]:
    """The evaluations that the run store shows of these rows."""
    metrics = [_Evaluation(*place_of(row)) for row in ordered(stored.metrics)]
    attempts = [_Attempt(number, row["resume_step"]) for number, row in sorted(stored.attempts.items())]
    shown = client_module.visible(metrics, attempts)  # type: ignore[arg-type]  # to make its records takes an eighth
    return [(metric.attempt or 0, metric.global_step or 0) for metric in shown]


def ordered(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for _, row in sorted(rows.items())]


def place_of(row: dict[str, Any]) -> Place:
    return row["attempt"], row["global_step"]


def check_shape(new: Stored) -> None:
    """What holds of a job at every moment, so that it can go on whatever dies now."""
    status, is_queued = new.status, "GSI3PK" in new.job
    require(is_queued == (status in CLAIMABLE), "queue keys exist iff pending or interrupted", status, is_queued)
    require(new.job["GSI1PK"] == f"STATUS#{status}", "the status index names the status", new.job["GSI1PK"])
    require((new.token is not None) == (status == "running"), "held iff running", status, new.token)
    for name in ("expires_at", "worker_id"):
        require((name in new.lease) == (new.token is not None), f"{name} stands in a held lease alone", status)
    numbers = list(range(1, int(new.job["attempt"]) + 1))
    require(sorted(new.attempts) == numbers and new.number == len(numbers), "attempts are counted without a gap")
    require(status == "cancelled" or not new.lease["cancel_requested"] or status == "running", "a cancel ends the job")
    times = sorted([*new.metrics.items(), *new.logs.items()])
    signs = [(row["attempt"], row["seq"]) for _, row in times]
    require(signs == sorted(set(signs)) and len({time for time, _ in times}) == len(times), "events in order", signs)


def check_fence(operation: Operation, old: Stored, new: Stored, now: datetime) -> None:
    name, lease = operation.name, operation.lease
    if lease is not None:
        held = (old.number, old.token) == (lease.attempt, lease.lease_token)
        require(held, "no write of an older attempt, or after its end", name, lease.attempt, old.number, old.token)
    elif name == "claim":
        is_free = old.is_due(now + CLOCK) and old.token is None and not old.lease["cancel_requested"]
        require(is_free, "only a free job that is due is claimed", old.status, old.number, old.token)
        require(new.number == old.number + 1, "a claim opens the next attempt", old.number, new.number)
        require(new.lease["renewals"] == old.lease["renewals"], "a claim keeps the renewals")
    elif name == "rescue":
        require(old.token is not None, "only a held job is rescued", old.status)
    elif name == "retry":
        require((old.status, new.status) == ("failed", "pending"), "only a failed job is tried again", old.status)
    else:
        require(name == "cancel", "nobody else writes to a job that is there", name)


def check_final(operation: Operation, old: Stored, new: Stored) -> None:
    if old.status in FINAL and operation.name != "retry":
        require(False, "final is final", old.status, new.status, operation.name)


def check_cancel(old: Stored, new: Stored) -> None:
    if old.lease["cancel_requested"]:
        require(new.lease["cancel_requested"], "a cancel is never taken back")
        same = new.status == "running" and new.number == old.number
        require(same or new.status == "cancelled", "cancelled never succeeds nor runs again", new.status)


def check_attempts(operation: Operation, old: Stored, new: Stored) -> None:
    for number, row in old.attempts.items():
        after = new.attempts[number]
        same = ("worker_id", "started_at") if number == old.number else tuple(row)
        require(all(row[name] == after.get(name) for name in same), "an attempt stays what it was", number)
        if number == old.number and operation.name != "fall_back":
            require(row["resume_step"] == after["resume_step"], "where training began stays", number)
    if operation.name == "claim":
        place = old.place()
        begins = new.attempts[new.number]["resume_step"]
        require(begins == (place[1] if place else 0), "an attempt resumes from the pointer", begins, place)
    if old.token is not None and new.token is None:
        check_ended_attempt(operation, old, new)


def check_ended_attempt(operation: Operation, old: Stored, new: Stored) -> None:
    row = new.attempts[old.number]
    require("ended_at" in row, "an attempt whose lease is gone has ended", old.number)
    if operation.name == "rescue":
        kept = (row["outcome"], row.get("ended_by"), row.get("progress", ""))
        outcome = "cancelled: lease expired" if new.status == "cancelled" else "lease expired"
        told = (outcome, None, old.lease.get("progress", ""))
        require(kept == told, "a rescued attempt says so, unsigned, with what was last heard", kept, told)
    else:
        require(row.get("ended_by") == old.token, "an end is signed by its holder", row.get("ended_by"))


def check_pointers(operation: Operation, old: Stored, new: Stored) -> None:
    before, after = old.place(), new.place()
    if operation.name == "checkpoint":
        require(before == after or after == operation.given, "the pointer goes where it was sent", after)
        ahead = before is None or (after is not None and (before[1], before[0]) <= (after[1], after[0]))
        require(ahead, "the pointer never goes back", before, after)
        require(before in (after, None, new.place("previous")), "the one before is kept", before, new.place("previous"))
    elif operation.name == "fall_back":
        require(after == old.place("previous"), "falling back leads to the one before", before, after)
        require(new.place("best") == old.place("previous_best"), "the best falls back too", new.place("best"))
        step = new.attempts[new.number]["resume_step"]
        require(step == (after[1] if after else 0), "the attempt begins where it fell back to", step, after)
    else:
        for name in ("checkpoint", "best", "previous", "previous_best"):
            require(old.place(name) == new.place(name), "nothing else moves a pointer", operation.name, name)


def check_events(operation: Operation, old: Stored, new: Stored) -> None:
    for before, after in ((old.metrics, new.metrics), (old.logs, new.logs)):
        require(all(after.get(time) == row for time, row in before.items()), "an event stays as it was stored")
        added = [row["attempt"] for time, row in after.items() if time not in before]
        require(all(number == old.number for number in added), "events belong to the attempt that is held", added)
    if operation.name == "checkpoint" and new.place() != old.place():
        missing = [seq for seq in operation.needs if not new.has_event(new.number, seq)]
        require(not missing, "a pointer moves after every event before it", missing)


def check_budgets(operation: Operation, old: Stored, new: Stored) -> None:
    expected = dict(old.budgets)
    has_ended = old.token is not None and new.token is None and new.status != "cancelled"
    if operation.name == "retry":
        expected = {name: value if name.startswith("max_") else 0 for name, value in expected.items()}
    elif has_ended and operation.name in ("release", "rescue"):
        _count(expected, "interruptions", "errors", old)
        lasting = "failed" if is_used_up(expected) else "interrupted"
        require(new.status == lasting, "interruptions end a job when they are used up", new.status, expected)
    elif has_ended and operation.name == "fail":
        _count(expected, "errors", "interruptions", old)
        expected["out_of_memory"] += operation.given == "out_of_memory"
        gives_up = operation.given == "bad_data" or is_used_up(expected)
        require(new.status == ("failed" if gives_up else "pending"), "errors end a job when used up", new.status)
    require(new.budgets == expected, "budgets never mix", operation.name, new.budgets, expected)


def _count(budgets: dict[str, int], mine: str, other: str, old: Stored) -> None:
    place = old.place()
    progressed = place is not None and place[0] == old.number
    budgets[mine] += 1
    budgets[f"{mine}_in_a_row"] = 1 if progressed else budgets[f"{mine}_in_a_row"] + 1
    budgets[f"{other}_in_a_row"] = 0 if progressed else budgets[f"{other}_in_a_row"]


def is_used_up(budgets: dict[str, int]) -> bool:
    return (
        budgets["errors"] >= 5
        or budgets["out_of_memory"] >= 2
        or budgets["interruptions"] > 20
        or budgets["errors_in_a_row"] >= 3
        or budgets["interruptions_in_a_row"] >= 5
    )
