"""What the caller may do, as IAM's simulation says.

Rights that `fleet deploy` asks of its caller: for each thing that the templates make, and for its own calls.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.fleet.finding import Finding
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


_GROUP: Final = "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{fleet}-workers"
_SCALER: Final = "arn:{partition}:lambda:{region}:{account}:function:{fleet}-scaler"
_ROLE: Final = "arn:{partition}:iam::{account}:role/{fleet}-workers-WorkerRole-1"
_PROFILE: Final = "arn:{partition}:iam::{account}:instance-profile/{fleet}-workers-WorkerProfile-1"
_STACK: Final = "arn:{partition}:cloudformation:{region}:{account}:stack/{fleet}-workers/1"
_IMAGE: Final = "arn:{partition}:ssm:{region}::parameter{image}"
_WHEEL: Final = "arn:{partition}:s3:::{bucket}/wheels/1.zip"
_TABLE: Final = "arn:{partition}:dynamodb:{region}:{account}:table/{table}"
_BUCKET: Final = "arn:{partition}:s3:::{bucket}"

# "*" where a policy that names more would name what is not made yet
NETWORK: Final[Mapping[str, Mapping[str, str]]] = {
    "AWS::EC2::VPC": {"*": "ec2:CreateVpc ec2:ModifyVpcAttribute"},
    "AWS::EC2::InternetGateway": {"*": "ec2:CreateInternetGateway"},
    "AWS::EC2::VPCGatewayAttachment": {"*": "ec2:AttachInternetGateway"},
    "AWS::EC2::RouteTable": {"*": "ec2:CreateRouteTable"},
    "AWS::EC2::Route": {"*": "ec2:CreateRoute"},
    "AWS::EC2::VPCEndpoint": {"*": "ec2:CreateVpcEndpoint"},
    "AWS::EC2::Subnet": {"*": "ec2:CreateSubnet ec2:ModifySubnetAttribute"},
    "AWS::EC2::SubnetRouteTableAssociation": {"*": "ec2:AssociateRouteTable"},
}
WORKERS: Final[Mapping[str, Mapping[str, str]]] = {
    "AWS::EC2::SecurityGroup": {
        "*": "ec2:CreateSecurityGroup ec2:AuthorizeSecurityGroupEgress ec2:RevokeSecurityGroupEgress"
    },
    "AWS::IAM::Role": {_ROLE: "iam:CreateRole iam:PutRolePolicy iam:TagRole iam:PassRole"},
    "AWS::IAM::InstanceProfile": {_PROFILE: "iam:CreateInstanceProfile iam:AddRoleToInstanceProfile"},
    "AWS::Logs::LogGroup": {
        "arn:{partition}:logs:{region}:{account}:log-group:/aws/lambda/{fleet}-scaler": (
            "logs:CreateLogGroup logs:PutRetentionPolicy"
        )
    },
    "AWS::EC2::LaunchTemplate": {"*": "ec2:CreateLaunchTemplate ec2:CreateLaunchTemplateVersion ec2:CreateTags"},
    # a group with a launch template is made only for who could start its machines himself
    "AWS::AutoScaling::AutoScalingGroup": {
        _GROUP: "autoscaling:CreateAutoScalingGroup autoscaling:UpdateAutoScalingGroup",
        "*": "ec2:RunInstances",
    },
    "AWS::Lambda::Function": {
        _SCALER: (
            "lambda:CreateFunction lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration "
            "lambda:PutFunctionConcurrency"
        ),
        _WHEEL: "s3:GetObject",
    },
    "AWS::Lambda::EventInvokeConfig": {_SCALER: "lambda:PutFunctionEventInvokeConfig"},
    "AWS::Lambda::EventSourceMapping": {"*": "lambda:CreateEventSourceMapping"},
    "AWS::Lambda::Permission": {_SCALER: "lambda:AddPermission"},
    "AWS::Events::Rule": {
        "arn:{partition}:events:{region}:{account}:rule/{fleet}-workers-Schedule-1": "events:PutRule events:PutTargets"
    },
    "AWS::CloudWatch::Alarm": {
        "arn:{partition}:cloudwatch:{region}:{account}:alarm:{fleet}-jobs-wait": "cloudwatch:PutMetricAlarm"
    },
    "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>": {_IMAGE: "ssm:GetParameters"},
}
TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "AWS::DynamoDB::Table": {
        _TABLE: "dynamodb:CreateTable dynamodb:UpdateTimeToLive dynamodb:UpdateContinuousBackups dynamodb:TagResource"
    },
}
BUCKET: Final[Mapping[str, Mapping[str, str]]] = {
    "AWS::S3::Bucket": {
        _BUCKET: (
            "s3:CreateBucket s3:PutBucketVersioning s3:PutEncryptionConfiguration s3:PutBucketOwnershipControls "
            "s3:PutBucketPublicAccessBlock s3:PutLifecycleConfiguration s3:PutBucketTagging"
        )
    },
    "AWS::S3::BucketPolicy": {_BUCKET: "s3:PutBucketPolicy"},
}

# the command itself: a change set, told while it is built, and the code into the bucket
OWN: Final[Mapping[str, str]] = {
    _STACK: (
        "cloudformation:DescribeStacks cloudformation:CreateChangeSet cloudformation:DescribeChangeSet "
        "cloudformation:ExecuteChangeSet cloudformation:DeleteChangeSet cloudformation:DescribeStackEvents "
        "cloudformation:DeleteStack"
    ),
    _WHEEL: "s3:PutObject",
    "*": "ec2:DescribeInstanceTypes",
}


@dataclass(frozen=True)
class Building:
    """What is to be built, and where. What has a name exists; `subnets` are empty where a network is made."""

    partition: str
    region: str
    account: str
    fleet: str
    table: str | None
    bucket: str | None
    subnets: str
    image: str

    def rights(self) -> list[Right]:
        """Everything it takes, by what it is about."""
        names = {
            "partition": self.partition,
            "region": self.region,
            "account": self.account,
            "fleet": self.fleet,
            "image": self.image,
            "table": self.table or self.fleet,
            "bucket": self.bucket or f"{self.fleet}-{self.account}-{self.region}",
        }
        asked: dict[str, list[str]] = {}
        for place, actions in self._asked():
            asked.setdefault(place.format_map(names), []).extend(actions.split())
        return [Right(place, tuple(actions)) for place, actions in asked.items()]

    def _asked(self) -> Iterator[tuple[str, str]]:
        parts: Iterable[Mapping[str, Mapping[str, str]]] = (
            WORKERS,
            {} if self.subnets else NETWORK,
            {} if self.table else TABLE,
            {} if self.bucket else BUCKET,
        )
        yield from OWN.items()
        for part in parts:
            for places in part.values():
                yield from places.items()
