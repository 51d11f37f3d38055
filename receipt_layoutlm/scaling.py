"""How many machines a queue needs, and when to try again after machines that ended without taking a job: pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

SHORTEST_TRIAL = timedelta(minutes=5)  # as long as an idle machine waits before it ends itself
LONGEST_TRIAL = timedelta(hours=1)


def desired_workers(claimable_now: int, running: int, slots: int, maximum: int, budget: float | None) -> int:
    """Machines wanted: enough for what can be claimed now and what runs, `slots` jobs on each.

    `claimable_now` are jobs that are due; one that waits buys nothing. `maximum` 0 is no machine, not any number.
    `budget` is what is left of the day's dollars, None without a limit; once nothing is left, nothing is wanted.
    """
    if slots < 1 or min(claimable_now, running, maximum) < 0:
        raise ValueError(f"{claimable_now=}, {running=} and {maximum=} cannot be negative, nor {slots=} less than 1")
    if budget is not None and budget <= 0:
        return 0
    return min(maximum, -(-(claimable_now + running) // slots))


def next_trial_at(ended: Sequence[datetime]) -> datetime | None:
    """When the next machine may start, after `ended`: the starts of machines that are gone without a job.

    None when there is nothing of the kind. Each wait is as long as the trials before it took together, so the time
    between two doubles, up to an hour: a wheel that does not start costs one machine's boot a trial, all day long.
    """
    if not ended:
        return None
    last = max(ended)
    return last + min(max(last - min(ended), SHORTEST_TRIAL), LONGEST_TRIAL)
