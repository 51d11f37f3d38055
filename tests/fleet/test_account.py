"""doctor on an AWS account: each result and its advice."""

import fnmatch
import importlib.util
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner

from receipt_dynamo import DynamoClient
from receipt_layoutlm.cli import cli
from receipt_layoutlm.fleet.account import Account, check_account, check_wheel_exists
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.images import check_image
from receipt_layoutlm.fleet.policies import Place, Right
from receipt_layoutlm.fleet.quotas import Market, check_quota, quota_code
from receipt_layoutlm.fleet.rights import check_rights, deploy_rights, purposes
from tests.support.deployed import decided, deploy, policy_of
from tests.support.registry import needed
from tests.support.small_aws import REGION, aws
from tests.support.templates import properties, resources

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

TABLE, BUCKET = "arn:aws:dynamodb:us-east-1:000000000000:table/jobs", "arn:aws:s3:::files"
OF_ANOTHER_SHAPE = {
    "TableName": "plain",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}
TYPES = ["g5.xlarge", "g4dn.xlarge"]  # of 4 virtual CPUs each


def by_name(findings: list[CheckResult]) -> dict[str, CheckResult]:
    return {each.name: each for each in findings}


# rights


@pytest.fixture
def iam(endpoint: str) -> "IAMClient":
    return boto3.client("iam", endpoint_url=endpoint, region_name=REGION)


def user_who_may(iam: "IAMClient", name: str, *statements: tuple[list[str], list[str]]) -> str:
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    allowed = [{"Effect": "Allow", "Action": actions, "Resource": resources} for actions, resources in statements]
    document = {"Version": "2012-10-17", "Statement": allowed}
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(document))
    return arn


PLACE = Place("000000000000", REGION, "layoutlm", table="jobs", bucket="files")
DEPLOYING = deploy_rights(PLACE)


def checked(iam: "IAMClient", caller: str, name: str = "rights", place: Place = PLACE) -> CheckResult:
    (purpose,) = (each for each in purposes(caller, place) if each.name == name)
    return check_rights(iam, caller, purpose)


@pytest.mark.engine
def test_sufficient_rights_are_confirmed(iam: "IAMClient") -> None:
    arn = user_who_may(iam, "able", (["dynamodb:*"], [TABLE, f"{TABLE}/index/*"]), (["s3:*"], [BUCKET, f"{BUCKET}/*"]))
    assert checked(iam, arn).state == "ok"
    found = checked(iam, arn, place=replace(PLACE, table=None)).found
    assert (found.startswith("all "), found.endswith(" checked actions are allowed")) == (True, True)
    looks, operates = checked(iam, arn, "fleet rights"), checked(iam, arn, "operate rights")
    assert (looks.state, operates.state) == ("warn", "warn"), "the fleet's groups are nothing of table and bucket"
    assert "ec2:DescribeInstances" in looks.found and "`layoutlm-cli fleet status`" in looks.advice
    groups = "autoScalingGroup:*:autoScalingGroupName/layoutlm-workers"
    assert operates.found.endswith(f"{groups}") and "s3:" not in operates.found


@pytest.mark.engine
def test_each_right_that_is_missing_is_named(iam: "IAMClient") -> None:
    reads = ["dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query"]
    reads += ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetObject"]
    arn = user_who_may(iam, "reader", (reads, [TABLE, f"{TABLE}/index/*", BUCKET, f"{BUCKET}/*"]))
    found = checked(iam, arn)
    assert found.state == "missing"
    rows = "dynamodb:ConditionCheckItem, dynamodb:PutItem, dynamodb:UpdateItem on rows JOB#*, rows DATASET#*"
    kinds = ("datasets/*", "images/*", "splits/*", "runs/*/attempt-000/checkpoint-*")
    files = f"s3:AbortMultipartUpload, s3:PutObject on {', '.join(f'{BUCKET}/{kind}' for kind in kinds)}"
    assert found.found == f"you may not {rows}; dynamodb:ConditionCheckItem on rows DATASETS; {files}"
    assert arn in found.advice and "SubmitPolicy" in found.advice


@pytest.mark.engine
def test_a_policy_without_the_indexes_is_reported(iam: "IAMClient") -> None:
    arn = user_who_may(iam, "forgetful", (["dynamodb:*"], [TABLE]), (["s3:*"], [BUCKET, f"{BUCKET}/*"]))
    found = checked(iam, arn)
    assert found.state == "missing"
    kinds = {
        "GSI1": ("STATUS#*", "DATASETS"),
        "GSI2": ("JOB_NAME#*",),
        "GSI3": ("QUEUE#*", "VALIDATION_STATUS#*", "IMAGE#*"),
    }
    named = {f"rows {key} of index {index}" for index, keys in kinds.items() for key in keys}
    assert set(found.found.removeprefix("you may not dynamodb:Query on ").split(", ")) == named


@pytest.mark.engine
def test_a_caller_who_only_submits_is_warned_of_the_rights_to_operate_and_deploy(iam: "IAMClient") -> None:
    submits = ["dynamodb:GetItem", "dynamodb:PutItem", "s3:GetObject"]
    arn = user_who_may(iam, "submitter", (submits, [TABLE, f"{BUCKET}/*"]))
    operating, deploying = checked(iam, arn, "operate rights"), checked(iam, arn, "deploy rights")
    assert (operating.state, deploying.state) == ("warn", "warn")
    assert "dynamodb:DeleteItem" in operating.found and "OperatePolicy" in operating.advice
    assert "`layoutlm-cli fleet destroy`, which need at least these" in deploying.advice
    for action in ("cloudformation:CreateChangeSet", "iam:CreateRole", "ec2:RunInstances", "ec2:DeleteVpc"):
        assert action in deploying.found


@pytest.mark.engine
def test_each_missing_right_to_deploy_is_named(iam: "IAMClient") -> None:
    statements = [(list(right.actions), [right.arn]) for right in DEPLOYING]
    able = user_who_may(iam, "builder", *statements)
    assert checked(iam, able, "deploy rights").state == "ok"
    without_pass_role = [([name for name in actions if name != "iam:PassRole"], arns) for actions, arns in statements]
    nearly = user_who_may(iam, "nearly-a-builder", *[each for each in without_pass_role if each[0]])
    denied = "you may not iam:PassRole on a worker's role, the scaler's role"
    assert checked(iam, nearly, "deploy rights").found == denied


def test_a_role_is_passed_to_the_service_that_takes_it() -> None:
    """A policy may allow iam:PassRole for one service alone."""
    passed = {right.context["iam:PassedToService"]: right.arn for right in DEPLOYING if "iam:PassRole" in right.actions}

    assert set(passed) == {("ec2.amazonaws.com",), ("lambda.amazonaws.com",)}
    assert "WorkerRole" in passed[("ec2.amazonaws.com",)] and "ScalerRole" in passed[("lambda.amazonaws.com",)]


def test_what_a_request_brings_is_simulated_with_it() -> None:
    client = boto3.client("iam", region_name=REGION)
    right = Right(TABLE, ("dynamodb:PutItem",), context={"dynamodb:LeadingKeys": ("JOB#1",)})
    asked = {
        "PolicySourceArn": "arn:aws:iam::000000000000:user/me",
        "ActionNames": ["dynamodb:PutItem"],
        "ResourceArns": [TABLE],
        "ContextEntries": [
            {
                "ContextKeyName": "dynamodb:LeadingKeys",
                "ContextKeyValues": ["JOB#1"],
                "ContextKeyType": "stringList",
            }
        ],
    }
    answer = {"EvaluationResults": [{"EvalActionName": "dynamodb:PutItem", "EvalDecision": "allowed"}]}
    (purpose, *_) = purposes("me", PLACE)
    with Stubber(client) as stub:
        stub.add_response("simulate_principal_policy", answer, asked)
        found = check_rights(client, asked["PolicySourceArn"], replace(purpose, rights=[right]))  # type: ignore[arg-type]

    assert found.found == "all 1 checked actions are allowed"


@pytest.mark.skipif(importlib.util.find_spec("cfnlint") is None, reason="cfn-lint is not installed: scripts/install")
@pytest.mark.parametrize("name", ["storage.yaml", "network.yaml", "workers.yaml"])
def test_what_cloudformations_handlers_do_is_among_the_rights_to_deploy(name: str) -> None:
    checked_actions = {action for right in DEPLOYING for action in right.actions}
    kinds = {each["Type"] for each in resources(name).values()}

    unchecked = {
        (kind, action) for kind in kinds for action in needed(kind) if not fnmatch.filter(checked_actions, action)
    }
    assert unchecked == set()


# what people may do is asked as the policies grant it


POLICIES = ("ReadPolicy", "SubmitPolicy", "OperatePolicy")


@pytest.mark.parametrize("policy", POLICIES)
def test_doctor_asks_for_each_action_on_each_resource_that_a_policy_grants(policy: str) -> None:
    """Written down apart from the code that reads the template: one right for each action, resource and key."""
    rights = [right for purpose in purposes("me", PLACE) for right in purpose.rights]
    asked = {
        (action, filled(right.arn), key)
        for right in rights
        for action in right.actions
        for key in right.context.get("dynamodb:LeadingKeys", ("",))
    }
    for statement in properties("storage.yaml", policy)["PolicyDocument"]["Statement"]:
        for action, arn, key in asked_by(statement):
            matches = [one for one in asked if one[0] == action and fnmatch.fnmatchcase(one[1], arn)]
            assert any(fnmatch.fnmatchcase(one[2], key) for one in matches), (statement["Sid"], action, arn, key)


def asked_by(statement: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    keys = statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [""])
    for action in as_list(statement["Action"]):
        for resource in as_list(statement["Resource"]):
            text = resource["Fn::Sub"] if isinstance(resource, dict) else resource
            for key in keys:
                yield action, filled(text if isinstance(text, str) else text[0]), key


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def filled(arn: str) -> str:
    name = PLACE.bucket if ":s3:" in arn else PLACE.table
    names = {"Name": name, "FleetName": PLACE.fleet, "AWS::Partition": "aws", "AWS::Region": REGION}
    for key, value in {**names, "AWS::AccountId": PLACE.account}.items():
        arn = arn.replace(f"${{{key}}}", str(value))
    return arn


@pytest.mark.engine
@pytest.mark.parametrize(("level", "name"), [(2, "rights"), (2, "fleet rights"), (3, "operate rights")])
def test_a_person_with_the_policies_has_the_rights_that_doctor_asks_for(endpoint: str, level: int, name: str) -> None:
    """By the deployed policies and the keys that each simulated request brings."""
    fleet = deploy(endpoint)
    documents = [policy_of(fleet, each) for each in ("read", "submit", "operate")]
    place = Place(
        "000000000000",
        REGION,
        fleet.name,
        table=fleet.storage.outputs["TableName"],
        bucket=fleet.storage.outputs["BucketName"],
    )
    (purpose,) = (each for each in purposes("me", place) if each.name == name)

    for right in purpose.rights:
        for action in right.actions:
            assert decided("user", documents[:level], action, right.arn, right.context), (action, right)
    fewer = [decided("user", documents[: level - 1], r.actions[0], r.arn, r.context) for r in purpose.rights]
    assert (name == "fleet rights") == all(fewer)


def test_what_removes_everything_is_asked_apart() -> None:
    (purpose,) = (each for each in purposes("me", PLACE) if each.name == "erase rights")
    actions = {action for right in purpose.rights for action in right.actions}
    assert {"dynamodb:DeleteTable", "s3:DeleteObjectVersion", "s3:ListBucketVersions", "s3:DeleteBucket"} <= actions
    assert (purpose.lack, "fleet destroy --everything" in purpose.advice) == ("warn", True)


@pytest.mark.engine
def test_a_session_is_checked_by_its_role_in_any_path(iam: "IAMClient") -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    iam.create_role(RoleName="engineer", Path="/team/", AssumeRolePolicyDocument=json.dumps(trust))
    session = "arn:aws:sts::000000000000:assumed-role/engineer/me"
    assert checked(iam, session).state == "missing"
    nobody = checked(iam, "arn:aws:sts::000000000000:assumed-role/gone/me")
    assert (nobody.state, "SimulatePrincipalPolicy" in nobody.advice) == ("warn", True)


def test_root_and_a_caller_without_a_table_get_advice(moto_aws: None) -> None:
    client = boto3.client("iam", region_name=REGION)
    assert "use a role" in checked(client, "arn:aws:iam::000000000000:root").advice
    assert (
        checked(client, "arn:aws:iam::000000000000:user/me", place=replace(PLACE, table=None, bucket=None)).state
        == "warn"
    )


# the image


@pytest.mark.parametrize(("created", "state"), [("2026-10-01", "ok"), ("2026-08-01", "warn"), (None, "missing")])
def test_an_image_of_more_than_90_days_is_named(created: str | None, state: str) -> None:
    ec2 = boto3.client("ec2", region_name=REGION)
    images = [] if created is None else [{"CreationDate": f"{created}T00:00:00.000Z", "Name": "Deep Learning"}]
    with Stubber(ec2) as stub:
        stub.add_response("describe_images", {"Images": images}, {"ImageIds": ["ami-1"]})
        found = check_image(ec2, "ami-1", datetime(2026, 11, 29, tzinfo=UTC))

    assert (found.state, "fleet deploy" in found.advice) == (state, state != "ok")


# quotas


@pytest.mark.parametrize(
    ("allowed", "state", "found"),
    [(64.0, "ok", "room for 16 g5.xlarge, 16 g4dn.xlarge"), (3.0, "missing", "no room for any of")],
)
def test_a_quota_is_counted_in_machines(moto_aws: None, allowed: float, state: str, found: str) -> None:
    finding = finding_with(allowed, "spot")
    assert (finding.state, found in finding.found) == (state, True)
    assert ("request-service-quota-increase" in finding.advice) == (state == "missing")


def test_a_missing_on_demand_quota_is_only_a_warning(moto_aws: None) -> None:
    assert (finding_with(0.0, "spot").state, finding_with(0.0, "on-demand").state) == ("missing", "warn")


@pytest.mark.parametrize(
    ("instance_type", "spot", "on_demand"),
    [
        ("g4dn.xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("g5g.xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("g6e.12xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("gr6.4xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("p2.xlarge", "L-7212CCBC", "L-417A185B"),
        ("p3dn.24xlarge", "L-7212CCBC", "L-417A185B"),
        ("p4de.24xlarge", "L-7212CCBC", "L-417A185B"),
        ("p5.48xlarge", "L-C4BD4855", "L-417A185B"),
        ("p5en.48xlarge", "L-C4BD4855", "L-417A185B"),
        ("p6-b200.48xlarge", None, "L-417A185B"),
        ("m5.large", None, None),
        ("trn1.2xlarge", None, None),
        ("u-6tb1.metal", None, None),
    ],
)
def test_each_family_has_its_own_quota(instance_type: str, spot: str | None, on_demand: str | None) -> None:
    assert (quota_code(instance_type, "spot"), quota_code(instance_type, "on-demand")) == (spot, on_demand)


def test_the_increase_is_requested_for_the_quota_of_the_smallest_machine(moto_aws: None) -> None:
    advice = finding_with(0.0, "spot", "p4d.24xlarge", "g5.xlarge").advice
    assert "--quota-code L-3819A6DF --desired-value 16" in advice


def test_an_unknown_quota_is_not_guessed(moto_aws: None) -> None:
    alone = finding_with(0.0, "spot", "m5.large")
    assert (alone.state, alone.found) == ("warn", "unknown which quota applies to m5.large")
    assert "Service Quotas" in alone.advice
    beside = finding_with(8.0, "spot", "g5.xlarge", "m5.large")
    assert (beside.state, beside.found) == ("ok", "room for 2 g5.xlarge; unknown which quota applies to m5.large")
    assert finding_with(0.0, "spot", "g5.xlarge", "m5.large").state == "warn"


def test_types_unavailable_in_the_region_are_named(moto_aws: None) -> None:
    finding = finding_with(64.0, "spot", "g99.xlarge")
    assert (finding.state, finding.found) == ("missing", "this region has none of g99.xlarge")


def finding_with(allowed: float, market: Market, *types: str) -> CheckResult:
    """A quota as Service Quotas would answer it, which no engine here has."""
    quotas = boto3.client("service-quotas", region_name=REGION)
    with Stubber(quotas) as stub:
        for _ in types or TYPES:
            stub.add_response("get_service_quota", {"Quota": {"Value": allowed}})
        return check_quota(quotas, boto3.client("ec2", region_name=REGION), market, list(types) or TYPES)


def test_an_unchanged_quota_has_its_default(moto_aws: None) -> None:
    quotas = boto3.client("service-quotas", region_name=REGION)
    with Stubber(quotas) as stub:
        stub.add_client_error("get_service_quota", "NoSuchResourceException")
        stub.add_response("get_aws_default_service_quota", {"Quota": {"Value": 8.0}})
        ec2 = boto3.client("ec2", region_name=REGION)
        assert check_quota(quotas, ec2, "spot", TYPES[:1]).found == "room for 2 g5.xlarge"


def test_unreadable_quotas_are_only_a_warning(moto_aws: None) -> None:
    quotas = boto3.client("service-quotas", region_name=REGION)
    with Stubber(quotas) as stub:
        stub.add_client_error("get_service_quota", "AccessDeniedException")
        finding = check_quota(quotas, boto3.client("ec2", region_name=REGION), "spot", TYPES)
    assert (finding.state, "GetServiceQuota" in finding.advice) == ("warn", True)


# the rest


def test_missing_credentials_are_the_first_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    found = by_name(check_account(Account(REGION, "layoutlm", "the-table", None, tmp_path)))
    assert (found["credentials"].state, "aws configure" in found["credentials"].advice) == ("missing", True)


def test_a_wheel_is_found_or_how_to_make_one(tmp_path: Path) -> None:
    assert "scripts/build_wheel" in check_wheel_exists(tmp_path).advice
    (tmp_path / "receipt_layoutlm-0.1.0-py3-none-any.whl").touch()
    assert check_wheel_exists(tmp_path).state == "ok"


@pytest.mark.engine
def test_doctor_checks_the_account_when_a_table_is_given(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    DynamoClient("plain", endpoint_url=endpoint).raw.create_table(**OF_ANOTHER_SHAPE)  # type: ignore[arg-type]
    words = ["doctor", "--json", "--dynamo-table", "plain", "--bucket", "no-such-bucket"]
    result = CliRunner().invoke(cli, words)
    rows = json.loads(result.stdout)
    shown = {row["name"]: row for row in rows}
    assert result.exit_code == 1
    assert shown["credentials"]["state"] == "ok"
    assert shown["fleet"]["found"] == f"no fleet layoutlm in {REGION}"
    keys = next(row for row in rows if "PK and SK" in row["found"])
    assert (keys["name"], keys["state"]) == ("table", "missing") and "another table" in keys["advice"]
    assert "plain: index GSI3 is missing" in [row["found"] for row in rows]
    assert shown["bucket"]["state"] == "missing" and "--bucket" in shown["bucket"]["advice"]
    assert {"rights", "spot quota", "on-demand quota", "wheel"} <= shown.keys()


# a fleet that stands


def doctor_of(fleet: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    rows: list[dict[str, str]] = json.loads(CliRunner().invoke(cli, ["doctor", "--json", "--fleet", fleet]).stdout)
    return rows


def by_kind(rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in rows}


@pytest.mark.engine
def test_doctor_checks_the_table_bucket_and_instance_types_of_the_fleet(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {"InstanceType1": "g6e.2xlarge", "InstanceType2": "g5.2xlarge", "InstanceType3": "", "InstanceType4": ""}
    fleet = deploy(endpoint, **types)
    rows = doctor_of(fleet.name, endpoint, monkeypatch)
    found = by_kind(rows)
    assert (found["fleet"]["state"], found["fleet"]["found"]) == ("ok", f"{fleet.name}-workers: CREATE_COMPLETE")
    for kind, output in (("table", "TableName"), ("bucket", "BucketName")):
        told = [row for row in rows if row["name"] == kind]
        # the engine makes neither expiry nor backups, which are only warned of
        assert told and all(row["state"] != "missing" and fleet.storage.outputs[output] in row["found"] for row in told)
    for market in ("spot", "on-demand"):
        assert "g6e.2xlarge, g5.2xlarge" in found[f"{market} quota"]["found"]


@pytest.mark.engine
def test_a_rolled_back_stack_is_reported_with_the_fix(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, name = f"taken-{uuid.uuid4().hex[:8]}", f"f{uuid.uuid4().hex[:12]}"
    aws(endpoint, "s3").create_bucket(Bucket=taken)
    stacks = aws(endpoint, "cloudformation")
    topic, bucket = {"Type": "AWS::SNS::Topic"}, {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": taken}}
    broken, whole, both = (
        json.dumps({"Resources": each}) for each in ({"Any": bucket}, {"Any": topic}, {"Any": topic, "Other": bucket})
    )

    stacks.create_stack(StackName=f"{name}-workers", TemplateBody=broken)
    left = by_kind(doctor_of(name, endpoint, monkeypatch))["fleet"]
    assert (left["state"], left["found"]) == ("warn", f"{name}-workers: ROLLBACK_COMPLETE")
    assert "`layoutlm-cli fleet destroy` removes it" in left["advice"]

    stacks.delete_stack(StackName=f"{name}-workers")
    stacks.create_stack(StackName=f"{name}-workers", TemplateBody=whole)
    assert by_kind(doctor_of(name, endpoint, monkeypatch))["fleet"]["state"] == "ok"
    stacks.update_stack(StackName=f"{name}-workers", TemplateBody=both)
    undone = by_kind(doctor_of(name, endpoint, monkeypatch))["fleet"]
    assert (undone["state"], undone["found"]) == ("warn", f"{name}-workers: UPDATE_ROLLBACK_COMPLETE")
    assert "describe-stack-events" in undone["advice"] and "deploy again" in undone["advice"]
