"""Environment that points AWS clients at the embedded AWS and at nothing else; creates its table and bucket."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from receipt_layoutlm import infra
from receipt_layoutlm.local.engines import Service
from receipt_layoutlm.local.keys import LocalKeys
from receipt_layoutlm.local.process import wait_until
from receipt_layoutlm.local.state import LocalAwsError
from receipt_layoutlm.paths import private

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client


REGION = "us-east-1"
PROBE_KEY = ".layoutlm-ready"
OBJECT_SECONDS = 20.0  # SeaweedFS needs a few to find its volumes after a start
NOWHERE = "http://127.0.0.1:9"  # the discard port: calls to other AWS services fail at once
PROFILE = "aws-config"


def write_profile(folder: Path) -> None:
    """Write the profile used in place of the user's; only once, because a client may be reading it."""
    if not (folder / PROFILE).exists():
        with open(folder / PROFILE, "w", opener=private) as file:
            file.write(f"[default]\nregion = {REGION}\n")


def client_environment(
    folder: Path, endpoints: Mapping[Service, str], no_proxy: str, keys: LocalKeys
) -> dict[str, str]:
    """Variables with endpoints, keys, region and profile for boto3 and child processes.

    Loopback is added to `no_proxy`, the present value of NO_PROXY.
    """
    direct = ",".join(part for part in (no_proxy, "127.0.0.1") if part)
    return {
        "AWS_ENDPOINT_URL": NOWHERE,
        **{f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in endpoints.items()},
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_USE_FIPS_ENDPOINT": "false",
        "AWS_USE_DUALSTACK_ENDPOINT": "false",
        **keys.environment,
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_PROFILE": "default",
        "AWS_CONFIG_FILE": str(folder / PROFILE),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def create(service: Service, endpoint: str, name: str, keys: LocalKeys) -> None:
    """Create the table of infra/storage.yaml, or a bucket, unless it exists. Raises LocalAwsError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        if service == "dynamodb":
            infra.create_table(cast("DynamoDBClient", _client(service, endpoint, keys)), name)
        else:
            client = cast("S3Client", _client(service, endpoint, keys))
            infra.create_bucket(client, name)
            if not wait_until(lambda: _keeps_objects(client, name), OBJECT_SECONDS):
                raise LocalAwsError(
                    f"the local S3 started but stores no objects in {name}: "
                    "`layoutlm-cli local status --json` names its log"
                )
    except (BotoCoreError, ClientError) as error:
        raise LocalAwsError(f"{name} could not be created on the local {service}: {error}") from error


def _keeps_objects(client: "S3Client", bucket: str) -> bool:
    """Whether an object can be read, if possible one of an earlier start.

    After a start SeaweedFS answers before it knows its volumes, and every read is an InternalError until then.
    """
    from botocore.exceptions import ClientError

    try:
        try:
            client.get_object(Bucket=bucket, Key=PROBE_KEY)
        except client.exceptions.NoSuchKey:
            client.put_object(Bucket=bucket, Key=PROBE_KEY, Body=b"ready")
            client.get_object(Bucket=bucket, Key=PROBE_KEY)
    except ClientError:
        return False
    return True


def _client(service: Service, endpoint: str, keys: LocalKeys) -> object:
    """A client that ignores the user's profile, proxies and environment."""
    import botocore.session
    from botocore.config import Config

    fixed = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
    session = botocore.session.Session(session_vars={name: (None, None, value, None) for name, value in fixed.items()})
    return session.create_client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        config=Config(proxies={}, connect_timeout=3, read_timeout=20),
    )
