"""Exceptions of the run store, each with the fix in its text, and the botocore errors that become one."""

from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as NoConnection

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
_NO_REPLY = (NoConnection, CredentialRetrievalError, HTTPClientError, IncompleteReadError)  # perhaps it arrived


class StoreError(Exception):
    """Anything the run store refuses or cannot do."""


class InvalidInput(StoreError, ValueError):
    """An argument is malformed: an unknown status, a limit of 0, an id that is no UUID."""


class NotFound(StoreError, LookupError):
    """The job, lease or dataset does not exist."""


class TableNotFound(StoreError):
    """The table does not exist in this region: create it from infra/storage.yaml or name another."""


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


def is_transient(error: ClientError | BotoCoreError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in TRANSIENT_CODES
    return isinstance(error, _NO_REPLY)


def store_error(error: ClientError | BotoCoreError, table_name: str) -> StoreError:
    """The StoreError for an error of botocore; its text names the fix."""
    kind = StoreUnavailable if is_transient(error) else StoreError
    if isinstance(error, BotoCoreError):
        return kind(f"table {table_name!r} cannot be reached: {error}")
    if error.response["Error"]["Code"] == "ResourceNotFoundException":
        return TableNotFound(
            f"table {table_name!r} (or an index of it) does not exist: check "
            "--dynamo-table and --region, or create it from infra/storage.yaml"
        )
    return kind(f"{error.operation_name} on table {table_name!r}: {error}")
