"""The pure decisions about the size of a group: machines for a backlog, trials of a broken setup, unfilled orders."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from receipt_layoutlm.fleet.scaler.group import GroupFigures, Launch

SHORTEST_TRIAL: Final = timedelta(minutes=5)
LONGEST_TRIAL: Final = timedelta(hours=1)
LISTED_AFTER: Final = timedelta(minutes=2)  # a machine launched earlier that the group does not list has ended


@dataclass(frozen=True)
class Wish:
    """The capacity that a group should have. `hold` says why no machine may be ordered now; empty when some may."""

    capacity: int
    hold: str = ""


def desired_workers(claimable_now: int, running: int, slots: int, maximum: int, budget: float | None) -> int:
    """The number of machines for all claimable and running jobs, with `slots` jobs on each.

    `claimable_now` counts jobs that are due, not those waiting for a retry. A `maximum` of 0 allows no machine.
    `budget` is the rest of the day's dollars, None without a limit; an exhausted budget allows no machine.
    """
    if slots < 1 or min(claimable_now, running, maximum) < 0:
        raise ValueError(f"{claimable_now=}, {running=} and {maximum=} cannot be negative, nor {slots=} less than 1")
    if budget is not None and budget <= 0:
        return 0
    return min(maximum, -(-(claimable_now + running) // slots))


def enough(figures: GroupFigures, needed: int) -> Wish:
    """Machines for the jobs that wait. Orders that no job needs any more go back; machines that are there stay."""
    if needed > figures.desired:
        return Wish(needed)
    return Wish(max(needed, min(figures.desired, len(figures.instances))))


def none_more(figures: GroupFigures, kept: int, hold: str) -> Wish:
    """No machine is ordered, and none replaced that switches itself off: `kept` machines at most."""
    return Wish(min(figures.desired, kept), hold)


def next_trial_at(ended: Sequence[datetime]) -> datetime | None:
    """The earliest time of the next launch, after `ended`: the launch times of machines that ended without a job.

    None without such machines. Each wait is as long as all trials before it together, so the interval doubles, up to
    an hour: a broken wheel costs one machine's boot per trial, all day long.
    """
    if not ended:
        return None
    last = max(ended)
    return last + min(max(last - min(ended), SHORTEST_TRIAL), LONGEST_TRIAL)


def trial(
    figures: GroupFigures, without_claim: Sequence[Launch], busy: Set[str], warm: int, needed: int, now: datetime
) -> Wish | None:
    """One machine at a time, at growing intervals, after machines that ended without claiming a job; None without such.

    What the machines run may be broken. Between trials the wish is the number of busy machines (or of those that a
    person ordered ahead, `warm`), because the group replaces a machine that only switches itself off.
    """
    alive = [launch for launch in without_claim if launch.instance_id in figures.instances]
    old = [launch for launch in without_claim if launch.started_at < now - LISTED_AFTER]
    trial_at = next_trial_at([launch.started_at for launch in old if launch not in alive])
    if trial_at is None:
        return None
    if alive:
        kept = max(len(busy | figures.starting), warm)
        return none_more(figures, kept, "machines ended without claiming a job: waiting for the running ones")
    if now < trial_at:
        hold = f"machines ended without claiming a job: the next launch is at {trial_at:%H:%M} UTC"
        return none_more(figures, max(len(busy), warm), hold)
    there = len(figures.instances)
    return Wish(max(min(needed, there + 1), min(figures.desired, there)))
