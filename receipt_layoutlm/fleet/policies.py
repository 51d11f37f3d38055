"""Rights that the managed policies of infra/storage.yaml grant, read from the template itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from receipt_dynamo import JobStatus
from receipt_layoutlm.infra import storage_template

Policy = Literal["ReadPolicy", "SubmitPolicy", "OperatePolicy"]

KEYS: Final = "dynamodb:LeadingKeys"
_EXAMPLES: Final = {"STATUS": JobStatus.RUNNING.value}  # of keys, whose beginning a caller's own policy may list
_INDEXES: Final = {"STATUS": "GSI1", "DATASETS": "GSI1", "JOB_NAME": "GSI2"}  # by the first word of a key; others GSI3


@dataclass(frozen=True)
class Right:
    """Actions on one resource, by its ARN. `resource` names it in messages where the actions alone are ambiguous.

    `context` holds values that a request brings and conditions of policies compare, by their key.
    """

    arn: str
    actions: tuple[str, ...]
    resource: str = ""
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A fleet's place in an account. `table` and `bucket` are None where they are not known."""

    account: str
    region: str
    fleet: str
    partition: str = "aws"
    table: str | None = None
    bucket: str | None = None

    def arn(self, service: str, rest: str, owner: str | None = None) -> str:
        """`owner` are region and account as this service has them."""
        return f"arn:{self.partition}:{service}:{f'{self.region}:{self.account}' if owner is None else owner}:{rest}"


def granted(policy: Policy, place: Place) -> list[Right]:
    """A right for each resource and each key of rows that a policy names, unless its table or bucket is unknown."""
    document = storage_template()["Resources"][policy]["Properties"]["PolicyDocument"]
    return [right for statement in document["Statement"] for right in _of_statement(statement, place)]


def _of_statement(statement: Mapping[str, Any], place: Place) -> Iterator[Right]:
    resources = statement["Resource"]
    # !Sub with names of its own was read as a list of the text and the names
    is_one = isinstance(resources, str) or isinstance(resources[-1], Mapping)
    for each in [resources] if is_one else resources:
        pattern = _filled(each if isinstance(each, str) else each[0], place)
        if pattern is not None:
            yield from _of_resource(statement, pattern)


def _filled(text: str, place: Place) -> str | None:
    """The ARN of a policy's resource; None where it is in a table or bucket that is not known."""
    name = place.bucket if ":s3:::" in text else place.table
    if name is None and "${Name}" in text:
        return None
    text = text.replace("${FleetName}-*", "${FleetName}-workers")  # of the groups
    values = {"Name": name or "", "FleetName": place.fleet, "AWS::Partition": place.partition}
    values |= {"AWS::Region": place.region, "AWS::AccountId": place.account}
    for key, value in values.items():
        text = text.replace(f"${{{key}}}", value)
    return text


def _of_resource(statement: Mapping[str, Any], pattern: str) -> Iterator[Right]:
    actions = statement["Action"]
    actions = (actions,) if isinstance(actions, str) else tuple(actions)
    keys = statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get(KEYS, ())
    for key in keys:
        kind = key.partition("#")[0]
        index = _INDEXES.get(kind, "GSI3")
        arn = pattern.replace("/index/*", f"/index/{index}")
        named = f"rows {key}" if arn == pattern else f"rows {key} of index {index}"
        yield Right(arn, actions, named, {KEYS: (key.replace("*", _EXAMPLES.get(kind, "1")),)})
    if not keys:
        yield Right("1".join(pattern.split("*")) if len(pattern) > 1 else pattern, actions, pattern.lstrip("*"))
