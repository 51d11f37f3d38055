"""Stacks: planned, created with their events, changed, discarded, deleted; and the fix of each refusal."""

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.stub import Stubber

from receipt_layoutlm.fleet.stack import FleetStack, StackEvent, StackPlan
from receipt_layoutlm.fleet.stack_errors import (
    LeftOver,
    NameTaken,
    NoRights,
    StackBusy,
    StackError,
    StackFailed,
    TemplateRefused,
    error_for,
    explain_refusals,
)
from receipt_layoutlm.fleet.template import Template, read_template
from tests.support.small_aws import REGION, a_moment, aws

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

engine = pytest.mark.engine
STORAGE = read_template("storage.yaml")
RESOURCES = {"Table", "Bucket", "BucketPolicy", "ReadPolicy", "SubmitPolicy", "OperatePolicy"}


@pytest.fixture
def client(endpoint: str) -> "CloudFormationClient":
    return aws(endpoint, "cloudformation")  # type: ignore[no-any-return]


@pytest.fixture
def stack(client: "CloudFormationClient") -> FleetStack:
    """A unique name without a stack."""
    return FleetStack(client, f"{fleet()}-storage", a_moment)


def fleet() -> str:
    return f"f{uuid.uuid4().hex[:12]}"


def values(stack: FleetStack, **more: str) -> dict[str, str]:
    return {"FleetName": stack.name.removesuffix("-storage"), **more}


def plan(stack: FleetStack, template: Template = STORAGE, **more: str) -> StackPlan:
    planned = stack.plan(template, values(stack, **more), {"layoutlm:fleet": "tests"})
    assert planned is not None
    return planned


def change_sets(client: "CloudFormationClient", stack: FleetStack) -> set[str]:
    return {each["ChangeSetName"] for each in client.list_change_sets(StackName=stack.name)["Summaries"]}


@dataclass
class Recorded:
    events: list[StackEvent] = field(default_factory=list)

    def statuses(self, resource: str) -> list[str]:
        return [event.status for event in self.events if event.resource == resource]


# building


@engine
def test_a_new_stack_is_planned_and_created_with_its_events(stack: FleetStack, endpoint: str) -> None:
    planned, recorded = plan(stack), Recorded()
    assert planned.makes_stack
    assert {(each.action, each.resource) for each in planned.changes} == {("Add", name) for name in RESOURCES}

    state = stack.execute(planned, recorded.events.append)

    assert state.status == "CREATE_COMPLETE"
    for name in (*RESOURCES, stack.name):
        assert recorded.statuses(name)[-1] == "CREATE_COMPLETE"
    assert recorded.events[-1].resource == stack.name, "no event after the end"
    table = aws(endpoint, "dynamodb").describe_table(TableName=state.outputs["TableName"])
    assert table["Table"]["LatestStreamArn"] == state.outputs["TableStreamArn"]
    assert {name for name, _ in stack.resources()} == RESOURCES


@engine
def test_an_unchanged_stack_is_left_alone(stack: FleetStack, client: "CloudFormationClient") -> None:
    stack.execute(plan(stack), lambda _event: None)

    before = change_sets(client, stack)

    assert stack.plan(STORAGE, values(stack), {"layoutlm:fleet": "tests"}) is None
    assert change_sets(client, stack) == before


@engine
def test_omitted_parameters_keep_their_values(stack: FleetStack) -> None:
    stack.execute(plan(stack, EncodedDays="3"), lambda _event: None)

    changed = stack.execute(plan(stack, NoncurrentDays="9"), lambda _event: None)

    assert changed.status == "UPDATE_COMPLETE"
    assert (changed.parameters["EncodedDays"], changed.parameters["NoncurrentDays"]) == ("3", "9")


@engine
def test_a_change_reports_only_its_own_events(stack: FleetStack) -> None:
    stack.execute(plan(stack), lambda _event: None)
    recorded = Recorded()

    stack.execute(plan(stack, NoncurrentDays="9"), recorded.events.append)

    assert recorded.statuses(stack.name)[-1] == "UPDATE_COMPLETE"
    assert "CREATE_COMPLETE" not in {event.status for event in recorded.events}


@engine
def test_a_discarded_plan_leaves_nothing(stack: FleetStack) -> None:
    stack.discard(plan(stack))

    assert stack.state() is None


@engine
def test_a_discarded_plan_leaves_an_existing_stack(stack: FleetStack, client: "CloudFormationClient") -> None:
    stack.execute(plan(stack), lambda _event: None)
    before = change_sets(client, stack)

    stack.discard(plan(stack, NoncurrentDays="9"))

    state = stack.state()
    assert state is not None
    assert (state.status, state.parameters["NoncurrentDays"]) == ("CREATE_COMPLETE", "30")
    assert change_sets(client, stack) == before


@engine
def test_an_abandoned_plan_does_not_prevent_the_next(stack: FleetStack) -> None:
    plan(stack)  # and its caller died

    state = stack.execute(plan(stack), lambda _event: None)

    assert state.status == "CREATE_COMPLETE"


@engine
def test_deleting_keeps_table_and_bucket(stack: FleetStack, endpoint: str) -> None:
    state, recorded = stack.execute(plan(stack), lambda _event: None), Recorded()

    stack.delete(recorded.events.append)

    assert stack.state() is None
    assert recorded.statuses(stack.name)[-1] == "DELETE_COMPLETE"
    aws(endpoint, "s3").head_bucket(Bucket=state.outputs["BucketName"])
    table = aws(endpoint, "dynamodb").describe_table(TableName=state.outputs["TableName"])
    assert table["Table"]["TableStatus"] == "ACTIVE"


@engine
def test_deleting_a_missing_stack_is_fine(stack: FleetStack) -> None:
    recorded = Recorded()

    stack.delete(recorded.events.append)

    assert (recorded.events, stack.state()) == ([], None)


# refusals


@engine
def test_a_taken_name_is_explained_and_does_not_stand_in_the_way_of_another(
    stack: FleetStack, client: "CloudFormationClient"
) -> None:
    other = FleetStack(client, f"{fleet()}-storage", a_moment)
    taken = stack.execute(plan(stack), lambda _event: None).outputs["BucketName"]

    with pytest.raises(NameTaken, match=rf"{taken}' already exists(.|\n)*--bucket"):
        other.execute(plan(other, BucketName=taken), lambda _event: None)

    other.delete(lambda _event: None)  # which ministack may not have finished by itself
    assert other.execute(plan(other), lambda _event: None).status == "CREATE_COMPLETE"


@engine
def test_a_failed_creation_is_to_be_deleted_and_a_failed_change_is_not(
    stack: FleetStack, client: "CloudFormationClient"
) -> None:
    created = plan(stack)
    assert client.describe_change_set(ChangeSetName=created.change_set_arn)["OnStackFailure"] == "DELETE"
    stack.execute(created, lambda _event: None)

    changed = plan(stack, EncodedDays="3")

    assert "OnStackFailure" not in client.describe_change_set(ChangeSetName=changed.change_set_arn)


def test_a_creation_that_was_deleted_again_has_failed() -> None:
    client = boto3.client("cloudformation", region_name=REGION)
    begun, failed, gone = (raw_event(n, status) for n, status in enumerate(("REVIEW", "CREATE_FAILED", "DELETED")))
    with Stubber(client) as stubber:
        stubber.add_response("describe_stacks", {"Stacks": [raw_stack("REVIEW_IN_PROGRESS")]})
        stubber.add_response("describe_stack_events", {"StackEvents": [begun]})
        stubber.add_response("execute_change_set", {})
        stubber.add_response("describe_stack_events", {"StackEvents": [gone, failed, begun]})
        stubber.add_response("describe_events", {"OperationEvents": []})

        with pytest.raises(StackFailed, match=r"was not created and leaves nothing(.|\n)*a reason"):
            planned = StackPlan("layoutlm-workers", "arn", makes_stack=True, changes=())
            FleetStack(client, "layoutlm-workers", a_moment).execute(planned, lambda _event: None)


@engine
def test_a_rejected_value_leaves_no_stack(stack: FleetStack) -> None:
    with pytest.raises(TemplateRefused, match="EncodedDays"):
        plan(stack, EncodedDays="0")

    assert stack.state() is None


@engine
def test_a_missing_right_is_named(endpoint: str, stack: FleetStack) -> None:
    iam = aws(endpoint, "iam")
    iam.create_user(UserName=stack.name)
    key = iam.create_access_key(UserName=stack.name)["AccessKey"]
    powerless = boto3.client(
        "cloudformation",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )

    with pytest.raises(NoRights, match=r"cloudformation:DescribeStacks(.|\n)*allow that action"):
        FleetStack(powerless, stack.name, a_moment).state()


def test_a_failed_change_is_followed_until_it_is_rolled_back() -> None:
    client, recorded = boto3.client("cloudformation", region_name=REGION), Recorded()
    begun, failed, undone = (raw_event(n, status) for n, status in enumerate(("REVIEW", "CREATE_FAILED", "ROLLBACK")))
    with Stubber(client) as stubber:
        stubber.add_response("describe_stacks", {"Stacks": [raw_stack("REVIEW_IN_PROGRESS")]})
        stubber.add_response("describe_stack_events", {"StackEvents": [begun]})
        stubber.add_response("execute_change_set", {})
        for events in ([failed, begun], [undone, failed, begun]):
            stubber.add_response("describe_stack_events", {"StackEvents": events})
        stubber.add_response("describe_events", {"OperationEvents": []})

        with pytest.raises(StackFailed, match="ROLLBACK_COMPLETE, because of"):
            planned = StackPlan("layoutlm-workers", "arn", makes_stack=True, changes=())
            FleetStack(client, "layoutlm-workers", a_moment).execute(planned, recorded.events.append)

    assert recorded.statuses("layoutlm-workers") == ["CREATE_FAILED", "ROLLBACK_COMPLETE"]


def raw_stack(status: str) -> dict[str, object]:
    return {"StackId": "id", "StackName": "layoutlm-workers", "StackStatus": status, "CreationTime": "2026-01-01"}


def raw_event(number: int, status: str) -> dict[str, object]:
    return {
        "StackId": "id",
        "StackName": "layoutlm-workers",
        "EventId": f"event-{number}",
        "Timestamp": f"2026-01-01T00:00:0{number}Z",
        "LogicalResourceId": "layoutlm-workers",
        "ResourceType": "AWS::CloudFormation::Stack",
        "ResourceStatus": {
            "REVIEW": "REVIEW_IN_PROGRESS",
            "ROLLBACK": "ROLLBACK_COMPLETE",
            "DELETED": "DELETE_COMPLETE",
        }.get(status, status),
        "ResourceStatusReason": "a reason",
    }


@pytest.mark.parametrize(
    ("status", "error", "fix"),
    [
        ("ROLLBACK_COMPLETE", LeftOver, "fleet destroy"),
        ("DELETE_FAILED", LeftOver, "fleet destroy"),
        ("UPDATE_ROLLBACK_FAILED", LeftOver, "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", StackBusy, "Try again"),
    ],
)
def test_a_stack_that_cannot_be_changed_is_explained(status: str, error: type[StackError], fix: str) -> None:
    client = boto3.client("cloudformation", region_name=REGION)
    with Stubber(client) as stubber:
        stubber.add_response("describe_stacks", {"Stacks": [raw_stack(status)]})
        with pytest.raises(error, match=f"{status}(.|\n)*{fix}"):
            FleetStack(client, "layoutlm-workers", a_moment).plan(STORAGE, {}, {})


@pytest.mark.parametrize(
    ("reason", "error", "fix"),
    [
        ("AWS::DynamoDB::Table: layoutlm already exists in stack arn:aws:…", NameTaken, "--table"),
        ("AWS::S3::Bucket: layoutlm-1 already exists (Service: S3)", NameTaken, "--bucket"),
        ("AWS::Logs::LogGroup: /aws/lambda/layoutlm-scaler already exists", NameTaken, "another --fleet"),
        ("decreases account's UnreservedConcurrentExecution below", StackFailed, "--no-reserve-concurrency"),
        ("Template error: Fn::Select  cannot select nonexistent value at index 2", TemplateRefused, "--zones 2"),
        ("The maximum number of VPCs has been reached.", StackFailed, "--vpc-id"),
        ("Unable to fetch parameters [/aws/service/…] from parameter store", TemplateRefused, "--ami-id"),
        ("Parameters: [BundleSha256, ScalerSha256] must have values", TemplateRefused, "--keep-code"),
        ("is not authorized to perform: iam:CreateRole because no permissions boundary", NoRights, "boundary-arn"),
        ("User: x is not authorized to perform: iam:CreateRole on resource: y", NoRights, "allow that action"),
        ("something new", StackFailed, ""),
    ],
)
def test_a_known_reason_has_a_fix(reason: str, error: type[StackError], fix: str) -> None:
    told = error_for(f"it says {reason}", reason)

    assert type(told) is error
    assert reason in str(told)
    assert fix in str(told)


@pytest.mark.parametrize(
    ("code", "error"),
    [("ExpiredToken", NoRights), ("Throttling", StackBusy), ("AlreadyExistsException", NameTaken)],
)
def test_refusals_of_the_service_are_typed(code: str, error: type[StackError]) -> None:
    with pytest.raises(error), explain_refusals("layoutlm-workers"):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeStacks")


def test_missing_credentials_are_explained() -> None:
    with pytest.raises(NoRights, match="aws configure"), explain_refusals("layoutlm-workers"):
        raise NoCredentialsError
