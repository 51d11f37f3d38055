"""What the caller may do, as IAM's simulation says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.finding import Finding
from receipt_layoutlm.infra import table_request

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient


@dataclass(frozen=True)
class Right:
    """Actions on one thing, by its ARN; `named` where the actions alone do not tell what is meant."""

    arn: str
    actions: tuple[str, ...]
    named: str = ""


def submit_rights(table: str | None, bucket: str | None) -> list[Right]:
    """What submitting, watching and reading jobs asks for, with the ARNs of what is named."""
    rights = []
    if table is not None:
        acts = ("GetItem", "Query", "PutItem", "UpdateItem", "ConditionCheckItem")
        rights.append(Right(table, tuple(f"dynamodb:{each}" for each in acts)))
        for index in table_request("any").get("GlobalSecondaryIndexes", []):
            rights.append(Right(f"{table}/index/{index['IndexName']}", ("dynamodb:Query",), f"{table}/index/*"))
    if bucket is not None:
        rights += [Right(bucket, ("s3:ListBucket",)), Right(f"{bucket}/*", ("s3:GetObject", "s3:PutObject"))]
    return rights


def submit_finding(client: "IAMClient", caller: str, rights: Sequence[Right]) -> Finding:
    """Whether the caller may work with the table and the bucket."""
    if not rights:
        return Finding("rights", "warn", "neither table nor bucket is named", "name them to have your rights checked")
    return _finding(client, caller, rights, Finding("rights", "missing", "", f"have a policy allow it to {caller}"))


def deploy_finding(client: "IAMClient", caller: str, rights: Sequence[Right]) -> Finding:
    """Whether the caller may build and change a fleet, which who only submits jobs need not."""
    advice = f"only for 'fleet deploy': let an administrator run that, or have a policy allow it to {caller}"
    return _finding(client, caller, rights, Finding("deploy rights", "warn", "", advice))


def _finding(client: "IAMClient", caller: str, rights: Sequence[Right], denial: Finding) -> Finding:
    """`denial` lacks only what is denied."""
    if caller.endswith(":root"):
        return Finding(denial.name, "warn", "this is the account's root", "use a role or a user of your own")
    try:
        denied = sorted(set(_denied(client, _principal(client, caller), rights)))
    except (ClientError, BotoCoreError) as error:
        return Finding(denial.name, "warn", f"not known: {error}", "ask for iam:SimulatePrincipalPolicy, or just try")
    if denied:
        return Finding(denial.name, denial.state, f"you may not {', '.join(denied)}", denial.advice)
    actions = {(action, right.named) for right in rights for action in right.actions}
    return Finding(denial.name, "ok", f"all {len(actions)} that are needed")


def _principal(client: "IAMClient", caller: str) -> str:
    """The user or role behind a caller: a session's ARN has lost its role's path."""
    if ":assumed-role/" not in caller:
        return caller
    return client.get_role(RoleName=caller.split("/")[1])["Role"]["Arn"]


def _denied(client: "IAMClient", principal: str, rights: Iterable[Right]) -> Iterable[str]:
    for right in rights:
        pages = client.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=principal, ActionNames=list(right.actions), ResourceArns=[right.arn]
        )
        for page in pages:
            for each in page["EvaluationResults"]:
                if each["EvalDecision"] != "allowed":
                    yield each["EvalActionName"] + (f" on {right.named}" if right.named else "")
