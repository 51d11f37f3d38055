"""storage.yaml and workers.yaml: clean, whole, deployable, and what they promise of machines, money and access."""

import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import JsonValue

from receipt_dynamo import Job, JobStatus, Lease, items
from receipt_layoutlm.fleet import bundle
from receipt_layoutlm.fleet.scaler.figures import ScalerTimes
from receipt_layoutlm.fleet.scaler.lambda_entry import parse_settings
from receipt_layoutlm.fleet.scaler.lock import LOCK_SECONDS
from receipt_layoutlm.fleet.template import read_template
from receipt_layoutlm.infra import template_path
from tests.support.deployed import Fleet, deploy
from tests.support.paths import ROOT

engine = pytest.mark.engine

TEMPLATES = ("storage.yaml", "workers.yaml")
INLINE_BYTES = 51_200  # what CreateChangeSet takes without a detour over S3
GPU_TYPES = ("g6.xlarge", "g5.xlarge", "g4dn.xlarge")

# types of which AWS lets nobody tag the resource itself
UNTAGGED = {
    *("AWS::EC2::VPCGatewayAttachment", "AWS::EC2::Route", "AWS::EC2::SubnetRouteTableAssociation"),
    *("AWS::IAM::InstanceProfile", "AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Permission"),
    *("AWS::S3::BucketPolicy",),
}


class _Loader(yaml.SafeLoader):
    """!Ref X as {"Ref": X}, so that nothing of the template is lost."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        value: object = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {"Ref" if tag == "Ref" else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _tagged)


@cache
def template(name: str) -> dict[str, Any]:
    parsed = yaml.load(template_path(name).read_text(), Loader=_Loader)
    assert isinstance(parsed, dict)
    return parsed


def resources(name: str) -> dict[str, dict[str, Any]]:
    return template(name)["Resources"]  # type: ignore[no-any-return]


def properties(name: str, resource: str) -> dict[str, Any]:
    return resources(name)[resource]["Properties"]  # type: ignore[no-any-return]


# as they stand


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_taken_without_a_detour_over_a_bucket(name: str) -> None:
    assert template_path(name).stat().st_size < INLINE_BYTES


@engine
@pytest.mark.skipif(importlib.util.find_spec("cfnlint") is None, reason="cfn-lint is not installed: scripts/install")
def test_cfn_lint_has_nothing_to_say() -> None:
    paths = [str(template_path(name)) for name in TEMPLATES]
    program = Path(sys.executable).with_name("cfn-lint")
    told = subprocess.run([str(program), *paths], capture_output=True, text=True, check=False)

    assert (told.stdout + told.stderr, told.returncode) == ("", 0)


def checkov() -> str | None:
    """Its own environment, because of what it pulls in; else what is on the path."""
    own = ROOT / ".venv-lint" / "bin" / "checkov"
    return str(own) if own.exists() else shutil.which("checkov")


@engine
@pytest.mark.skipif(checkov() is None, reason="checkov is not installed: scripts/install_lint")
def test_checkov_finds_nothing_that_is_not_explained() -> None:
    program = checkov()
    assert program is not None
    paths = [word for name in TEMPLATES for word in ("-f", str(template_path(name)))]
    offline = {**os.environ, "LOG_LEVEL": "ERROR", "CHECKOV_RUN_SECRETS_MULTIPROCESSING": "false"}
    told = subprocess.run(
        [program, *paths, "--framework", "cloudformation", "--skip-download", "--quiet", "--compact", "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        env=offline,
    )

    found = json.loads(told.stdout)["results"]
    assert [f"{each['resource']} {each['check_id']} {each['check_name']}" for each in found["failed_checks"]] == []


def suppressions() -> list[tuple[str, str]]:
    """Check and reason of everything that is not looked at."""
    return [
        (each["id"], each.get("comment", ""))
        for name in TEMPLATES
        for resource in resources(name).values()
        for each in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]


def test_what_checkov_shall_not_tell_has_a_reason() -> None:
    assert suppressions()
    assert [check for check, reason in suppressions() if len(reason) < 30] == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_everything_that_can_be_tagged_tells_its_fleet(name: str) -> None:
    def has_tag(resource: Mapping[str, Any]) -> bool:
        return "layoutlm:fleet" in json.dumps(resource["Properties"])

    untagged = {key: each["Type"] for key, each in resources(name).items() if not has_tag(each)}

    assert set(untagged.values()) <= UNTAGGED


def test_both_launch_templates_carry_the_user_data_word_for_word() -> None:
    text = template_path("user_data.sh").read_text()
    for name in ("LaunchTemplate", "OnDemandLaunchTemplate"):
        data = properties("workers.yaml", name)["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]
        assert data[0] == text, f"{name}: copy infra/user_data.sh into infra/workers.yaml"
        assert set(data[1]) == {"Group", "Queue", "MovesAfter"}


def test_user_data_asks_for_nothing_that_the_template_does_not_give() -> None:
    asked = set(re.findall(r"\$\{([^!}][^}]*)\}", template_path("user_data.sh").read_text()))

    assert asked <= set(read_template("workers.yaml").parameters) | {"AWS::Region", "Group", "Queue", "MovesAfter"}


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        ("IdleMinutes", "5", None),
        ("IdleMinutes", "2.5", "must be a whole number"),
        ("IdleMinutes", "5.0", "must be a whole number"),
        ("IdleMinutes", "0", "must be at least 1"),
        ("IdleMinutes", "1441", "must be at most 1440"),
        ("IdleMinutes", "-5", "must be a number"),
        ("IdleMinutes", "1e1", "must be a number"),
        ("Slots", "1.5", "must be a whole number"),
        ("MaximumInstances", "2.5", "must be a whole number"),
        ("OnDemandAfter", "2.5", "must be a whole number"),
        ("OnDemandShare", "12.5", "must be a whole number"),
        ("VolumeGigabytes", "125.5", "must be a whole number"),
        ("MaxInstanceHours", "1.5", "must be a whole number"),
        ("AlarmPendingSeconds", "300.5", "must be a whole number"),
        ("MaxCostPerDay", "12.5", None),
        ("MaxCostPerDay", "0", None),
        ("MaxCostPerDay", "12,5", "must be a number"),
    ],
)
def test_numbers_are_whole_but_for_money(name: str, value: str, refusal: str | None) -> None:
    assert read_template("workers.yaml").parameters[name].refusal(value) == refusal


def test_the_disks_of_all_machines_take_the_key_that_is_named() -> None:
    """Read from the template: ministack keeps nothing of a disk's key."""
    for name in ("LaunchTemplate", "OnDemandLaunchTemplate"):
        (disk,) = properties("workers.yaml", name)["LaunchTemplateData"]["BlockDeviceMappings"]
        named = {"Fn::If": ["HasVolumeKey", {"Ref": "VolumeKeyArn"}, {"Ref": "AWS::NoValue"}]}
        assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["KmsKeyId"]) == (True, named)
    key = read_template("workers.yaml").parameters["VolumeKeyArn"]
    assert key.refusal("arn:aws:kms:us-east-1:012345678901:key/0a-1") is None
    assert key.refusal("alias/aws/ebs") is not None


def test_a_group_is_never_told_how_many_machines_to_have() -> None:
    for name in ("Group", "OnDemandGroup"):
        assert "DesiredCapacity" not in properties("workers.yaml", name)


def test_both_roles_take_a_boundary() -> None:
    roles = [each["Properties"] for each in resources("workers.yaml").values() if each["Type"] == "AWS::IAM::Role"]

    assert [each["PermissionsBoundary"]["Fn::If"][:2] for each in roles] == [
        ["HasBoundary", {"Ref": "PermissionsBoundaryArn"}]
    ] * 2


def test_machines_are_mixed_spot_first_and_not_moved_between_zones() -> None:
    for name, share in (("Group", {"Ref": "OnDemandShare"}), ("OnDemandGroup", 100)):
        group = properties("workers.yaml", name)
        mixed = group["MixedInstancesPolicy"]
        assert mixed["InstancesDistribution"]["SpotAllocationStrategy"] == "price-capacity-optimized"
        assert mixed["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == share
        assert len(mixed["LaunchTemplate"]["Overrides"]) == 4
        assert group["CapacityRebalance"] is False
    defaults = [read_template("workers.yaml").parameters[f"InstanceType{n}"].default for n in (1, 2, 3, 4)]
    assert defaults == [*GPU_TYPES, ""]


def test_the_scaler_runs_what_the_archive_was_made_for() -> None:
    scaler = properties("workers.yaml", "Scaler")
    (architecture,) = scaler["Architectures"]

    assert scaler["Runtime"] == f"python{bundle.LAMBDA_PYTHON}"
    assert bundle.LAMBDA_PLATFORM.endswith(architecture.replace("arm64", "aarch64"))
    module, _, function = scaler["Handler"].rpartition(".")
    assert importlib.util.find_spec(module) is not None
    assert f"\ndef {function}(" in Path(f"{ROOT / module.replace('.', '/')}.py").read_text()


def test_old_files_go_and_the_best_never_do() -> None:
    rules = {each["Id"]: each for each in properties("storage.yaml", "Bucket")["LifecycleConfiguration"]["Rules"]}
    expiring = {key: each for key, each in rules.items() if "ExpirationInDays" in each}

    assert set(rules) == {
        "abort-incomplete-multipart-uploads",
        "expire-superseded-checkpoints",
        "expire-encoded-pages",
        "expire-noncurrent-versions",
    }
    # runs/ holds best/: below it things go by their tag alone
    assert {(each["Prefix"], bool(each.get("TagFilters"))) for each in expiring.values()} == {
        ("runs/", True),
        ("encoded/", False),
    }
    tag = {"Key": "layoutlm:state", "Value": "superseded"}
    assert rules["expire-superseded-checkpoints"]["TagFilters"] == [tag]
    assert rules["expire-noncurrent-versions"]["NoncurrentVersionExpiration"]


def test_silence_is_no_alarm() -> None:
    alarms = [each["Properties"] for each in resources("workers.yaml").values() if each["Type"].endswith("Alarm")]

    metrics = {"OldestPendingAge", "JobsFailed", "Errors", "OldestInstanceAge", "IdleMachines", "UnreadableRows"}
    assert {each["MetricName"] for each in alarms} == metrics
    assert {each["TreatMissingData"] for each in alarms} == {"notBreaching"}


# what wakes the scaler: patterns of the event source against items as they are stored


def matches(pattern: JsonValue, value: JsonValue) -> bool:
    """As an event source mapping compares: every key of the pattern, any of the values in a list."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(matches(each, value.get(key)) for key, each in pattern.items())
    assert isinstance(pattern, list)
    return value in pattern


def wakes(new_image: object) -> bool:
    filters = properties("workers.yaml", "ScalerStream")["FilterCriteria"]["Filters"]
    texts = [each["Pattern"] if isinstance(each["Pattern"], str) else each["Pattern"]["Fn::Sub"] for each in filters]
    patterns = [json.loads(text.replace("${QueueName}", "default")) for text in texts]
    event: JsonValue = {"dynamodb": {"NewImage": new_image}}  # type: ignore[dict-item]
    return any(matches(pattern, event) for pattern in patterns)


def job(status: JobStatus, queue: str = "default") -> Job:
    return Job(
        job_id=str(uuid.uuid4()),
        name="a-job",
        status=status,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        created_by="tests",
        job_config={},
        queue=queue,
    )


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.INTERRUPTED, JobStatus.FAILED])
def test_a_job_that_can_be_claimed_or_has_failed_wakes_the_scaler(status: JobStatus) -> None:
    assert wakes(items.job_item(job(status)).serialize())


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.CANCELLED])
def test_a_job_that_goes_on_or_is_over_does_not(status: JobStatus) -> None:
    assert not wakes(items.job_item(job(status)).serialize())


def test_the_queue_of_the_on_demand_group_wakes_it_and_another_fleets_does_not() -> None:
    assert wakes(items.job_item(job(JobStatus.PENDING, "default.ondemand")).serialize())
    assert not wakes(items.job_item(job(JobStatus.PENDING, "somebody-elses")).serialize())


def test_a_renewal_does_not_wake_it() -> None:
    assert not wakes(items.lease_item(Lease(job_id=str(uuid.uuid4()), attempt=1)).serialize())


# deployed


@pytest.fixture(scope="module")
def fleet(endpoint: str) -> Fleet:
    """With every parameter at its default; tests only look at it."""
    return deploy(endpoint)


def made(fleet: Fleet) -> set[str]:
    pages = fleet.client("cloudformation").get_paginator("list_stack_resources")
    rows = [row for page in pages.paginate(StackName=f"{fleet.name}-workers") for row in page["StackResourceSummaries"]]
    assert {row["ResourceStatus"] for row in rows} == {"CREATE_COMPLETE"}
    return {row["LogicalResourceId"] for row in rows}


@engine
def test_both_stacks_come_up_whole(fleet: Fleet) -> None:
    assert (fleet.storage.status, fleet.workers.status) == ("CREATE_COMPLETE", "CREATE_COMPLETE")
    assert set(resources("workers.yaml")) - made(fleet) == {"Subnet4", "Subnet4Routes"}, "three zones are the default"


@engine
def test_two_fleets_of_one_account_do_not_meet(fleet: Fleet, endpoint: str) -> None:
    assert deploy(endpoint).workers.status == "CREATE_COMPLETE"


@engine
def test_a_given_network_is_used_and_none_made(endpoint: str) -> None:
    given = {"SubnetIds": "subnet-0a,subnet-0b", "VpcId": "vpc-0a", "SecurityGroupId": "sg-0a"}
    fleet = deploy(endpoint, **given)

    network = {key for key, each in resources("workers.yaml").items() if each["Type"].startswith("AWS::EC2::")}
    assert made(fleet) & network == {"LaunchTemplate", "OnDemandLaunchTemplate"}
    assert fleet.group("workers")["VPCZoneIdentifier"] == "subnet-0a,subnet-0b"
    assert fleet.launch_template("workers")["SecurityGroupIds"] == ["sg-0a"]


@engine
def test_subnets_without_their_vpc_are_refused_with_the_reason(endpoint: str) -> None:
    with pytest.raises(Exception, match="SubnetIds requires VpcId"):
        deploy(endpoint, SubnetIds="subnet-0a")


@engine
def test_without_on_demand_machines_there_is_no_group_for_them(endpoint: str) -> None:
    fleet = deploy(endpoint, OnDemandMaximum="0")

    assert made(fleet) & {"OnDemandGroup", "OnDemandLaunchTemplate"} == set()
    assert [each.name for each in settings(fleet).groups] == [f"{fleet.name}-workers"]
    assert settings(fleet).ondemand_after == 0, "no job moves to a queue that nobody serves"
    assert "LAYOUTLM_ONDEMAND_AFTER='0'" in user_data(fleet, "workers")


def settings(fleet: Fleet) -> Any:
    scaler = fleet.client("lambda").get_function_configuration(FunctionName=f"{fleet.name}-scaler")
    return parse_settings(scaler["Environment"]["Variables"]["LAYOUTLM_SCALER"])


@engine
def test_the_scaler_can_read_what_it_is_told(endpoint: str) -> None:
    prices = '{"g5.xlarge": {"spot": 0.41, "on-demand": 1.006}}'
    fleet = deploy(endpoint, PriceTable=prices, MaxCostPerDay="12.5", QueueName="night", Slots="2")

    told = settings(fleet)

    assert [(each.name, each.queue, each.maximum) for each in told.groups] == [
        (f"{fleet.name}-workers", "night", 4),
        (f"{fleet.name}-ondemand", "night.ondemand", 1),
    ]
    assert (told.fleet, told.table, told.slots, told.max_cost_per_day) == (fleet.name, fleet.name, 2, 12.5)
    assert told.ondemand_after == 3
    assert told.prices["g5.xlarge"].spot == 0.41
    assert (told.volume_gigabytes, told.times) == (125, ScalerTimes())  # the template's defaults


@engine
def test_the_times_of_the_scaler_are_those_of_the_template(endpoint: str) -> None:
    values = {"BootDeadlineMinutes": "9", "IdleMinutes": "8", "OnDemandWaitMinutes": "7", "VolumeGigabytes": "200"}
    told = settings(deploy(endpoint, **values))
    times = told.times
    assert (times.boot_deadline_minutes, times.idle_minutes, times.ondemand_wait_minutes) == (9, 8, 7)
    assert told.volume_gigabytes == 200


def test_a_new_fleet_has_a_limit_and_takes_no_concurrency_of_a_young_account() -> None:
    parameters = read_template("workers.yaml").parameters
    assert parameters["MaxCostPerDay"].default == "25"
    assert parameters["ReserveConcurrency"].default == "false"
    assert parameters["BootDeadlineMinutes"].default == "20"


def test_a_failed_batch_of_the_stream_is_tried_once_more_as_a_whole() -> None:
    mapping = properties("workers.yaml", "ScalerStream")
    assert (mapping["MaximumRetryAttempts"], "BisectBatchOnFunctionError" in mapping) == (1, False)


def test_the_lock_of_a_look_outlives_the_function_that_holds_it() -> None:
    assert properties("workers.yaml", "Scaler")["Timeout"] <= LOCK_SECONDS


@engine
def test_a_machine_is_told_when_it_is_too_old(endpoint: str) -> None:
    assert "LAYOUTLM_DRAIN_AFTER_DAYS='3'" in user_data(deploy(endpoint, DrainAfterDays="3"), "workers")


@engine
@pytest.mark.parametrize("kind", ["workers", "ondemand"])
def test_a_machine_is_closed_encrypted_and_gone_when_it_is_off(fleet: Fleet, kind: str) -> None:
    data = fleet.launch_template(kind)

    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    options = data["MetadataOptions"]
    assert (options["HttpEndpoint"], options["HttpTokens"]) == ("enabled", "required")
    assert options["HttpPutResponseHopLimit"] == 1
    assert "KeyName" not in data
    (disk,) = data["BlockDeviceMappings"]
    assert disk["Ebs"] == {"VolumeType": "gp3", "VolumeSize": 125, "Encrypted": True, "DeleteOnTermination": True}
    tags = {
        each["ResourceType"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in data["TagSpecifications"]
    }
    assert tags["instance"] == tags["volume"]
    assert tags["volume"]["layoutlm:fleet"] == fleet.name


@engine
def test_each_group_starts_machines_for_its_own_queue(fleet: Fleet) -> None:
    texts = {kind: user_data(fleet, kind) for kind in ("workers", "ondemand")}

    for kind, queue in (("workers", "default"), ("ondemand", "default.ondemand")):
        assert f"LAYOUTLM_QUEUE='{queue}'" in texts[kind]
        assert f"LAYOUTLM_GROUP='{fleet.name}-{kind}'" in texts[kind]
        assert "LAYOUTLM_ONDEMAND_AFTER='3'" in texts[kind]
        assert "${" not in texts[kind]


def user_data(fleet: Fleet, kind: str) -> str:
    return base64.b64decode(fleet.launch_template(kind)["UserData"]).decode()


@engine
def test_machines_are_started_empty_handed_and_protected(fleet: Fleet) -> None:
    group = fleet.group("workers")

    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, 4, 0)
    assert group["NewInstancesProtectedFromScaleIn"]
    assert group["HealthCheckType"] == "EC2"


@engine
def test_nothing_gets_in(fleet: Fleet) -> None:
    groups = fleet.client("ec2").describe_security_groups(
        Filters=[{"Name": "tag:layoutlm:fleet", "Values": [fleet.name]}]
    )["SecurityGroups"]

    assert [each["IpPermissions"] for each in groups] == [[]]
    assert [(each["FromPort"], each["ToPort"]) for each in groups[0]["IpPermissionsEgress"]] == [(443, 443)]


@engine
def test_the_log_of_the_machines_ends_at_last(fleet: Fleet) -> None:
    logs = fleet.client("logs").describe_log_groups()["logGroups"]
    kept = {each["logGroupName"]: each.get("retentionInDays") for each in logs}

    assert kept[f"/layoutlm/{fleet.name}/workers"] == 30
    assert kept[f"/aws/lambda/{fleet.name}-scaler"] == 30


@engine
def test_the_scaler_is_called_when_a_machine_has_ended_and_every_five_minutes(fleet: Fleet) -> None:
    rules = fleet.client("events").list_rules()["Rules"]
    own = [each for each in rules if fleet.name in each["Description"]]

    assert [each["ScheduleExpression"] for each in own if each.get("ScheduleExpression")] == ["rate(5 minutes)"]
    (pattern,) = [json.loads(each["EventPattern"]) for each in own if each.get("EventPattern")]
    assert pattern["detail-type"] == ["EC2 Instance Terminate Successful"]
    assert pattern["detail"]["AutoScalingGroupName"] == [f"{fleet.name}-workers", f"{fleet.name}-ondemand"]


@engine
def test_machines_that_have_nothing_to_do_for_an_hour_are_told_of(fleet: Fleet) -> None:
    (alarm,) = fleet.client("cloudwatch").describe_alarms(AlarmNames=[f"{fleet.name}-idle-machines"])["MetricAlarms"]

    assert (alarm["Namespace"], alarm["MetricName"]) == (f"LayoutLM/{fleet.name}", "IdleMachines")
    assert (alarm["Statistic"], alarm["Threshold"], alarm["ComparisonOperator"]) == (
        "Minimum",
        1.0,
        "GreaterThanOrEqualToThreshold",
    )
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 3600
    assert alarm["DatapointsToAlarm"] == alarm["EvaluationPeriods"] - 1
