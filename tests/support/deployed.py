"""Fleets that stand on a ministack, built from the templates, and what their policies allow."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receipt_layoutlm.fleet.stack import FleetStack, StackState
from receipt_layoutlm.fleet.template import read_template
from tests.support.small_aws import IMAGE, REGION, a_moment, aws

ACCOUNT = "000000000000"  # of the engine
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


def decided(
    principal: str, documents: Sequence[object], action: str, resource: str, brings: Mapping[str, object]
) -> bool:
    """Whether these policies allow an action, by the engine's own evaluation."""
    from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

    context = EvalContext(
        principal_arn=principal,
        principal_type="AssumedRole",
        principal_account=ACCOUNT,
        action=action,
        resource_arn=resource,
        region=REGION,
        source_ip="127.0.0.1",
        secure_transport=True,
        service_context={
            key.lower(): list(value) if isinstance(value, tuple) else value for key, value in brings.items()
        },
    )
    decision = evaluate(context, [parse_policy_document(json.dumps(each)) for each in documents]).decision
    return bool(decision == "Allow")


def policy_of(fleet: Fleet, level: str) -> object:
    iam, arn = fleet.client("iam"), fleet.storage.outputs[f"{level.title()}PolicyArn"]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
