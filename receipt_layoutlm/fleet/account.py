"""Checks of an AWS account for a fleet: credentials, permissions, table, bucket, quotas and wheel."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import utcnow
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.fleet.bundle import BundleError, find_wheel
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.existing import NotUsable, inspect_bucket, inspect_table
from receipt_layoutlm.fleet.images import check_image, deployed_image
from receipt_layoutlm.fleet.names import workers_stack
from receipt_layoutlm.fleet.policies import Place
from receipt_layoutlm.fleet.quotas import check_quotas
from receipt_layoutlm.fleet.rights import check_rights, purposes
from receipt_layoutlm.fleet.stack import FleetStack, StackState, refuse_unless_changeable
from receipt_layoutlm.fleet.stack_errors import StackError
from receipt_layoutlm.fleet.template import INSTANCE_TYPES, read_template
from receipt_layoutlm.storage.owner import Owner, name_owner

LOG_IN = "run 'aws configure' or 'aws sso login', or set AWS_PROFILE"


@dataclass(frozen=True)
class Account:
    """The account to check. Table and bucket default to those of the fleet, if it is deployed.

    `owner` is the account that owns the bucket unless the fleet names another.
    """

    region: str | None
    fleet: str
    table: str | None
    bucket: str | None
    dist: Path
    owner: Owner = lambda: None


def check_account(account: Account) -> list[CheckResult]:
    """Check all requirements of a fleet, in the order in which they are needed. Changes nothing."""
    region = resolve_region(account.region)
    wheel = check_wheel_exists(account.dist)
    try:
        caller = boto3.client("sts", region_name=region).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return [CheckResult("credentials", "missing", str(error), LOG_IN), wheel]
    stack, fleet = check_fleet(account.fleet, region)
    parameters = {} if stack is None else dict(stack.parameters)
    table, bucket = account.table or parameters.get("TableName"), account.bucket or parameters.get("BucketName")
    values, image = read_template("workers.yaml").with_defaults(parameters), deployed_image(stack)

    iam = boto3.client("iam", region_name=region)
    partition = caller["Arn"].split(":")[1]
    place = Place(caller["Account"], region, account.fleet, partition, table, bucket)
    dynamodb, s3 = boto3.client("dynamodb", region_name=region), boto3.client("s3", region_name=region)
    name_owner(s3, lambda: parameters.get("BucketOwner") or account.owner())
    return [
        CheckResult("credentials", "ok", f"{caller['Arn']} in {region}"),
        fleet,
        *(check_rights(iam, caller["Arn"], each) for each in purposes(caller["Arn"], place)),
        *_check_storage("table", table, lambda name: inspect_table(dynamodb, name).results),
        *_check_storage("bucket", bucket, lambda name: inspect_bucket(s3, name)),
        *([check_image(boto3.client("ec2", region_name=region), image, utcnow())] if image else []),
        *check_quotas(region, [values[name] for name in INSTANCE_TYPES if values[name]]),
        wheel,
    ]


def check_fleet(fleet: str, region: str) -> tuple[StackState | None, CheckResult]:
    """The state of the workers' stack."""
    name = workers_stack(fleet)
    try:
        state = FleetStack(boto3.client("cloudformation", region_name=region), name).state()
    except StackError as error:
        return None, CheckResult("fleet", "warn", str(error), "ask for cloudformation:DescribeStacks")
    if state is None or state.is_planned_only:
        advice = "`layoutlm-cli fleet deploy` creates it"
        return None, CheckResult("fleet", "warn", f"no fleet {fleet} in {region}", advice)
    found = f"{name}: {state.status}"
    try:
        refuse_unless_changeable(name, state)
    except StackError as error:
        return state, CheckResult("fleet", "warn", found, str(error))
    if "ROLLBACK" in state.status:
        events = f"see the reason with 'aws cloudformation describe-stack-events --stack-name {name}'"
        return state, CheckResult(
            "fleet", "warn", found, f"the last change was rolled back: {events}, then deploy again"
        )
    return state, CheckResult("fleet", "ok", found)


def _check_storage(kind: str, name: str | None, inspect: Callable[[str], Iterable[CheckResult]]) -> list[CheckResult]:
    """All faults of the table or the bucket, or one result that it is usable."""
    if name is None:
        return [CheckResult(kind, "warn", "none given", "give one, or let `layoutlm-cli fleet deploy` create it")]
    try:
        faults = [replace(fault, found=f"{name}: {fault.found}") for fault in inspect(name)]
    except NotUsable as error:
        return [CheckResult(kind, "missing", name, str(error))]
    return faults or [CheckResult(kind, "ok", name)]


def check_wheel_exists(dist: Path) -> CheckResult:
    """Check for the wheel that a fleet's machines would install."""
    try:
        return CheckResult("wheel", "ok", str(find_wheel(dist)))
    except BundleError as error:
        return CheckResult("wheel", "warn", "no wheel to deploy", str(error))
