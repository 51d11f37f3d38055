"""Checks of the caller's IAM permissions, through IAM's policy simulation.

What people may do is read from the managed policies of infra/storage.yaml. The permissions to deploy and destroy a
fleet are those that CloudFormation's registry names for the handlers of our resource types (without those of features
that the templates do not use): at least these, since a handler may change. stack_errors explains any other refusal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.fleet.check_result import CheckResult, State
from receipt_layoutlm.fleet.policies import KEYS, Place, Right, granted

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import ContextEntryTypeDef


_SERVICE: Final = "iam:PassedToService"
_STORES: Final = ("dynamodb:", "s3:")  # actions without which no job can be read or submitted


@dataclass(frozen=True)
class Purpose:
    """A purpose with its permissions; `lack` is the state of a caller without them, and `advice` the fix."""

    name: str
    rights: Sequence[Right]
    lack: State
    advice: str


def _named(service: str, words: str) -> tuple[str, ...]:
    return tuple(f"{service}:{word}" for word in words.split())


def _bucket_of(place: Place) -> str:
    """The bucket that a fleet creates unless it is given one, or another name."""
    return place.arn("s3", place.bucket or f"{place.fleet}-{place.account}-{place.region}", ":")


def erase_rights(place: Place) -> list[Right]:
    """Permissions that `fleet destroy --everything` needs beside those to deploy."""
    bucket = _bucket_of(place)
    return [
        Right(
            place.arn("dynamodb", f"table/{place.table or place.fleet}"),
            _named("dynamodb", "DescribeTable UpdateTable DeleteTable"),
        ),
        Right(bucket, _named("s3", "ListBucketVersions ListBucketMultipartUploads DeleteBucket")),
        Right(f"{bucket}/runs/1", _named("s3", "DeleteObject DeleteObjectVersion AbortMultipartUpload")),
    ]


def deploy_rights(place: Place) -> list[Right]:
    """Permissions that `fleet deploy` and `fleet destroy` need at least."""
    arn, fleet = place.arn, place.fleet

    def role(name: str) -> str:
        return arn("iam", f"role/{name}", f":{place.account}")

    def linked(service: str, name: str) -> Right:
        resource = role(f"aws-service-role/{service}/{name}")
        return Right(resource, ("iam:CreateServiceLinkedRole",), service, {"iam:AWSServiceName": (service,)})

    bucket = _bucket_of(place)
    worker, scaler = role(f"{fleet}-workers-WorkerRole-1"), role(f"{fleet}-workers-ScalerRole-1")
    return [
        Right(
            arn("cloudformation", f"stack/{fleet}-workers/1"),
            _named(
                "cloudformation",
                "CreateChangeSet DescribeChangeSet ExecuteChangeSet DeleteChangeSet DeleteStack DescribeStacks "
                "DescribeStackEvents DescribeEvents ListStackResources TagResource",
            ),
        ),
        Right(
            worker,
            _named(
                "iam",
                "CreateRole GetRole DeleteRole TagRole PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies "
                "ListAttachedRolePolicies UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy "
                "PutRolePermissionsBoundary DeleteRolePermissionsBoundary",
            ),
        ),
        Right(worker, ("iam:PassRole",), "a worker's role", {_SERVICE: ("ec2.amazonaws.com",)}),
        Right(scaler, ("iam:PassRole",), "the scaler's role", {_SERVICE: ("lambda.amazonaws.com",)}),
        Right(
            arn("iam", f"instance-profile/{fleet}-workers-WorkerProfile-1", f":{place.account}"),
            _named(
                "iam",
                "CreateInstanceProfile GetInstanceProfile DeleteInstanceProfile AddRoleToInstanceProfile "
                "RemoveRoleFromInstanceProfile",
            ),
        ),
        Right(
            arn("iam", f"policy/{fleet}-storage-ReadPolicy-1", f":{place.account}"),
            _named(
                "iam",
                "CreatePolicy GetPolicy DeletePolicy CreatePolicyVersion ListPolicyVersions DeletePolicyVersion "
                "ListEntitiesForPolicy",
            ),
        ),
        linked("autoscaling.amazonaws.com", "AWSServiceRoleForAutoScaling"),
        linked("spot.amazonaws.com", "AWSServiceRoleForEC2Spot"),
        # EC2 Auto Scaling creates a group from a launch template only for callers who could launch its instances
        Right(
            "*",
            _named(
                "ec2",
                "RunInstances CreateLaunchTemplate CreateLaunchTemplateVersion DescribeLaunchTemplates "
                "DescribeLaunchTemplateVersions DeleteLaunchTemplate CreateTags DeleteTags CreateSecurityGroup "
                "AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress RevokeSecurityGroupEgress "
                "RevokeSecurityGroupIngress UpdateSecurityGroupRuleDescriptionsEgress "
                "UpdateSecurityGroupRuleDescriptionsIngress DescribeSecurityGroups DeleteSecurityGroup "
                "DescribeInstances DescribeImages DescribeInstanceTypes DescribeInstanceTypeOfferings CreateVpc "
                "ModifyVpcAttribute DescribeVpcs DescribeVpcAttribute DeleteVpc CreateSubnet ModifySubnetAttribute "
                "DescribeSubnets DescribeNetworkAcls DeleteSubnet CreateRouteTable DescribeRouteTables "
                "DeleteRouteTable AssociateRouteTable DisassociateRouteTable CreateRoute ReplaceRoute "
                "DescribeNetworkInterfaces DeleteRoute CreateInternetGateway DescribeInternetGateways "
                "DeleteInternetGateway AttachInternetGateway DetachInternetGateway CreateVpcEndpoint "
                "ModifyVpcEndpoint DescribeVpcEndpoints DeleteVpcEndpoints DescribeAvailabilityZones",
            ),
        ),
        Right("*", _named("autoscaling", "DescribeAutoScalingGroups DescribeScalingActivities")),
        Right(
            arn("autoscaling", f"autoScalingGroup:1:autoScalingGroupName/{fleet}-workers"),
            _named(
                "autoscaling",
                "CreateAutoScalingGroup UpdateAutoScalingGroup CreateOrUpdateTags DeleteTags SetInstanceProtection "
                "DeleteAutoScalingGroup",
            ),
        ),
        Right(
            arn("lambda", f"function:{fleet}-scaler"),
            _named(
                "lambda",
                "CreateFunction GetFunction GetFunctionConfiguration UpdateFunctionCode UpdateFunctionConfiguration "
                "DeleteFunction TagResource AddPermission GetPolicy RemovePermission PutFunctionEventInvokeConfig "
                "GetFunctionEventInvokeConfig UpdateFunctionEventInvokeConfig DeleteFunctionEventInvokeConfig "
                "PutFunctionConcurrency DeleteFunctionConcurrency",
            ),
        ),
        Right(
            "*",
            _named(
                "lambda",
                "CreateEventSourceMapping GetEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping "
                "TagResource",
            ),
        ),
        Right(
            arn("events", f"rule/{fleet}-workers-Schedule-1"),
            _named("events", "PutRule DescribeRule DeleteRule PutTargets ListTargetsByRule RemoveTargets TagResource"),
        ),
        Right(
            arn("cloudwatch", f"alarm:{fleet}-jobs-wait"),
            _named("cloudwatch", "PutMetricAlarm DescribeAlarms DeleteAlarms TagResource ListTagsForResource"),
        ),
        Right(
            arn("logs", f"log-group:/layoutlm/{fleet}/workers"),
            _named("logs", "CreateLogGroup PutRetentionPolicy DeleteLogGroup TagResource ListTagsForResource"),
        ),
        Right("*", ("logs:DescribeLogGroups",)),
        Right(
            arn("sns", f"{fleet}-workers-AlarmTopic-1"),
            _named(
                "sns",
                "CreateTopic GetTopicAttributes SetTopicAttributes Subscribe Unsubscribe ListSubscriptionsByTopic "
                "TagResource DeleteTopic",
            ),
        ),
        Right(
            arn("dynamodb", f"table/{fleet}"),
            _named(
                "dynamodb",
                "CreateTable DescribeTable UpdateTable UpdateTimeToLive DescribeTimeToLive UpdateContinuousBackups "
                "DescribeContinuousBackups TagResource ListTagsOfResource",
            ),
        ),
        Right(
            bucket,
            _named(
                "s3",
                "CreateBucket ListBucket PutBucketVersioning PutEncryptionConfiguration PutBucketOwnershipControls "
                "PutBucketPublicAccessBlock PutLifecycleConfiguration PutBucketTagging PutBucketPolicy GetBucketPolicy "
                "GetBucketVersioning GetEncryptionConfiguration GetLifecycleConfiguration GetBucketPublicAccessBlock",
            ),
        ),
        Right(f"{bucket}/wheels/1.zip", _named("s3", "PutObject GetObject GetObjectVersion"), f"{bucket}/wheels/*"),
        Right(arn("ssm", "parameter/aws/service/deeplearning/ami", f"{place.region}:"), ("ssm:GetParameters",)),
    ]


def purposes(caller: str, place: Place) -> list[Purpose]:
    """The purposes that doctor checks, from submitting jobs, which most people do, to deploying."""
    grant = f"attach the storage stack's {{}} to {caller}, or have another policy allow it"
    needed = "only for `layoutlm-cli fleet deploy` and `layoutlm-cli fleet destroy`, which need at least these"
    people = [*granted("ReadPolicy", place), *granted("SubmitPolicy", place)]
    jobs = [right for right in people if right.actions[0].startswith(_STORES)]
    looks = [right for right in people if right not in jobs]
    operates = granted("OperatePolicy", place)
    return [
        Purpose("rights", jobs, "missing", grant.format("ReadPolicy and SubmitPolicy")),
        Purpose("fleet rights", looks, "warn", "only for `layoutlm-cli fleet status`: " + grant.format("ReadPolicy")),
        Purpose(
            "operate rights",
            operates,
            "warn",
            "only to pause, resume and warm fleets, mirror weights, write labels and remove runs: "
            + grant.format("OperatePolicy"),
        ),
        Purpose(
            "deploy rights",
            deploy_rights(place),
            "warn",
            f"{needed}: ask an administrator, or have a policy for {caller}",
        ),
        Purpose(
            "erase rights",
            erase_rights(place),
            "warn",
            "only for `layoutlm-cli fleet destroy --everything`: ask an administrator to delete table and bucket",
        ),
    ]


def check_rights(client: "IAMClient", caller: str, purpose: Purpose) -> CheckResult:
    """Simulate each action of a purpose."""
    if not purpose.rights:
        return CheckResult(
            purpose.name, "warn", "no table and no bucket given", "give them to have your rights checked"
        )
    if caller.endswith(":root"):
        return CheckResult(purpose.name, "warn", "this is the account's root user", "use a role or an IAM user")
    denied: list[tuple[list[str], str]] = []
    try:
        principal = caller
        if ":assumed-role/" in caller:  # a session's ARN lacks the path of its role
            principal = client.get_role(RoleName=caller.split("/")[1])["Role"]["Arn"]
        for right in purpose.rights:
            pages = client.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=principal,
                ActionNames=list(right.actions),
                ResourceArns=[right.arn],
                ContextEntries=_entries(right),
            )
            results = [result for page in pages for result in page["EvaluationResults"]]
            refused = [result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed"]
            if refused:
                denied.append((sorted(refused), right.resource))
    except (ClientError, BotoCoreError) as error:
        advice = "ask for iam:SimulatePrincipalPolicy, or continue without this check"
        return CheckResult(purpose.name, "warn", f"unknown: {error}", advice)
    if denied:
        return CheckResult(purpose.name, purpose.lack, f"you may not {_named_together(denied)}", purpose.advice)
    actions = {(action, right.resource) for right in purpose.rights for action in right.actions}
    return CheckResult(purpose.name, "ok", f"all {len(actions)} checked actions are allowed")


def _named_together(denied: Iterable[tuple[list[str], str]]) -> str:
    """Denied actions with their resources; those of the same actions together."""
    resources: dict[str, list[str]] = {}
    for actions, resource in denied:
        resources.setdefault(", ".join(actions), []).append(resource)
    texts = {actions: ", ".join(dict.fromkeys(filter(None, each))) for actions, each in resources.items()}
    return "; ".join(f"{actions} on {each}" if each else actions for actions, each in texts.items())


def _entries(right: Right) -> "list[ContextEntryTypeDef]":
    return [
        {
            "ContextKeyName": key,
            "ContextKeyValues": list(values),
            "ContextKeyType": "stringList" if key == KEYS else "string",
        }
        for key, values in right.context.items()
    ]
