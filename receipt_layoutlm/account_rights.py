"""What the caller may do, as IAM's simulation says."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.finding import Finding

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

# what submitting, watching and reading jobs asks for, by service; on the table (or its indexes) and in the bucket
ACTIONS: Final = {
    "dynamodb": ("GetItem", "Query", "PutItem", "UpdateItem", "ConditionCheckItem"),
    "s3": ("ListBucket", "GetObject", "PutObject"),
}
_ON_FILES: Final = ("GetObject", "PutObject")


def rights_finding(client: "IAMClient", caller: str, resources: Mapping[str, str]) -> Finding:
    """Whether the caller may work with the table and the bucket, whose ARNs are given by service."""
    if caller.endswith(":root"):
        return Finding("rights", "warn", "this is the account's root", "use a role or a user of your own")
    if not resources:
        return Finding("rights", "warn", "neither table nor bucket is named", "name them to have your rights checked")
    try:
        denied = sorted(_denied(client, _principal(client, caller), resources))
    except (ClientError, BotoCoreError) as error:
        return Finding("rights", "warn", f"not known: {error}", "ask for iam:SimulatePrincipalPolicy, or just try")
    if denied:
        return Finding("rights", "missing", f"you may not {', '.join(denied)}", f"have a policy allow it to {caller}")
    return Finding("rights", "ok", f"all {sum(len(ACTIONS[each]) for each in resources)} that are needed")


def _principal(client: "IAMClient", caller: str) -> str:
    """The user or role behind a caller: a session's ARN has lost its role's path."""
    if ":assumed-role/" not in caller:
        return caller
    return client.get_role(RoleName=caller.split("/")[1])["Role"]["Arn"]


def _denied(client: "IAMClient", principal: str, resources: Mapping[str, str]) -> Iterable[str]:
    for service, arn in resources.items():
        for action in ACTIONS[service]:
            target = f"{arn}/*" if action in _ON_FILES else arn
            results = client.simulate_principal_policy(
                PolicySourceArn=principal, ActionNames=[f"{service}:{action}"], ResourceArns=[target]
            )["EvaluationResults"]
            if any(each["EvalDecision"] != "allowed" for each in results):
                yield f"{service}:{action}"
