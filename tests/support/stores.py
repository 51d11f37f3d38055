"""A queue and a bucket on the session's engines, with a clock that only the test moves."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from receipt_dynamo import DynamoClient, Job, JobQueue, Lease, Storage
from receipt_layoutlm.storage.bucket import Bucket


@dataclass
class Clock:
    """Starts at noon and moves when told; every reading is a microsecond later."""

    time: datetime = field(default_factory=lambda: datetime(2026, 1, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        self.time += timedelta(microseconds=1)
        return self.time

    def pass_seconds(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.time.timestamp()


@dataclass
class Store:
    """One table and one bucket."""

    queue: JobQueue
    bucket: Bucket
    clock: Clock

    def submit(self, name: str = "a-job", **more: object) -> Job:
        storage = Storage(bucket=self.bucket.name)
        return self.queue.submit(name=name, config={"config_version": 1}, created_by="tests", storage=storage, **more)  # type: ignore[arg-type]

    def claimed(self, name: str = "a-job") -> Lease:
        self.submit(name)
        lease = self.queue.claim("worker-1")
        assert lease is not None
        return lease


def open_store(table_name: str, dynamo_endpoint: str, bucket: str, s3_endpoint: str) -> Store:
    clock = Clock()
    client = DynamoClient(table_name, endpoint_url=dynamo_endpoint)
    return Store(JobQueue(client, now=clock), Bucket(bucket, endpoint_url=s3_endpoint), clock)
