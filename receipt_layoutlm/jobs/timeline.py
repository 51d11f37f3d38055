"""What each attempt of a job did: waits, phases, steps, losses, cost, how it ended. Pure: records in, rows out.

The wait of an attempt is the time from when the job was free to when it was claimed: from its submission, or from
the end of the attempt before. A pause after an error counts as waiting, and so does the time that a failed job lay
until somebody retried it. So the running and the waiting time of a job make up its wall time.

The way to an attempt's first training step is its wait (of which the machine took `boot` to come up, where it was
started meanwhile), then prepare (pages, weights and checkpoint are fetched), start, and cached or encode.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Attempt, Job, Lease
from receipt_layoutlm.run.progress import LeaseProgress

PHASES = ("boot", "prepare", "start", "cached", "encode", "train", "evaluate", "checkpoint", "upload")
BEFORE_FIRST_STEP = ("prepare", "start", "cached", "encode")  # from the claim on; the boot is part of the wait


class Row(BaseModel):
    """One attempt. None is what is not known."""

    model_config = ConfigDict(frozen=True)

    attempt: int
    worker_id: str
    instance_type: str | None
    spot: bool | None
    started_at: datetime
    ended_at: datetime | None
    wait_seconds: float
    running_seconds: float  # so far, while it runs
    phase_seconds: dict[str, float]
    first_step_seconds: float | None  # from when the job was free to its first training step
    resume_step: int
    last_step: int | None
    lost_steps: int | None
    is_at_least: bool  # the steps come from the last renewal: more may have been done and lost since
    cost: float | None  # US dollars, so far while it runs
    outcome: str | None


class Totals(BaseModel):
    """Of the whole job until now, or until its end. Running and waiting make up the wall time."""

    model_config = ConfigDict(frozen=True)

    wall_seconds: float
    running_seconds: float
    waiting_seconds: float
    lost_steps: int
    is_at_least: bool
    cost: float | None  # of the attempts whose price is known; None when none is


class Timeline(BaseModel):
    """The attempts in their order, and their sums."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[Row, ...]
    totals: Totals


def timeline(job: Job, lease: Lease | None, attempts: Sequence[Attempt], now: datetime) -> Timeline:
    """Rows of all attempts. The lease tells how far a running one is, and from where the last one will be resumed."""
    free_since = [job.created_at, *(attempt.ended_at or now for attempt in attempts)]
    rows = tuple(
        _row(attempt, free_since[index], attempts[index + 1 :], lease, now) for index, attempt in enumerate(attempts)
    )
    return Timeline(rows=rows, totals=_totals(job, rows, now))


def _row(attempt: Attempt, free_since: datetime, later: Sequence[Attempt], lease: Lease | None, now: datetime) -> Row:
    last_step, is_at_least = _last_step(attempt, lease)
    ended = attempt.ended_at or now
    waited = _between(free_since, attempt.started_at)
    return Row(
        **attempt.model_dump(include={"attempt", "worker_id", "started_at", "ended_at", "resume_step", "outcome"}),
        instance_type=attempt.machine.instance_type,
        spot=attempt.machine.spot,
        wait_seconds=waited,
        running_seconds=_between(attempt.started_at, ended),
        phase_seconds=attempt.phase_seconds,
        first_step_seconds=_first_step_seconds(waited, attempt.phase_seconds),
        last_step=last_step,
        lost_steps=_lost_steps(attempt, last_step, later, lease),
        is_at_least=is_at_least,
        cost=attempt.model_copy(update={"ended_at": ended}).cost,
    )


def _first_step_seconds(waited: float, phase_seconds: Mapping[str, float]) -> float | None:
    if "train" not in phase_seconds:  # it never trained, or never said how long anything took
        return None
    return waited + sum(phase_seconds.get(phase, 0.0) for phase in BEFORE_FIRST_STEP)


def _last_step(attempt: Attempt, lease: Lease | None) -> tuple[int | None, bool]:
    """The last step, and whether more may have followed it."""
    if attempt.last_step is not None:
        return attempt.last_step, False
    is_running = attempt.ended_at is None and lease is not None and lease.attempt == attempt.attempt
    position = LeaseProgress.parse(lease.progress if is_running and lease else attempt.progress)
    return (position.step, True) if position else (None, False)


def _lost_steps(attempt: Attempt, last_step: int | None, later: Sequence[Attempt], lease: Lease | None) -> int | None:
    """Steps beyond where the attempts after it began: those were trained again, or will be."""
    if attempt.ended_at is None or last_step is None:
        return None
    if not later and attempt.lost_steps is not None:
        return attempt.lost_steps
    stored = lease.checkpoint.global_step if lease and lease.checkpoint else 0
    resumed = min((each.resume_step for each in later), default=stored)
    return max(0, last_step - max(resumed, attempt.resume_step))


def _totals(job: Job, rows: Sequence[Row], now: datetime) -> Totals:
    wall, running = _between(job.created_at, job.ended_at or now), sum(row.running_seconds for row in rows)
    costs = [row.cost for row in rows if row.cost is not None]
    ended_rows = [row for row in rows if row.outcome is not None]
    return Totals(
        wall_seconds=wall,
        running_seconds=running,
        waiting_seconds=max(0.0, wall - running),
        lost_steps=sum(row.lost_steps or 0 for row in ended_rows),
        is_at_least=any(row.is_at_least or row.lost_steps is None for row in ended_rows),
        cost=sum(costs) if costs else None,
    )


def _between(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())  # the times of two machines may be in the wrong order
