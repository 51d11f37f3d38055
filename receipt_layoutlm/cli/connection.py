"""Table, bucket and extras of a command: from flags, the environment, or the embedded AWS behind --local.

No other module reads the environment for them.
"""

import errno
import functools
import getpass
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from receipt_dynamo import DynamoClient, JobQueue, StoreError
from receipt_layoutlm.cli.output import PlaceOption
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.redact import printable
from receipt_layoutlm.references import TABLE_VARIABLE

if TYPE_CHECKING:
    from mypy_boto3_sts.type_defs import GetCallerIdentityResponseTypeDef

    from receipt_layoutlm.storage.bucket import Bucket


F = TypeVar("F", bound=Callable[..., Any])

BUCKET_VARIABLE = "LAYOUTLM_TRAINING_BUCKET"


@dataclass
class Connection:
    """Opens clients on demand; with --local it starts only the engines they need."""

    is_local: bool
    table: str | None
    region: str | None
    bucket_name: str | None

    @property
    def words(self) -> list[str]:
        """The options of another command that reaches the same places; what the environment names is left to it."""
        given = (("--dynamo-table", self.table), ("--region", self.region), ("--bucket", self.bucket_name))
        return ["--local"] * self.is_local + [word for flag, value in given if value for word in (flag, value)]

    def client(self) -> DynamoClient:
        table = self.table_name()
        if self.is_local:
            self._start_local("dynamodb", table)
        return DynamoClient(table, region=None if self.is_local else self.region)

    def queue(self) -> JobQueue:
        return JobQueue(self.client())

    def table_name(self) -> str:
        """The table's name; a usage error if there is none."""
        given = self.table or self._local_name("LOCAL_TABLE") or os.environ.get(TABLE_VARIABLE)
        if not given:
            raise click.UsageError(f"no table: give --dynamo-table, set {TABLE_VARIABLE}, or use --local")
        return given

    def has_table(self) -> bool:
        """Whether a table is named by flag, environment or --local."""
        return self.is_local or bool(self.table or os.environ.get(TABLE_VARIABLE))

    def has_bucket(self) -> bool:
        """Whether a training bucket is named by flag, environment or --local."""
        return self.is_local or bool(self.bucket_name or os.environ.get(BUCKET_VARIABLE))

    def default_bucket(self) -> str:
        """The training bucket's name; a usage error if there is none."""
        given = self.bucket_name or self._local_name("LOCAL_BUCKET") or os.environ.get(BUCKET_VARIABLE)
        if not given:
            raise click.UsageError(f"no bucket: give --bucket, set {BUCKET_VARIABLE}, or use --local")
        return given

    def _local_name(self, constant: str) -> str | None:
        """The name under --local, which takes precedence over the environment."""
        if not self.is_local:
            return None
        from receipt_layoutlm.local import aws as local_aws

        return str(getattr(local_aws, constant))

    def open_bucket(self, name: str) -> "Bucket":
        from receipt_layoutlm.storage.bucket import Bucket

        if self.is_local:
            self._start_local("s3", name)
            return Bucket(name)
        return Bucket(name, region=self.region, owner=self.bucket_owner)

    def bucket_owner(self) -> str | None:
        """The account that requests to the bucket name."""
        from receipt_layoutlm.storage.owner import BadOwner, expected_owner

        try:
            return expected_owner(os.environ, lambda: self._identity)  # asked for once a command
        except BadOwner as error:
            raise click.UsageError(str(error)) from error

    def caller(self) -> str:
        """Identity of the submitter: the AWS caller's ARN, otherwise the OS user."""
        identity = None if self.is_local else self._identity
        return getpass.getuser() if identity is None else identity["Arn"]

    @functools.cached_property
    def _identity(self) -> "GetCallerIdentityResponseTypeDef | None":
        from receipt_layoutlm.storage.owner import caller_identity

        return caller_identity(self.region)

    def _start_local(self, service: Literal["dynamodb", "s3"], name: str) -> None:
        from receipt_layoutlm.local import aws as local_aws

        os.environ.update(local_aws.start_for(os.environ, service, name))


region_option = click.option(
    "--region", cls=PlaceOption, metavar="REGION", help="AWS region (default: AWS_REGION, the profile, us-east-1)."
)


def store_options(command: F) -> F:
    """Add --dynamo-table, --region and --bucket; the command receives them as one `connection`."""

    bucket_help = f"S3 bucket for snapshots and runs (default: {BUCKET_VARIABLE})."

    @click.option(
        "--dynamo-table", cls=PlaceOption, metavar="TABLE", help=f"DynamoDB table (default: {TABLE_VARIABLE})."
    )
    @region_option
    @click.option("--bucket", cls=PlaceOption, metavar="BUCKET", help=bucket_help)
    @functools.wraps(command)
    def wrapped(dynamo_table: str | None, region: str | None, bucket: str | None, **values: Any) -> Any:
        is_local = bool(click.get_current_context().find_root().obj)
        connection = Connection(is_local, dynamo_table, region, bucket)
        return explain_errors(command)(connection=connection, **values)

    return wrapped  # type: ignore[return-value]


def explain_errors(command: F) -> F:
    """Report the product's errors as one line on stderr, with exit code 1, or 2 for a usage error."""

    @functools.wraps(command)
    def wrapped(*args: Any, **values: Any) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return command(*args, **values)
        except ConfigError as error:
            raise click.UsageError(printable(str(error))) from error
        except (StoreError, UserError, BotoCoreError) as error:
            raise click.ClickException(printable(str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:  # click ends quietly when its reader has
                raise
            raise click.ClickException(printable(f"{error.filename}: {error.strerror}")) from error

    return wrapped  # type: ignore[return-value]


MODULES = {
    "train": ("torch", "transformers", "safetensors"),
    "local": ("faker",),
    "reports": ("jinja2", "PIL"),
    "ocr": ("rapidocr", "onnxruntime", "pypdfium2", "PIL"),
    "onnx": ("numpy", "onnxruntime", "tokenizers"),
    "serve": ("fastapi", "uvicorn", "python_multipart"),
    "mlflow": ("mlflow",),
    "mcp": ("mcp",),
}


def require(extra: str, modules: Sequence[str] | None = None) -> None:
    """Raise a one-line error when a module of the extra (or one of `modules` alone) is not installed. Imports none."""
    missing = [module for module in modules or MODULES[extra] if find_spec(module) is None]
    if missing:
        raise click.ClickException(f"{', '.join(missing)} not installed: pip install 'receipt-layoutlm[{extra}]'")
