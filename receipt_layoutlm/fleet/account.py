"""What an AWS account has for a fleet: credentials, rights, table, bucket, quotas, wheel; and what to fix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo.client import resolve_region
from receipt_layoutlm.fleet.bundle import BundleError, find_wheel
from receipt_layoutlm.fleet.existing import NotUsable, look_at_bucket, look_at_table
from receipt_layoutlm.fleet.finding import Finding, State
from receipt_layoutlm.fleet.names import workers_stack
from receipt_layoutlm.fleet.quotas import quota_findings
from receipt_layoutlm.fleet.rights import Building, deploy_finding, submit_finding, submit_rights
from receipt_layoutlm.fleet.stack import FleetStack, StackState, refuse_unless_changeable
from receipt_layoutlm.fleet.stack_errors import StackError
from receipt_layoutlm.fleet.template import INSTANCE_TYPES, read_template

if TYPE_CHECKING:
    from mypy_boto3_sts.type_defs import GetCallerIdentityResponseTypeDef


LOG_IN = "run 'aws configure' or 'aws sso login', or set AWS_PROFILE"


@dataclass(frozen=True)
class Account:
    """What to look at. Table and bucket that are not named are those of the fleet, if there is one."""

    region: str | None
    fleet: str
    table: str | None
    bucket: str | None
    dist: Path


def examine_account(account: Account) -> list[Finding]:
    """Everything a fleet needs, in the order in which it needs it. Changes nothing."""
    region = resolve_region(account.region)
    wheel = wheel_finding(account.dist)
    try:
        caller = boto3.client("sts", region_name=region).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return [Finding("credentials", "missing", str(error), LOG_IN), wheel]
    stack, fleet = fleet_finding(account.fleet, region)
    settings = {} if stack is None else dict(stack.parameters)
    table, bucket = account.table or settings.get("TableName"), account.bucket or settings.get("BucketName")
    chosen = read_template("workers.yaml").with_defaults(settings)
    building = Building(
        partition=caller["Arn"].split(":")[1],
        region=region,
        account=caller["Account"],
        fleet=account.fleet,
        table=table,
        bucket=bucket,
        subnets=chosen["SubnetIds"],
        image=chosen["AmiId"],
    )
    return [
        Finding("credentials", "ok", f"{caller['Arn']} in {region}"),
        fleet,
        *_rights(caller, building),
        *_storage_findings("table", table, region, _table_findings),
        *_storage_findings("bucket", bucket, region, _bucket_findings),
        *quota_findings(region, [chosen[name] for name in INSTANCE_TYPES if chosen[name]]),
        wheel,
    ]


def fleet_finding(fleet: str, region: str) -> tuple[StackState | None, Finding]:
    """The workers' stack as it stands."""
    try:
        state = FleetStack(boto3.client("cloudformation", region_name=region), workers_stack(fleet)).state()
    except StackError as error:
        return None, Finding("fleet", "warn", str(error), "ask for cloudformation:DescribeStacks")
    if state is None or state.is_planned_only:
        return None, Finding("fleet", "warn", f"no fleet {fleet} in {region}", "make one: layoutlm-cli fleet deploy")
    return state, Finding("fleet", *_condition(workers_stack(fleet), state))


def _condition(name: str, state: StackState) -> tuple[State, str, str]:
    found = f"{name}: {state.status}"
    try:
        refuse_unless_changeable(name, state)
    except StackError as error:
        return "warn", found, str(error)
    if "ROLLBACK" in state.status:
        why = f"see why with 'aws cloudformation describe-stack-events --stack-name {name}'"
        return "warn", found, f"the last change was undone: {why}, then deploy again"
    return "ok", found, ""


def _rights(caller: "GetCallerIdentityResponseTypeDef", building: Building) -> list[Finding]:
    iam = boto3.client("iam", region_name=building.region)
    place = f"arn:{building.partition}"
    table = building.table and f"{place}:dynamodb:{building.region}:{building.account}:table/{building.table}"
    bucket = building.bucket and f"{place}:s3:::{building.bucket}"
    return [
        submit_finding(iam, caller["Arn"], submit_rights(table, bucket)),
        deploy_finding(iam, caller["Arn"], building.rights()),
    ]


def _storage_findings(
    kind: str, name: str | None, region: str, look: Callable[[str, str], Iterable[Finding]]
) -> list[Finding]:
    """What is wrong, one by one; else that it is there."""
    if name is None:
        return [Finding(kind, "warn", "none is named", "name one, or have it made by 'fleet deploy'")]
    try:
        found = [replace(each, found=f"{name}: {each.found}") for each in look(name, region)]
    except NotUsable as error:
        return [Finding(kind, "missing", name, str(error))]
    return found or [Finding(kind, "ok", name)]


def _table_findings(name: str, region: str) -> Iterable[Finding]:
    return look_at_table(boto3.client("dynamodb", region_name=region), name).findings


def _bucket_findings(name: str, region: str) -> Iterable[Finding]:
    return look_at_bucket(boto3.client("s3", region_name=region), name).findings


def wheel_finding(dist: Path) -> Finding:
    """What the machines of a fleet would install."""
    try:
        return Finding("wheel", "ok", str(find_wheel(dist)))
    except BundleError as error:
        return Finding("wheel", "warn", "none to deploy", str(error))
