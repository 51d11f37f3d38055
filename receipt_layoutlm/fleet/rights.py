"""Checks of the caller's IAM permissions, through IAM's policy simulation.

What the managed policies of infra/storage.yaml grant is checked in full. The permissions to deploy and destroy a fleet
are those that CloudFormation's registry names for the handlers of our resource types (without those of features that
the templates do not use): at least these, since a handler may change. stack_errors explains a refusal of any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import JobStatus
from receipt_dynamo.fleet_items import fleet_pk
from receipt_dynamo.items import DATASETS_KEY, dataset_pk, job_pk, name_pk, queue_pk, status_pk
from receipt_layoutlm.fleet.check_result import CheckResult, State

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import ContextEntryTypeDef


_KEYS: Final = "dynamodb:LeadingKeys"
_SERVICE: Final = "iam:PassedToService"


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
class Purpose:
    """A purpose with its permissions; `lack` is the state of a caller without them, and `advice` the fix."""

    name: str
    rights: Sequence[Right]
    lack: State
    advice: str


def _rows(table: str, actions: Sequence[str], keys: Sequence[str], index: str = "") -> Right:
    arn = f"{table}/index/{index}" if index else table
    named = f"{table}/index/*" if index else ""
    return Right(arn, tuple(f"dynamodb:{action}" for action in actions), named, {_KEYS: keys})


def read_rights(table: str | None, bucket: str | None) -> list[Right]:
    """Permissions to look at jobs and results (ReadPolicy), for the ARNs that are known."""
    rights = []
    if table is not None:
        rights.append(_rows(table, ("GetItem", "Query"), (job_pk("1"), dataset_pk("1"), DATASETS_KEY, fleet_pk("1"))))
        for index, keys in (
            ("GSI1", status_pk(JobStatus.RUNNING)),
            ("GSI2", name_pk("1")),
            ("GSI3", queue_pk("1")),
        ):
            rights.append(_rows(table, ("Query",), (keys,), index))
    if bucket is not None:
        rights.append(Right(bucket, ("s3:ListBucket",)))
        rights += [
            Right(f"{bucket}/{kind}/1", ("s3:GetObject",), f"{bucket}/{kind}/*")
            for kind in ("runs", "datasets", "splits", "weights")
        ]
    return rights


def submit_rights(table: str | None, bucket: str | None) -> list[Right]:
    """Permissions to submit jobs and to watch them (ReadPolicy, SubmitPolicy), for the ARNs that are known."""
    rights = read_rights(table, bucket)
    if table is not None:
        rights.append(_rows(table, ("PutItem", "UpdateItem", "ConditionCheckItem"), (job_pk("1"), dataset_pk("1"))))
    if bucket is not None:
        rights += [
            Right(f"{bucket}/{kind}/1", ("s3:PutObject",), f"{bucket}/{kind}/*") for kind in ("datasets", "splits")
        ]
    return rights


def operate_rights(table: str | None, bucket: str | None) -> list[Right]:
    """Permissions to pause and resume a fleet, mirror weights and remove runs (OperatePolicy)."""
    rights = []
    if table is not None:
        rights.append(_rows(table, ("PutItem", "DeleteItem"), (fleet_pk("1"),)))
    if bucket is not None:
        rights.append(Right(f"{bucket}/weights/1", ("s3:PutObject",), f"{bucket}/weights/*"))
        rights.append(Right(f"{bucket}/runs/1", ("s3:PutObject", "s3:DeleteObject"), f"{bucket}/runs/*"))
    return rights


def _named(service: str, words: str) -> tuple[str, ...]:
    return tuple(f"{service}:{word}" for word in words.split())


def deploy_rights(account: str, region: str, fleet: str, partition: str = "aws") -> list[Right]:
    """Permissions that `fleet deploy` and `fleet destroy` need at least."""

    def arn(service: str, rest: str, place: str = f"{region}:{account}") -> str:
        return f"arn:{partition}:{service}:{place}:{rest}"

    def role(name: str) -> str:
        return arn("iam", f"role/{name}", f":{account}")

    def linked(service: str, name: str) -> Right:
        place = role(f"aws-service-role/{service}/{name}")
        return Right(place, ("iam:CreateServiceLinkedRole",), service, {"iam:AWSServiceName": (service,)})

    bucket = arn("s3", f"{fleet}-{account}-{region}", ":")
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
                "ListAttachedRolePolicies",
            ),
        ),
        Right(worker, ("iam:PassRole",), "a worker's role", {_SERVICE: ("ec2.amazonaws.com",)}),
        Right(scaler, ("iam:PassRole",), "the scaler's role", {_SERVICE: ("lambda.amazonaws.com",)}),
        Right(
            arn("iam", f"instance-profile/{fleet}-workers-WorkerProfile-1", f":{account}"),
            _named(
                "iam",
                "CreateInstanceProfile GetInstanceProfile DeleteInstanceProfile AddRoleToInstanceProfile "
                "RemoveRoleFromInstanceProfile",
            ),
        ),
        Right(
            arn("iam", f"policy/{fleet}-storage-ReadPolicy-1", f":{account}"),
            _named(
                "iam",
                "CreatePolicy GetPolicy DeletePolicy ListPolicyVersions DeletePolicyVersion ListEntitiesForPolicy",
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
                "DescribeSecurityGroups DeleteSecurityGroup DescribeInstances DescribeImages DescribeInstanceTypes "
                "DescribeInstanceTypeOfferings CreateVpc ModifyVpcAttribute DescribeVpcs DescribeVpcAttribute "
                "DeleteVpc CreateSubnet ModifySubnetAttribute DescribeSubnets DescribeNetworkAcls DeleteSubnet "
                "CreateRouteTable DescribeRouteTables DeleteRouteTable AssociateRouteTable DisassociateRouteTable "
                "CreateRoute DescribeNetworkInterfaces DeleteRoute CreateInternetGateway DescribeInternetGateways "
                "DeleteInternetGateway AttachInternetGateway DetachInternetGateway CreateVpcEndpoint "
                "DescribeVpcEndpoints DeleteVpcEndpoints DescribeAvailabilityZones",
            ),
        ),
        Right("*", _named("autoscaling", "DescribeAutoScalingGroups DescribeScalingActivities")),
        Right(
            arn("autoscaling", f"autoScalingGroup:1:autoScalingGroupName/{fleet}-workers"),
            _named(
                "autoscaling",
                "CreateAutoScalingGroup UpdateAutoScalingGroup CreateOrUpdateTags SetInstanceProtection "
                "DeleteAutoScalingGroup",
            ),
        ),
        Right(
            arn("lambda", f"function:{fleet}-scaler"),
            _named(
                "lambda",
                "CreateFunction GetFunction GetFunctionConfiguration UpdateFunctionCode UpdateFunctionConfiguration "
                "DeleteFunction TagResource AddPermission GetPolicy RemovePermission PutFunctionEventInvokeConfig "
                "GetFunctionEventInvokeConfig UpdateFunctionEventInvokeConfig DeleteFunctionEventInvokeConfig",
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
            _named("sns", "CreateTopic GetTopicAttributes Subscribe ListSubscriptionsByTopic TagResource DeleteTopic"),
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
        Right(arn("ssm", "parameter/aws/service/deeplearning/ami", f"{region}:"), ("ssm:GetParameters",)),
    ]


def purposes(caller: str, table: str | None, bucket: str | None, deploying: Sequence[Right]) -> list[Purpose]:
    """The purposes that doctor checks, from submitting jobs, which most people do, to deploying."""
    grant = f"attach the storage stack's {{}} to {caller}, or have another policy allow it"
    needed = "only for `layoutlm-cli fleet deploy` and `layoutlm-cli fleet destroy`, which need at least these"
    return [
        Purpose("rights", submit_rights(table, bucket), "missing", grant.format("ReadPolicy and SubmitPolicy")),
        Purpose(
            "operate rights",
            operate_rights(table, bucket),
            "warn",
            "only to pause and resume fleets, mirror weights and remove runs: " + grant.format("OperatePolicy"),
        ),
        Purpose("deploy rights", deploying, "warn", f"{needed}: ask an administrator, or have a policy for {caller}"),
    ]


def check_rights(client: "IAMClient", caller: str, purpose: Purpose) -> CheckResult:
    """Simulate each action of a purpose."""
    if not purpose.rights:
        return CheckResult(
            purpose.name, "warn", "no table and no bucket given", "give them to have your rights checked"
        )
    if caller.endswith(":root"):
        return CheckResult(purpose.name, "warn", "this is the account's root user", "use a role or an IAM user")
    denied = set()
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
            denied |= {f"{action} on {right.resource}" if right.resource else action for action in refused}
    except (ClientError, BotoCoreError) as error:
        advice = "ask for iam:SimulatePrincipalPolicy, or continue without this check"
        return CheckResult(purpose.name, "warn", f"unknown: {error}", advice)
    if denied:
        return CheckResult(purpose.name, purpose.lack, f"you may not {', '.join(sorted(denied))}", purpose.advice)
    actions = {(action, right.resource) for right in purpose.rights for action in right.actions}
    return CheckResult(purpose.name, "ok", f"all {len(actions)} checked actions are allowed")


def _entries(right: Right) -> "list[ContextEntryTypeDef]":
    return [
        {
            "ContextKeyName": key,
            "ContextKeyValues": list(values),
            "ContextKeyType": "stringList" if key == _KEYS else "string",
        }
        for key, values in right.context.items()
    ]
