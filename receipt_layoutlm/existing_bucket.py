"""Whether a bucket that is there already will do: what is wrong with it, and the fix. It is never changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.existing_storage import NotUsable, asked
from receipt_layoutlm.finding import Finding
from receipt_layoutlm.fleet_names import STATE_TAG

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
