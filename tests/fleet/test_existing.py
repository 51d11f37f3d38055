"""Inspection of existing tables and buckets: every fault has its fix, and nothing is changed."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from receipt_layoutlm import infra
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.existing import NotUsable, check_usable, inspect_bucket, inspect_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@pytest.fixture
def dynamodb(moto_aws: None) -> "DynamoDBClient":
    return boto3.client("dynamodb")


@pytest.fixture
def s3(moto_aws: None) -> "S3Client":
    return boto3.client("s3")


def make_table(client: Any, **changes: object) -> str:
    """A table as storage.yaml has it, and cared for, but for the changes."""
    request: dict[str, Any] = {**infra.table_request("there"), "StreamSpecification": STREAM, **changes}
    schemas = [request["KeySchema"], *(each["KeySchema"] for each in request["GlobalSecondaryIndexes"])]
    names = sorted({key["AttributeName"] for schema in schemas for key in schema})
    request["AttributeDefinitions"] = [{"AttributeName": name, "AttributeType": "S"} for name in names]
    client.create_table(**{key: value for key, value in request.items() if value is not None})
    client.update_time_to_live(
        TableName="there", TimeToLiveSpecification={"Enabled": True, "AttributeName": "time_to_live"}
    )
    client.update_continuous_backups(
        TableName="there", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    return "there"


def warnings(results: Iterable[CheckResult]) -> str:
    return "\n".join(f"{each.found}: {each.advice}" for each in results if each.state == "warn")


def indexes_without(name: str) -> list[Any]:
    return [each for each in infra.table_request("x")["GlobalSecondaryIndexes"] if each["IndexName"] != name]


def indexes_with(name: str, changes: dict[str, object]) -> list[Any]:
    return [
        {**each, **changes} if each["IndexName"] == name else each
        for each in infra.table_request("x")["GlobalSecondaryIndexes"]
    ]


# tables


def test_a_table_of_the_template_is_usable(dynamodb: "DynamoDBClient") -> None:
    found = inspect_table(dynamodb, make_table(dynamodb))

    assert found.results == ()
    assert found.stream_arn == dynamodb.describe_table(TableName="there")["Table"]["LatestStreamArn"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"StreamSpecification": None}, "stream.*--stream-specification"),
        ({"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}}, "stream"),
        ({"GlobalSecondaryIndexes": indexes_without("GSI3")}, "GSI3 is missing.*update-table"),
        (
            {"GlobalSecondaryIndexes": indexes_with("GSI1", {"Projection": {"ProjectionType": "KEYS_ONLY"}})},
            "does not project all",
        ),
        (
            {
                "GlobalSecondaryIndexes": indexes_with(
                    "GSI2", {"KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}]}
                )
            },
            "GSI2 has other keys",
        ),
        ({"KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}]}, "keys are not.*another table"),
    ],
    ids=["no stream", "keys in stream", "no index", "projection", "index keys", "keys"],
)
def test_an_unusable_table_is_refused(dynamodb: "DynamoDBClient", changes: dict[str, object], text: str) -> None:
    found = inspect_table(dynamodb, make_table(dynamodb, **changes))

    with pytest.raises(NotUsable, match=text):
        check_usable("there", found.results)


def test_a_table_of_the_original_system_is_usable_with_warnings(dynamodb: "DynamoDBClient") -> None:
    throughput = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    indexes = [{**each, "ProvisionedThroughput": throughput} for each in indexes_without("")]
    request: Any = {
        **infra.table_request("there"),
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": throughput,
        "GlobalSecondaryIndexes": indexes,
        "DeletionProtectionEnabled": False,
        "StreamSpecification": STREAM,
    }
    dynamodb.create_table(**request)

    found = inspect_table(dynamodb, "there")

    check_usable("there", found.results)
    for text in ("PAY_PER_REQUEST", "deletion-protection", "time_to_live", "point-in-time"):
        assert text in warnings(found.results)


def test_an_inspection_changes_nothing(dynamodb: "DynamoDBClient") -> None:
    make_table(dynamodb, StreamSpecification=None)
    before = dynamodb.describe_table(TableName="there")["Table"]

    inspect_table(dynamodb, "there")

    assert dynamodb.describe_table(TableName="there")["Table"] == before


def test_a_missing_table_is_refused_with_the_fix(dynamodb: "DynamoDBClient") -> None:
    with pytest.raises(NotUsable, match=r"no table nowhere.*omit --table"):
        inspect_table(dynamodb, "nowhere")


# buckets


def make_bucket(client: "S3Client") -> str:
    client.create_bucket(Bucket="there")
    client.put_bucket_versioning(Bucket="there", VersioningConfiguration={"Status": "Enabled"})
    blocks: Any = dict.fromkeys(BLOCKS, True)
    client.put_public_access_block(Bucket="there", PublicAccessBlockConfiguration=blocks)
    rule: Any = {
        "ID": "superseded",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "runs/", "Tags": [{"Key": "layoutlm:state", "Value": "superseded"}]}},
        "Expiration": {"Days": 7},
    }
    old = [old_versions(prefix, 1) for prefix in ("runs/", "encoded/")]
    client.put_bucket_lifecycle_configuration(Bucket="there", LifecycleConfiguration={"Rules": [rule, *old]})
    return "there"


def old_versions(prefix: str, days: int, **more: object) -> Any:
    """A rule that deletes old versions."""
    expiry = {"NoncurrentDays": days}
    id_ = f"old-{prefix}{days}"
    rule = {"ID": id_, "Status": "Enabled", "Filter": {"Prefix": prefix}, "NoncurrentVersionExpiration": expiry}
    return {**rule, **more}


def test_a_private_bucket_with_lifecycle_rules_is_usable(s3: "S3Client") -> None:
    assert inspect_bucket(s3, make_bucket(s3)) == ()


def test_a_bare_bucket_is_usable_with_warnings(s3: "S3Client") -> None:
    s3.create_bucket(Bucket="there")

    results = inspect_bucket(s3, "there")

    check_usable("there", results)
    for text in ("versioning", "public-access-block", "lifecycle"):
        assert text in warnings(results)


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([old_versions("", 30)], "below runs/ are kept for 30 days"),
        ([old_versions("runs/", 1)], "below encoded/ are kept for ever"),
        ([old_versions("", 1, Status="Disabled")], "below runs/ are kept for ever"),
        ([old_versions("runs/1/", 1)], "below runs/ are kept for ever"),
        ([old_versions("", 30), old_versions("runs/", 1), old_versions("encoded/", 3)], ""),
        ([old_versions("", 1)], ""),
        (
            [old_versions("", 1, NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 5})],
            "below runs/ are kept for ever",
        ),
        ([old_versions("", 1, Filter={"Tag": {"Key": "a", "Value": "b"}})], "below runs/ are kept for ever"),
    ],
)
def test_old_versions_that_a_kept_bucket_pays_for_are_warned_of(s3: "S3Client", rules: list[Any], text: str) -> None:
    name = make_bucket(s3)
    # moto forgets how many newer versions a rule keeps
    reply = "after-call.s3.GetBucketLifecycleConfiguration"
    s3.meta.events.register(reply, lambda parsed, **_: parsed.update(Rules=rules))

    told = warnings(inspect_bucket(s3, name))

    assert (text in told) if text else ("old versions" not in told)


def test_a_public_bucket_is_refused(s3: "S3Client") -> None:
    s3.create_bucket(Bucket="there")
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::there/*"}
    s3.put_bucket_policy(Bucket="there", Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))

    with pytest.raises(NotUsable, match=r"policy is public.*put-public-access-block"):
        check_usable("there", inspect_bucket(s3, "there"))


def test_a_bucket_of_another_region_is_refused(moto_aws: None) -> None:
    far = boto3.client("s3", region_name="eu-central-1")
    far.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    with pytest.raises(NotUsable, match=r"--region eu-central-1"):
        check_usable("far", inspect_bucket(boto3.client("s3"), "far"))


def test_a_customer_managed_key_needs_rights(s3: "S3Client") -> None:
    rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    s3.put_bucket_encryption(Bucket=make_bucket(s3), ServerSideEncryptionConfiguration={"Rules": [rule]})

    assert "kms:Decrypt" in warnings(inspect_bucket(s3, "there"))


def test_a_missing_bucket_is_refused_with_the_fix(s3: "S3Client") -> None:
    with pytest.raises(NotUsable, match=r"no bucket nowhere.*omit --bucket"):
        inspect_bucket(s3, "nowhere")
