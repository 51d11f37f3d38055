"""What tests stand on: a clean environment, moto in-process, and real local engines shared by the session.

Every table is created from infra/storage.yaml. Engine fixtures skip with the reason where an engine cannot be had.
"""

import functools
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from receipt_layoutlm import infra
from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import (
    ACCESS_KEY,
    DYNOXIDE,
    SEAWEEDFS,
    SECRET_KEY,
    Engine,
    EngineUnavailable,
    Program,
    platform_key,
    programs_dir,
)
from tests.support.forked_trainer import ForkingPopen
from tests.support.imds import Imds, serve
from tests.support.stores import Store, open_store

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

    from receipt_dynamo import DynamoClient, JobQueue

# read by transformers at its import, here and in every trainer that a test starts: no test asks the model hub
os.environ["HF_HUB_OFFLINE"] = "1"

# how long an example takes says how busy the machine is; timings belong to bench/
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REGION = "us-east-1"
START_SECONDS = 30.0
# the files that take longest, so that at the end of a run no process waits for the other
LONGEST_FIRST = (
    "test_kills",
    "test_distributed",
    "test_end_to_end",
    "test_attempt_ends",
    "test_protocol_model",
    "test_worker",
    "test_showing",
    "test_trainer",
    "test_verify_resume",
)
OWN_PREFIXES = ("AWS_", "LAYOUTLM_", "DYNAMO_TABLE_NAME")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first; the long proofs run only when they are asked for by name: `-m long`."""
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    if "long" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing of the user's AWS leaks in, nothing of a test's --local leaks out (its engines are stopped)."""
    for name in [name for name in os.environ if name.startswith(OWN_PREFIXES)]:
        monkeypatch.delenv(name)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_CONFIG_FILE", os.devnull),
        ("AWS_SHARED_CREDENTIALS_FILE", os.devnull),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("LAYOUTLM_STATE_DIR", str(tmp_path / "layoutlm-state")),
    ):
        monkeypatch.setenv(name, value)
    yield
    if (tmp_path / "layoutlm-state").exists():
        from receipt_layoutlm.local import aws as local_aws

        local_aws.stop_engines(tmp_path / "layoutlm-state")


@pytest.fixture(scope="session", autouse=True)
def _forked_trainers() -> Iterator[None]:
    """Trainers are forked from one process that has imported torch; `env python -m …` is a cold start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", ForkingPopen)
        yield


@pytest.fixture(scope="session", autouse=True)
def _shared_service_models() -> Iterator[None]:
    """botocore's descriptions of services are parsed once a process, where each session would parse them again."""
    import botocore.hooks
    import botocore.loaders
    import botocore.session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader))
        patch.setattr(botocore.hooks, "accepts_kwargs", functools.lru_cache(10_000)(botocore.hooks.accepts_kwargs))
        yield


@pytest.fixture(scope="session")
def _serial_moto() -> Iterator[None]:
    """One lock around moto: without it two threads pass one condition and both get the job."""
    from moto.core.botocore_stubber import BotocoreStubber

    lock, unlocked = threading.RLock(), BotocoreStubber.process_request

    def locked(stubber: BotocoreStubber, request: "AWSPreparedRequest") -> object:
        with lock:
            return unlocked(stubber, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BotocoreStubber, "process_request", locked)
        yield


@pytest.fixture
def moto_aws(_serial_moto: None) -> Iterator[None]:
    """An empty AWS in this process: every boto3 client made inside the test talks to it."""
    from moto import mock_aws

    with mock_aws():
        yield


@pytest.fixture
def cloud(moto_aws: None, monkeypatch: pytest.MonkeyPatch) -> "DynamoClient":
    """A table and a bucket on moto, named by the environment as a user's would be."""
    from receipt_dynamo import DynamoClient
    from receipt_layoutlm.storage.bucket import Bucket

    client = DynamoClient("the-table")
    infra.create_table(client.raw, "the-table")
    infra.create_bucket(Bucket("the-bucket").raw, "the-bucket")
    monkeypatch.setenv("DYNAMO_TABLE_NAME", "the-table")
    monkeypatch.setenv("LAYOUTLM_TRAINING_BUCKET", "the-bucket")
    return client


@pytest.fixture
def queue(cloud: "DynamoClient") -> "JobQueue":
    """Of the table on moto."""
    from receipt_dynamo import JobQueue

    return JobQueue(cloud)


@pytest.fixture
def imds() -> Iterator[Imds]:
    """EC2's metadata, which tells of no notice yet."""
    with serve() as fake:
        yield fake


def _program(engine: Engine) -> Program:
    try:
        return engine.find(platform_key(), programs_dir())[0]
    except EngineUnavailable as error:
        pytest.skip(str(error))


def _serve(engine: Engine, command: list[str], ports: tuple[int, ...], folder: Path) -> Iterator[str]:
    log = folder / "engine.log"
    pid = local_process.start_process(command, engine.environment(ports, folder), folder, log)
    try:
        ready = local_process.wait_until(
            lambda: local_process.answers(ports[0], engine.health_path, engine.signature), START_SECONDS
        )
        assert ready, f"{engine.name} did not come up:{local_process.last_lines(log)}"
        yield f"http://{local_process.LOOPBACK}:{ports[0]}"
    finally:
        local_process.stop_process(pid, command)


@pytest.fixture(scope="session")
def dynamo_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a DynamoDB in memory, shared by the session; take `table_name` for a table of one's own."""
    ports = local_process.free_ports(DYNOXIDE.port_count)
    command = [*_program(DYNOXIDE), "serve", "-p", str(ports[0])]
    yield from _serve(DYNOXIDE, command, ports, tmp_path_factory.mktemp("dynoxide"))


@pytest.fixture
def dynamo(dynamo_endpoint: str) -> "DynamoDBClient":
    """A plain boto3 client of the session's DynamoDB, to look at what is stored."""
    import boto3

    return boto3.client("dynamodb", endpoint_url=dynamo_endpoint, region_name=REGION)


@pytest.fixture
def make_table(dynamo: "DynamoDBClient") -> Callable[[], str]:
    """Call it for the name of another fresh table on `dynamo_endpoint`."""

    def make() -> str:
        name = f"table-{uuid.uuid4().hex}"
        infra.create_table(dynamo, name)
        return name

    return make


@pytest.fixture
def table_name(make_table: Callable[[], str]) -> str:
    """A fresh table of this test on `dynamo_endpoint`."""
    return make_table()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3, shared by the session; take `bucket` for a bucket of one's own."""
    ports = local_process.free_ports(SEAWEEDFS.port_count)
    folder = tmp_path_factory.mktemp("seaweedfs")
    command = [*_program(SEAWEEDFS), *SEAWEEDFS.arguments(ports, folder)]
    yield from _serve(SEAWEEDFS, command, ports, folder)


@pytest.fixture
def s3(s3_endpoint: str) -> "S3Client":
    """A plain boto3 client of the session's S3, to look at what is stored."""
    import boto3

    return boto3.client("s3", endpoint_url=s3_endpoint, region_name=REGION)


@pytest.fixture
def bucket(s3: "S3Client") -> Iterator[str]:
    """A fresh bucket of this test on `s3_endpoint`, emptied and removed afterwards (each one holds disk volumes)."""
    name = f"bucket-{uuid.uuid4().hex}"
    infra.create_bucket(s3, name)
    yield name
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        for stored in page.get("Contents", []):
            s3.delete_object(Bucket=name, Key=stored["Key"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def store(table_name: str, dynamo_endpoint: str, bucket: str, s3_endpoint: str) -> Store:
    """A queue on a fresh table and a fresh bucket, with a clock that only the test moves."""
    return open_store(table_name, dynamo_endpoint, bucket, s3_endpoint)
