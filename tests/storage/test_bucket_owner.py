"""The account that owns the bucket: named in each request to AWS, and refused where it is another one."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import boto3
import click
import pytest
from botocore.awsrequest import AWSPreparedRequest

import receipt_layoutlm
from receipt_dynamo import DynamoClient, JobQueue, Storage
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.mlflow_store.artifacts import TableArtifacts
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.owners import requests_without_owner

ACCOUNT = "111122223333"
MOTO = "123456789012"
SOURCES = Path(receipt_layoutlm.__file__).parent


@pytest.fixture
def a_bucket(moto_aws: None) -> str:
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="the-bucket")
    return "the-bucket"


def owners(bucket: Bucket) -> Callable[[], set[str | None]]:
    """The owners that requests named since."""
    seen: set[str | None] = set()

    def note(request: AWSPreparedRequest, **_: object) -> None:
        header = request.headers.get("x-amz-expected-bucket-owner")
        seen.add(header.decode() if isinstance(header, bytes) else header)
        if request.headers.get("x-amz-copy-source"):
            source = request.headers.get("x-amz-source-expected-bucket-owner")
            seen.add(source.decode() if isinstance(source, bytes) else source)

    bucket.raw.meta.events.register_first("before-send.s3", note)
    return lambda: seen


def every_request(bucket: Bucket, folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(12 << 20))  # in parts
    write_manifest(folder, 0)
    bucket.put_folder(folder, "runs/1/checkpoint-5/")
    bucket.put_bytes(b"{}", "runs/1/run.json")
    bucket.copy_folder("runs/1/checkpoint-5/", "runs/1/best/", ["model.safetensors"])
    bucket.get_folder("runs/1/best/", folder.with_name("again"))
    bucket.tag("runs/1/run.json", {"a": "b"})
    assert bucket.exists("runs/1/run.json") and not bucket.exists("runs/2/run.json")
    bucket.delete_prefix("runs/")


def test_every_request_names_the_owner(a_bucket: str, tmp_path: Path) -> None:
    bucket = Bucket(a_bucket, part_size=5 << 20, owner=lambda: ACCOUNT)
    seen = owners(bucket)
    every_request(bucket, tmp_path / "folder")
    assert seen() == {ACCOUNT}


def test_without_a_known_owner_none_is_named(a_bucket: str, tmp_path: Path) -> None:
    bucket = Bucket(a_bucket, part_size=5 << 20)
    seen = owners(bucket)
    every_request(bucket, tmp_path / "folder")
    assert seen() == {None}


@pytest.mark.engine
def test_another_s3_takes_requests_with_an_owner(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    every_request(Bucket(bucket, endpoint_url=s3_endpoint, part_size=5 << 20, owner=lambda: MOTO), tmp_path / "folder")


def owner_of_a_connection(is_local: bool = False) -> str | None:
    return Connection(is_local, "the-table", None, "the-bucket").bucket_owner()


def test_the_owner_is_the_account_of_the_credentials_unless_one_is_given(
    moto_aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner_of_a_connection() == MOTO
    monkeypatch.setenv("LAYOUTLM_BUCKET_OWNER", ACCOUNT)
    assert owner_of_a_connection() == ACCOUNT
    monkeypatch.setenv("LAYOUTLM_BUCKET_OWNER", "mine")
    with pytest.raises(click.UsageError, match="LAYOUTLM_BUCKET_OWNER must be an account of 12 digits, not 'mine'"):
        owner_of_a_connection()


def test_a_bucket_on_another_s3_than_that_of_aws_has_no_account(
    moto_aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert owner_of_a_connection() is None


def test_the_bucket_of_a_command_names_the_owner(a_bucket: str) -> None:
    bucket = Connection(False, "the-table", None, a_bucket).open_bucket(a_bucket)
    seen = owners(bucket)
    assert not bucket.exists("any")
    assert seen() == {MOTO}


# every request of the product, whoever makes it


def test_a_request_without_an_owner_is_noticed(a_bucket: str) -> None:
    with requests_without_owner() as unowned:
        assert not Bucket(a_bucket).exists("any")
    assert unowned == ["HeadObject"]


def test_files_of_mlflow_are_read_with_the_owner(cloud: DynamoClient) -> None:
    name = os.environ["LAYOUTLM_TRAINING_BUCKET"]
    Bucket(name).put_bytes(b"{}", "runs/1/attempt-001/run.json")
    storage = Storage(bucket=name)
    job = JobQueue(cloud).submit(name="a", config={}, created_by="me", storage=storage)
    with requests_without_owner() as unowned:
        artifacts = TableArtifacts(f"receipt-dynamodb://{cloud.table_name}/default/{job.job_id}/artifacts")
        assert artifacts.list_artifacts() == []
    assert unowned == []


def test_every_bucket_of_the_product_is_opened_with_its_owner() -> None:
    """Another S3 than that of AWS has no accounts: the local engines' buckets are opened without."""
    calls = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            is_bucket = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Bucket"
            if is_bucket and not any(word.arg == "owner" for word in node.keywords):
                calls.append(path.relative_to(SOURCES).as_posix())
    assert calls == ["cli/connection.py"]  # --local
