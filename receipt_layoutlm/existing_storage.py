"""Whether a table that is there already will do: what is wrong with it, and the fix. It is never changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.finding import Finding
from receipt_layoutlm.infra import table_request

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import GlobalSecondaryIndexDescriptionTypeDef, TableDescriptionTypeDef

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
