"""Finds the templates of infra/ and creates from storage.yaml the same table and bucket on any endpoint."""

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import CreateTableInputTypeDef
    from mypy_boto3_s3 import S3Client


PACKAGED = Path(__file__).parent / "_infra"  # where a wheel carries infra/
CHECKOUT = Path(__file__).parents[1] / "infra"

# create_table takes these as in the template; the rest has other names or is set by other calls
_SHARED_KEYS = (
    "BillingMode",
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
    "DeletionProtectionEnabled",
)


class _TemplateLoader(yaml.SafeLoader):
    """Reads !Ref, !Sub, !GetAtt, !If and their like as the plain value behind the tag."""


def _plain_value(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_TemplateLoader.add_multi_constructor("!", _plain_value)


def template_path(name: str) -> Path:
    """A file of infra/, in an installed wheel or in a checkout; FileNotFoundError names both folders."""
    for folder in (PACKAGED, CHECKOUT):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is neither in {PACKAGED} nor in {CHECKOUT}")


def table_request(table_name: str) -> "CreateTableInputTypeDef":
    """The keyword arguments of boto3's create_table for a table as storage.yaml describes it, without its stream.

    The stream of an embedded engine has no reader, and dynoxide's slows writes down with the number of writes in the
    last day (5 ms after 12,000 of them, 0.2 ms without).
    """
    properties = _table_properties()
    shared = {key: properties[key] for key in _SHARED_KEYS}
    return cast("CreateTableInputTypeDef", {"TableName": table_name, **shared})


def create_table(client: "DynamoDBClient", table_name: str) -> None:
    """Create the table unless it exists, wait until it is ACTIVE, and turn its TTL on."""
    with contextlib.suppress(client.exceptions.ResourceInUseException):  # perhaps created a moment ago
        client.create_table(**table_request(table_name))
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    described = client.describe_time_to_live(TableName=table_name)["TimeToLiveDescription"]
    if described.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):  # turning it on twice is an error
        client.update_time_to_live(
            TableName=table_name, TimeToLiveSpecification=_table_properties()["TimeToLiveSpecification"]
        )


def create_bucket(client: "S3Client", name: str) -> None:
    """Create the bucket unless the caller owns it already (in us-east-1, which takes no location)."""
    try:
        client.create_bucket(Bucket=name)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        client.head_bucket(Bucket=name)  # ClientError 403 when another account owns it


def superseded_days() -> int:
    """Days after which the bucket's lifecycle rule deletes checkpoints of succeeded jobs, by default."""
    return int(storage_template()["Parameters"]["SupersededDays"]["Default"])


def _table_properties() -> dict[str, Any]:
    properties: dict[str, Any] = storage_template()["Resources"]["Table"]["Properties"]
    return properties


@functools.cache
def storage_template() -> dict[str, Any]:
    """storage.yaml, with !Ref X and the like as X."""
    template: dict[str, Any] = yaml.load(template_path("storage.yaml").read_text(), Loader=_TemplateLoader)
    return template
