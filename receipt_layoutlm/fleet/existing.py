"""Inspection of an existing table or bucket: its faults and their fixes. Nothing is changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo.entities import ondemand_queue
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.infra import table_request
from receipt_layoutlm.storage.expiry import STATE_TAG

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TableDescriptionTypeDef
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import LifecycleRuleOutputTypeDef


_VIEWS: Final = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE")  # streams with the new row, which the scaler's filters read
_TTL: Final = "time_to_live"
_REWRITTEN: Final = ("runs/", "encoded/")  # objects that are removed and written again all the time
_NONCURRENT_DAYS: Final = 7  # a kept bucket may have more than the template's one day
_GONE: Final = ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS")  # stacks without resources
T = TypeVar("T")


class NotUsable(UserError):
    """The table or the bucket is missing, not readable for the caller, or of another shape."""


@dataclass(frozen=True)
class ExistingTable:
    """An inspected table, with all its differences from storage.yaml; `stream_arn` is None without a usable stream.

    A difference is "missing" where the fleet could not work with the table.
    """

    name: str
    stream_arn: str | None
    results: tuple[CheckResult, ...]


def check_usable(name: str, results: Iterable[CheckResult]) -> None:
    """Raises NotUsable with every error and its fix."""
    errors = [f"{result.found}: {result.advice}" for result in results if result.state == "missing"]
    if errors:
        raise NotUsable("\n".join([f"{name} cannot be used as it is:", *errors]))


def _optional(request: Callable[[], T]) -> T | None:
    """The reply; None where the setting does not exist, or the caller may not read it: no reason to refuse."""
    try:
        return request()
    except ClientError:
        return None


# queues


class QueueTaken(UserError):
    """Another fleet works the same queue of the same table."""


def refuse_taken_queue(client: "CloudFormationClient", fleet: str, table: str, queue: str) -> CheckResult | None:
    """Look for another fleet on this table and queue: their scalers would count each other's jobs.

    Raises QueueTaken. A warning where the caller may not list the stacks: the scaler refuses the queue then.
    """
    wanted = {queue, ondemand_queue(queue)}
    try:
        for page in client.get_paginator("describe_stacks").paginate():
            for stack in page["Stacks"]:
                values = {each.get("ParameterKey"): each.get("ParameterValue") for each in stack.get("Parameters", [])}
                other, theirs = values.get("FleetName"), values.get("QueueName") or ""
                is_other = values.get("TableName") == table and theirs and other not in (None, fleet)
                if is_other and stack["StackStatus"] not in _GONE and wanted & {theirs, ondemand_queue(theirs)}:
                    raise QueueTaken(
                        f"fleet {other} already works queue {theirs!r} of table {table!r}: deploy with another "
                        f"--queue-name, or destroy that fleet with `layoutlm-cli fleet destroy --fleet {other}`"
                    )
    except (ClientError, BotoCoreError) as error:
        found = f"other fleets of this table are unknown: {error}"
        return CheckResult("queue", "warn", found, "ask for cloudformation:DescribeStacks on all stacks")
    return None


# tables


def inspect_table(client: "DynamoDBClient", name: str) -> ExistingTable:
    """Raises NotUsable when the table does not exist, or may not be described."""
    try:
        table = client.describe_table(TableName=name)["Table"]
    except client.exceptions.ResourceNotFoundException as error:
        region = client.meta.region_name
        raise NotUsable(f"there is no table {name} in {region}: omit --table to have one created") from error
    except (ClientError, BotoCoreError) as error:
        raise NotUsable(f"table {name} cannot be described: {error}") from error
    stream = table.get("StreamSpecification", {})
    has_stream = bool(stream.get("StreamEnabled")) and stream.get("StreamViewType") in _VIEWS
    results = [*_shape_faults(table), *_setting_faults(client, table)]
    if not has_stream:
        enabled = "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
        fix = f"'aws dynamodb update-table --table-name {name} --stream-specification {enabled}'"
        results.append(
            CheckResult("table", "missing", "it has no stream that would notify the scaler of new jobs", fix)
        )
    return ExistingTable(name, table.get("LatestStreamArn") if has_stream else None, tuple(results))


def _shape_faults(table: "TableDescriptionTypeDef") -> Iterator[CheckResult]:
    expected = table_request("expected")
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    keys = _keys(expected["KeySchema"])
    if _keys(table["KeySchema"]) != keys or any(types.get(name) != "S" for name, _ in keys):
        fix = "keys cannot be changed: name another table, or have one created"
        yield CheckResult("table", "missing", "its keys are not the strings PK and SK", fix)
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
    for target in expected.get("GlobalSecondaryIndexes", []):
        name = target["IndexName"]
        index = indexes.get(name)
        if index is None:
            fault = "is missing"
        elif _keys(index["KeySchema"]) != _keys(target["KeySchema"]):
            fault = "has other keys"
        elif index["Projection"]["ProjectionType"] != "ALL":
            fault = "does not project all attributes"
        elif index.get("IndexStatus", "ACTIVE") != "ACTIVE":
            fault = "is not ready"
        else:
            continue
        fix = f"create {name} with the strings {name}PK, {name}SK and projection ALL by 'aws dynamodb update-table'"
        yield CheckResult("table", "missing", f"index {name} {fault}", fix)


def _keys(schema: object) -> list[tuple[str, str]]:
    assert isinstance(schema, list)
    return [(key["AttributeName"], key["KeyType"]) for key in schema]


def _setting_faults(client: "DynamoDBClient", table: "TableDescriptionTypeDef") -> Iterator[CheckResult]:
    name = table["TableName"]
    update = f"'aws dynamodb update-table --table-name {name}"
    if table.get("BillingModeSummary", {}).get("BillingMode") != "PAY_PER_REQUEST":
        fault = "its capacity is provisioned, which costs money while idle and throttles a busy fleet"
        yield CheckResult("table", "warn", fault, f"{update} --billing-mode PAY_PER_REQUEST'")
    if not table.get("DeletionProtectionEnabled"):
        fix = f"{update} --deletion-protection-enabled'"
        yield CheckResult("table", "warn", "it is not protected against deletion", fix)
    if table.get("SSEDescription", {}).get("SSEType") == "KMS":
        fix = "allow kms:Decrypt and kms:GenerateDataKey to the fleet's roles in the key's policy"
        yield CheckResult("table", "warn", "it is encrypted with a KMS key", fix)

    expiry = _optional(lambda: client.describe_time_to_live(TableName=name)["TimeToLiveDescription"])
    if expiry is not None and expiry.get("AttributeName") != _TTL:
        fix = f"--table-name {name} --time-to-live-specification Enabled=true,AttributeName={_TTL}"
        fault = f"items with a {_TTL} are never deleted"
        yield CheckResult("table", "warn", fault, f"'aws dynamodb update-time-to-live {fix}'")

    backups = _optional(lambda: client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"])
    recovery = None if backups is None else backups.get("PointInTimeRecoveryDescription", {})
    if recovery is not None and recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
        fix = f"--table-name {name} --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
        fault = "it has no point-in-time recovery"
        yield CheckResult("table", "warn", fault, f"'aws dynamodb update-continuous-backups {fix}'")


# buckets


def inspect_bucket(client: "S3Client", name: str) -> tuple[CheckResult, ...]:
    """All differences from storage.yaml. Raises NotUsable when the bucket does not exist, or may not be read."""
    try:
        headers = client.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ("404", "NoSuchBucket"):
            raise NotUsable(f"there is no bucket {name}: omit --bucket to have one created") from error
        if code in ("403", "AccessDenied"):
            reason = "it belongs to another account, or the caller has no s3:ListBucket on it"
            raise NotUsable(f"no access to bucket {name}: {reason}. Name another with --bucket") from error
        raise NotUsable(f"bucket {name} cannot be read: {error}") from error
    except BotoCoreError as error:
        raise NotUsable(f"bucket {name} cannot be read: {error}") from error
    region = headers.get("x-amz-bucket-region", client.meta.region_name)
    results = list(_bucket_faults(client, name))
    if region != client.meta.region_name:
        fault = f"it is in {region}, the fleet in {client.meta.region_name}"
        results.insert(0, CheckResult("bucket", "missing", fault, f"give --region {region}, or omit --bucket"))
    return tuple(results)


def _bucket_faults(client: "S3Client", name: str) -> Iterator[CheckResult]:
    status = _optional(lambda: client.get_bucket_policy_status(Bucket=name)["PolicyStatus"])
    if status is not None and status.get("IsPublic"):
        settings = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
        fix = f"--bucket {name} --public-access-block-configuration {settings}"
        fault = "its policy is public, and machines run code from it"
        yield CheckResult("bucket", "missing", fault, f"'aws s3api put-public-access-block {fix}'")
    else:
        blocks = _optional(lambda: client.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]) or {}
        if len(blocks) < 4 or not all(blocks.values()):
            fix = "'aws s3api put-public-access-block' with all four settings"
            yield CheckResult("bucket", "warn", "public access is not blocked", fix)

    versioning = _optional(lambda: client.get_bucket_versioning(Bucket=name))
    if versioning is not None and versioning.get("Status") != "Enabled":
        fix = f"'aws s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled'"
        yield CheckResult("bucket", "warn", "versioning is off: replaced and deleted objects are lost", fix)

    encryption = _optional(
        lambda: client.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    )
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in encryption or []]
    if any(default.get("SSEAlgorithm") != "AES256" for default in defaults):
        fix = "allow kms:Decrypt and kms:GenerateDataKey to the worker's role in the key's policy"
        yield CheckResult("bucket", "warn", "it is encrypted with a KMS key", fix)

    rules = _optional(lambda: client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]) or []
    fix = "give it the lifecycle rules of infra/storage.yaml, which `layoutlm-cli fleet template storage` prints"
    if not any(STATE_TAG in str(rule.get("Filter")) and rule["Status"] == "Enabled" for rule in rules):
        yield CheckResult("bucket", "warn", "superseded checkpoints are never deleted", fix)
    if versioning is None or versioning.get("Status"):  # also of a bucket whose versions were suspended
        for prefix in _REWRITTEN:
            days = min((kept for rule in rules if (kept := _noncurrent_days(rule, prefix))), default=None)
            if days is None or days > _NONCURRENT_DAYS:
                kept_for = "for ever" if days is None else f"for {days} days"
                fault = f"old versions below {prefix} are kept {kept_for}, and are most of the bytes that are paid for"
                yield CheckResult("bucket", "warn", fault, fix)


def _noncurrent_days(rule: "LifecycleRuleOutputTypeDef", prefix: str) -> int | None:
    """Days after which a rule deletes all old versions below a prefix; None where it does not."""
    condition = rule.get("Filter", {})
    both = condition.get("And", {})
    place = condition.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or ""
    expiry = rule.get("NoncurrentVersionExpiration", {})
    # of a certain tag or size, or all but the newest of them
    is_partial = set(condition) - {"Prefix", "And"} or set(both) - {"Prefix"} or expiry.get("NewerNoncurrentVersions")
    if rule["Status"] != "Enabled" or is_partial or not prefix.startswith(place):
        return None
    return expiry.get("NoncurrentDays")
