"""A client and a queue on the local engine, with an injected clock."""

import random

import pytest

from receipt_dynamo import DynamoClient, JobQueue
from tests.support.jobs import NOON
from tests.support.stores import Clock
from tests.support.wire import Patience, Wire


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def client(table_name: str, dynamo_endpoint: str) -> DynamoClient:
    return DynamoClient(table_name, endpoint_url=dynamo_endpoint)


@pytest.fixture
def queue(client: DynamoClient, clock: Clock) -> JobQueue:
    return JobQueue(client, now=clock, rng=random.Random(0))


@pytest.fixture
def wire(client: DynamoClient) -> Wire:
    return Wire(client)


@pytest.fixture
def patience(client: DynamoClient) -> Patience:
    return Patience(client)
