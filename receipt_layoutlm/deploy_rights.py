"""Rights that `fleet deploy` asks of its caller: for each thing that the templates make, and for its own calls."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from receipt_layoutlm.account_rights import Right

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
