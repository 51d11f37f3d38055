"""What the roles of a fleet may do and may not, asked of the deployed roles; and a worker that runs on them alone."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.deployed import ACCOUNT, Fleet, decided, deploy, policy_of
from tests.support.small_aws import REGION
from tests.support.tiny import tiny_layoutlm

pytestmark = pytest.mark.engine

OF_ROWS = {f"dynamodb:{name}" for name in ("GetItem", "Query", "PutItem", "UpdateItem", "ConditionCheckItem")}
CLI = [sys.executable, "-m", "receipt_layoutlm.cli"]

# (action, what it is about): {table} {bucket} {fleet} are filled in, {group} makes an autoscaling group of a name
WORKER_MAY = [
    ("dynamodb:GetItem", "{table}"),
    ("dynamodb:Query", "{table}"),
    ("dynamodb:Query", "{table}/index/GSI3"),
    ("dynamodb:PutItem", "{table}"),
    ("dynamodb:UpdateItem", "{table}"),
    ("dynamodb:ConditionCheckItem", "{table}"),
    ("s3:GetObject", "{bucket}/runs/1/attempt-001/checkpoint-5/model.safetensors"),
    ("s3:GetObject", "{bucket}/encoded/1/manifest.json"),
    ("s3:GetObject", "{bucket}/datasets/1.jsonl.gz"),
    ("s3:GetObject", "{bucket}/splits/1.json"),
    ("s3:GetObject", "{bucket}/images/1"),
    ("s3:GetObject", "{bucket}/weights/1/model.safetensors"),
    ("s3:GetObject", "{bucket}/wheels/1.tar.gz"),
    ("s3:PutObject", "{bucket}/runs/1/attempt-001/best/model.safetensors"),
    ("s3:AbortMultipartUpload", "{bucket}/runs/1/attempt-001/best/model.safetensors"),
    ("s3:PutObject", "{bucket}/encoded/1/manifest.json"),
    ("s3:DeleteObject", "{bucket}/runs/1/attempt-001/checkpoint-5/model.safetensors"),
    ("s3:DeleteObject", "{bucket}/encoded/1/manifest.json"),
    ("s3:PutObjectTagging", "{bucket}/runs/1/attempt-001/checkpoint-5/model.safetensors"),
    ("autoscaling:TerminateInstanceInAutoScalingGroup", "{group}{fleet}-workers"),
    ("autoscaling:TerminateInstanceInAutoScalingGroup", "{group}{fleet}-ondemand"),
    ("autoscaling:SetInstanceProtection", "{group}{fleet}-workers"),
    ("autoscaling:SetInstanceHealth", "{group}{fleet}-workers"),
    ("ec2:DescribeSpotPriceHistory", "*"),
    ("logs:CreateLogStream", "arn:aws:logs:{region}:{account}:log-group:/layoutlm/{fleet}/workers:log-stream:i-1/boot"),
    ("logs:PutLogEvents", "arn:aws:logs:{region}:{account}:log-group:/layoutlm/{fleet}/workers:log-stream:i-1/boot"),
]
WORKER_MAY_NOT = [
    ("dynamodb:Scan", "{table}"),
    ("dynamodb:DeleteItem", "{table}"),
    ("dynamodb:DeleteTable", "{table}"),
    ("dynamodb:UpdateTable", "{table}"),
    ("dynamodb:BatchGetItem", "{table}"),
    ("dynamodb:BatchWriteItem", "{table}"),
    ("dynamodb:ExportTableToPointInTime", "{table}"),
    ("dynamodb:GetItem", "{table}-of-somebody-else"),
    ("dynamodb:UpdateItem", "{table}-of-somebody-else"),
    ("s3:PutObject", "{bucket}/wheels/1.tar.gz"),
    ("s3:PutObject", "{bucket}/weights/1/model.safetensors"),
    ("s3:PutObject", "{bucket}/datasets/1.jsonl.gz"),
    ("s3:PutObject", "{bucket}/splits/1.json"),
    ("s3:GetObject", "{bucket}/elsewhere/1"),
    ("s3:DeleteObject", "{bucket}/runs/1/attempt-001/best/model.safetensors"),
    ("s3:DeleteObject", "{bucket}/datasets/1.jsonl.gz"),
    ("s3:DeleteObject", "{bucket}/wheels/1.tar.gz"),
    ("s3:DeleteObjectVersion", "{bucket}/runs/1/attempt-001/checkpoint-5/model.safetensors"),
    ("s3:PutObjectTagging", "{bucket}/runs/1/attempt-001/best/model.safetensors"),
    ("s3:PutBucketPolicy", "{bucket}"),
    ("s3:PutLifecycleConfiguration", "{bucket}"),
    ("s3:GetObject", "{bucket}-of-somebody-else/runs/1"),
    ("autoscaling:TerminateInstanceInAutoScalingGroup", "{group}somebody-elses-workers"),
    ("autoscaling:TerminateInstanceInAutoScalingGroup", "{group}{fleet}-workers-too"),
    ("autoscaling:SetInstanceHealth", "{group}somebody-elses-workers"),
    ("autoscaling:DescribeAutoScalingInstances", "*"),
    ("autoscaling:SetDesiredCapacity", "{group}{fleet}-workers"),
    ("autoscaling:UpdateAutoScalingGroup", "{group}{fleet}-workers"),
    ("ec2:TerminateInstances", "*"),
    ("ec2:RunInstances", "*"),
    ("iam:PassRole", "*"),
    ("iam:CreateRole", "*"),
    ("sts:AssumeRole", "*"),
    ("ssm:GetParameter", "*"),
    ("ssmmessages:CreateControlChannel", "*"),
    ("lambda:InvokeFunction", "*"),
    ("cloudwatch:PutMetricData", "*"),
    ("logs:PutLogEvents", "arn:aws:logs:{region}:{account}:log-group:/aws/lambda/{fleet}-scaler:log-stream:1"),
]
SCALER_MAY = [
    ("dynamodb:GetItem", "{table}"),
    ("dynamodb:Query", "{table}/index/GSI1"),
    ("dynamodb:UpdateItem", "{table}"),
    ("dynamodb:GetRecords", "{stream}"),
    ("dynamodb:ListStreams", "*"),
    ("autoscaling:DescribeAutoScalingGroups", "*"),
    ("autoscaling:DescribeScalingActivities", "*"),
    ("autoscaling:SetDesiredCapacity", "{group}{fleet}-workers"),
    ("autoscaling:SetDesiredCapacity", "{group}{fleet}-ondemand"),
    ("autoscaling:SuspendProcesses", "{group}{fleet}-workers"),
    ("autoscaling:SetInstanceHealth", "{group}{fleet}-workers"),
    ("autoscaling:SetInstanceHealth", "{group}{fleet}-ondemand"),
    ("ec2:DescribeInstances", "*"),
    ("ec2:DescribeSpotPriceHistory", "*"),
    ("logs:PutLogEvents", "arn:aws:logs:{region}:{account}:log-group:/aws/lambda/{fleet}-scaler:log-stream:1"),
]
SCALER_MAY_NOT = [
    ("dynamodb:Scan", "{table}"),
    ("dynamodb:DeleteItem", "{table}"),
    ("dynamodb:DeleteTable", "{table}"),
    ("dynamodb:UpdateItem", "{table}-of-somebody-else"),
    ("s3:GetObject", "{bucket}/runs/1/attempt-001/run.json"),
    ("s3:PutObject", "{bucket}/wheels/1.zip"),
    ("autoscaling:SetDesiredCapacity", "{group}somebody-elses-workers"),
    ("autoscaling:SetInstanceHealth", "{group}somebody-elses-workers"),
    ("autoscaling:TerminateInstanceInAutoScalingGroup", "{group}{fleet}-workers"),
    ("autoscaling:UpdateAutoScalingGroup", "{group}{fleet}-workers"),
    ("autoscaling:ResumeProcesses", "{group}{fleet}-workers"),
    ("ec2:RunInstances", "*"),
    ("ec2:TerminateInstances", "*"),
    ("iam:PassRole", "*"),
    ("lambda:UpdateFunctionCode", "*"),
    ("cloudwatch:DeleteAlarms", "*"),
]
SNAPSHOT_MAY = [("dynamodb:BatchGetItem", "{table}"), ("s3:PutObject", "{bucket}/datasets/1.jsonl.gz")]
SHELL_MAY = [("ssm:UpdateInstanceInformation", "*"), ("ssmmessages:OpenDataChannel", "*")]


@pytest.fixture(scope="module")
def fleet(endpoint: str) -> Fleet:
    return deploy(endpoint)


def filled(fleet: Fleet, resource: str) -> str:
    outputs = fleet.storage.outputs
    return resource.format(
        table=outputs["TableArn"],
        stream=outputs["TableStreamArn"],
        bucket=outputs["BucketArn"],
        fleet=fleet.name,
        region=REGION,
        account=ACCOUNT,
        group=f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:0d-1:autoScalingGroupName/",
    )


KEYS = {"GSI1": "STATUS#running", "GSI2": "JOB_NAME#1", "GSI3": "QUEUE#default"}  # that a request names, by its index


def may(fleet: Fleet, role: str, action: str, resource: str) -> bool:
    """With the keys that a request of ours brings: ministack's simulation has no place for them, its evaluation has."""
    index = resource.rpartition("/")[2]
    brings = {"dynamodb:LeadingKeys": [KEYS.get(index, "JOB#1")]} if action in OF_ROWS else {}
    return allowed(fleet, role, action, resource, brings)


@pytest.mark.parametrize(("action", "resource"), WORKER_MAY)
def test_a_worker_may_do_its_work(fleet: Fleet, action: str, resource: str) -> None:
    assert may(fleet, "WorkerRoleArn", action, resource)


@pytest.mark.parametrize(("action", "resource"), WORKER_MAY_NOT)
def test_a_worker_may_do_nothing_else(fleet: Fleet, action: str, resource: str) -> None:
    assert not may(fleet, "WorkerRoleArn", action, resource)


@pytest.mark.parametrize(("action", "resource"), SCALER_MAY)
def test_the_scaler_may_look_and_start_machines(fleet: Fleet, action: str, resource: str) -> None:
    assert may(fleet, "ScalerRoleArn", action, resource)


@pytest.mark.parametrize(("action", "resource"), SCALER_MAY_NOT)
def test_the_scaler_may_do_nothing_else(fleet: Fleet, action: str, resource: str) -> None:
    assert not may(fleet, "ScalerRoleArn", action, resource)


def test_snapshots_and_shells_are_rights_that_are_asked_for(endpoint: str) -> None:
    fleet = deploy(endpoint, SnapshotOnWorker="true", SessionManager="true")

    for action, resource in (*SNAPSHOT_MAY, *SHELL_MAY):
        assert may(fleet, "WorkerRoleArn", action, resource), action
    for action, resource in (("s3:PutObject", "{bucket}/wheels/1.tar.gz"), ("dynamodb:Scan", "{table}")):
        assert not may(fleet, "WorkerRoleArn", action, resource), action


def test_a_role_is_taken_by_its_service_alone(fleet: Fleet) -> None:
    for role, service in (("WorkerRoleArn", "ec2"), ("ScalerRoleArn", "lambda")):
        found = fleet.client("iam").get_role(RoleName=fleet.workers.outputs[role].rpartition("/")[2])
        (statement,) = found["Role"]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}


# conditions on the values that a request brings


def allowed(fleet: Fleet, role: str, action: str, resource: str, brings: Mapping[str, object]) -> bool:
    iam, name = fleet.client("iam"), fleet.workers.outputs[role].rpartition("/")[2]
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names]
    return decided(fleet.workers.outputs[role], documents, action, filled(fleet, resource), brings)


READS = ("dynamodb:GetItem", "dynamodb:Query")
WRITES = ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem")


@pytest.mark.parametrize(
    ("role", "action", "keys", "expected"),
    [
        *(("WorkerRoleArn", action, ["JOB#1"], True) for action in WRITES),
        *(("WorkerRoleArn", action, ["FLEET#{fleet}"], False) for action in WRITES),
        *(("WorkerRoleArn", action, ["IMAGE#1"], False) for action in WRITES),
        ("WorkerRoleArn", "dynamodb:PutItem", ["FLEET#{fleet}#CLAIMED"], True),
        ("WorkerRoleArn", "dynamodb:UpdateItem", ["FLEET#{fleet}#CLAIMED"], False),
        ("WorkerRoleArn", "dynamodb:PutItem", ["FLEET#another#CLAIMED"], False),
        ("WorkerRoleArn", "dynamodb:PutItem", ["FLEET#{fleet}#CLAIMED", "FLEET#{fleet}"], False),
        ("WorkerRoleArn", "dynamodb:PutItem", ["DATASET#tiny"], False),
        ("WorkerRoleArn", "dynamodb:UpdateItem", ["JOB#1", "FLEET#{fleet}"], False),
        *(("WorkerRoleArn", action, ["JOB#1"], True) for action in READS),
        *(("WorkerRoleArn", action, ["FLEET#{fleet}"], True) for action in READS),
        *(("WorkerRoleArn", action, ["IMAGE#1"], False) for action in READS),
        *(("WorkerRoleArn", action, ["DATASET#1"], False) for action in READS),
        *(("WorkerRoleArn", action, ["FLEET#another"], False) for action in READS),
        *((role, action, None, False) for role in ("WorkerRoleArn", "ScalerRoleArn") for action in WRITES),
        *(("WorkerRoleArn", action, None, False) for action in READS),
        *(("ScalerRoleArn", action, ["JOB#1"], True) for action in READS),
        *(("ScalerRoleArn", action, ["FLEET#{fleet}"], True) for action in READS),
        *(("ScalerRoleArn", action, ["FLEET#{fleet}#CLAIMED"], True) for action in READS),
        *(("ScalerRoleArn", action, ["QUEUE#default.ondemand"], True) for action in READS),
        *(("ScalerRoleArn", action, ["QUEUE#another"], False) for action in READS),
        *(("ScalerRoleArn", action, ["FLEET#another"], False) for action in READS),
        *(("ScalerRoleArn", action, ["IMAGE#1"], False) for action in READS),
        *(("ScalerRoleArn", action, ["DATASET#1"], False) for action in READS),
        *(("ScalerRoleArn", action, None, False) for action in READS),
        ("ScalerRoleArn", "dynamodb:UpdateItem", ["JOB#1"], True),
        ("ScalerRoleArn", "dynamodb:UpdateItem", ["IMAGE#1"], False),
        ("ScalerRoleArn", "dynamodb:PutItem", ["JOB#1"], False),
        ("ScalerRoleArn", "dynamodb:PutItem", ["FLEET#{fleet}"], True),
        ("ScalerRoleArn", "dynamodb:PutItem", ["FLEET#another"], False),
        ("ScalerRoleArn", "dynamodb:PutItem", ["QUEUE#default"], True),
        ("ScalerRoleArn", "dynamodb:PutItem", ["QUEUE#default.ondemand"], True),
        ("ScalerRoleArn", "dynamodb:PutItem", ["QUEUE#another"], False),
        ("ScalerRoleArn", "dynamodb:UpdateItem", ["QUEUE#default"], False),
        ("WorkerRoleArn", "dynamodb:PutItem", ["QUEUE#default"], False),
    ],
)
def test_rows_are_for_those_who_need_them(
    fleet: Fleet, role: str, action: str, keys: list[str] | None, expected: bool
) -> None:
    """None: a request that names no keys, of which every condition on all of them is true."""
    brings = {} if keys is None else {"dynamodb:LeadingKeys": [key.format(fleet=fleet.name) for key in keys]}

    assert allowed(fleet, role, action, "{table}", brings) is expected


@pytest.mark.parametrize(
    ("index", "key", "expected"),
    [
        ("GSI3", "QUEUE#default", True),
        ("GSI3", "QUEUE#default.ondemand", True),
        ("GSI3", "QUEUE#another", False),
        ("GSI3", "VALIDATION_STATUS#VALID", False),
        ("GSI1", "STATUS#running", True),
        ("GSI1", "STATUS#succeeded", False),
        ("GSI2", "JOB_NAME#mine", False),
    ],
)
@pytest.mark.parametrize("role", ["WorkerRoleArn", "ScalerRoleArn"])
def test_worker_and_scaler_query_their_queues_and_the_running_jobs(
    fleet: Fleet, role: str, index: str, key: str, expected: bool
) -> None:
    brings = {"dynamodb:LeadingKeys": [key]}

    assert allowed(fleet, role, "dynamodb:Query", f"{{table}}/index/{index}", brings) is expected


def test_a_worker_that_takes_snapshots_reads_the_receipts(endpoint: str) -> None:
    fleet = deploy(endpoint, SnapshotOnWorker="true")

    for brings in ({"dynamodb:LeadingKeys": ["IMAGE#1"]}, {"dynamodb:LeadingKeys": ["DATASETS"]}):
        assert allowed(fleet, "WorkerRoleArn", "dynamodb:GetItem", "{table}", brings)
        assert allowed(fleet, "WorkerRoleArn", "dynamodb:ConditionCheckItem", "{table}", brings)
    assert not allowed(fleet, "WorkerRoleArn", "dynamodb:PutItem", "{table}", {"dynamodb:LeadingKeys": ["IMAGE#1"]})


# the managed policies, one on top of the other

PEOPLE = [
    # action, resource, first key, and the policies that it takes
    ("dynamodb:Query", "{table}", "JOB#1", "read"),
    ("dynamodb:GetItem", "{table}", "DATASET#pages", "read"),
    ("dynamodb:Query", "{table}/index/GSI1", "STATUS#failed", "read"),
    ("dynamodb:Query", "{table}/index/GSI2", "JOB_NAME#mine", "read"),
    ("s3:GetObject", "{bucket}/runs/1/attempt-001/best/model.safetensors", "", "read"),
    ("dynamodb:Query", "{table}/index/GSI3", "VALIDATION_STATUS#VALID", "submit"),
    ("dynamodb:BatchGetItem", "{table}", "IMAGE#1", "submit"),
    ("dynamodb:PutItem", "{table}", "JOB#1", "submit"),
    ("dynamodb:PutItem", "{table}", "DATASET#pages", "submit"),
    ("s3:PutObject", "{bucket}/datasets/1.jsonl.gz", "", "submit"),
    ("s3:PutObject", "{bucket}/runs/1/attempt-000/checkpoint-5/model.safetensors", "", "submit"),
    ("dynamodb:Query", "{table}", "MODEL#production", "read"),
    ("dynamodb:GetItem", "{table}", "QUEUE#default", "read"),
    ("s3:GetObject", "{bucket}/images/1", "", "read"),
    ("dynamodb:ConditionCheckItem", "{table}", "DATASETS", "submit"),
    ("s3:PutObject", "{bucket}/images/1", "", "submit"),
    ("dynamodb:PutItem", "{table}", "DATASETS", "operate"),
    ("dynamodb:PutItem", "{table}", "MODEL#production", "operate"),
    ("dynamodb:PutItem", "{table}", "FLEET#{fleet}", "operate"),
    ("dynamodb:DeleteItem", "{table}", "FLEET#{fleet}", "operate"),
    ("dynamodb:UpdateItem", "{table}", "IMAGE#1", "operate"),
    ("s3:PutObject", "{bucket}/weights/1/model.safetensors", "", "operate"),
    ("s3:PutObject", "{bucket}/runs/1/attempt-001/best/model.safetensors", "", "operate"),
    ("s3:DeleteObject", "{bucket}/runs/1/attempt-001/checkpoint-5/model.safetensors", "", "operate"),
    ("autoscaling:SetDesiredCapacity", "{group}{fleet}-workers", "", "operate"),
    ("s3:PutObject", "{bucket}/wheels/1.zip", "", "nobody"),
    ("dynamodb:Scan", "{table}", "", "nobody"),
    ("dynamodb:DeleteTable", "{table}", "", "nobody"),
    ("autoscaling:UpdateAutoScalingGroup", "{group}{fleet}-workers", "", "nobody"),
    ("autoscaling:SetDesiredCapacity", "{group}another-workers", "", "nobody"),
    ("iam:PassRole", "*", "", "nobody"),
]
LEVELS = ("read", "submit", "operate")


@pytest.mark.parametrize(("action", "resource", "key", "needs"), PEOPLE)
def test_people_may_do_what_their_policies_are_for(
    fleet: Fleet, action: str, resource: str, key: str, needs: str
) -> None:
    brings = {"dynamodb:LeadingKeys": [key.format(fleet=fleet.name)]} if key else {}
    documents = [policy_of(fleet, name) for name in LEVELS]

    for count, level in enumerate(LEVELS, start=1):
        expected = needs in LEVELS[:count]
        assert decided("user", documents[:count], action, filled(fleet, resource), brings) is expected, level


@pytest.mark.parametrize("action", ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"])
def test_no_policy_takes_a_request_without_keys(fleet: Fleet, action: str) -> None:
    assert not decided("user", [policy_of(fleet, name) for name in LEVELS], action, filled(fleet, "{table}"), {})


@pytest.mark.parametrize(
    "prefix", ["runs/1/", "encoded/", "datasets/1.jsonl.gz", "images/", "splits/", "weights/", "wheels/"]
)
def test_a_worker_lists_below_the_projects_prefixes(fleet: Fleet, prefix: str) -> None:
    assert allowed(fleet, "WorkerRoleArn", "s3:ListBucket", "{bucket}", {"s3:prefix": prefix})


@pytest.mark.parametrize("prefix", ["", "elsewhere/"])
def test_a_worker_lists_nothing_else(fleet: Fleet, prefix: str) -> None:
    assert not allowed(fleet, "WorkerRoleArn", "s3:ListBucket", "{bucket}", {"s3:prefix": prefix})


def test_a_worker_is_told_that_an_object_is_not_there(fleet: Fleet) -> None:
    """S3 tells it to who may list the bucket, and asks that without a prefix."""
    assert allowed(fleet, "WorkerRoleArn", "s3:ListBucket", "{bucket}", {})


def test_the_scaler_publishes_figures_of_its_own_fleet(fleet: Fleet) -> None:
    for fleet_name, expected in ((fleet.name, True), ("another", False)):
        brings = {"cloudwatch:namespace": f"LayoutLM/{fleet_name}"}
        assert allowed(fleet, "ScalerRoleArn", "cloudwatch:PutMetricData", "*", brings) is expected


# a worker on its role alone


def keys_of_the_worker(fleet: Fleet) -> dict[str, str]:
    """Credentials as the metadata service of a machine gives them; here the account's root takes the role."""
    role = fleet.workers.outputs["WorkerRoleArn"]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    fleet.client("iam").update_assume_role_policy(
        RoleName=role.rpartition("/")[2],
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    given = fleet.client("sts").assume_role(RoleArn=role, RoleSessionName="machine")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def cli(fleet: Fleet, keys: Mapping[str, str], *words: str) -> str:
    place = {
        "AWS_ENDPOINT_URL": fleet.endpoint,
        "AWS_REGION": REGION,
        "DYNAMO_TABLE_NAME": fleet.storage.outputs["TableName"],
        "LAYOUTLM_TRAINING_BUCKET": fleet.storage.outputs["BucketName"],
    }
    environ = {**os.environ, **place, **keys}
    told = subprocess.run([*CLI, *words], capture_output=True, text=True, timeout=200, check=False, env=environ)
    assert told.returncode == 0, told.stderr
    return told.stdout


def enforced(fleet: Fleet) -> Fleet:
    """As this endpoint can enforce it: it does not speak TLS, and its requests bring no keys of rows."""
    fleet.client("s3").delete_bucket_policy(Bucket=fleet.storage.outputs["BucketName"])
    iam, role = fleet.client("iam"), fleet.workers.outputs["WorkerRoleArn"].rpartition("/")[2]
    document = iam.get_role_policy(RoleName=role, PolicyName="worker")["PolicyDocument"]
    for statement in document["Statement"]:
        statement.get("Condition", {}).pop("Null", None)
    iam.put_role_policy(RoleName=role, PolicyName="worker", PolicyDocument=json.dumps(document))
    return fleet


def session_of_the_worker(fleet: Fleet) -> boto3.Session:
    keys = keys_of_the_worker(fleet)
    return boto3.Session(
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["AWS_SESSION_TOKEN"],
        region_name=REGION,
    )


def test_the_bucket_refuses_what_comes_enforced(fleet: Fleet) -> None:
    s3 = session_of_the_worker(fleet).client("s3", endpoint_url=fleet.endpoint)

    with pytest.raises(ClientError, match="explicit deny"):
        s3.put_object(Bucket=fleet.storage.outputs["BucketName"], Key="runs/1/attempt-001/run.json", Body=b"{}")


def stored_model(fleet: Fleet, folder: Path) -> str:
    """Base weights as a deployment mirrors them."""
    bucket = Bucket(fleet.storage.outputs["BucketName"], endpoint_url=fleet.endpoint)
    write_manifest(tiny_layoutlm(folder, generate_pages(12, seed=0)), 0)
    bucket.put_folder(folder, "weights/tiny/")
    return f"s3://{bucket.name}/weights/tiny"


def test_a_worker_trains_a_job_on_its_role_alone(endpoint: str, tmp_path: Path) -> None:
    fleet = enforced(deploy(endpoint))
    keys = keys_of_the_worker(fleet)
    model = stored_model(fleet, tmp_path / "tiny")
    cli(fleet, {}, "dataset", "import", "sample", "--pages", "12")
    cli(fleet, {}, "train", "--pretrained", model, "--device", "cpu", "--batch-size", "4", "--epochs", "2")

    told = cli(fleet, keys, "worker", "run", "--once", "--work-dir", str(tmp_path / "work"))

    assert "1 job succeeded" in told, cli(fleet, {}, "job", "why", "@last")
    (job,) = json.loads(cli(fleet, {}, "job", "list", "--json"))
    assert job["status"] == "succeeded"
    keys_there = [each["Key"] for each in objects(fleet, "runs/")]
    assert any("/best/" in key for key in keys_there)
    assert objects(fleet, "encoded/"), "what was encoded is there for the next machine"


def objects(fleet: Fleet, prefix: str) -> list[dict[str, Any]]:
    found = fleet.client("s3").list_objects_v2(Bucket=fleet.storage.outputs["BucketName"], Prefix=prefix)
    return found.get("Contents", [])  # type: ignore[no-any-return]


def test_what_is_denied_is_denied_when_it_is_tried(endpoint: str) -> None:
    fleet = enforced(deploy(endpoint))
    session = session_of_the_worker(fleet)
    s3, dynamodb = session.client("s3", endpoint_url=endpoint), session.client("dynamodb", endpoint_url=endpoint)
    bucket, table = fleet.storage.outputs["BucketName"], fleet.storage.outputs["TableName"]

    s3.put_object(Bucket=bucket, Key="runs/1/attempt-001/run.json", Body=b"{}")
    assert s3.list_objects_v2(Bucket=bucket, Prefix="runs/")["KeyCount"] == 1
    for attempt in (
        lambda: s3.put_object(Bucket=bucket, Key="wheels/1.tar.gz", Body=b"mine"),
        lambda: s3.list_objects_v2(Bucket=bucket, Prefix="elsewhere/"),
        lambda: s3.delete_object(Bucket=bucket, Key="runs/1/attempt-001/run.json"),
        lambda: dynamodb.scan(TableName=table),
        lambda: dynamodb.delete_item(TableName=table, Key={"PK": {"S": "JOB#1"}, "SK": {"S": "JOB"}}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()
