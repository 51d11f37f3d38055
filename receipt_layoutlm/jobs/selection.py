"""Selects jobs by what their rows say: time, name, status, tags, submitter, conditions on options and scores."""

import heapq
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from receipt_dynamo import DynamoClient, Job, JobStatus
from receipt_layoutlm.jobs.where import Condition, value_of

PAGE = 100
"""Jobs read at a time where the rows themselves are asked: more than a condition lets through, as a rule."""


@dataclass(frozen=True)
class Wanted:
    """Which jobs: all that are given have to hold. `created`: first and last time of the submission."""

    status: str | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    created: tuple[datetime | None, datetime | None] = (None, None)
    where: Condition | None = None

    def matches(self, job: Job) -> bool:
        """Raises BadCondition."""
        return (
            self.status in (None, job.status)
            and self.user in (None, job.created_by)
            and all(job.tags.get(key) == value for key, value in self.tags.items())
            and (self.where is None or self.where.holds(job))
        )


def select_jobs(client: DynamoClient, wanted: Wanted, sort: str | None, limit: int) -> list[Job]:
    """At most so many jobs, newest first, or with the greatest value of a score, an option or a fact first.

    `sort` with a leading `-` puts the smallest value first; jobs without a value come last. The index answers name,
    status and time; rows are read a page at a time until there are enough. With `sort` all that match are read.
    Raises BadCondition.
    """
    seen = list[Job]()

    def matching() -> Iterator[Job]:
        for job in _newest_first(client, wanted, None if sort else limit):
            seen.append(job)
            if wanted.matches(job):
                yield job

    found = list(matching() if sort else itertools.islice(matching(), limit))
    if wanted.where:
        wanted.where.check_names(seen)
    if sort is None:
        return found
    name, falling = sort.removeprefix("-"), not sort.startswith("-")
    ranked = [(value, job) for job in found if (value := value_of(job, name)) is not None]
    if not ranked and found:
        Condition(name).check_names(found)
    ranked.sort(key=lambda each: _sortable(each[0]), reverse=falling)
    return [*(job for _, job in ranked), *(job for job in found if value_of(job, name) is None)][:limit]


def _newest_first(client: DynamoClient, wanted: Wanted, limit: int | None) -> Iterator[Job]:
    """Read so many at a time, or as many as fit into a reply where all are read."""
    by_index = wanted == Wanted(wanted.status, wanted.name, created=wanted.created)
    page = None if limit is None else min(limit, PAGE) if by_index else PAGE
    if wanted.name is not None:
        return client.iter_jobs_by_name(wanted.name, page=page, created=wanted.created)
    statuses = [JobStatus(wanted.status)] if wanted.status else list(JobStatus)
    each = (client.iter_jobs_by_status(status, page=page, created=wanted.created) for status in statuses)
    return heapq.merge(*each, key=lambda job: job.created_at, reverse=True)


def _sortable(value: JsonValue) -> tuple[bool, float, str]:
    """Numbers below texts, so that any two values have an order."""
    number = isinstance(value, int | float)
    return not number, float(value) if isinstance(value, int | float) else 0.0, "" if number else str(value)
