"""DynamoClient: one method per access pattern. Only JobQueue changes the status of a job.

`list_*` returns everything, or the first `limit`; `iter_*` pages lazily. Jobs come newest first, metrics and
logs in time order. Rows that cannot be read are left out, with a warning in the log.
"""

import contextlib
import heapq
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from pynamodb.expressions.condition import Condition

from receipt_dynamo import items
from receipt_dynamo.alert_items import ALERT_PREFIX, ALERTS_KEY, alert_from, raised_range
from receipt_dynamo.arguments import checked
from receipt_dynamo.connection import per_process
from receipt_dynamo.entities import (
    FIRST_TIME,
    Alert,
    Attempt,
    Dataset,
    Event,
    ForgottenPage,
    Job,
    JobLog,
    JobMetric,
    JobStatus,
    JsonObject,
    Lease,
    Priority,
    Promotion,
    later,
    parse_job_id,
    parse_status,
)
from receipt_dynamo.errors import (
    AlreadyExists,
    InvalidInput,
    LeaseLost,
    NotFound,
    StateConflict,
    UnreadableRow,
    store_error,
)
from receipt_dynamo.frames import jobs_frame, metrics_frame
from receipt_dynamo.gateway import refuse_gateways
from receipt_dynamo.items import ExclusionsItem, ForgottenPageItem, JobLogItem, JobMetricItem, LeaseItem, RawItem
from receipt_dynamo.limits import check_lengths
from receipt_dynamo.local_table import find_local_table, local_session
from receipt_dynamo.metrics_view import OriginalValue, evaluation_from, fold_original_rows, visible
from receipt_dynamo.model_items import VERSION_PREFIX, promotion_from, stage_pk
from receipt_dynamo.notebook import Records
from receipt_dynamo.reads import Reader
from receipt_dynamo.server_clock import ServerClock
from receipt_dynamo.unreadable import read, readable
from receipt_dynamo.writes import ConditionFailed, Write, Writer, check, delete, put, update

if TYPE_CHECKING:
    import pandas
    from mypy_boto3_dynamodb import DynamoDBClient

R = TypeVar("R")
MOST_ROWS = 1000  # of one reply; more fill its 1 MB anyway
DEFAULT_REGION = "us-east-1"
EVENT_PAGE = 5  # rows read for the newest event: more than one, because other programs leave notes
_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})


def resolve_region(region: str | None = None) -> str:
    """Region by argument, AWS_REGION, AWS_DEFAULT_REGION, profile, then us-east-1."""
    # botocore itself reads AWS_DEFAULT_REGION and the profile
    configured = region or os.environ.get("AWS_REGION") or botocore.session.get_session().get_config_variable("region")
    return configured or DEFAULT_REGION


def fence(lease: Lease) -> Condition:
    """Holds while this attempt owns the job: the condition of every worker-side write."""
    holds: Condition = (LeaseItem.attempt == lease.attempt) & (LeaseItem.lease_token == lease.lease_token)
    return holds


def claim_order(job: Job) -> tuple[int, datetime, str]:
    """Sorts jobs by priority, then age."""
    return job.priority.rank, job.created_at, job.job_id


def _first(records: Iterable[R], limit: int | None) -> Records[R]:
    # a bool is an int to Python: limit=True would silently return one record
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InvalidInput(f"limit is {limit!r}: give a positive integer, or None for all")
    return Records(itertools.islice(records, None if limit is None else min(limit, sys.maxsize)))


def _page(limit: int | None) -> int | None:
    """How many rows one reply needs: a limit that is given, and that DynamoDB accepts."""
    return min(limit, MOST_ROWS) if isinstance(limit, int) and limit > 0 else None


def checked_client(client: object) -> "DynamoClient":
    """The client itself. Raises InvalidInput for anything else, such as a table's name."""
    if not isinstance(client, DynamoClient):
        raise InvalidInput(f"client is {client!r}: give a DynamoClient, such as DynamoClient('TABLE')")
    return client


class DynamoClient:
    """Reads one table and creates rows in it.

    Owns its botocore client, so many may be alive at once, in threads too; a forked process gets one of its own.
    """

    def __init__(
        self,
        table_name: str,
        region: str | None = None,
        endpoint_url: str | None = None,
        *,
        session: botocore.session.Session | None = None,
    ) -> None:
        """Requests use the credentials of `session`, by default those of the environment and the profile."""
        if not isinstance(table_name, str) or not table_name:
            raise InvalidInput(f"table_name is {table_name!r}: give the name of a table")
        self.table_name = table_name
        self.clock = ServerClock()
        self.unreadable: set[str] = set()  # places of the rows that were left out of lists, until the caller clears it
        self._with_waiting: set[str] = set()  # queues in which a job waited at the last look

        def connect() -> "DynamoDBClient":
            created = cast(
                "DynamoDBClient",
                (session or botocore.session.get_session()).create_client(
                    "dynamodb", region_name=resolve_region(region), endpoint_url=endpoint_url, config=_CONFIG
                ),
            )
            self.clock.follow(created)
            refuse_gateways(created)  # before the clock believes their dates
            return created

        try:
            self.raw = per_process(connect)
        except BotoCoreError as error:
            raise store_error(error, table_name) from error
        self.writer = Writer(self.raw, table_name)
        self.reader = Reader(self.raw, table_name)

    @classmethod
    def local(cls) -> Self:
        """A client of the embedded table of `layoutlm-cli --local`. Raises StoreUnavailable when it is not running."""
        table = find_local_table(os.environ)
        return cls(table.name, table.region, table.endpoint_url, session=local_session(table))

    def __repr__(self) -> str:
        return f"DynamoClient({self.table_name!r}, region={self.raw.meta.region_name!r})"

    def now(self) -> datetime:
        """The server's time, by the replies so far; the machine's own before the first one."""
        return self.clock()

    # jobs

    @checked
    def get_job(self, job_id: str, *, consistent: bool = False) -> Job:
        """Raises NotFound, or InvalidInput for a malformed id."""
        raw = self.get_row(items.job_key(parse_job_id(job_id)), consistent=consistent)
        if raw is None:
            raise NotFound(f"no job {job_id} in table {self.table_name!r}")
        return read(items.job_from, raw)

    @checked
    def iter_jobs_by_status(
        self, status: str, *, page: int | None = None, created: items.TimeRange = items.ALWAYS
    ) -> Iterator[Job]:
        """Newest first; `created` bounds the submission, both times included."""
        partition = items.status_pk(parse_status(status))
        return self._readable(items.job_from, self._created("GSI1", partition, page, created))

    @checked
    def list_jobs_by_status(self, status: str, limit: int | None = None) -> list[Job]:
        return _first(self.iter_jobs_by_status(status, page=_page(limit)), limit)

    @checked
    def iter_results(self, status: str) -> Iterator[tuple[str, JsonObject]]:
        """Id and results of the jobs of a status, newest first, without the rest of their rows."""
        rows = self._query(
            "GSI1",
            items.status_pk(parse_status(status)),
            prefix=items.CREATED_PREFIX,
            newest_first=True,
            attributes=("PK", "results"),
        )
        return self._readable(items.results_from, rows)

    @checked
    def list_jobs(self, limit: int | None = None) -> list[Job]:
        """Jobs of every status: one query (or more pages) per status."""
        jobs = itertools.chain.from_iterable(self.list_jobs_by_status(status, limit) for status in JobStatus)
        return _first(sorted(jobs, key=lambda job: job.created_at, reverse=True), limit)

    def jobs_frame(self, limit: int | None = None) -> "pandas.DataFrame":
        """The jobs, newest first, as a frame of pandas: see receipt_dynamo.frames. Raises NoPandas."""
        return jobs_frame(self.list_jobs(limit))

    def metrics_frame(self, job_id: str) -> "pandas.DataFrame":
        """The visible evaluations of a job as a frame of pandas: see receipt_dynamo.frames. Raises NoPandas."""
        return metrics_frame(self.list_job_metrics(job_id))

    @checked
    def iter_jobs_by_name(
        self, name: str, *, page: int | None = None, created: items.TimeRange = items.ALWAYS
    ) -> Iterator[Job]:
        """Newest first; `created` bounds the submission, both times included."""
        return self._readable(items.job_from, self._created("GSI2", items.name_pk(name), page, created))

    @checked
    def list_jobs_by_name(self, name: str, limit: int | None = None) -> list[Job]:
        return _first(self.iter_jobs_by_name(name, page=_page(limit)), limit)

    def _created(self, index: str, partition: str, page: int | None, created: items.TimeRange) -> Iterator[RawItem]:
        # the prefix excludes the rows that the original system stores in the same partition
        if created == items.ALWAYS:
            return self._query(index, partition, prefix=items.CREATED_PREFIX, newest_first=True, page=page)
        return self._query(index, partition, between=items.created_range(created), newest_first=True, page=page)

    @checked
    def iter_queue(self, queue: str = "default", *, page: int | None = None) -> Iterator[Job]:
        """Claimable jobs in claim order, read `page` at a time (default: as many as fit into one reply).

        A hint: the index lags behind the table, so claim reads the lease consistently.
        """
        return self._readable(items.job_from, self._query("GSI3", items.queue_pk(queue), page=page))

    @checked
    def iter_due(self, queue: str, now: Callable[[], datetime], *, page: int) -> Iterator[Job]:
        """Jobs of a queue that are due, by priority, then age, read `page` at a time.

        One query while the queue is shorter than a page and no job waits for a time, else up to six. Of the jobs that
        waited, the `page` of each priority that were due first take part in the order. A hint, as the index lags.
        """
        partition, is_known = items.queue_pk(queue), queue in self._with_waiting
        rows = self._query("GSI3", partition, page=page, between=items.READY_RANGE if is_known else None)
        head = list(itertools.islice(rows, page))
        early = itertools.takewhile(lambda raw: not items.is_later(raw), itertools.chain(head, rows))
        ready = self._readable(items.job_from, early)
        waited: Sequence[Job] = ()
        if is_known or len(head) == page or any(map(items.is_later, head)):
            waited = self._waited(queue, now(), page)
        return heapq.merge((job for job in ready if job.is_due(now())), waited, key=claim_order)

    @checked
    def iter_backlog(self, queue: str, now: Callable[[], datetime], *, page: int) -> Iterator[Job]:
        """Jobs of a queue that are due, those that waited for a time last. Reads no page more than its caller takes."""
        rows = self._query("GSI3", items.queue_pk(queue), page=page)
        for waits, some in itertools.groupby(rows, key=items.is_later):
            if waits:
                yield from self._waited(queue, now(), page)
                return
            yield from (job for job in self._readable(items.job_from, some) if job.is_due(now()))

    def _waited(self, queue: str, now: datetime, page: int) -> Sequence[Job]:
        """Jobs of a queue that waited for a time, and are due. Notes whether any waits."""
        partition = items.queue_pk(queue)
        if next(self._query("GSI3", partition, prefix=items.LATER_PREFIX, page=1), None) is None:
            self._with_waiting.discard(queue)
            return ()
        self._with_waiting.add(queue)
        due = (self._query("GSI3", partition, between=items.due_range(rank, now), page=page) for rank in Priority)
        jobs = self._readable(
            items.job_from, itertools.chain.from_iterable(itertools.islice(rows, page) for rows in due)
        )
        return sorted((job for job in jobs if job.is_due(now)), key=claim_order)

    @checked
    def iter_job_rows(self, job_id: str) -> Iterator[RawItem]:
        """Keys of all items of a job."""
        for raw in self._query(None, items.job_pk(parse_job_id(job_id))):
            yield items.key(raw["PK"]["S"], raw["SK"]["S"])

    @checked
    def list_promotions(self, stage: str, limit: int | None = None) -> list[Promotion]:
        """Versions of a stage, the one in use first. Consistent reads."""
        rows = self._query(None, stage_pk(stage), prefix=VERSION_PREFIX, newest_first=True, page=_page(limit))
        return _first(self._readable(partial(promotion_from, stage), rows), limit)

    @checked
    def list_alerts(self, since: datetime | None = None) -> list[Alert]:
        """Alerts of all jobs, the newest first; only those raised at `since` or later."""
        rows = self._query("GSI1", ALERTS_KEY, between=raised_range(since or FIRST_TIME), newest_first=True)
        return Records(self._readable(alert_from, rows))

    @checked
    def list_job_alerts(self, job_id: str) -> list[Alert]:
        """Alerts of one job, the newest first. A consistent read."""
        rows = self._query(None, items.job_pk(parse_job_id(job_id)), prefix=ALERT_PREFIX)
        return Records(sorted(self._readable(alert_from, rows), key=lambda alert: alert.raised_at, reverse=True))

    # lease and attempts

    @checked
    def get_lease(self, job_id: str) -> Lease:
        """A consistent read. Raises NotFound: jobs of the original system have no lease and are read-only."""
        raw = self.get_row(items.lease_key(parse_job_id(job_id)), consistent=True)
        if raw is None:
            raise NotFound(f"job {job_id} has no lease: a job of the original system is read-only")
        return read(items.lease_from, raw)

    @checked
    def get_attempt(self, job_id: str, attempt: int) -> Attempt:
        raw = self.get_row(items.attempt_key(parse_job_id(job_id), attempt), consistent=True)
        if raw is None:
            raise NotFound(f"job {job_id} has no attempt {attempt}")
        return read(items.attempt_from, raw)

    @checked
    def list_attempts(self, job_id: str) -> list[Attempt]:
        partition = items.job_pk(parse_job_id(job_id))
        return Records(self._readable(items.attempt_from, self._query(None, partition, prefix=items.ATTEMPT_PREFIX)))

    @checked
    def claimable_since(self, job: Job, last_attempt: int) -> datetime:
        """When a job became claimable after its last attempt (0: none): submitted, released, or due after a backoff."""
        since = job.created_at
        if last_attempt:
            with contextlib.suppress(NotFound, UnreadableRow):
                since = self.get_attempt(job.job_id, last_attempt).ended_at or since
        return max(since, job.not_before) if job.not_before else since

    # metrics and logs

    @checked
    def list_job_metrics(self, job_id: str) -> list[JobMetric]:
        """Evaluations that the published checkpoint contains; list_all_job_metrics returns the others too."""
        return Records(visible(self.list_all_job_metrics(job_id), self.list_attempts(job_id)))

    @checked
    def list_all_job_metrics(self, job_id: str, *, after: datetime | None = None) -> list[JobMetric]:
        """Evaluations of every attempt, including those that a later attempt repeated; only those `after` a time."""
        job_id = parse_job_id(job_id)
        start = items.metric_key(job_id, after) if after else None
        rows = self._query(None, items.job_pk(job_id), prefix=items.METRIC_PREFIX, start=start)
        stored = list(self._readable(evaluation_from, rows))
        ours = [metric for metric in stored if isinstance(metric, JobMetric)]
        original = fold_original_rows(job_id, [row for row in stored if isinstance(row, OriginalValue)])
        return sorted([*ours, *original], key=lambda metric: metric.timestamp)

    @checked
    def newest_job_metric(self, job_id: str) -> JobMetric | None:
        """The newest evaluation of any attempt; None without one, and for one of the original system's rows."""
        rows = self._query(
            None, items.job_pk(parse_job_id(job_id)), prefix=items.METRIC_PREFIX, newest_first=True, page=1
        )
        newest = next(self._readable(evaluation_from, rows), None)
        return newest if isinstance(newest, JobMetric) else None

    @checked
    def iter_job_logs(self, job_id: str, *, page: int | None = None, after: datetime | None = None) -> Iterator[JobLog]:
        """Events in time order; only those `after` a time."""
        job_id = parse_job_id(job_id)
        start = items.log_key(job_id, after) if after else None
        rows = self._query(None, items.job_pk(job_id), prefix=items.LOG_PREFIX, page=page, start=start)
        return self._readable(items.log_from, rows)

    @checked
    def newest_job_logs(self, job_id: str, limit: int) -> list[JobLog]:
        """The last events, in time order."""
        partition = items.job_pk(parse_job_id(job_id))
        rows = self._query(None, partition, prefix=items.LOG_PREFIX, newest_first=True, page=_page(limit))
        return _first(self._readable(items.log_from, rows), limit)[::-1]

    @checked
    def list_job_logs(self, job_id: str, limit: int | None = None) -> list[JobLog]:
        return _first(self.iter_job_logs(job_id, page=_page(limit)), limit)

    @checked
    def last_event_at(self, job_id: str) -> datetime | None:
        """Time of the newest evaluation or event of a worker: the next attempt's come after it."""
        partition = items.job_pk(parse_job_id(job_id))
        newest = []
        for prefix in (items.METRIC_PREFIX, items.LOG_PREFIX):
            rows = self._query(None, partition, prefix=prefix, newest_first=True, page=EVENT_PAGE)
            newest += [next(filter(None, map(items.own_event_time, rows)), None)]
        return max(filter(None, newest), default=None)

    @checked
    def add_job_metric(self, lease: Lease, metric: JobMetric) -> JobMetric:
        """Store one evaluation under the lease's fence; returns it with its final timestamp. Raises LeaseLost."""
        return self._add_event(
            lease, metric, lambda moved: put(items.metric_item(moved), JobMetricItem.pk.does_not_exist())
        )

    @checked
    def add_job_log(self, lease: Lease, log: JobLog) -> JobLog:
        """Store one event under the lease's fence; returns it with its final timestamp. Raises LeaseLost."""
        return self._add_event(lease, log, lambda moved: put(items.log_item(moved), JobLogItem.pk.does_not_exist()))

    def _add_event(self, lease: Lease, event: Event, as_put: Callable[[Event], Write]) -> Event:
        while True:
            try:
                self.writer.execute(as_put(event), check(items.lease_key(lease.job_id), fence(lease)))
                return event
            except ConditionFailed as lost:
                stored = lost.losers[0] or {}
                numbers = [stored.get(name, {}).get("N") for name in ("attempt", "seq")]
                if numbers == [str(event.attempt), str(event.seq)]:
                    return event  # our own write, whose reply was lost
                if lost.failed[1]:
                    raise LeaseLost(
                        f"attempt {lease.attempt} of job {lease.job_id} no longer holds its lease"
                    ) from None
                event = later(event)

    # datasets

    @checked
    def add_dataset(self, dataset: Dataset, exclusions: int) -> None:
        """Store a snapshot whose pages were not excluded when `exclusions` was read.

        Raises AlreadyExists when a snapshot of that name and time exists, StateConflict when pages were excluded since,
        InvalidInput for too many labels.
        """
        check_lengths(labels=dict(dataset.labels))
        version = ExclusionsItem.version
        unchanged: Condition = version == exclusions if exclusions else version.does_not_exist()
        try:
            self.writer.execute(
                put(items.dataset_item(dataset), items.DatasetItem.pk.does_not_exist()),
                check(items.exclusions_key(), unchanged),
            )
        except ConditionFailed as lost:
            if not lost.failed[0]:
                raise StateConflict(f"pages were excluded while snapshot {dataset.name!r} was being made") from None
            raise AlreadyExists(f"dataset {dataset.name!r} has a snapshot of {dataset.created_at}") from None

    def list_datasets(self) -> list[Dataset]:
        """Every snapshot, newest first."""
        rows = self._query("GSI1", items.DATASETS_KEY, prefix=items.CREATED_PREFIX, newest_first=True)
        return list(self._readable(items.dataset_from, rows))

    @checked
    def get_dataset(self, name: str, fingerprint: str | None = None) -> Dataset:
        """The newest snapshot of a name, or the one whose fingerprint starts with the given text. Raises NotFound."""
        rows = self._query(None, items.dataset_pk(name), prefix=items.SNAPSHOT_PREFIX, newest_first=True)
        for dataset in self._readable(items.dataset_from, rows):
            if dataset.fingerprint.startswith(fingerprint or ""):
                return dataset
        reference = name if fingerprint is None else f"{name}@{fingerprint}"
        raise NotFound(f"no dataset {reference!r}: `layoutlm-cli dataset list` shows the stored ones")

    # excluded pages

    def count_exclusions(self) -> int:
        """How often pages were excluded: to be read before the excluded pages, and given to add_dataset."""
        raw = self.get_row(items.exclusions_key(), consistent=True)
        return 0 if raw is None else read(lambda row: int(items.values_of(ExclusionsItem, row)["version"]), raw)

    @checked
    def add_forgotten(self, page: ForgottenPage) -> None:
        """Raises AlreadyExists when the page is forgotten already; the first record stays."""
        try:
            self.writer.execute(
                put(items.forgotten_item(page), ForgottenPageItem.pk.does_not_exist()),
                update(items.exclusions_key(), [ExclusionsItem.version.set((ExclusionsItem.version | 0) + 1)]),
            )
        except ConditionFailed:
            raise AlreadyExists(f"page {page.page_id!r} is forgotten already") from None

    @checked
    def remove_forgotten(self, page_id: str) -> None:
        """Allow the page in new snapshots again. Idempotent."""
        self.writer.execute(delete(items.forgotten_key(page_id)))

    def list_forgotten(self) -> list[ForgottenPage]:
        """Every forgotten page, by page id; a consistent read."""
        rows = self._query(None, items.DATASETS_KEY, prefix=items.FORGOTTEN_PREFIX)
        return list(self._readable(items.forgotten_from, rows))

    # requests

    def _readable(self, parse: Callable[[RawItem], R], rows: Iterable[RawItem]) -> Iterator[R]:
        return readable(parse, rows, self.unreadable.add)

    def get_row(self, key: RawItem, *, consistent: bool) -> RawItem | None:
        """One item by its key, as stored, or None."""
        return self.reader.get(key, consistent=consistent)

    def _query(
        self,
        index: str | None,
        partition: str,
        *,
        prefix: str = "",
        newest_first: bool = False,
        page: int | None = None,
        start: RawItem | None = None,
        between: tuple[str, str] | None = None,
        attributes: Sequence[str] = (),
    ) -> Iterator[RawItem]:
        """Rows of a partition, page after page, from after the key `start`.

        All of them, those whose sort key starts with `prefix`, or those with one `between` two texts. `attributes`
        leaves out the others, except the keys, by which the reader checks the reply.
        """
        names = (f"{index}PK", f"{index}SK") if index else ("PK", "SK")
        others = {name: f"#a{number}" for number, name in enumerate(attributes) if name not in names}
        request: RawItem = {
            "KeyConditionExpression": "#p = :p"
            + (" AND begins_with(#s, :s)" if prefix else " AND #s BETWEEN :from AND :to" if between else ""),
            "ExpressionAttributeNames": {
                "#p": names[0],
                **({"#s": names[1]} if prefix or between or attributes else {}),
                **{placeholder: name for name, placeholder in others.items()},
            },
            "ExpressionAttributeValues": {
                ":p": {"S": partition},
                **({":s": {"S": prefix}} if prefix else {}),
                **({":from": {"S": between[0]}, ":to": {"S": between[1]}} if between else {}),
            },
            **({"ProjectionExpression": ", ".join(("#p", "#s", *others.values()))} if attributes else {}),
            "ScanIndexForward": not newest_first,
            # an index cannot be read consistently
            **({"IndexName": index} if index else {"ConsistentRead": True}),
            **({"Limit": page} if page else {}),
            **({"ExclusiveStartKey": start} if start else {}),
        }
        for reply in self.reader.pages(request):
            yield from map(dict, reply["Items"])
