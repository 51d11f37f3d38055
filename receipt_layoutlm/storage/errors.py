"""Errors of the bucket: transient ones, which are retried, and permanent ones, whose text names the fix."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError

from receipt_dynamo.gateway import GatewayAnswer
from receipt_dynamo.retries import Pauses, RetryPolicy
from receipt_layoutlm.errors import UserError

_RNG: Final = random.SystemRandom()  # forked processes would draw the same pauses from a copied state

BUCKET_AWAY: Final = RetryPolicy(first=1.0, longest=60.0)
LOG_SECONDS: Final = 60.0  # between two lines about the same trouble

MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
WRONG_CHECKSUM: Final = frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
_TRANSIENT_CODES: Final = WRONG_CHECKSUM | {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeoutException", "IncompleteBody"),
    *("RequestLimitExceeded", "TooManyRequestsException", "BandwidthLimitExceeded"),
    *("ConditionalRequestConflict", "OperationAborted", "409"),  # another write of this key is under way
    "NoSuchUpload",  # a repeated completion meets its own effect: the next run looks for the object
}
_TRANSIENT_STATUS: Final = frozenset({429, 500, 502, 503, 504})
_ACCESS_FIX: Final = (
    "these credentials lack a right: allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, "
    "s3:DeleteObject and s3:AbortMultipartUpload on its objects; a bucket of another account than the credentials' own "
    "is used only if LAYOUTLM_BUCKET_OWNER names that account"
)
_CREDENTIALS_FIX: Final = "AWS rejects these credentials: renew them"
_REGION_FIX: Final = "the bucket is in another region: name it with --region"
_FIXES: Final = {
    "AccessDenied": _ACCESS_FIX,
    "403": _ACCESS_FIX,
    "InvalidAccessKeyId": _CREDENTIALS_FIX,
    "SignatureDoesNotMatch": _CREDENTIALS_FIX,
    "ExpiredToken": _CREDENTIALS_FIX,
    "InvalidToken": _CREDENTIALS_FIX,
    "PermanentRedirect": _REGION_FIX,
    "AuthorizationHeaderMalformed": _REGION_FIX,
    "301": _REGION_FIX,
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it",
}
_TRANSIENT_FAILURES: Final = (
    GatewayAnswer,
    NoConnection,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
    RetriesExceededError,
    CredentialRetrievalError,  # the metadata service did not answer just now
)

log = logging.getLogger(__name__)
T = TypeVar("T")


class StorageError(UserError):
    """The bucket refuses a request, or holds another object than expected. The text names the fix."""


class TooLarge(StorageError):
    """An object has more bytes than are read: something else than this program wrote it."""


class NoBucket(StorageError):
    """The bucket does not exist."""


class StorageUnavailable(StorageError):
    """The bucket is unreachable or overloaded: a later try may succeed."""


class AccessDenied(StorageError):
    """The credentials are not accepted, or lack a right."""


class NotStored(StorageError):
    """The bucket has no such object."""


def keep_trying(
    action: Callable[[], T],
    give_up: Callable[[], bool],
    wait: Callable[[float], object],
    rng: random.Random = _RNG,
    monotonic: Callable[[], float] = time.monotonic,
    passing: type[Exception] | tuple[type[Exception], ...] = StorageUnavailable,
    policy: RetryPolicy = BUCKET_AWAY,
) -> T:
    """Repeat an action while it raises `passing` errors, by default those of an unreachable bucket.

    Raises the last of them once give_up() says so. `wait` is an Event's wait, so that a stop ends the pause too.
    """
    pauses, logged_at = Pauses(policy, give_up, wait, rng), float("-inf")
    while True:
        try:
            return action()
        except passing as error:
            if give_up():
                raise
            if monotonic() - logged_at >= LOG_SECONDS:
                log.warning("%s; trying again", error)
                logged_at = monotonic()
            if not pauses.pause() or give_up():
                raise


@contextmanager
def explained(bucket: str, key: str) -> Iterator[None]:
    """Turn an error of boto3 into StorageUnavailable, NotStored or StorageError."""
    try:
        yield
    except ClientError as error:
        raise _explain(error, bucket, key) from error
    except _TRANSIENT_FAILURES as error:
        is_permanent = isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
        raise (StorageError if is_permanent else StorageUnavailable)(f"s3://{bucket}/{key}: {error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(f"s3://{bucket}/{key}: {error}") from error


def error_code(error: ClientError) -> str:
    """S3's error code; the HTTP status where a reply has no body, as of a HEAD request."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _explain(error: ClientError, bucket: str, key: str) -> StorageError:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return NoBucket(f"bucket {bucket!r} does not exist: create it or name another with --bucket")
    if code in MISSING:
        return NotStored(f"s3://{bucket}/{key} does not exist")
    if code in _TRANSIENT_CODES or code.startswith("Throttling") or status in _TRANSIENT_STATUS:
        return StorageUnavailable(f"s3://{bucket}/{key}: {error}")
    fix = _FIXES.get(code)
    kind = AccessDenied if fix in (_ACCESS_FIX, _CREDENTIALS_FIX) else StorageError
    return kind(f"s3://{bucket}/{key}: {fix or error}")
