"""The limit of what all attempts of a job may cost: which workers claim it, and when its trainer has to stop."""

import logging
from collections.abc import Sequence
from datetime import datetime

from receipt_dynamo import Attempt, Job, Machine
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.errors import UserError

log = logging.getLogger(__name__)


class CostReached(UserError):
    """A job that may cost no more; the text has both figures."""


def knows_cost(job: Job, machine: Machine) -> bool:
    """Whether a machine can keep the job's limit. A job with one is left to workers that know their price."""
    if job.max_cost is None or machine.price_per_hour is not None:
        return True
    log.warning(
        "job %s has --max-cost, and the price of this machine is unknown: left to a worker that knows its price "
        "(`layoutlm-cli worker run --price-per-hour 0.35`)",
        job.name,
    )
    return False


def spent(attempts: Sequence[Attempt], now: datetime) -> float:
    """US dollars of all attempts until now, by the price of each at its claim.

    One without a price counts at that of the newest attempt, and so does one whose worker is lost, until its lease
    ended.
    """
    own = attempts[-1].machine.price_per_hour if attempts else None
    dollars = 0.0
    for attempt in attempts:
        price = own if attempt.machine.price_per_hour is None else attempt.machine.price_per_hour
        seconds = ((attempt.ended_at or now) - attempt.started_at).total_seconds()
        dollars += (price or 0.0) * max(0.0, seconds) / 3600
    return dollars


def check_cost(limit: float, attempts: Sequence[Attempt], now: datetime) -> float:
    """Seconds that the newest attempt may still run. Raises CostReached, ConfigError for an unknown price."""
    price = attempts[-1].machine.price_per_hour
    if price is None:
        raise ConfigError(
            "--max-cost: the price of this machine is unknown, so the limit cannot be kept: "
            "`layoutlm-cli worker run --price-per-hour 0.35`"
        )
    left = limit - spent(attempts, now)
    if left <= 0:
        raise CostReached(reached(limit, attempts, now))
    return left / price * 3600 if price else float("inf")


def reached(limit: float, attempts: Sequence[Attempt], now: datetime) -> str:
    """Both figures, and the way out."""
    dollars = spent(attempts, now)
    more = retry_command(attempts[-1].job_id[:8], dollars)
    return f"its attempts cost {dollars:.4f} dollars, and --max-cost is {limit:g}; {more} resumes it with more"


def retry_command(job: str, dollars: float) -> str:
    """The command that resumes a job with a limit of twice what it has cost, rounded up to a cent."""
    return f"`layoutlm-cli job retry {job} --max-cost {2 * dollars + 0.005:.2f}`"
