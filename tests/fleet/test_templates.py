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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from receipt_dynamo import Job, JobStatus, Lease, items
from receipt_layoutlm.fleet import bundle
from receipt_layoutlm.fleet.scaler.figures import ScalerTimes
from receipt_layoutlm.fleet.scaler.lambda_entry import parse_settings
from receipt_layoutlm.fleet.scaler.lock import LOCK_SECONDS
from receipt_layoutlm.fleet.template import read_template
from receipt_layoutlm.infra import template_path
from tests.support.deployed import Fleet, build, deploy
from tests.support.paths import ROOT
from tests.support.small_aws import aws
from tests.support.templates import properties, resources, template

engine = pytest.mark.engine

TEMPLATES = ("storage.yaml", "network.yaml", "workers.yaml", "alerts.yaml")
INLINE_BYTES = 51_200  # what CreateChangeSet takes without a detour over S3
ROOM_BYTES = 40_000  # for workers.yaml, so that it can grow
GPU_TYPES = ("g6.xlarge", "g5.xlarge", "g4dn.xlarge")


# as they stand


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_taken_without_a_detour_over_a_bucket(name: str) -> None:
    assert template_path(name).stat().st_size < (ROOM_BYTES if name == "workers.yaml" else INLINE_BYTES)


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


def test_the_launch_template_carries_the_user_data_word_for_word() -> None:
    script = template("workers.yaml")["Mappings"]["UserData"]["Machine"]["Script"]

    assert script == template_path("user_data.sh").read_text(), "copy infra/user_data.sh into infra/workers.yaml"
    assert template_path("workers.yaml").read_text().count("set -Eeuo pipefail") == 1


def test_the_settings_of_a_machine_are_parameters_of_the_template() -> None:
    settings, more = launch_data()["UserData"]["Fn::Base64"]["Fn::Sub"]
    asked = set(re.findall(r"\$\{([^!}][^}]*)\}", settings))

    assert asked <= set(read_template("workers.yaml").parameters) | {"AWS::Region", *more}


def launch_data() -> dict[str, Any]:
    """What machines of all groups are started from."""
    (one,) = (each for each in resources("workers.yaml").values() if each["Type"] == "AWS::EC2::LaunchTemplate")
    return one["Properties"]["LaunchTemplateData"]  # type: ignore[no-any-return]


def test_the_instances_tags_tell_them_group_and_queue() -> None:
    """The metadata service shows only keys without spaces and slashes, and refuses to start an instance with others."""
    assert launch_data()["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    for name, kind in (("Group", "workers"), ("OnDemandGroup", "ondemand")):
        group = properties("workers.yaml", name)
        tags = {each["Key"]: each for each in group["Tags"]}
        assert tags["layoutlm:group"]["Value"] == group["AutoScalingGroupName"] == {"Fn::Sub": f"${{FleetName}}-{kind}"}
        assert all(
            re.fullmatch(r"[A-Za-z0-9+=.,_:@-]+", key) and each["PropagateAtLaunch"] for key, each in tags.items()
        )


# what is deleted when: a resource goes after all that refer to it


def needs(name: str) -> dict[str, set[str]]:
    """The resources that each resource refers to or depends on."""
    every = resources(name)

    def named(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(named, value))
        if not isinstance(value, dict):
            return set()
        found = set().union(*map(named, value.values()))
        for key, each in value.items():
            if key in ("Ref", "Fn::GetAtt"):
                found.add(str(each).partition(".")[0])
            elif key == "Fn::Sub":
                text = each if isinstance(each, str) else each[0]
                found |= {word.partition(".")[0] for word in re.findall(r"\$\{([^!}]+)\}", text)}
        return found & set(every)

    def of(resource: dict[str, Any]) -> set[str]:
        first = resource.get("DependsOn", [])
        return named(resource["Properties"]) | set([first] if isinstance(first, str) else first)

    return {key: of(each) for key, each in every.items()}


def outlive(name: str, resource: str) -> set[str]:
    """All resources that are deleted only after this one."""
    graph, found, todo = needs(name), set[str](), [resource]
    while todo:
        for each in graph[todo.pop()] - found:
            found.add(each)
            todo.append(each)
    return found


def test_all_that_a_busy_machine_needs_is_deleted_after_the_groups() -> None:
    of_machines = {"LaunchTemplate", "WorkerProfile", "WorkerRole", "WorkerLog", "SecurityGroup"}

    for group in ("Group", "OnDemandGroup"):
        assert of_machines <= outlive("workers.yaml", group)


def test_routes_and_endpoints_are_of_another_stack_which_outlives_the_groups() -> None:
    """fleet destroy deletes it after the stack of the groups: see test_deploy.py."""
    in_the_way = {"Route", "SubnetRouteTableAssociation", "VPCEndpoint", "VPCGatewayAttachment", "Subnet"}
    kinds = {name: {each["Type"].rpartition(":")[2] for each in resources(name).values()} for name in TEMPLATES}

    assert in_the_way <= kinds["network.yaml"]
    assert in_the_way & kinds["workers.yaml"] == set()
    assert template("workers.yaml")["Parameters"]["SubnetIds"].get("Default") is None, "it cannot be without one"


def test_a_subnet_is_reached_until_it_is_deleted() -> None:
    assert "InternetGatewayAttachment" in outlive("network.yaml", "DefaultRoute")
    assert {"Subnet4", "RouteTable"} <= outlive("network.yaml", "Subnet4Routes")


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
    (disk,) = launch_data()["BlockDeviceMappings"]
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
        "expire-noncurrent-versions-of-runs",
        "expire-noncurrent-versions-of-encoded-pages",
    }
    # runs/ holds best/: below it things go by their tag alone
    assert {(each["Prefix"], bool(each.get("TagFilters"))) for each in expiring.values()} == {
        ("runs/", True),
        ("encoded/", False),
    }
    tag = {"Key": "layoutlm:state", "Value": "superseded"}
    assert rules["expire-superseded-checkpoints"]["TagFilters"] == [tag]
    assert rules["expire-noncurrent-versions"]["NoncurrentVersionExpiration"]
    for kind, prefix in (("runs", "runs/"), ("encoded-pages", "encoded/")):
        rule = rules[f"expire-noncurrent-versions-of-{kind}"]
        assert (rule["Prefix"], rule["NoncurrentVersionExpiration"]) == (prefix, {"NoncurrentDays": 1})


def test_silence_is_no_alarm_but_of_the_scaler_itself() -> None:
    alarms = [each["Properties"] for each in resources("workers.yaml").values() if each["Type"].endswith("Alarm")]

    metrics = {"OldestPendingAge", "JobsFailed", "Errors", "OldestInstanceAge", "IdleMachines", "UnreadableRows"}
    assert {each["MetricName"] for each in alarms} == {*metrics, "Invocations"}
    breaching = {each["MetricName"] for each in alarms if each["TreatMissingData"] == "breaching"}
    assert breaching == {"Invocations"}


def test_all_alarms_go_to_one_topic() -> None:
    alarms = [each["Properties"] for each in resources("workers.yaml").values() if each["Type"].endswith("Alarm")]
    topic = [{"Fn::If": ["MakesTopic", {"Ref": "AlarmTopic"}, {"Ref": "AlarmTopicArn"}]}]

    assert all(each["AlarmActions"] == each["OKActions"] == topic for each in alarms)


def test_a_look_that_failed_is_repeated_once_and_not_in_halves() -> None:
    stream = properties("workers.yaml", "ScalerStream")

    assert stream["MaximumRetryAttempts"] == 1
    assert not stream.get("BisectBatchOnFunctionError")


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
    assert set(resources("workers.yaml")) == made(fleet)
    assert fleet.network is not None
    assert len(fleet.network.outputs["SubnetIds"].split(",")) == 3, "three zones are the default"


@engine
@pytest.mark.parametrize(("zones", "names"), [("1", ""), ("2", "us-east-1b,us-east-1c"), ("3", "")])
def test_a_network_has_as_many_zones_as_are_wanted(endpoint: str, zones: str, names: str) -> None:
    stack = f"f{uuid.uuid4().hex[:12]}-network"

    network = build(endpoint, stack, "network.yaml", FleetName="layoutlm", Zones=zones, ZoneNames=names)

    ids = network.outputs["SubnetIds"].split(",")
    subnets = aws(endpoint, "ec2").describe_subnets(SubnetIds=ids)["Subnets"]
    assert len(subnets) == int(zones)
    if names:
        assert sorted(each["AvailabilityZone"] for each in subnets) == names.split(",")


@engine
def test_the_address_for_alarms_is_subscribed_to_their_topic(endpoint: str) -> None:
    fleet = deploy(endpoint, AlarmEmail="me@example.com")

    topic = fleet.workers.outputs["AlarmTopicArn"]
    found = fleet.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(each["Protocol"], each["Endpoint"]) for each in found] == [("email", "me@example.com")]
    alarms = fleet.client("cloudwatch").describe_alarms(AlarmNames=[f"{fleet.name}-scaler-stops"])["MetricAlarms"]
    assert [each["AlarmActions"] for each in alarms] == [[topic]]


@engine
def test_an_image_may_be_named_by_its_id(endpoint: str) -> None:
    assert deploy(endpoint, ImageId="ami-0fedcba9876543210").launch_template()["ImageId"] == "ami-0fedcba9876543210"


@engine
def test_two_fleets_of_one_account_do_not_meet(fleet: Fleet, endpoint: str) -> None:
    assert deploy(endpoint).workers.status == "CREATE_COMPLETE"


@engine
def test_a_given_network_is_used_and_none_made(endpoint: str) -> None:
    given = {"SubnetIds": "subnet-0a,subnet-0b", "VpcId": "vpc-0a", "SecurityGroupId": "sg-0a"}
    fleet = deploy(endpoint, **given)

    network = {key for key, each in resources("workers.yaml").items() if each["Type"].startswith("AWS::EC2::")}
    assert made(fleet) & network == {"LaunchTemplate"}
    assert fleet.group("workers")["VPCZoneIdentifier"] == "subnet-0a,subnet-0b"
    assert fleet.launch_template()["SecurityGroupIds"] == ["sg-0a"]


@engine
def test_subnets_without_their_vpc_are_refused_with_the_reason(endpoint: str) -> None:
    with pytest.raises(Exception, match="SubnetIds requires VpcId"):
        deploy(endpoint, SubnetIds="subnet-0a")


@engine
def test_without_on_demand_machines_there_is_no_group_for_them(endpoint: str) -> None:
    fleet = deploy(endpoint, OnDemandMaximum="0")

    assert "OnDemandGroup" not in made(fleet)
    assert [each.name for each in settings(fleet).groups] == [f"{fleet.name}-workers"]
    assert settings(fleet).ondemand_after == 0, "no job moves to a queue that nobody serves"
    assert "LAYOUTLM_ONDEMAND_AFTER='0'" in user_data(fleet)


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
    assert "LAYOUTLM_DRAIN_AFTER_DAYS='3'" in user_data(deploy(endpoint, DrainAfterDays="3"))


@engine
def test_a_machine_is_closed_encrypted_and_gone_when_it_is_off(fleet: Fleet) -> None:
    data = fleet.launch_template()

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
    assert tags["volume"]["layoutlm:fleet"] == fleet.name


@engine
def test_each_group_starts_machines_for_its_own_queue(fleet: Fleet) -> None:
    for kind, queue in (("workers", "default"), ("ondemand", "default.ondemand")):
        tags = {each["Key"]: each["Value"] for each in fleet.group(kind)["Tags"] if each["PropagateAtLaunch"]}
        assert (tags["layoutlm:group"], tags["layoutlm:queue"]) == (f"{fleet.name}-{kind}", queue)
        assert tags["layoutlm:fleet"] == fleet.name


@engine
def test_the_user_data_is_a_script_with_the_stacks_settings(fleet: Fleet) -> None:
    text = user_data(fleet)

    assert text.endswith(template_path("user_data.sh").read_text() + "\n")
    assert "LAYOUTLM_ONDEMAND_AFTER='3'\n" in text and "LAYOUTLM_BOOT_MINUTES='20'\n" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def user_data(fleet: Fleet) -> str:
    return base64.b64decode(fleet.launch_template()["UserData"]).decode()


@engine
def test_machines_are_started_empty_handed_and_protected(fleet: Fleet) -> None:
    group = fleet.group("workers")

    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, 4, 0)
    assert group["NewInstancesProtectedFromScaleIn"]
    assert group["HealthCheckType"] == "EC2"


@engine
def test_nothing_gets_in(fleet: Fleet) -> None:
    groups = fleet.client("ec2").describe_security_groups(
        Filters=[{"Name": "tag:Name", "Values": [f"{fleet.name}-workers"]}]
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
    own = [each for each in rules if fleet.name in each["Name"]]

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
