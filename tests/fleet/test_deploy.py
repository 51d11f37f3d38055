"""fleet deploy and destroy: resulting stacks, untouched resources, and output."""

import base64
import hashlib
import json
import os
import re
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient, JobQueue
from receipt_layoutlm import infra
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.fleet import fleet as fleet_group
from receipt_layoutlm.cli.template_options import parameter_values
from receipt_layoutlm.fleet.bundle import ForeignCode, restore_code
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.deploy import Aws, Code, DeployCallbacks, Deployment, FleetRequest, open_aws
from receipt_layoutlm.fleet.existing import NotUsable, QueueTaken
from receipt_layoutlm.fleet.groups import destroy_workers, empty_group
from receipt_layoutlm.fleet.images import BadImage, image_values
from receipt_layoutlm.fleet.names import worker_id
from receipt_layoutlm.fleet.network import NoWayOut, NoZone, check_way_out, choose_zones
from receipt_layoutlm.fleet.quotas import TooFewGpus
from receipt_layoutlm.fleet.stack import FleetStack, StackEvent, StackPlan, StackState
from receipt_layoutlm.fleet.stack_errors import TemplateRefused
from receipt_layoutlm.fleet.storage_choice import choose_storage
from receipt_layoutlm.fleet.template import read_template
from receipt_layoutlm.storage.owner import caller_identity, expected_owner
from tests.support.owners import requests_without_owner
from tests.support.small_aws import IMAGE, REGION, a_moment

engine = pytest.mark.engine


@pytest.fixture
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Clients as the command opens them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return open_aws(None)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(archive(tmp_path, b"a machine's", ".tar.gz"), archive(tmp_path, b"PK\x05\x06" + bytes(18), ".zip"))


def archive(folder: Path, content: bytes, suffix: str) -> Path:
    path = folder / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    path.write_bytes(content)
    return path


@dataclass
class Recorded:
    warnings: list[tuple[str, CheckResult]] = field(default_factory=list)
    plans: dict[str, StackPlan | None] = field(default_factory=dict)
    events: list[StackEvent] = field(default_factory=list)

    def callbacks(self) -> DeployCallbacks:
        return DeployCallbacks(
            on_warning=lambda name, warning: self.warnings.append((name, warning)),
            on_plan=self.plans.__setitem__,
            on_event=self.events.append,
        )


def a_fleet() -> str:
    return f"f{uuid.uuid4().hex[:12]}"


def deployment(aws: Aws, name: str, recorded: Recorded | None = None, **more: Any) -> Deployment:
    values = {"AmiId": IMAGE, **more.pop("values", {})}
    return Deployment(aws, FleetRequest(name, values=values, **more), (recorded or Recorded()).callbacks(), a_moment)


def stacks(fleet: str) -> list[str]:
    return [f"{fleet}-{kind}" for kind in ("storage", "network", "workers")]


def state(aws: Aws, name: str) -> StackState | None:
    return FleetStack(aws.cloudformation, name, a_moment).state()


def existing(aws: Aws, **stream: object) -> tuple[str, str]:
    """A table and a bucket outside of any stack."""
    name = a_fleet()
    request: Any = {**infra.table_request(name), **stream}
    aws.dynamodb.create_table(**request)
    aws.s3.create_bucket(Bucket=name)
    return name, name


STREAM = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}


# deploy


@engine
def test_a_second_fleet_on_a_queue_of_the_same_table_is_refused_before_anything_is_made(aws: Aws, code: Code) -> None:
    name, other = a_fleet(), a_fleet()
    table, bucket = existing(aws, **STREAM)
    deployment(aws, name, table=table, bucket=bucket).deploy(code)

    for queue in ("default", "default.ondemand"):
        with pytest.raises(QueueTaken, match=f"fleet {name} already works queue 'default'"):
            deployment(aws, other, table=table, bucket=bucket, values={"QueueName": queue}).deploy(code)
    assert state(aws, f"{other}-workers") is None

    deployment(aws, other, table=table, bucket=bucket, values={"QueueName": "night"}).deploy(code)
    deployment(aws, name).deploy(None)  # the first fleet itself may always be changed


@engine
def test_a_fleet_on_its_own_table_is_refused_where_another_one_works_its_queue(aws: Aws, code: Code) -> None:
    name, other = a_fleet(), a_fleet()
    made = deployment(aws, name).deploy(code)
    assert run("destroy", "--fleet", name, "--yes").exit_code == 0  # the table stays, in its storage stack
    deployment(aws, other, table=made.table, bucket=made.bucket).deploy(code)

    for again in (deployment(aws, name).deploy, deployment(aws, name).preview):
        with pytest.raises(QueueTaken, match=f"fleet {other} already works queue 'default'"):
            again(code)
    deployment(aws, name, values={"QueueName": "night"}).deploy(code)


@engine
def test_a_new_fleet_has_its_code_in_its_bucket(aws: Aws, code: Code) -> None:
    name, recorded = a_fleet(), Recorded()

    done = deployment(aws, name, recorded).deploy(code)

    assert done.changed == tuple(stacks(name))
    assert (done.table, done.region) == (name, REGION)
    assert done.outputs["GroupName"] == f"{name}-workers"
    keys = [each["Key"] for each in aws.s3.list_objects_v2(Bucket=done.bucket)["Contents"]]
    assert sorted(keys) == sorted(f"wheels/{each.name}" for each in (code.machine, code.scaler))
    for file, parameter in ((code.machine, "BundleSha256"), (code.scaler, "ScalerSha256")):
        assert done.code[parameter] == hashlib.sha256(file.read_bytes()).hexdigest()
    ends = [event.resource for event in recorded.events if event.is_end]
    assert ends == stacks(name)


@engine
def test_deploying_again_changes_nothing(aws: Aws, code: Code) -> None:
    name, recorded = a_fleet(), Recorded()
    deployment(aws, name).deploy(code)

    done = deployment(aws, name, recorded).deploy(code)

    assert done.changed == ()
    assert recorded.plans == dict.fromkeys(stacks(name))
    assert recorded.events == []


@engine
def test_a_limit_is_changed_without_touching_the_rest(aws: Aws, code: Code) -> None:
    name = a_fleet()
    deployment(aws, name, values={"IdleMinutes": "9"}).deploy(code)

    done = deployment(aws, name, values={"MaximumInstances": "7"}).deploy(None)

    assert done.changed == (f"{name}-workers",)
    workers = state(aws, f"{name}-workers")
    assert workers is not None
    assert (workers.parameters["IdleMinutes"], workers.parameters["MaximumInstances"]) == ("9", "7")
    assert done.code == code.values()


@engine
def test_there_is_no_code_to_keep_in_a_new_fleet(aws: Aws) -> None:
    with pytest.raises(TemplateRefused, match="omit --keep-code"):
        deployment(aws, a_fleet()).deploy(None)


@engine
def test_a_preview_of_a_new_fleet_lists_everything_and_leaves_nothing(aws: Aws, code: Code) -> None:
    name = a_fleet()

    plans = deployment(aws, name).preview(code)

    assert [plan.stack for plan in plans] == stacks(name)
    assert {"Table", "Bucket"} < {each.resource for each in plans[0].changes}
    assert {"Group", "Scaler", "WorkerRole"} < {each.resource for each in plans[2].changes}
    assert [state(aws, each) for each in stacks(name)] == [None] * 3


@engine
def test_a_preview_of_a_change_lists_only_the_change(aws: Aws, code: Code) -> None:
    name = a_fleet()
    deployment(aws, name).deploy(code)

    (plan,) = deployment(aws, name, values={"MaximumInstances": "7"}).preview(None)

    assert ("Modify", "Group") in {(each.action, each.resource) for each in plan.changes}
    assert "Table" not in {each.resource for each in plan.changes}
    workers = state(aws, f"{name}-workers")
    assert workers is not None
    assert workers.parameters["MaximumInstances"] == "4"


@engine
@pytest.mark.parametrize(
    ("values", "markets"),
    [
        ({}, {"spot quota", "on-demand quota"}),
        ({"OnDemandMaximum": "0"}, {"spot quota"}),
        ({"OnDemandMaximum": "0", "OnDemandShare": "30"}, {"spot quota", "on-demand quota"}),
        ({"OnDemandMaximum": "0", "OnDemandShare": "100"}, {"on-demand quota"}),
    ],
)
def test_a_fleet_is_warned_of_the_quota_of_each_market_that_it_uses(
    aws: Aws, code: Code, values: dict[str, str], markets: set[str]
) -> None:
    recorded = Recorded()  # of an engine that knows no instance types, as of a region without them

    deployment(aws, a_fleet(), recorded, values=values).preview(code)

    assert {name for name, _ in recorded.warnings if name.endswith("quota")} == markets


@engine
def test_too_few_gpus_for_the_slots_stop_it_before_anything_is_created(aws: Aws, code: Code) -> None:
    ec2 = boto3.client("ec2", region_name=REGION)  # ministack knows no types
    types = [{"InstanceType": "g5.xlarge", "VCpuInfo": {"DefaultVCpus": 4}, "GpuInfo": {"Gpus": [{"Count": 1}]}}]
    request = FleetRequest(a_fleet(), values={"Slots": "2", "InstanceType1": "g5.xlarge"})
    with Stubber(ec2) as stub:
        stub.add_response("describe_instance_types", {"InstanceTypes": types})
        with pytest.raises(TooFewGpus, match=r"g5.xlarge has 1"):
            Deployment(replace(aws, ec2=ec2), request, Recorded().callbacks(), a_moment).deploy(code)
    assert FleetStack(aws.cloudformation, f"{request.fleet}-storage").state() is None


@engine
def test_an_existing_table_and_bucket_are_used_and_remembered(aws: Aws, code: Code) -> None:
    name, recorded = a_fleet(), Recorded()
    table, bucket = existing(aws, **STREAM)

    deployment(aws, name, recorded, table=table, bucket=bucket).deploy(code)
    again = deployment(aws, name, values={"Slots": "2"}).deploy(None)

    assert (again.table, again.bucket) == (table, bucket)
    assert state(aws, f"{name}-storage") is None
    assert {name for name, _ in recorded.warnings} >= {f"table {table}", f"bucket {bucket}"}


@engine
def test_an_unusable_table_stops_it_before_anything_is_created(aws: Aws, code: Code) -> None:
    name = a_fleet()
    table, bucket = existing(aws)

    with pytest.raises(NotUsable, match="stream"):
        deployment(aws, name, table=table, bucket=bucket).deploy(code)

    assert (state(aws, f"{name}-storage"), state(aws, f"{name}-workers")) == (None, None)
    assert "Contents" not in aws.s3.list_objects_v2(Bucket=bucket)


@engine
def test_an_existing_table_gets_a_bucket_beside_it(aws: Aws, code: Code) -> None:
    name = a_fleet()
    table, _ = existing(aws, **STREAM)

    done = deployment(aws, name, table=table).deploy(code)
    again = deployment(aws, name).deploy(code)

    assert (done.table, done.bucket) == (table, f"{name}-000000000000-{REGION}")
    assert (again.table, again.bucket, again.changed) == (done.table, done.bucket, ())
    assert {each for each, _ in FleetStack(aws.cloudformation, f"{name}-storage").resources()} == {
        *("Bucket", "BucketPolicy", "ReadPolicy", "SubmitPolicy", "OperatePolicy"),
    }


def standing(**outputs: str) -> StackState:
    return StackState("id", "CREATE_COMPLETE", outputs=outputs)


def test_a_storage_stack_keeps_its_resources_whatever_is_given() -> None:
    made = standing(TableName="own", BucketName="own")

    assert choose_storage("other", None, made, None).makes == "table-and-bucket"
    assert choose_storage("other", None, made, None).table == "other"
    assert choose_storage("own", "own", made, None).table is None
    assert choose_storage("there", "there", None, None).makes is None
    assert choose_storage(None, "there", None, None).makes == "table"


# the command


@pytest.fixture
def standing_fleet(aws: Aws, code: Code) -> str:
    name = a_fleet()
    deployment(aws, name).deploy(code)
    return name


def run(*words: str, **more: Any) -> Result:
    return CliRunner().invoke(fleet_group, [*words], **more)


@engine
def test_a_dry_run_prints_the_change_set_and_leaves_no_trace(standing_fleet: str, aws: Aws) -> None:
    before = aws.cloudformation.list_change_sets(StackName=f"{standing_fleet}-workers")["Summaries"]

    words = ("--fleet", standing_fleet, "--keep-code", "--dry-run", "--maximum-instances", "9")
    shown = run("deploy", *words)
    told = json.loads(run("deploy", *words, "--json").stdout)

    assert shown.exit_code == 0, shown.stderr
    assert "AWS::AutoScaling::AutoScalingGroup" in shown.stdout
    assert "nothing was changed" in shown.stderr
    assert told["dry_run"] is True
    assert [each["stack"] for each in told["stacks"]] == [f"{standing_fleet}-workers"]
    assert aws.cloudformation.list_change_sets(StackName=f"{standing_fleet}-workers")["Summaries"] == before


@engine
def test_progress_is_on_stderr_and_the_result_on_stdout(standing_fleet: str, aws: Aws) -> None:
    result = run(
        *("deploy", "--fleet", standing_fleet, "--keep-code", "--json"),
        *("--instance-type", "g6.2xlarge", "--instance-type", "g5.2xlarge", "--session-manager"),
    )

    assert result.exit_code == 0, result.stderr
    assert "UPDATE_COMPLETE" in result.stderr
    assert json.loads(result.stdout)["changed"] == [f"{standing_fleet}-workers"]
    workers = state(aws, f"{standing_fleet}-workers")
    assert workers is not None
    assert [workers.parameters[f"InstanceType{n}"] for n in (1, 2, 3, 4)] == ["g6.2xlarge", "g5.2xlarge", "", ""]
    assert workers.parameters["SessionManager"] == "true"


@engine
def test_scale_changes_how_many_machines_group_and_scaler_allow(standing_fleet: str, aws: Aws) -> None:
    words = ("scale", "--fleet", standing_fleet, "--maximum", "7")

    shown = run(*words, "--dry-run")

    assert shown.exit_code == 0, shown.stderr
    assert "AWS::AutoScaling::AutoScalingGroup" in shown.stdout
    assert allowed(aws, standing_fleet) == (4, 4)
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert allowed(aws, standing_fleet) == (7, 7)


@engine
def test_jobs_of_the_on_demand_group_are_shown_before_it_is_removed(standing_fleet: str, aws: Aws) -> None:
    queue = JobQueue(DynamoClient(standing_fleet))
    for name in ("waits", "runs"):
        queue.submit(name=name, config={"config_version": 1}, created_by="me", queue="default.ondemand")
    assert queue.claim("i-0123456789abcdef0-0-abcdef", "default.ondemand") is not None
    words = ("deploy", "--fleet", standing_fleet, "--keep-code", "--on-demand-maximum", "0")

    refused, shown = run(*words, input="n\n"), run(*words, "--dry-run")

    assert (refused.exit_code, shown.exit_code) == (1, 0)
    for result in (refused, shown):
        assert "queue default.ondemand has 2 jobs" in result.stderr
        assert "worker run --queue default.ondemand" in result.stderr
    assert on_demand_groups(aws, standing_fleet) == 1
    assert run(*words, "--yes").exit_code == 0
    assert on_demand_groups(aws, standing_fleet) == 0


@engine
def test_an_on_demand_group_without_jobs_is_removed_without_asking(standing_fleet: str, aws: Aws) -> None:
    JobQueue(DynamoClient(standing_fleet)).submit(name="spot", config={"config_version": 1}, created_by="me")

    result = run("deploy", "--fleet", standing_fleet, "--keep-code", "--on-demand-maximum", "0")

    assert (result.exit_code, "warning: queue" in result.stderr) == (0, False)
    assert on_demand_groups(aws, standing_fleet) == 0


def on_demand_groups(aws: Aws, fleet: str) -> int:
    found = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[f"{fleet}-ondemand"])
    return len(found["AutoScalingGroups"])


def allowed(aws: Aws, fleet: str) -> tuple[int, int]:
    """Maximum of the group, and in the settings of its scaler."""
    (group,) = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[f"{fleet}-workers"])[
        "AutoScalingGroups"
    ]
    function = boto3.client("lambda").get_function_configuration(FunctionName=f"{fleet}-scaler")
    settings = json.loads(function["Environment"]["Variables"]["LAYOUTLM_SCALER"])
    return group["MaxSize"], settings["groups"][0]["maximum"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--zones", "9"), "must be one of 1, 2, 3, 4"),
        (("--maximum-instances", "0"), "must be at least 1"),
        (("--maximum-instances", "many"), "must be a number"),
        (("--price-table", "cheap"), "must be JSON on one line"),
        (("--subnet-ids", "here"), "must match"),
        (("--keep-code", "--wheel", __file__), "give one of the two"),
        (("--instance-type", "g6.xlarge") * 5, "at most 4"),
    ],
    ids=["zones", "few", "word", "prices", "subnets", "code", "types"],
)
def test_a_wrong_value_is_a_usage_error(words: tuple[str, ...], text: str) -> None:
    result = run("deploy", *words)

    assert result.exit_code == 2
    assert text in result.stderr


def test_every_default_is_the_templates() -> None:
    shown = run("deploy", "--help").stdout

    for name in ("MaximumInstances", "VolumeGigabytes", "EncodedDays"):
        template = read_template("storage.yaml" if name == "EncodedDays" else "workers.yaml")
        assert f"[default: {template.parameters[name].default}]" in " ".join(shown.split())


def test_omitted_options_are_not_sent() -> None:
    parameters = list(read_template("workers.yaml").parameters.values())

    assert parameter_values(parameters, {"maximum_instances": None, "instance_type": (), "session_manager": None}) == {}
    assert parameter_values(parameters, {"session_manager": False}) == {"SessionManager": "false"}


@engine
def test_destroy_shows_what_it_would_delete_and_asks(standing_fleet: str, aws: Aws) -> None:
    shown = run("destroy", "--fleet", standing_fleet, "--dry-run")
    refused = run("destroy", "--fleet", standing_fleet, input="n\n")

    assert "AWS::Lambda::Function" in shown.stdout
    assert "AWS::DynamoDB::Table" not in shown.stdout
    assert refused.exit_code == 1
    assert state(aws, f"{standing_fleet}-workers") is not None


@engine
def test_destroy_shows_the_running_jobs(standing_fleet: str, aws: Aws) -> None:
    group = f"{standing_fleet}-workers"
    aws.autoscaling.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=1)
    (found,) = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    (machine,) = [each["InstanceId"] for each in found["Instances"]]
    queue = JobQueue(DynamoClient(standing_fleet))
    for name, worker in (("mine", worker_id(machine, 0)), ("elsewhere", "laptop-1-abcdef")):
        queue.submit(name=name, config={"config_version": 1}, created_by="me")
        assert queue.claim(worker) is not None

    told = run("destroy", "--fleet", standing_fleet, "--dry-run").stderr

    assert "machines to terminate: 1" in told
    assert f"runs on {machine}: mine (" in told
    assert "elsewhere" not in told


@engine
def test_destroy_deletes_the_workers_and_shows_what_stays(standing_fleet: str, aws: Aws) -> None:
    result = run("destroy", "--fleet", standing_fleet, "--yes")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == f"deleted {standing_fleet}-workers and {standing_fleet}-network"
    assert f"table {standing_fleet} and bucket {standing_fleet}-000000000000-{REGION} stay" in result.stderr
    assert state(aws, f"{standing_fleet}-workers") is None
    assert state(aws, f"{standing_fleet}-storage") is not None


@engine
def test_the_storage_outlives_its_stack_and_a_later_fleet_uses_it(standing_fleet: str, aws: Aws, code: Code) -> None:
    bucket = f"{standing_fleet}-000000000000-{REGION}"

    result = run("destroy", "--fleet", standing_fleet, "--storage", "--yes")

    assert result.exit_code == 0, result.stderr
    assert state(aws, f"{standing_fleet}-storage") is None
    aws.s3.head_object(Bucket=bucket, Key=f"wheels/{code.machine.name}")
    assert f"fleet deploy --table {standing_fleet} --bucket {bucket}" in result.stderr
    done = deployment(aws, standing_fleet, table=standing_fleet, bucket=bucket).deploy(code)
    assert done.changed == (f"{standing_fleet}-network", f"{standing_fleet}-workers")


@engine
def test_a_missing_fleet_cannot_be_destroyed(aws: Aws) -> None:
    result = run("destroy", "--fleet", "nowhere", "--yes")

    assert result.exit_code == 1
    assert f"no fleet nowhere in {REGION}" in result.stderr


@engine
def test_code_that_was_changed_beside_the_stack_is_restored(
    standing_fleet: str, aws: Aws, code: Code, tmp_path: Path
) -> None:
    name = f"{standing_fleet}-scaler"
    before = aws.functions.get_function_configuration(FunctionName=name)["CodeSha256"]
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("mine.py", "")
    aws.functions.update_function_code(FunctionName=name, ZipFile=foreign.read_bytes())
    assert aws.functions.get_function_configuration(FunctionName=name)["CodeSha256"] != before

    done = deployment(aws, standing_fleet).deploy(None)

    assert done.restored == (name,)
    assert aws.functions.get_function_configuration(FunctionName=name)["CodeSha256"] == before


@engine
def test_a_foreign_object_in_place_of_the_code_does_not_reach_the_function(aws: Aws, code: Code) -> None:
    name = a_fleet()
    bucket = f"{name}-000000000000-{REGION}"
    FleetStack(aws.cloudformation, f"{name}-storage", a_moment)
    deployment(aws, name).deploy(code)
    aws.s3.put_object(Bucket=bucket, Key=f"wheels/{code.scaler.name}", Body=b"PK\x05\x06" + bytes(17) + b"!")

    done = deployment(aws, name, values={"MaximumInstances": "5"}).deploy(code)

    stored = aws.s3.get_object(Bucket=bucket, Key=f"wheels/{code.scaler.name}")["Body"].read()
    assert stored == code.scaler.read_bytes()
    found = aws.functions.get_function_configuration(FunctionName=f"{name}-scaler")["CodeSha256"]
    assert found == base64.b64encode(bytes.fromhex(done.code["ScalerSha256"])).decode()


@engine
def test_foreign_code_under_the_deployed_name_is_not_taken(
    standing_fleet: str, aws: Aws, code: Code, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("mine.py", "")
    bucket = f"{standing_fleet}-000000000000-{REGION}"
    aws.s3.put_object(Bucket=bucket, Key=f"wheels/{code.scaler.name}", Body=foreign.read_bytes())
    aws.functions.update_function_code(FunctionName=f"{standing_fleet}-scaler", ZipFile=foreign.read_bytes())

    done = deployment(aws, standing_fleet).deploy(None)

    assert done.restored == (f"{standing_fleet}-scaler",), "by the version that was deployed"
    found = aws.functions.get_function_configuration(FunctionName=f"{standing_fleet}-scaler")["CodeSha256"]
    assert found == base64.b64encode(hashlib.sha256(code.scaler.read_bytes()).digest()).decode()


@engine
def test_an_interrupted_destroy_is_repaired_by_the_next_deploy(standing_fleet: str, aws: Aws) -> None:
    empty_group(aws.autoscaling, f"{standing_fleet}-workers", a_moment)
    assert allowed(aws, standing_fleet) == (0, 4)

    result = run("deploy", "--fleet", standing_fleet, "--keep-code")

    assert result.exit_code == 0, result.stderr
    assert f"as deployed again: {standing_fleet}-workers" in result.stderr
    assert allowed(aws, standing_fleet) == (4, 4)
    assert deployment(aws, standing_fleet).deploy(None).restored == ()


@engine
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "alarms go nowhere"),
        (("--alarm-email", "me@example.com"), "alarms go to me@example.com, once the link"),
        (("--alarm-topic-arn", "arn:aws:sns:us-east-1:000000000000:mine"), ""),
    ],
)
def test_deploy_says_where_alarms_go(standing_fleet: str, words: tuple[str, ...], text: str) -> None:
    result = run("deploy", "--fleet", standing_fleet, "--keep-code", *words)

    assert result.exit_code == 0, result.stderr
    assert (text or "alarms go") in result.stderr or not text
    assert bool(text) == ("alarms go" in result.stderr)


@engine
def test_a_change_tells_the_image_before_and_after_it_and_may_keep_it(standing_fleet: str, aws: Aws) -> None:
    before, new = "ami-0123456789abcdef0", "ami-0aaaaaaaaaaaaaaaa"
    aws.ssm.put_parameter(Name=f"/image/{standing_fleet}", Value=new, Type="String")
    words = ("deploy", "--fleet", standing_fleet, "--keep-code")
    other = ("--ami-id", f"/image/{standing_fleet}")

    shown = run(*words, *other, "--dry-run", "--json")
    kept = run(*words, "--keep-image")

    assert f"image of new machines: {before} -> {new} (--keep-image keeps it)" in shown.stderr
    assert json.loads(shown.stdout)["image"] == {"before": before, "after": new}
    assert f"image of new machines: {before}, as deployed" in kept.stderr
    workers = state(aws, f"{standing_fleet}-workers")
    assert workers is not None and workers.parameters["ImageId"] == before
    assert run(*words, *other).exit_code == 0
    workers = state(aws, f"{standing_fleet}-workers")
    assert workers is not None and workers.parameters["ImageId"] == ""
    assert run(*words, "--keep-image", *other).exit_code == 2


@engine
def test_a_new_maximum_names_the_image_that_it_brings_and_may_keep_the_deployed_one(
    standing_fleet: str, aws: Aws
) -> None:
    parameter, before = f"/image/{standing_fleet}", "ami-0123456789abcdef0"
    aws.ssm.put_parameter(Name=parameter, Value=before, Type="String")
    assert run("deploy", "--fleet", standing_fleet, "--keep-code", "--ami-id", parameter).exit_code == 0
    words = ("scale", "--fleet", standing_fleet, "--maximum")

    shown, kept = run(*words, "8", "--dry-run"), run(*words, "9", "--keep-image")

    # the engine shows no parameter's name any more, by which AWS tells the id of the next image
    assert f"image of new machines: {before} -> the one that its parameter names" in shown.stderr
    assert "--keep-image keeps it" in shown.stderr
    assert kept.exit_code == 0 and f"image of new machines: {before}, as deployed" in kept.stderr
    workers = state(aws, f"{standing_fleet}-workers")
    assert workers is not None
    assert (workers.parameters["MaximumInstances"], workers.outputs["ImageId"]) == ("9", before)
    refused = run("scale", "--fleet", standing_fleet, "--warm", "1", "--keep-image")
    assert refused.exit_code == 2 and "--warm changes no image" in refused.stderr


@pytest.mark.parametrize(
    ("given", "expected"), [("ami-0ab", {"ImageId": "ami-0ab"}), ("/a/b", {"AmiId": "/a/b", "ImageId": ""})]
)
def test_an_image_is_an_id_or_a_parameter_that_holds_one(given: str, expected: dict[str, str]) -> None:
    assert image_values({"AmiId": given}) == expected
    with pytest.raises(BadImage, match="/aws/service/"):
        image_values({"AmiId": "ubuntu"})


# network


def offers(zones: dict[str, tuple[str, ...]], subnets: Sequence[str] = ()) -> Any:
    """An EC2 whose zones have these types, asked for new zones, or for those of subnets."""
    ec2 = boto3.client("ec2", region_name=REGION)
    stub = Stubber(ec2)
    offered = [{"InstanceType": each, "Location": zone} for zone, types in zones.items() for each in types]
    stub.add_response("describe_instance_type_offerings", {"InstanceTypeOfferings": offered})
    if subnets:
        described = {"Subnets": [{"AvailabilityZone": zone} for zone in subnets]}
        stub.add_response("describe_subnets", described)
    stub.add_response("describe_availability_zones", {"AvailabilityZones": [{"ZoneName": zone} for zone in zones]})
    stub.activate()
    return ec2


def test_a_network_lies_in_the_zones_that_have_the_types() -> None:
    both, one = ("g5.xlarge", "g6.xlarge"), ("g5.xlarge",)

    assert choose_zones(offers({"a": one, "b": (), "c": both, "d": both}), both, 3) == ["a", "c", "d"]
    assert choose_zones(offers({"a": one, "b": both, "c": both}), both, 2) == ["b", "c"]
    assert choose_zones(offers({"a": both, "b": both}), both, 3) == ["a", "b"], "some regions have two"
    with pytest.raises(NoZone, match="another --instance-type"):
        choose_zones(offers({"a": (), "b": ()}), both, 3)


@pytest.mark.parametrize("given", [True, False], ids=["given subnets", "a deployed network"])
@engine
def test_types_that_no_zone_of_the_subnets_has_any_more_are_refused(standing_fleet: str, aws: Aws, given: bool) -> None:
    if given:
        values = {"SubnetIds": "subnet-0a", "SecurityGroupId": "sg-0a"}
        deployment(replace(aws, ec2=denying()), standing_fleet, values=values).deploy(None)
    gone = replace(aws, ec2=offers({"us-east-1f": ("p5.48xlarge",)}, ("us-east-1b",)))
    with pytest.raises(NoZone, match=r"us-east-1b: none of g6.xlarge, .*: give another --instance-type"):
        deployment(gone, standing_fleet).deploy(None)


@engine
def test_a_deployed_network_keeps_its_zones(aws: Aws, code: Code) -> None:
    name = a_fleet()
    types = {"us-east-1a": (), "us-east-1b": ("g5.xlarge",), "us-east-1c": ("g5.xlarge",)}

    deployment(replace(aws, ec2=offers(types)), name).deploy(code)
    recorded, again = Recorded(), offers({"us-east-1c": ("g5.xlarge",)}, ("us-east-1b", "us-east-1c"))
    done = deployment(replace(aws, ec2=again), name, recorded, values={"MaximumInstances": "7"}).deploy(None)

    (warning,) = [warning for _, warning in recorded.warnings if warning.name == "zones"]
    assert warning.found == "us-east-1b: none of g6.xlarge, g5.xlarge, g4dn.xlarge exists there"
    assert done.changed == (f"{name}-workers",)
    network = state(aws, f"{name}-network")
    assert network is not None
    assert (network.parameters["Zones"], network.parameters["ZoneNames"]) == ("2", "us-east-1b,us-east-1c")


def vpc(moto: Any, *, to: str | None, public: bool = False) -> str:
    """A subnet whose default route leads there."""
    network = moto.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = moto.create_subnet(VpcId=network, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    moto.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": public})
    tables = moto.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [network]}])["RouteTables"]
    route = {"RouteTableId": tables[0]["RouteTableId"], "DestinationCidrBlock": "0.0.0.0/0"}
    if to == "internet":
        gateway = moto.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        moto.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network)
        moto.create_route(**route, GatewayId=gateway)
    if to == "nat":
        address = moto.allocate_address(Domain="vpc")["AllocationId"]
        nat = moto.create_nat_gateway(SubnetId=subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
        moto.create_route(**route, NatGatewayId=nat)
    if to == "endpoints":
        for service in ("s3", "dynamodb", "autoscaling"):
            moto.create_vpc_endpoint(VpcId=network, ServiceName=f"com.amazonaws.{REGION}.{service}")
    return str(subnet)


def test_subnets_without_a_way_out_are_refused_with_the_reason(moto_aws: None) -> None:
    ec2 = boto3.client("ec2", region_name=REGION)

    for subnet in (vpc(ec2, to="internet", public=True), vpc(ec2, to="nat"), vpc(ec2, to="endpoints")):
        check_way_out(ec2, [subnet])
    with pytest.raises(NoWayOut, match=r"no default route, and vpc-.* no endpoint for s3, dynamodb, autoscaling"):
        check_way_out(ec2, [vpc(ec2, to=None)])
    with pytest.raises(NoWayOut, match="get no public address"):
        check_way_out(ec2, [vpc(ec2, to="internet")])


@engine
def test_a_fleet_moves_to_given_subnets_and_they_stay_its_own(standing_fleet: str, aws: Aws) -> None:
    given = {"SubnetIds": "subnet-0a,subnet-0b", "SecurityGroupId": "sg-0a"}

    deployment(replace(aws, ec2=denying()), standing_fleet, values=given).deploy(None)
    deployment(aws, standing_fleet, values={"MaximumInstances": "7"}).deploy(None)

    (group,) = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[f"{standing_fleet}-workers"])[
        "AutoScalingGroups"
    ]
    assert group["VPCZoneIdentifier"] == "subnet-0a,subnet-0b"


def denying() -> Any:
    """An EC2 that answers no question: it stops no deployment."""
    ec2 = boto3.client("ec2", region_name=REGION)
    stub = Stubber(ec2)
    stub.add_client_error("describe_subnets", "UnauthorizedOperation")
    stub.activate()
    return ec2


@engine
def test_a_security_group_without_subnets_is_refused(aws: Aws, code: Code) -> None:
    name = a_fleet()
    with pytest.raises(TemplateRefused, match="add --subnet-ids"):
        deployment(aws, name, values={"SecurityGroupId": "sg-0a"}).deploy(code)
    assert state(aws, f"{name}-storage") is None


# the end


@engine
def test_the_network_is_deleted_after_the_groups(standing_fleet: str) -> None:
    result = run("destroy", "--fleet", standing_fleet, "--yes")

    ends = re.findall(r"DELETE_COMPLETE +(\S+) \(AWS::CloudFormation::Stack\)", result.stderr)
    assert ends == [f"{standing_fleet}-workers", f"{standing_fleet}-network"]


@engine
def test_destroy_waits_for_the_last_machine_and_says_which_are_left(aws: Aws, standing_fleet: str) -> None:
    """A group that ends one machine between two looks."""
    left = [["i-1", "i-2"], ["i-1", "i-2"], ["i-1", "i-2"], ["i-2"], []]
    client, told, waited = Departing(aws.autoscaling, left), list[list[str]](), list[float]()
    stack = FleetStack(aws.cloudformation, f"{standing_fleet}-workers", a_moment)

    destroy_workers(client, stack, lambda _event: None, told.append, waited.append)  # type: ignore[arg-type]

    assert told == [["i-1", "i-2"], ["i-2"]]
    assert len(waited) == 3
    assert stack.state() is None


class Departing:
    """Auto Scaling's answers of a group whose machines leave one after the other, once its size is 0."""

    def __init__(self, client: Any, left: list[list[str]]) -> None:
        self._client, self._left = client, left

    def describe_auto_scaling_groups(self, AutoScalingGroupNames: list[str]) -> Any:
        found = self._client.describe_auto_scaling_groups(AutoScalingGroupNames=AutoScalingGroupNames)
        for group in found["AutoScalingGroups"]:
            if group["AutoScalingGroupName"].endswith("-workers") and group["MaxSize"] == 0:
                leaving = {"LifecycleState": "Terminating:Wait", "ProtectedFromScaleIn": False}
                group["Instances"] = [{"InstanceId": each, **leaving} for each in self._left.pop(0)]
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@engine
def test_a_fleet_is_deployed_checked_and_erased_with_the_owner_of_its_bucket_in_each_request(
    aws: Aws, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = a_fleet()
    monkeypatch.setenv("LAYOUTLM_BUCKET_OWNER", "000000000000")
    with requests_without_owner() as unowned:
        inside = open_aws(None, partial(expected_owner, os.environ, partial(caller_identity, None)))
        done = deployment(inside, name).deploy(code)
        deployment(inside, name, bucket=done.bucket).preview(None)
        assert CliRunner().invoke(cli, ["doctor", "--fleet", name]).exit_code == 1  # no quotas here
        gone = run("destroy", "--fleet", name, "--everything", "--yes", input=f"{name}\n")
        assert gone.exit_code == 0, gone.stderr
    assert unowned == []


@engine
def test_everything_goes_when_it_is_confirmed_twice(standing_fleet: str, aws: Aws) -> None:
    bucket = f"{standing_fleet}-000000000000-{REGION}"
    aws.s3.put_object(Bucket=bucket, Key="runs/1/run.json", Body=b"{}")
    aws.s3.put_object(Bucket=bucket, Key="runs/1/run.json", Body=b"[]")
    aws.s3.delete_object(Bucket=bucket, Key="runs/1/run.json")
    words = ("destroy", "--fleet", standing_fleet, "--everything")

    shown = run(*words, "--dry-run")
    refused = run(*words, "--yes", input="something-else\n")

    assert "table, with all contents" in shown.stdout
    assert (refused.exit_code, "nothing was deleted" in refused.stderr) == (1, True)
    assert state(aws, f"{standing_fleet}-workers") is not None
    done = run(*words, input=f"y\n{standing_fleet}\n")
    assert done.exit_code == 0, done.stderr
    assert [state(aws, each) for each in stacks(standing_fleet)] == [None] * 3
    assert standing_fleet not in aws.dynamodb.list_tables()["TableNames"]
    assert bucket not in [each["Name"] for each in aws.s3.list_buckets()["Buckets"]]


@engine
def test_what_everything_leaves_is_said(standing_fleet: str, aws: Aws, code: Code) -> None:
    kept = run("destroy", "--fleet", standing_fleet, "--storage", "--yes")
    assert kept.exit_code == 0, kept.stderr
    again = run("destroy", "--fleet", standing_fleet, "--everything", "--yes")
    assert again.exit_code == 1
    assert "A table and a bucket that --storage kept are not found without their stack" in again.stderr

    other, table, bucket = a_fleet(), standing_fleet, f"{standing_fleet}-000000000000-{REGION}"
    deployment(aws, other, table=table, bucket=bucket).deploy(code)
    done = run("destroy", "--fleet", other, "--everything", "--yes")
    assert done.exit_code == 0, done.stderr
    for place in (f"table {table}", f"bucket {bucket}"):
        assert f"{place} stays: stack {other}-storage did not create it" in done.stderr
    assert table in aws.dynamodb.list_tables()["TableNames"]


# other tools


@pytest.mark.parametrize("name", ["storage", "network", "workers"])
def test_a_template_is_printed_as_it_is(name: str) -> None:
    assert run("template", name).stdout == infra.template_path(f"{name}.yaml").read_text()


# machines


def test_an_emptied_group_cannot_grow_and_protects_no_machine(moto_aws: None) -> None:
    client = boto3.client("autoscaling")
    make_group(client, "layoutlm-workers", machines=2)

    empty_group(client, "layoutlm-workers", a_moment)

    (group,) = client.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, 0, 0)
    assert [each for each in group["Instances"] if each["ProtectedFromScaleIn"]] == []
    assert group["NewInstancesProtectedFromScaleIn"] is False


GROUP = {"AutoScalingGroupName": "g", "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0, "DefaultCooldown": 300}
NAMED = {"AutoScalingGroupNames": ["g"]}


def described(*instances: str) -> dict[str, Any]:
    up = {"AvailabilityZone": "a", "LifecycleState": "InService", "HealthStatus": "Healthy"}
    machines = [{**up, "InstanceId": name, "ProtectedFromScaleIn": True} for name in instances]
    group = {**GROUP, "AvailabilityZones": ["a"], "HealthCheckType": "EC2", "CreatedTime": datetime.now(UTC)}
    return {"AutoScalingGroups": [{**group, "Instances": machines}]}


def test_a_group_that_is_deleted_while_it_is_emptied_is_no_error() -> None:
    client = boto3.client("autoscaling", region_name=REGION)
    with Stubber(client) as stub:
        stub.add_response("describe_auto_scaling_groups", described(), NAMED)
        stub.add_client_error("update_auto_scaling_group", "ValidationError", "AutoScalingGroup name not found")
        stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": []}, NAMED)
        empty_group(client, "g", a_moment)
        stub.assert_no_pending_responses()


def test_a_machine_that_ends_while_its_group_is_emptied_is_no_error() -> None:
    client = boto3.client("autoscaling", region_name=REGION)
    lost = "The instance i-1 is not part of Auto Scaling group g"
    with Stubber(client) as stub:
        stub.add_response("describe_auto_scaling_groups", described("i-1", "i-2"), NAMED)
        stub.add_response("update_auto_scaling_group", {})
        stub.add_response("describe_auto_scaling_groups", described("i-1", "i-2"), NAMED)
        stub.add_client_error("set_instance_protection", "ValidationError", lost)
        stub.add_response("describe_auto_scaling_groups", described("i-2"), NAMED)
        stub.add_response("set_instance_protection", {})
        empty_group(client, "g", a_moment)
        stub.assert_no_pending_responses()
    with Stubber(client) as stub:  # of the same machines twice: another reason
        stub.add_response("describe_auto_scaling_groups", described("i-1"), NAMED)
        stub.add_response("update_auto_scaling_group", {})
        for _ in range(2):
            stub.add_response("describe_auto_scaling_groups", described("i-1"), NAMED)
            stub.add_client_error("set_instance_protection", "ValidationError", "no")
        with pytest.raises(TemplateRefused):
            empty_group(client, "g", a_moment)


@pytest.mark.parametrize("version", ["", "v1"])
def test_a_changed_function_gets_the_deployed_version_of_its_code_again(version: str) -> None:
    client, sha256 = boto3.client("lambda", region_name=REGION), "0" * 64
    expected = base64.b64encode(bytes.fromhex(sha256)).decode()
    parameters = {"BucketName": "files", "ScalerSha256": sha256, "ScalerVersion": version}
    workers = StackState("id", "CREATE_COMPLETE", parameters, {"ScalerName": "f"})
    asked = {"FunctionName": "f", "S3Bucket": "files", "S3Key": f"wheels/{sha256}.zip"}
    with Stubber(client) as stub:
        stub.add_response("get_function_configuration", {"CodeSha256": "other"})
        wanted = {**asked, "S3ObjectVersion": version} if version else asked
        stub.add_response("update_function_code", {"CodeSha256": expected}, wanted)
        assert restore_code(client, workers)
        stub.add_response("get_function_configuration", {"CodeSha256": "other"})
        stub.add_response("update_function_code", {"CodeSha256": "as before"}, wanted)
        with pytest.raises(ForeignCode, match="the right to write below wheels/"):
            restore_code(client, workers)


def test_a_deleted_group_is_empty(moto_aws: None) -> None:
    client = boto3.client("autoscaling")
    make_group(client, "another-group", machines=2)

    empty_group(client, "layoutlm-workers", a_moment)

    (other,) = client.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (other["AutoScalingGroupName"], other["DesiredCapacity"], len(other["Instances"])) == ("another-group", 2, 2)


def make_group(client: Any, name: str, machines: int) -> None:
    boto3.client("ec2").create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "g4dn.xlarge"}
    )
    client.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchTemplate={"LaunchTemplateName": name},
        MinSize=0,
        MaxSize=4,
        DesiredCapacity=machines,
        NewInstancesProtectedFromScaleIn=True,
        AvailabilityZones=[f"{REGION}a"],
    )
