"""The backlog of a queue: claimable and running jobs, each counted once."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from receipt_dynamo import DynamoClient, Job, JobQueue, Lease, NotFound, UnreadableRow
from receipt_layoutlm.config_documents import is_known_version
from receipt_layoutlm.fleet.names import instance_of

CLOCK_SKEW = timedelta(minutes=1)  # a retried job is due at once, by the clock of the caller


@dataclass(frozen=True)
class KnownJobs:
    """Jobs known from other sources than the queue's index, which lags behind.

    `held` are running ones with their leases, `rescued` have just been requeued, and `named` are the ids of those that
    just became claimable.
    """

    held: Sequence[tuple[Job, Lease]] = ()
    rescued: Sequence[Job] = ()
    named: Sequence[str] = ()


@dataclass(frozen=True)
class Backlog:
    """`waiting` jobs are due, in claim order as far as the index knows; `running` counts jobs on `busy` machines."""

    waiting: Sequence[Job]
    running: int
    busy: Set[str]
    read_at: datetime


def read_backlog(
    queue: JobQueue, name: str, instances: Set[str], maximum: int, known: KnownJobs, now: datetime
) -> Backlog:
    """Read at most `maximum` due entries of a queue, and count the jobs that run on these instances. Raises StoreError.

    Not counted are jobs that are not due and those whose config only a newer worker can read, for which a machine
    would be idle, and jobs that run elsewhere, as on a laptop.
    """
    rescued = {job.job_id: job for job in known.rescued}
    machines = {lease.job_id: instance_of(lease.worker_id) for _, lease in known.held if lease.job_id not in rescued}
    running = {job_id for job_id, machine in machines.items() if machine in instances}
    # the index may still list a rescued job as it was before
    listed = (rescued.get(job.job_id, job) for job in queue.client.iter_backlog(name, queue.now, page=maximum))
    waiting = {job.job_id: job for job in itertools.islice(_claimable(listed, name, now), maximum)}
    newest = itertools.islice(dict.fromkeys(reversed(known.named)), maximum)
    unlisted = itertools.chain(
        rescued.values(), _stored(queue.client, (each for each in newest if each not in waiting))
    )
    for job in _claimable(unlisted, name, now + CLOCK_SKEW):
        if len(waiting) >= maximum:
            break
        waiting.setdefault(job.job_id, job)
    busy = instances & set(machines.values())
    return Backlog(tuple(waiting.values()), len(running - waiting.keys()), busy, now)


def _claimable(jobs: Iterable[Job], name: str, now: datetime) -> Iterator[Job]:
    for job in jobs:
        if job.status.is_claimable and job.queue == name and job.is_due(now) and is_known_version(job.job_config):
            yield job


def _stored(client: DynamoClient, job_ids: Iterable[str]) -> Iterator[Job]:
    """The jobs of these ids; deleted ones are skipped, unreadable ones noted."""
    for job_id in job_ids:
        with contextlib.suppress(NotFound):
            try:
                yield client.get_job(job_id, consistent=True)
            except UnreadableRow as error:
                client.unreadable.add(error.place)
