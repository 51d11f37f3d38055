"""Jobs and visible evaluations of one table, kept a few seconds: a page asks for them many times, and reads cost money.

After the first look at all jobs, a look reads the open jobs, those submitted since, and each that is open no longer.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Final, NamedTuple

from receipt_dynamo import DynamoClient, Job, JobMetric, JobStatus, NotFound, UnreadableRow

FRESH_SECONDS: Final = 5.0  # between two looks at what may change
WHOLE_SECONDS: Final = 60.0  # between two looks at every job, which finds those that were deleted or retried
KEPT_HISTORIES: Final = 200  # jobs whose evaluations are kept; a chart asks for each metric of up to 100
READERS: Final = 16
PAGE: Final = 10  # rows read at a time of the jobs that may have been submitted and ended since the last look

CLOSED: Final = tuple(status for status in JobStatus if status.is_final)
OPEN: Final = tuple(status for status in JobStatus if not status.is_final)


class _Kept(NamedTuple):
    state: object
    read_at: float
    evaluations: tuple[JobMetric, ...]


class TableRecords:
    """What was read of a table; threads share it. `now` is a monotonic clock in seconds."""

    def __init__(self, client: DynamoClient, now: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._now = now
        self._jobs: dict[str, Job] = {}
        self._read_at: float | None = None
        self._whole_at: float | None = None
        self._histories: OrderedDict[str, _Kept] = OrderedDict()
        self._latest: dict[str, _Kept] = {}
        self._jobs_lock, self._histories_lock = threading.Lock(), threading.Lock()

    def jobs(self) -> Mapping[str, Job]:
        """All jobs by id, as they were a few seconds ago at most."""
        with self._jobs_lock:
            now = self._now()
            if self._whole_at is None or now - self._whole_at >= WHOLE_SECONDS:
                self._jobs = self._all_jobs()
                self._latest = {job_id: kept for job_id, kept in self._latest.items() if job_id in self._jobs}
                self._whole_at = self._read_at = now
            elif self._read_at is None or now - self._read_at >= FRESH_SECONDS:
                self._jobs = self._changed_jobs(self._jobs)
                self._read_at = now
            return self._jobs

    def _all_jobs(self) -> dict[str, Job]:
        with ThreadPoolExecutor(len(JobStatus)) as pool:  # a long list is read page after page
            listed = list(pool.map(self.client.list_jobs_by_status, JobStatus))
        return {job.job_id: job for jobs in listed for job in jobs}

    def _changed_jobs(self, known: Mapping[str, Job]) -> dict[str, Job]:
        newest = max((job.created_at for job in known.values()), default=None)
        is_new = (lambda job: job.created_at > newest) if newest else (lambda _job: True)
        jobs = {job_id: job for job_id, job in known.items() if job.status in CLOSED}
        for status in CLOSED:
            new = takewhile(is_new, self.client.iter_jobs_by_status(status, page=PAGE))
            jobs |= {job.job_id: job for job in new}
        for status in OPEN:
            jobs |= {job.job_id: job for job in self.client.list_jobs_by_status(status)}
        for job_id in known.keys() - jobs.keys():  # open no longer; the index may also lag behind a change
            try:
                jobs[job_id] = self.client.get_job(job_id)
            except (NotFound, UnreadableRow):
                continue
        return jobs

    def evaluations(self, job: Job) -> tuple[JobMetric, ...]:
        """The visible evaluations of a job, in time order."""
        with self._histories_lock:
            kept = self._histories.get(job.job_id)
        if kept is None or not self._is_current(kept, job):
            kept = _Kept(_state(job), self._now(), tuple(self.client.list_job_metrics(job.job_id)))
            with self._histories_lock:
                self._histories[job.job_id] = kept
                while len(self._histories) > KEPT_HISTORIES:
                    self._histories.popitem(last=False)
        return kept.evaluations

    def latest(self, jobs: Iterable[Job]) -> dict[str, JobMetric | None]:
        """The last visible evaluation of each of these jobs, by id; None for a job without one."""
        wanted = list(jobs)
        unknown = [job for job in wanted if (job.attempt or job.status.is_final) and not self._is_known(job)]
        if unknown:
            with ThreadPoolExecutor(min(READERS, len(unknown))) as pool:
                for job, kept in zip(unknown, pool.map(self._read_latest, unknown), strict=True):
                    self._latest[job.job_id] = kept
        return self.known_latest(wanted)

    def known_latest(self, jobs: Iterable[Job]) -> dict[str, JobMetric | None]:
        """As `latest`, as far as it was read before."""
        return {
            job.job_id: kept.evaluations[-1] if (kept := self._latest.get(job.job_id)) and kept.evaluations else None
            for job in jobs
        }

    def _read_latest(self, job: Job) -> _Kept:
        newest = self.client.newest_job_metric(job.job_id)
        # a later attempt may have resumed before it, and one of the original system is spread over several rows
        is_last = newest is not None and newest.attempt == job.attempt
        last = (newest,) if newest is not None and is_last else self.evaluations(job)[-1:]
        return _Kept(_state(job), self._now(), last)

    def _is_known(self, job: Job) -> bool:
        kept = self._latest.get(job.job_id)
        return kept is not None and self._is_current(kept, job)

    def _is_current(self, kept: _Kept, job: Job) -> bool:
        is_recent = job.status.is_final or self._now() - kept.read_at < FRESH_SECONDS
        return kept.state == _state(job) and is_recent


def _state(job: Job) -> object:
    """Equal for two looks at a job that has ended: nothing is evaluated between them."""
    return job.status, job.attempt, job.ended_at
