"""storage.yaml: what it promises, found in a checkout and in a wheel, and the table made from it."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from receipt_layoutlm import infra

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

REPOSITORY = Path(__file__).parents[1]


def test_the_request_holds_keys_indexes_stream_and_protection() -> None:
    request = infra.table_request("runs")

    keys = [(key["AttributeName"], key["KeyType"]) for key in request["KeySchema"]]
    indexes = request["GlobalSecondaryIndexes"]
    assert keys == [("PK", "HASH"), ("SK", "RANGE")]
    assert [index["IndexName"] for index in indexes] == ["GSI1", "GSI2", "GSI3"]
    assert {index["Projection"]["ProjectionType"] for index in indexes} == {"ALL"}
    assert request["TableName"] == "runs"
    assert request["BillingMode"] == "PAY_PER_REQUEST"
    assert request["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert request["DeletionProtectionEnabled"] is True


def test_creating_twice_leaves_one_table_with_its_ttl(dynamo: "DynamoDBClient", table_name: str) -> None:
    infra.create_table(dynamo, table_name)

    ttl = dynamo.describe_time_to_live(TableName=table_name)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "time_to_live"}


def test_moto(moto_aws: None) -> None:
    client = boto3.client("dynamodb")
    infra.create_table(client, "runs")
    infra.create_table(client, "runs")
    assert client.describe_table(TableName="runs")["Table"]["TableStatus"] == "ACTIVE"


@pytest.mark.engine
def test_bucket(s3: "S3Client", bucket: str) -> None:
    infra.create_bucket(s3, bucket)
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"x"
