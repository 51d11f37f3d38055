"""Whether a table that is there already will do: what is wrong with it, and the fix. It is never changed.

Whether a bucket that is there already will do: what is wrong with it, and the fix. It is never changed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.finding import Finding
from receipt_layoutlm.infra import table_request
from receipt_layoutlm.storage.expiry import STATE_TAG

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import GlobalSecondaryIndexDescriptionTypeDef, TableDescriptionTypeDef
    from mypy_boto3_s3 import S3Client


# both show the new row, which is what the scaler's filters read
_VIEWS: Final = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE")
_TTL: Final = "time_to_live"
T = TypeVar("T")


class NotUsable(UserError):
    """The table or the bucket is missing, not readable for the caller, or not of the wanted shape."""


@dataclass(frozen=True)
class ExistingTable:
    """A table as it stands; `stream_arn` is None where nothing tells of its changes.

    What is not as storage.yaml makes it is found: "missing" where the fleet could not work with it.
    """

    name: str
    stream_arn: str | None
    findings: tuple[Finding, ...]


def check_usable(name: str, findings: Iterable[Finding]) -> None:
    """Raises NotUsable that tells every error with its fix."""
    errors = [f"{each.found}: {each.advice}" for each in findings if each.state == "missing"]
    if errors:
        raise NotUsable("\n".join([f"{name} cannot be used as it is:", *errors]))


def asked(question: Callable[[], T]) -> T | None:
    """The answer; None where there is none, or the caller may not know: that is no reason to refuse."""
    try:
        return question()
    except ClientError:
        return None


def look_at_table(client: "DynamoDBClient", name: str) -> ExistingTable:
    """Raises NotUsable when there is no such table, or none that the caller may look at."""
    try:
        table = client.describe_table(TableName=name)["Table"]
    except client.exceptions.ResourceNotFoundException as error:
        raise NotUsable(
            f"there is no table {name} in {client.meta.region_name}: leave --table away to have one made"
        ) from error
    except (ClientError, BotoCoreError) as error:
        raise NotUsable(f"table {name} cannot be looked at: {error}") from error
    findings = (*_key_findings(table), *_index_findings(table), *_stream_findings(table), *_care_findings(table))
    stream = table.get("LatestStreamArn") if _streams(table) else None
    return ExistingTable(name, stream, (*findings, *_expiry_findings(client, name), *_recovery_findings(client, name)))


def _key_findings(table: "TableDescriptionTypeDef") -> Iterator[Finding]:
    wanted = _keys(table_request("wanted")["KeySchema"])
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    if _keys(table["KeySchema"]) != wanted or any(types.get(name) != "S" for name, _ in wanted):
        yield Finding(
            "table",
            "missing",
            "its keys are not the strings PK and SK",
            "keys cannot be changed: name another table, or have one made",
        )


def _index_findings(table: "TableDescriptionTypeDef") -> Iterator[Finding]:
    there = {each["IndexName"]: each for each in table.get("GlobalSecondaryIndexes", [])}
    for wanted in table_request("wanted").get("GlobalSecondaryIndexes", []):
        name = wanted["IndexName"]
        text = _index_fault(there.get(name), _keys(wanted["KeySchema"]))
        if text is not None:
            yield Finding(
                "table",
                "missing",
                f"index {name} {text}",
                f"make {name} with {name}PK, {name}SK (strings) and projection ALL with 'aws dynamodb update-table'",
            )


def _index_fault(index: "GlobalSecondaryIndexDescriptionTypeDef | None", keys: list[tuple[str, str]]) -> str | None:
    if index is None:
        return "is missing"
    if _keys(index["KeySchema"]) != keys:
        return "has other keys"
    if index["Projection"]["ProjectionType"] != "ALL":
        return "does not hold whole items"
    return "is not ready" if index.get("IndexStatus", "ACTIVE") != "ACTIVE" else None


def _keys(schema: object) -> list[tuple[str, str]]:
    assert isinstance(schema, list)
    return [(each["AttributeName"], each["KeyType"]) for each in schema]


def _streams(table: "TableDescriptionTypeDef") -> bool:
    stream = table.get("StreamSpecification", {})
    return bool(stream.get("StreamEnabled")) and stream.get("StreamViewType") in _VIEWS


def _stream_findings(table: "TableDescriptionTypeDef") -> Iterator[Finding]:
    if not _streams(table):
        on = "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
        yield Finding(
            "table",
            "missing",
            "no stream tells its new items, so that the scaler would not hear of jobs",
            f"'aws dynamodb update-table --table-name {table['TableName']} --stream-specification {on}'",
        )


def _care_findings(table: "TableDescriptionTypeDef") -> Iterator[Finding]:
    update = f"'aws dynamodb update-table --table-name {table['TableName']}"
    if table.get("BillingModeSummary", {}).get("BillingMode") != "PAY_PER_REQUEST":
        yield Finding(
            "table",
            "warn",
            "its capacity is provisioned: it costs money while idle and throttles a busy fleet",
            f"{update} --billing-mode PAY_PER_REQUEST'",
        )
    if not table.get("DeletionProtectionEnabled"):
        yield Finding("table", "warn", "it can be deleted by mistake", f"{update} --deletion-protection-enabled'")
    if table.get("SSEDescription", {}).get("SSEType") == "KMS":
        yield Finding(
            "table",
            "warn",
            "it is encrypted with a key of its own",
            "let the key's policy allow kms:Decrypt and kms:GenerateDataKey to the roles of the fleet",
        )


def _expiry_findings(client: "DynamoDBClient", name: str) -> Iterator[Finding]:
    seen = asked(lambda: client.describe_time_to_live(TableName=name)["TimeToLiveDescription"])
    if seen is not None and seen.get("AttributeName") != _TTL:
        yield Finding(
            "table",
            "warn",
            f"what has a {_TTL} stays for ever",
            f"'aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification "
            f"Enabled=true,AttributeName={_TTL}'",
        )


def _recovery_findings(client: "DynamoDBClient", name: str) -> Iterator[Finding]:
    seen = asked(lambda: client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"])
    state = None if seen is None else seen.get("PointInTimeRecoveryDescription", {})
    if state is not None and state.get("PointInTimeRecoveryStatus") != "ENABLED":
        yield Finding(
            "table",
            "warn",
            "nothing that was deleted or spoilt can be brought back",
            f"'aws dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification "
            "PointInTimeRecoveryEnabled=true'",
        )


@dataclass(frozen=True)
class ExistingBucket:
    """A bucket as it stands, with what is not as storage.yaml makes it."""

    name: str
    findings: tuple[Finding, ...]


def look_at_bucket(client: "S3Client", name: str) -> ExistingBucket:
    """Raises NotUsable when there is no such bucket, or none that the caller may look at."""
    try:
        headers = client.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:
        raise NotUsable(_absence(error, name)) from error
    except BotoCoreError as error:
        raise NotUsable(f"bucket {name} cannot be looked at: {error}") from error
    findings = (
        *_region_findings(headers.get("x-amz-bucket-region"), client.meta.region_name),
        *_access_findings(client, name),
        *_version_findings(client, name),
        *_encryption_findings(client, name),
        *_lifecycle_findings(client, name),
    )
    return ExistingBucket(name, findings)


def _absence(error: ClientError, name: str) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in ("404", "NoSuchBucket"):
        return f"there is no bucket {name}: leave --bucket away to have one made"
    if code in ("403", "AccessDenied"):
        return f"bucket {name} is somebody else's, or the caller has no s3:ListBucket on it: name another with --bucket"
    return f"bucket {name} cannot be looked at: {error}"


def _region_findings(there: str | None, here: str) -> Iterator[Finding]:
    if there is not None and there != here:
        yield Finding(
            "bucket",
            "missing",
            f"it lies in {there}, the fleet in {here}",
            f"give --region {there}, or leave --bucket away",
        )


def _access_findings(client: "S3Client", name: str) -> Iterator[Finding]:
    status = asked(lambda: client.get_bucket_policy_status(Bucket=name)["PolicyStatus"])
    if status is not None and status.get("IsPublic"):
        yield Finding(
            "bucket",
            "missing",
            "its policy lets everybody in, and machines run what lies in it",
            f"'aws s3api put-public-access-block --bucket {name} --public-access-block-configuration "
            "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true'",
        )
        return
    blocks = asked(lambda: client.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]) or {}
    if len(blocks) < 4 or not all(blocks.values()):
        yield Finding(
            "bucket",
            "warn",
            "it can be opened to the public",
            "'aws s3api put-public-access-block' with all four settings",
        )


def _version_findings(client: "S3Client", name: str) -> Iterator[Finding]:
    seen = asked(lambda: client.get_bucket_versioning(Bucket=name))
    if seen is not None and seen.get("Status") != "Enabled":
        yield Finding(
            "bucket",
            "warn",
            "what is replaced or deleted there is gone",
            f"'aws s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled'",
        )


def _encryption_findings(client: "S3Client", name: str) -> Iterator[Finding]:
    seen = asked(lambda: client.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"])
    kinds = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in seen or []]
    if any(kind != "AES256" for kind in kinds):
        yield Finding(
            "bucket",
            "warn",
            "it encrypts with a key of its own",
            "let the key's policy allow kms:Decrypt and kms:GenerateDataKey to the worker's role",
        )


def _lifecycle_findings(client: "S3Client", name: str) -> Iterator[Finding]:
    rules = asked(lambda: client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]) or []
    if not any(STATE_TAG in str(rule.get("Filter")) for rule in rules):
        yield Finding(
            "bucket",
            "warn",
            "superseded checkpoints and old versions stay for ever",
            "give it the lifecycle rules of infra/storage.yaml",
        )
