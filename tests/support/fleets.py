"""A fleet to look at: a group on moto, which starts machines at once, and a queue on the session's DynamoDB."""

import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from receipt_dynamo import DynamoClient, FleetRows, Job, JobQueue, Lease
from receipt_layoutlm.fleet.names import FLEET_TAG, worker_id
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.figures import Scaler
from receipt_layoutlm.fleet.scaler.group import Group, aws_group
from tests.support.stores import Clock

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef

REGION = "us-east-1"
ZONE = "us-east-1a"
FLEET = "the-fleet"
TYPE: Final = "g5.xlarge"
IMAGE = "ami-0123456789abcdef0"
NO_IMAGES = ("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # they take moto a second to read for each test
PRICE = 1.0  # dollars an hour
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class StoredGroup:
    """A group as moto has stored it."""

    client: "AutoScalingClient"
    name: str

    def described(self) -> "AutoScalingGroupTypeDef":
        return self.client.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])["AutoScalingGroups"][0]

    @property
    def desired(self) -> int:
        return self.described()["DesiredCapacity"]

    @property
    def instances(self) -> list[str]:
        return [each["InstanceId"] for each in self.described().get("Instances", [])]

    def order(self, capacity: int) -> None:
        self.client.set_desired_capacity(AutoScalingGroupName=self.name, DesiredCapacity=capacity)

    def end_an_instance(self) -> None:
        """As an idle machine does it: the capacity goes down with it."""
        self.client.terminate_instance_in_auto_scaling_group(
            InstanceId=self.instances[0], ShouldDecrementDesiredCapacity=True
        )


def make_group(name: str, largest: int = 8) -> StoredGroup:
    """A group of its own launch template, empty."""
    ec2 = boto3.client("ec2", region_name=REGION)
    client = boto3.client("autoscaling", region_name=REGION)
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": IMAGE, "InstanceType": TYPE})
    client.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=largest,
        AvailabilityZones=[ZONE],
        LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
        NewInstancesProtectedFromScaleIn=True,
        Tags=[{"Key": FLEET_TAG, "Value": FLEET, "PropagateAtLaunch": True}],
    )
    return StoredGroup(client, name)


@dataclass
class Fleet:
    """A queue, its group, and the machines that are paid for (told by the test, not by moto)."""

    client: DynamoClient
    stored: StoredGroup
    clock: Clock
    paid: list[FleetInstance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = JobQueue(self.client, now=self.clock, rng=random.Random(7))  # a backoff of whole seconds
        self.rows = FleetRows(self.client, now=self.clock)

    def group(self, queue: str = "default", maximum: int = 4) -> Group:
        return aws_group(self.stored.client, self.stored.name, queue, maximum, self.clock)

    def scaler(self, *groups: Group, slots: int = 1, max_cost_per_day: float = 0.0) -> Scaler:
        return Scaler(
            fleet=FLEET,
            queue=self.queue,
            rows=self.rows,
            groups=groups or (self.group(),),
            slots=slots,
            instances=lambda: self.paid,
            price=lambda _: PRICE,
            max_cost_per_day=max_cost_per_day,
            now=self.clock,
        )

    def submit(self, many: int = 1, version: int = 1, **more: object) -> list[Job]:
        config = {"config_version": version}
        return [self.queue.submit(name=f"job-{n}", config=config, created_by="me", **more) for n in range(many)]  # type: ignore[arg-type]

    def claim(self, queue: str = "default", instance_id: str = "i-00000000") -> Lease:
        """As the worker of a machine does, which also tells that the machine takes jobs."""
        lease = self.queue.claim(worker_id(instance_id, 0), queue)
        assert lease is not None
        self.rows.note_claim(FLEET, instance_id)
        return lease

    def pay_for(self, many: int, since: datetime, instance_type: str = TYPE) -> None:
        self.paid += [FleetInstance(f"i-{n:08x}", instance_type, True, ZONE, since) for n in range(many)]


def lagging_index(client: DynamoClient, index: str, rows: Sequence[object] = ()) -> None:
    """From now on an index lists what it is told here, whatever is stored."""

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        if json.loads(request.body or b"{}").get("IndexName") != index:
            return None
        body = json.dumps({"Items": rows, "Count": len(rows), "ScannedCount": len(rows)}).encode()
        return AWSResponse(request.url or "", 200, {"x-amzn-requestid": "ANSWERED"}, _Raw(body))  # type: ignore[arg-type]

    client.raw.meta.events.register_first("before-send.dynamodb.Query", answer)


class _Raw(io.BytesIO):
    def stream(self, **_: object) -> list[bytes]:
        return [self.read()]


def counted(client: DynamoClient, index: str) -> Callable[[], int]:
    """How many pages of an index were asked for since."""
    asked: list[str] = []

    def note(request: AWSPreparedRequest, **_: object) -> None:
        asked.append(json.loads(request.body or b"{}").get("IndexName", ""))

    client.raw.meta.events.register_first("before-send.dynamodb.Query", note)
    return lambda: asked.count(index)


def listed(client: DynamoClient) -> Callable[[], int]:
    """How many entries queries have returned since."""
    counts: list[int] = []
    client.raw.meta.events.register("after-call.dynamodb.Query", lambda parsed, **_: counts.append(parsed["Count"]))
    return lambda: sum(counts)


def activity(description: str, status: str, message: str | None = None, at: datetime = NOON) -> dict[str, object]:
    """A scaling activity of a group, as AWS lists it."""
    more = {} if message is None else {"StatusMessage": message}
    return {
        "ActivityId": "a",
        "AutoScalingGroupName": "a-group",
        "Description": description,
        "Cause": "…",
        "StartTime": at,
        "StatusCode": status,
        **more,
    }
