"""Timeline of a job's attempts: waits, phases, steps, losses, cost and outcome.

An attempt waits from the submission, or from the end of the previous attempt, until its claim. Backoff after an error
and the time until a retry count as waiting, so running and waiting time make up the wall time of a job.

The time to the first training step is the wait (which includes `boot`, if the machine was started for it), then
prepare (download of pages, weights and checkpoint), start, and cached or encode.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Attempt, Job, Lease
from receipt_layoutlm.run.progress import LeaseProgress

PHASES = ("boot", "prepare", "start", "cached", "encode", "train", "evaluate", "checkpoint", "upload")
BEFORE_FIRST_STEP = ("prepare", "start", "cached", "encode")  # after the claim; the boot is part of the wait


class AttemptRow(BaseModel):
    """One attempt. None means unknown."""

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
    first_step_seconds: float | None  # from when the job was claimable to its first training step
    resume_step: int
    last_step: int | None
    lost_steps: int | None
    is_at_least: bool  # steps are known from the last renewal only: more may have followed
    cost: float | None  # US dollars, so far while it runs
    outcome: str | None


class Totals(BaseModel):
    """Sums over the whole job until now, or until its end."""

    model_config = ConfigDict(frozen=True)

    wall_seconds: float
    running_seconds: float
    waiting_seconds: float
    lost_steps: int
    is_at_least: bool
    cost: float | None  # of the attempts with a known price; None without any


class Timeline(BaseModel):
    """The attempts in order, and their totals."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[AttemptRow, ...]
    totals: Totals


def timeline(job: Job, lease: Lease | None, attempts: Sequence[Attempt], now: datetime) -> Timeline:
    """The lease gives the progress of a running attempt and the step that the next one resumes from."""
    claimable_since = [job.created_at, *(attempt.ended_at or now for attempt in attempts)]
    rows = tuple(
        _row(attempt, claimable_since[index], attempts[index + 1 :], lease, now)
        for index, attempt in enumerate(attempts)
    )
    wall, running = _between(job.created_at, job.ended_at or now), sum(row.running_seconds for row in rows)
    ended_rows = [row for row in rows if row.outcome is not None]
    totals = Totals(
        wall_seconds=wall,
        running_seconds=running,
        waiting_seconds=max(0.0, wall - running),
        lost_steps=sum(row.lost_steps or 0 for row in ended_rows),
        is_at_least=any(row.is_at_least or row.lost_steps is None for row in ended_rows),
        cost=known_sum(row.cost for row in rows),
    )
    return Timeline(rows=rows, totals=totals)


def known_sum(costs: Iterable[float | None]) -> float | None:
    """Of the attempts with a known price; None without any."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def _row(
    attempt: Attempt, claimable_since: datetime, later: Sequence[Attempt], lease: Lease | None, now: datetime
) -> AttemptRow:
    last_step, is_at_least = attempt.last_step, False
    if last_step is None:
        is_running = attempt.ended_at is None and lease is not None and lease.attempt == attempt.attempt
        position = LeaseProgress.parse(lease.progress if is_running and lease else attempt.progress)
        last_step, is_at_least = (position.step, True) if position else (None, False)
    if attempt.ended_at is None or last_step is None:
        lost_steps = None
    elif not later and attempt.lost_steps is not None:
        lost_steps = attempt.lost_steps
    else:  # after the point that the later attempts resumed from, or will resume from
        stored = lease.checkpoint.global_step if lease and lease.checkpoint else 0
        resumed = min((each.resume_step for each in later), default=stored)
        lost_steps = max(0, last_step - max(resumed, attempt.resume_step))
    ended = attempt.ended_at or now
    waited = _between(claimable_since, attempt.started_at)
    return AttemptRow(
        **attempt.model_dump(include={"attempt", "worker_id", "started_at", "ended_at", "resume_step", "outcome"}),
        instance_type=attempt.machine.instance_type,
        spot=attempt.machine.spot,
        wait_seconds=waited,
        running_seconds=_between(attempt.started_at, ended),
        phase_seconds=attempt.phase_seconds,
        # unknown without a training phase: it never trained, or its phases were not measured
        first_step_seconds=waited + sum(attempt.phase_seconds.get(phase, 0.0) for phase in BEFORE_FIRST_STEP)
        if "train" in attempt.phase_seconds
        else None,
        last_step=last_step,
        lost_steps=lost_steps,
        is_at_least=is_at_least,
        cost=attempt.cost_until(now),
    )


def _between(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())  # the times of two machines may be in the wrong order
