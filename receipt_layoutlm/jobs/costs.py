"""What jobs cost: seconds and US dollars of their attempts, by tag, submitter, experiment or any option."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from receipt_dynamo import Attempt, DynamoClient, Job, JobStatus
from receipt_layoutlm.jobs.where import value_of

NO_VALUE = "(none)"


@dataclass
class Spent:
    """Of the attempts of some jobs; `unpriced_seconds` are those of machines whose price is unknown."""

    group: str
    jobs: set[str] = field(default_factory=set)
    seconds: float = 0.0
    unpriced_seconds: float = 0.0
    cost: float = 0.0  # US dollars

    def add(self, job: Job, attempt: Attempt, seconds: float) -> None:
        self.jobs.add(job.job_id)
        self.seconds += seconds
        if attempt.machine.price_per_hour is None:
            self.unpriced_seconds += seconds
        else:
            self.cost += attempt.machine.price_per_hour * seconds / 3600


def jobs_since(client: DynamoClient, since: datetime | None) -> Iterator[Job]:
    """Jobs that were claimed, and ran at this time or later."""
    for status in JobStatus:
        for job in client.iter_jobs_by_status(status):
            if job.attempt and (since is None or job.ended_at is None or job.ended_at > since):
                yield job


def spent(
    client: DynamoClient, jobs: Iterable[Job], by: str, since: datetime | None, on_job: Callable[[], None]
) -> list[Spent]:
    """By group, the most expensive first; `by` is user, experiment, the key of a tag as tag:KEY, or any option.

    Time before `since` is not counted. `on_job` is called after each job. One query a job.
    """
    now, groups = client.now(), dict[str, Spent]()
    for job in jobs:
        name = group_of(job, by)
        for attempt in client.list_attempts(job.job_id):
            started = max(attempt.started_at, since) if since else attempt.started_at
            seconds = ((attempt.ended_at or now) - started).total_seconds()
            if seconds > 0:
                groups.setdefault(name, Spent(name)).add(job, attempt, seconds)
        on_job()
    return sorted(groups.values(), key=lambda each: (-each.cost, -each.seconds, each.group))


def group_of(job: Job, by: str) -> str:
    """The text of the group that a job belongs to."""
    kind, _, key = by.partition(":")
    if by == "label":
        learnt = job.job_config.get("allowed_labels")
        return ", ".join(sorted(map(str, learnt))) if isinstance(learnt, list) and learnt else NO_VALUE
    value = job.tags.get(key) if kind == "tag" else value_of(job, by)
    return NO_VALUE if value in (None, "") else str(value)
