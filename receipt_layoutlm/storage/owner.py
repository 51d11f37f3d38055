"""The account that owns the bucket. Requests name it, and S3 refuses them for a bucket of that name elsewhere."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo.client import resolve_region
from receipt_layoutlm.errors import UserError

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts.type_defs import GetCallerIdentityResponseTypeDef

Owner = Callable[[], str | None]
Identify = Callable[[], "GetCallerIdentityResponseTypeDef | None"]

OWNER_VARIABLE: Final = "LAYOUTLM_BUCKET_OWNER"
_OTHER_S3: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_QUICK: Final = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})


class BadOwner(UserError):
    """The given owner is no account."""


def caller_identity(region: str | None) -> "GetCallerIdentityResponseTypeDef | None":
    """Account and ARN of the credentials; None where AWS does not tell."""
    try:
        return boto3.client("sts", region_name=resolve_region(region), config=_QUICK).get_caller_identity()
    except (BotoCoreError, ClientError):
        return None


def expected_owner(environ: Mapping[str, str], identity: Identify) -> str | None:
    """The given account, else that of the credentials; None on another S3 than AWS's. Raises BadOwner."""
    if given := environ.get(OWNER_VARIABLE):
        if re.fullmatch(r"\d{12}", given) is None:
            raise BadOwner(f"{OWNER_VARIABLE} must be an account of 12 digits, not {given!r}")
        return given
    if any(environ.get(name) for name in _OTHER_S3):
        return None
    caller = identity()
    return None if caller is None else caller["Account"]


def name_owner(client: "S3Client", owner: Owner) -> None:
    """Have all requests of a client name the owner, which is asked for at the first of them."""
    known = functools.cache(owner)

    def add(params: dict[str, object], model: "OperationModel", **_: object) -> None:
        members = {} if model.input_shape is None else model.input_shape.members
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):  # of a copy, both buckets are this one
            if name in members and (account := known()):
                params.setdefault(name, account)

    client.meta.events.register("before-parameter-build.s3", add)
