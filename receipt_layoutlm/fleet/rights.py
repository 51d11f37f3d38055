"""Checks of the caller's IAM permissions, through IAM's policy simulation.

The permissions to submit jobs are checked in full. Of those to deploy a fleet only the ones that are often withheld, or
whose refusal would come late, are checked: CloudFormation names any other refused action, and stack_errors explains it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.infra import table_request

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient


@dataclass(frozen=True)
class Right:
    """Actions on one resource, by its ARN. `resource` names it in messages where the actions alone are ambiguous."""

    arn: str
    actions: tuple[str, ...]
    resource: str = ""


def submit_rights(table: str | None, bucket: str | None) -> list[Right]:
    """Permissions to submit, watch and read jobs, for the ARNs that are known."""
    rights = []
    if table is not None:
        actions = ("GetItem", "Query", "PutItem", "UpdateItem", "ConditionCheckItem")
        rights.append(Right(table, tuple(f"dynamodb:{action}" for action in actions)))
        for index in table_request("any").get("GlobalSecondaryIndexes", []):
            rights.append(Right(f"{table}/index/{index['IndexName']}", ("dynamodb:Query",), f"{table}/index/*"))
    if bucket is not None:
        rights += [Right(bucket, ("s3:ListBucket",)), Right(f"{bucket}/*", ("s3:GetObject", "s3:PutObject"))]
    return rights


def deploy_rights(account: str, region: str, fleet: str, partition: str = "aws") -> list[Right]:
    """Permissions that `fleet deploy` needs at least."""
    stack = f"arn:{partition}:cloudformation:{region}:{account}:stack/{fleet}-workers/1"
    role = f"arn:{partition}:iam::{account}:role/{fleet}-workers-WorkerRole-1"
    return [
        Right(stack, tuple(f"cloudformation:{action}ChangeSet" for action in ("Create", "Describe", "Execute"))),
        Right(role, ("iam:CreateRole", "iam:PutRolePolicy", "iam:PassRole")),
        # EC2 Auto Scaling creates a group from a launch template only for callers who could launch its instances
        Right("*", ("ec2:RunInstances", "ec2:CreateLaunchTemplate")),
    ]


def check_submit_rights(client: "IAMClient", caller: str, rights: Sequence[Right]) -> CheckResult:
    """Check whether the caller may work with the table and the bucket."""
    if not rights:
        return CheckResult("rights", "warn", "no table and no bucket given", "give them to have your rights checked")
    return _check(client, caller, rights, CheckResult("rights", "missing", "", f"have a policy allow it to {caller}"))


def check_deploy_rights(client: "IAMClient", caller: str, rights: Sequence[Right]) -> CheckResult:
    """Check whether the caller may deploy a fleet, which is not needed to submit jobs."""
    needed = "only for `layoutlm-cli fleet deploy`, which needs at least these"
    advice = f"{needed}: ask an administrator, or have a policy for {caller}"
    return _check(client, caller, rights, CheckResult("deploy rights", "warn", "", advice))


def _check(client: "IAMClient", caller: str, rights: Sequence[Right], denial: CheckResult) -> CheckResult:
    """Simulate each action; `denial` is the result for refused ones, without their names."""
    if caller.endswith(":root"):
        return CheckResult(denial.name, "warn", "this is the account's root user", "use a role or an IAM user")
    denied = set()
    try:
        principal = caller
        if ":assumed-role/" in caller:  # a session's ARN lacks the path of its role
            principal = client.get_role(RoleName=caller.split("/")[1])["Role"]["Arn"]
        for right in rights:
            pages = client.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=principal, ActionNames=list(right.actions), ResourceArns=[right.arn]
            )
            results = [result for page in pages for result in page["EvaluationResults"]]
            refused = [result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed"]
            denied |= {f"{action} on {right.resource}" if right.resource else action for action in refused}
    except (ClientError, BotoCoreError) as error:
        advice = "ask for iam:SimulatePrincipalPolicy, or continue without this check"
        return CheckResult(denial.name, "warn", f"unknown: {error}", advice)
    if denied:
        return CheckResult(denial.name, denial.state, f"you may not {', '.join(sorted(denied))}", denial.advice)
    actions = {(action, right.resource) for right in rights for action in right.actions}
    return CheckResult(denial.name, "ok", f"all {len(actions)} checked actions are allowed")
