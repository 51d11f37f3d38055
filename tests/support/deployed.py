"""Fleets that stand on a ministack, built from the templates."""

import uuid
from dataclasses import dataclass
from typing import Any

from receipt_layoutlm.fleet.stack import FleetStack, StackState
from receipt_layoutlm.fleet.template import read_template
from tests.support.small_aws import IMAGE, a_moment, aws

BUNDLE, SCALER = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Fleet:
    """The stacks that stand on a ministack; `network` is None where subnets were given."""

    name: str
    endpoint: str
    storage: StackState
    network: StackState | None
    workers: StackState

    def client(self, service: Any) -> Any:
        return aws(self.endpoint, service)

    def group(self, kind: str) -> dict[str, Any]:
        names = [f"{self.name}-{kind}"]
        found = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=names)
        return found["AutoScalingGroups"][0]  # type: ignore[no-any-return]

    def launch_template(self) -> dict[str, Any]:
        found = self.client("ec2").describe_launch_template_versions(LaunchTemplateName=f"{self.name}-workers")
        return found["LaunchTemplateVersions"][0]["LaunchTemplateData"]  # type: ignore[no-any-return]


def build(endpoint: str, stack: str, name: str, **values: str) -> StackState:
    """A new or changed stack of a template, with these parameters."""
    each = FleetStack(aws(endpoint, "cloudformation"), stack, a_moment)
    plan = each.plan(read_template(name), values, {})
    assert plan is not None
    return each.execute(plan, lambda _event: None)


def deploy(endpoint: str, **values: str) -> Fleet:
    """A fleet of a name of its own; `values` are parameters of workers.yaml."""
    name = f"f{uuid.uuid4().hex[:12]}"
    storage = build(endpoint, f"{name}-storage", "storage.yaml", FleetName=name)
    place = {key: storage.outputs[key] for key in ("TableName", "TableStreamArn", "BucketName")}
    aws(endpoint, "s3").put_object(
        Bucket=place["BucketName"], Key=f"wheels/{SCALER}.zip", Body=b"PK\x05\x06" + bytes(18)
    )
    network = None
    if "SubnetIds" not in values:
        network = build(endpoint, f"{name}-network", "network.yaml", FleetName=name)
        place |= network.outputs
    code = {"BundleSha256": BUNDLE, "ScalerSha256": SCALER, "AmiId": IMAGE}
    workers = build(endpoint, f"{name}-workers", "workers.yaml", FleetName=name, **{**place, **code, **values})
    return Fleet(name, endpoint, storage, network, workers)
