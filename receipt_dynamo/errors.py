"""Exceptions of the run store, each with the fix in its text, and the botocore errors that become one."""

from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnection

from receipt_dynamo.gateway import GatewayAnswer

TRANSIENT_CODES: Final = frozenset(
    {
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingError",
        "ThrottlingException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "500",
        "503",
    }
)
_LOG_IN = "run 'aws configure' or 'aws sso login', or set AWS_PROFILE; without AWS, use --local"
_RENEW = "renew the credentials: run 'aws sso login', or fetch new keys and set them again"
_STEPS: Final = {
    ("ExpiredToken", "ExpiredTokenException", "RequestExpired"): _RENEW,
    ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken"): (
        "these keys are none of AWS's: check AWS_ACCESS_KEY_ID, AWS_PROFILE and the account"
    ),
    ("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature"): (
        "check AWS_SECRET_ACCESS_KEY, and the clock of this machine"
    ),
    ("MissingAuthenticationToken", "MissingAuthenticationTokenException"): _LOG_IN,
    ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation"): (
        "ask for the rights that 'layoutlm-cli doctor' lists, or use another AWS_PROFILE"
    ),
    ("OptInRequired", "SubscriptionRequiredException"): "enable this region for the account, or name another: --region",
}
_CREDENTIAL_ERRORS: Final = {
    (NoCredentialsError, PartialCredentialsError, NoAuthTokenError): _LOG_IN,
    (SSOError, TokenRetrievalError): _RENEW,
    (ProfileNotFound, ConfigParseError): "check AWS_PROFILE, AWS_CONFIG_FILE and ~/.aws/config",
    (InvalidRegionError,): "name an AWS region with --region or AWS_REGION",
}
_REACH_STEP: Final = ": check the network, and the region (--region)"
_NO_REPLY = (NoConnection, CredentialRetrievalError, HTTPClientError, IncompleteReadError)  # perhaps it arrived


class StoreError(Exception):
    """Anything the run store refuses or cannot do."""


class InvalidInput(StoreError, ValueError):
    """An argument is malformed: an unknown status, a limit of 0, an id that is no UUID."""


class NotFound(StoreError, LookupError):
    """The job, lease or dataset does not exist."""


class NoAccess(StoreError):
    """The table cannot be used with these credentials, in this region, under this name: the text has the next step."""


class TableNotFound(NoAccess):
    """The table does not exist in this region: create it from infra/storage.yaml or name another."""


class UnreadableRow(StoreError, ValueError):
    """The row asked for cannot be read: another program wrote it, or a newer version. The text names row and reason."""

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(reason)
        self.place = place


class RowRefused(StoreError):
    """The table takes no write of this row: with its present values it is too large, or a number too long."""


class WrongReply(StoreError):
    """The reply belongs to another request: the connection is shared with another process."""


class AlreadyExists(StoreError):
    """A create-only write met an item of that key."""


class StateConflict(StoreError):
    """The job is in a state in which this cannot be done, such as cancelling a succeeded job."""


class LeaseLost(StoreError):
    """Another attempt owns the job, or it has ended: stop, and write nothing more."""


class StoreUnavailable(StoreError):
    """The table does not answer, or is overloaded, which passes by itself: try again."""


class WriteTimeout(StoreUnavailable):
    """A write met conflicts, throttles or a dead connection until its deadline."""


def is_overloaded(error: ClientError | BotoCoreError) -> bool:
    """Whether table or gateway ask to come again: it throttles, conflicts, has trouble, or was not reached at all."""
    if isinstance(error, GatewayAnswer):
        return True
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in TRANSIENT_CODES


def is_transient(error: ClientError | BotoCoreError) -> bool:
    """Whether the same request may succeed later: the table is overloaded, or no reply came."""
    return is_overloaded(error) or isinstance(error, _NO_REPLY)


def store_error(error: ClientError | BotoCoreError, table_name: str) -> StoreError:
    """The StoreError for an error of botocore; its text names the fix."""
    if (step := credentials_step(error)) is not None:
        return NoAccess(f"no access to table {table_name!r}: {error}: {step}")
    if isinstance(error, BotoCoreError):
        kind = StoreUnavailable if is_transient(error) else StoreError
        hint = _REACH_STEP if isinstance(error, EndpointConnectionError) else ""
        return kind(f"table {table_name!r} cannot be reached: {error}{hint}")
    if error.response["Error"]["Code"] == "ResourceNotFoundException":
        return TableNotFound(
            f"table {table_name!r} (or an index of it) does not exist: check its name (--dynamo-table) and the region "
            "(--region), or create it from infra/storage.yaml"
        )
    kind = StoreUnavailable if is_transient(error) else RowRefused if _is_of_values(error) else StoreError
    return kind(f"{error.operation_name} on table {table_name!r}: {error}")


def _is_of_values(error: ClientError) -> bool:
    response: dict[str, Any] = dict(error.response)
    reasons = [reason.get("Code") for reason in response.get("CancellationReasons") or ()]
    return error.response["Error"]["Code"] == "ValidationException" or "ValidationError" in reasons


def credentials_step(error: ClientError | BotoCoreError) -> str | None:
    """The next step when an AWS request failed for its credentials, else None."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        return next((step for codes, step in _STEPS.items() if code in codes), None)
    return next((step for kinds, step in _CREDENTIAL_ERRORS.items() if isinstance(error, kinds)), None)
