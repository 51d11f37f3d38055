"""storage.yaml: what it promises, where it is found, and the table and bucket made from it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import yaml

from receipt_layoutlm import infra
from receipt_layoutlm.fleet.bundle import check_wheel

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

REPOSITORY = Path(__file__).parents[1]


def section(*path: str) -> yaml.Node:
    """A part of storage.yaml as YAML nodes, which need no meaning for !Ref and !Sub."""
    node = yaml.compose(infra.template_path("storage.yaml").read_text())
    for name in path:
        assert isinstance(node, yaml.MappingNode)
        node = next(value for key, value in node.value if key.value == name)
    assert node is not None
    return node


def value(*path: str) -> str:
    node = section(*path)
    assert isinstance(node, yaml.ScalarNode)
    return str(node.value)


def test_the_request_holds_keys_indexes_and_protection_and_no_stream() -> None:
    request = infra.table_request("runs")

    indexes = {
        index["IndexName"]: [(key["AttributeName"], key["KeyType"]) for key in index["KeySchema"]]
        for index in request["GlobalSecondaryIndexes"]
    }
    assert [(key["AttributeName"], key["KeyType"]) for key in request["KeySchema"]] == [("PK", "HASH"), ("SK", "RANGE")]
    assert indexes == {f"GSI{n}": [(f"GSI{n}PK", "HASH"), (f"GSI{n}SK", "RANGE")] for n in (1, 2, 3)}
    assert [index["Projection"] for index in request["GlobalSecondaryIndexes"]] == [{"ProjectionType": "ALL"}] * 3
    assert request["TableName"] == "runs"
    assert request["BillingMode"] == "PAY_PER_REQUEST"
    assert request["DeletionProtectionEnabled"] is True
    assert "StreamSpecification" not in request


def test_the_template_recovers_expires_and_outlives_its_stack() -> None:
    table = ("Resources", "Table")
    assert value(*table, "Properties", "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled") == "true"
    assert value(*table, "Properties", "TimeToLiveSpecification", "AttributeName") == "time_to_live"
    assert value(*table, "Properties", "StreamSpecification", "StreamViewType") == "NEW_AND_OLD_IMAGES"
    # a bucket of a first deployment that failed is empty: it goes, so that its name is free for the next
    kept = {"Table": "Retain", "Bucket": "RetainExceptOnCreate", "BucketPolicy": "RetainExceptOnCreate"}
    for resource, policy in kept.items():
        assert value("Resources", resource, "DeletionPolicy") == policy
        assert value("Resources", resource, "UpdateReplacePolicy") == "Retain"


def test_the_template_closes_the_bucket() -> None:
    bucket = ("Resources", "Bucket", "Properties")
    blocks = section(*bucket, "PublicAccessBlockConfiguration")
    assert [setting.value for _name, setting in blocks.value] == ["true"] * 4
    assert value(*bucket, "VersioningConfiguration", "Status") == "Enabled"
    (encryption,) = section(*bucket, "BucketEncryption", "ServerSideEncryptionConfiguration").value
    assert "AES256" in yaml.serialize(encryption)
    (statement,) = section("Resources", "BucketPolicy", "Properties", "PolicyDocument", "Statement").value
    text = yaml.serialize(statement)
    assert "Effect: Deny" in text
    assert "aws:SecureTransport" in text


def test_creating_twice_leaves_one_table_with_its_ttl_in_moto(moto_aws: None) -> None:
    client = boto3.client("dynamodb")
    for _ in range(2):
        infra.create_table(client, "runs")
    assert_active_with_ttl(client, "runs")


@pytest.mark.engine
def test_creating_twice_leaves_one_table_with_its_ttl(dynamo: "DynamoDBClient", table_name: str) -> None:
    infra.create_table(dynamo, table_name)
    assert_active_with_ttl(dynamo, table_name)


def assert_active_with_ttl(client: "DynamoDBClient", table_name: str) -> None:
    assert client.describe_table(TableName=table_name)["Table"]["TableStatus"] == "ACTIVE"
    ttl = client.describe_time_to_live(TableName=table_name)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "time_to_live"}


@pytest.mark.engine
def test_creating_a_bucket_again_keeps_what_it_holds(s3: "S3Client", bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="runs/1", Body=b"weights")
    infra.create_bucket(s3, bucket)
    assert s3.get_object(Bucket=bucket, Key="runs/1")["Body"].read() == b"weights"


def test_a_checkout_finds_its_templates() -> None:
    assert infra.template_path("storage.yaml") == REPOSITORY / "infra" / "storage.yaml"
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        infra.template_path("nothing.yaml")


@pytest.mark.engine
@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is needed to build a wheel")
def test_an_installed_wheel_finds_its_templates(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), folder=REPOSITORY)
    (wheel,) = tmp_path.glob("*.whl")
    run(
        "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(installed), str(wheel), folder=tmp_path
    )

    code = f"import sys; sys.path.insert(0, {str(installed)!r}); from receipt_layoutlm import infra;"
    found = run("-c", f"{code} print(infra.template_path('storage.yaml'))", folder=tmp_path)

    assert Path(found.strip()) == installed / "receipt_layoutlm" / "_infra" / "storage.yaml"


BACKEND = ("pip", "hatchling", "packaging", "pathspec", "pluggy", "trove_classifiers")


@pytest.mark.engine
@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is needed to build a wheel")
def test_a_wheel_is_built_by_a_python_without_torch_and_without_the_products_packages(tmp_path: Path) -> None:
    """In a copy, by an environment of pip and the build backend alone, which an index would give it."""
    checkout, backend, python = tmp_path / "checkout", tmp_path / "backend", tmp_path / "venv/bin/python"
    run("-m", "venv", "--without-pip", str(tmp_path / "venv"), folder=tmp_path)
    backend.mkdir()
    for name in BACKEND:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        (backend / name).symlink_to(Path(spec.origin).parent)
    for name in ("receipt_dynamo", "receipt_layoutlm", "infra", "scripts"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, checkout)
    missing = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert missing.returncode == 1

    settings = {"PYTHON": str(python), "PYTHONPATH": str(backend), "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    environ = {"PATH": os.environ["PATH"], **settings}
    subprocess.run([checkout / "scripts/build_wheel"], env=environ, check=True, capture_output=True)

    (wheel,) = (checkout / "dist").glob("receipt_layoutlm-*.whl")
    check_wheel(wheel)
    assert (checkout / "dist/worker.lock").read_bytes() == (REPOSITORY / "infra/worker.lock").read_bytes()


def run(*arguments: str, folder: Path) -> str:
    return subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout
