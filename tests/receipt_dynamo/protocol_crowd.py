"""One of a crowd: claims until nothing is left, over a line of its own that may lose, refuse and conflict."""

import json
import random
import time
from collections.abc import Callable

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from receipt_dynamo import DynamoClient, JobQueue, StoreError
from receipt_dynamo.reads import Reader
from receipt_dynamo.writes import Writer
from tests.receipt_dynamo.protocol_faults import READS, REFUSALS, response, retry_at_once

ON_READS = ("throttle", "500", "lost")
ON_WRITES = (*ON_READS, "conflict", "conflict and a failed condition", "in progress")

Claim = tuple[str, int, str]  # job, attempt, token


def disturb(client: DynamoClient, share: float, seed: int) -> None:
    """Let a share of the requests end badly, botocore's and the writer's repetitions included."""
    rng, session = random.Random(seed), URLLib3Session()

    def before_send(request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        if rng.random() >= share:
            return None
        name = event_name.rpartition(".")[2]
        kind = rng.choice(ON_READS if name in READS else ON_WRITES)
        if kind == "lost":
            session.send(request)
            raise ReadTimeoutError(endpoint_url=request.url)
        body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
        status, reply = REFUSALS[kind](name, json.loads(body))
        return response(request, status, json.dumps(reply).encode())

    client.raw.meta.events.register_first("before-send.dynamodb", before_send)
    client.raw.meta.events.register_first("needs-retry.dynamodb", retry_at_once)
    no_wait: Callable[[float], None] = lambda _seconds: None  # noqa: E731
    client.writer = Writer(client.raw, client.table_name, monotonic=time.monotonic, sleep=no_wait)
    client.reader = Reader(client.raw, client.table_name, monotonic=time.monotonic, sleep=no_wait)


def claim_all(endpoint: str, table: str, name: str, share: float, seed: int) -> list[Claim]:
    """What one worker was given, until there was nothing."""
    client = DynamoClient(table, endpoint_url=endpoint)
    if share:
        disturb(client, share, seed)
    queue, claims = JobQueue(client), []
    while True:
        try:
            lease = queue.claim(name)
        except StoreError:  # a lost read is repeated once, by botocore: a worker asks again
            continue
        if lease is None:
            return claims
        claims.append((lease.job_id, lease.attempt, str(lease.lease_token)))
