"""Addresses of a table as MLflow takes them, receipt-dynamodb://TABLE?region=…&endpoint=…, and errors for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

from receipt_dynamo import (
    DynamoClient,
    InvalidInput,
    NoAccess,
    NotFound,
    StoreError,
    StoreUnavailable,
    TableNotFound,
)
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.errors import NotStored, StorageUnavailable

SCHEME: Final = "receipt-dynamodb"
_EXAMPLE: Final = f"{SCHEME}://TABLE?region=us-east-1"
_OPTIONS: Final = ("region", "endpoint")

_CODES: Final = (
    ((NotFound, TableNotFound, NotStored), databricks_pb2.RESOURCE_DOES_NOT_EXIST),
    (InvalidInput, databricks_pb2.INVALID_PARAMETER_VALUE),
    (NoAccess, databricks_pb2.PERMISSION_DENIED),
    ((StoreUnavailable, StorageUnavailable), databricks_pb2.TEMPORARILY_UNAVAILABLE),
)


class TableAddress(NamedTuple):
    """A table; region and endpoint as DynamoClient takes them. `path` names a place among its artifacts."""

    table: str
    region: str | None = None
    endpoint: str | None = None
    path: str = ""

    @property
    def uri(self) -> str:
        options = {name: value for name in _OPTIONS if (value := getattr(self, name))}
        path = f"/{quote(self.path)}" if self.path else ""
        return f"{SCHEME}://{self.table}{path}" + (f"?{urlencode(options)}" if options else "")

    def client(self) -> DynamoClient:
        return DynamoClient(self.table, region=self.region, endpoint_url=self.endpoint)


def parse_address(uri: str) -> TableAddress:
    """Raises MlflowException, with what to write instead."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != SCHEME or not re.fullmatch(r"[a-zA-Z0-9_.-]{3,255}", parts.netloc):
        raise _invalid(f"{uri!r} names no table: write {_EXAMPLE}")
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise _invalid(
            f"unknown option {unknown[0]!r} in {uri!r}: there are {' and '.join(_OPTIONS)}, as in {_EXAMPLE}"
        )
    if empty := [name for name, value in options.items() if not value]:
        raise _invalid(f"{empty[0]} is empty in {uri!r}: leave it out, or write it as in {_EXAMPLE}")
    return TableAddress(parts.netloc, options.get("region"), options.get("endpoint"), parts.path.strip("/"))


def _invalid(text: str) -> MlflowException:
    return MlflowException(text, databricks_pb2.INVALID_PARAMETER_VALUE)


@contextmanager
def with_mlflow_errors() -> Iterator[None]:
    """Errors of table and bucket as MLflow's, whose text and HTTP status its page and its client show."""
    try:
        yield
    except (StoreError, UserError) as error:
        code = next((code for types, code in _CODES if isinstance(error, types)), databricks_pb2.INTERNAL_ERROR)
        raise MlflowException(str(error), code) from error
