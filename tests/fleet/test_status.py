"""fleet status, drain, resume and scale: output and stored rows."""

import json
import re
import uuid
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient, FleetPause, FleetRows, JobError, JobQueue, JobStatus, Lease, utcnow
from receipt_dynamo.items import job_item
from receipt_layoutlm import infra
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.fleet.status import status_text
from receipt_layoutlm.fleet.groups import CannotScale, warm_up
from receipt_layoutlm.fleet.names import FLEET_TAG, worker_id
from receipt_layoutlm.fleet.scaler.costs import FleetInstance, list_instances
from receipt_layoutlm.fleet.scaler.group import NotSettled
from receipt_layoutlm.fleet.stack import StackState
from receipt_layoutlm.fleet.stack_errors import NoRights
from receipt_layoutlm.fleet.status import FleetStatus, StatusSources, fleet_status, held_by_machine
from receipt_layoutlm.local.engines import ACCESS_KEY, SECRET_KEY
from tests.support.fleets import FLEET, NO_IMAGES, REGION, TYPE, Fleet, lagging_index, make_group
from tests.support.stores import Clock

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
GROUP = f"{FLEET}-workers"
BUSY = "i-0123456789abcdef0"
STANDS = StackState("id", "CREATE_COMPLETE", outputs={"GroupName": GROUP})
GROUP_OF_NONE = {
    "AutoScalingGroupName": GROUP,
    "MinSize": 0,
    "MaxSize": 4,
    "DesiredCapacity": 1,
    "DefaultCooldown": 300,
    "AvailabilityZones": [],
    "HealthCheckType": "EC2",
    "CreatedTime": NOON,
}
STACK = {
    "Parameters": {"TableName": {"Type": "String"}, "QueueName": {"Type": "String"}},
    "Resources": {"Any": {"Type": "AWS::SNS::Topic"}},
}


@pytest.fixture
def fleet(moto_aws: None, table_name: str, dynamo_endpoint: str) -> Fleet:
    client = DynamoClient(table_name, endpoint_url=dynamo_endpoint)
    return Fleet(client, make_group(GROUP), Clock(NOON))


def seen(fleet: Fleet, **settings: str) -> FleetStatus:
    ec2 = boto3.client("ec2", region_name=REGION)
    workers = replace(STANDS, parameters=settings)
    sources = StatusSources(workers, fleet.queue.client, fleet.stored.client, lambda: list_instances(ec2, FLEET))
    return fleet_status(FLEET, sources, fleet.clock.time)


def claimed_on(fleet: Fleet, instance_id: str) -> Lease:
    lease = fleet.queue.claim(worker_id(instance_id, 0))
    assert lease is not None
    return fleet.queue.renew(lease, '["train", 30, 90, 1.5]')


@pytest.mark.engine
def test_queues_show_due_and_later_jobs_and_the_longest_wait(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.submit(1, queue="default.ondemand")
    fleet.queue.fail(fleet.claim(), JobError(cause="hang", message="no step"))  # due again after a while
    fleet.clock.pass_seconds(1)
    fleet.claim()
    spot, ondemand = seen(fleet).queues
    assert (spot.queue, spot.due, spot.later, spot.running) == ("default", 1, 1, 1)
    assert 1 < spot.oldest_seconds < 2
    assert (ondemand.queue, ondemand.due, ondemand.running) == ("default.ondemand", 1, 0)


@pytest.mark.engine
def test_each_machine_shows_its_job_with_progress_and_lease(fleet: Fleet) -> None:
    fleet.submit(2)
    fleet.stored.order(2)
    busy, idle = sorted(fleet.stored.instances)
    lease = claimed_on(fleet, busy)
    fleet.clock.pass_seconds(50)
    outside = fleet.queue.claim("laptop-1-abcdef")
    assert outside is not None
    found = seen(fleet)
    assert [(each.group, each.desired, each.maximum) for each in found.groups] == [(GROUP, 2, 8)]
    machines = {each.instance_id: each for each in found.machines}
    (job,) = machines[busy].jobs
    assert (job.job_id, job.attempt, job.position and job.position.step) == (lease.job_id, 1, 30)
    assert 39 < job.lease_seconds < 41
    assert (machines[idle].jobs, machines[idle].instance_type, machines[idle].state) == ([], TYPE, "InService")
    assert [each.job_id for each in found.elsewhere] == [outside.job_id]


@pytest.mark.engine
def test_a_machine_that_left_its_group_is_shown_while_it_is_billed(fleet: Fleet) -> None:
    fleet.stored.order(1)
    (alone,) = fleet.stored.instances
    fleet.stored.client.detach_instances(
        InstanceIds=[alone], AutoScalingGroupName=GROUP, ShouldDecrementDesiredCapacity=True
    )
    (machine,) = seen(fleet).machines
    assert (machine.instance_id, machine.group, machine.state) == (alone, "none", "on its own")


@pytest.mark.engine
def test_a_stack_without_groups_shows_no_other_groups(fleet: Fleet) -> None:
    broken = StackState("id", "ROLLBACK_COMPLETE")
    assert fleet_status(FLEET, StatusSources(broken, fleet.client, fleet.stored.client, list), NOON).groups == []


@pytest.mark.engine
def test_the_newest_failed_launch_of_a_group_is_shown_in_plain_words(fleet: Fleet) -> None:
    failed = {
        "ActivityId": "a",
        "AutoScalingGroupName": GROUP,
        "Description": "Launching a new EC2 instance.  Status Reason: Max spot instance count exceeded.",
        "Cause": "an order",
        "StartTime": NOON,
        "StatusCode": "Failed",
    }
    with Stubber(fleet.stored.client) as stub:  # launches on moto never fail
        stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [GROUP_OF_NONE]})
        stub.add_response("describe_scaling_activities", {"Activities": [failed]})
        found = fleet_status(FLEET, StatusSources(STANDS, fleet.client, fleet.stored.client, list), NOON)
    (group,) = found.groups
    assert group.trouble.startswith("no machine came at 2026-05-01 12:00 UTC, because the account's quota for spot")
    assert f"{GROUP}: no machine came at" in status_text(found)
    assert json.loads(json.dumps(asdict(group)))["trouble"] == group.trouble


@pytest.mark.engine
def test_a_missing_right_to_list_machines_is_explained(fleet: Fleet) -> None:
    def refused() -> list[FleetInstance]:
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "DescribeInstances")

    with pytest.raises(NoRights, match="allow that action"):
        fleet_status(FLEET, StatusSources(STANDS, fleet.client, fleet.stored.client, refused), NOON)


@pytest.mark.engine
def test_costs_and_a_pause_are_shown(fleet: Fleet) -> None:
    rows, now = FleetRows(fleet.queue.client, fleet.clock), fleet.clock.time
    rows.add_cost(rows.get_cost(FLEET, now.date()), 3.25, now)
    rows.put_pause(FleetPause(fleet=FLEET, reason="holiday", paused_at=now, until=now + timedelta(hours=1)))
    found = seen(fleet, MaxCostPerDay="20")
    assert (found.cost.dollars, found.max_cost_per_day, found.pause and found.pause.reason) == (3.25, 20, "holiday")


@pytest.mark.engine
def test_machines_are_started_ahead_of_work_but_never_more_than_the_group_may_have(fleet: Fleet) -> None:
    group = fleet.group()
    assert (warm_up(group, 3), fleet.stored.desired) == (3, 3)
    assert (warm_up(group, 2), fleet.stored.desired) == (0, 3)
    with pytest.raises(CannotScale, match="at most 8 machines"):
        warm_up(group, 9)
    assert fleet.stored.desired == 3


@pytest.mark.engine
def test_a_group_that_is_being_changed_is_tried_again_later(fleet: Fleet) -> None:
    def busy(_capacity: int) -> None:
        raise NotSettled("ScalingActivityInProgress")

    with pytest.raises(CannotScale, match="try again"):
        warm_up(replace(fleet.group(), raise_to=busy), 2)


# which job is held where


@pytest.mark.engine
def test_jobs_are_found_by_the_machine_that_holds_their_lease(fleet: Fleet) -> None:
    fleet.submit(4)
    workers = (worker_id(BUSY, 0), worker_id(BUSY, 1), "laptop-1-abcdef")
    one, two, outside = (fleet.queue.claim(each) for each in workers)
    assert one and two and outside
    held = held_by_machine(fleet.client)
    assert {machine: {job.job_id for job, _ in pairs} for machine, pairs in held.items()} == {
        BUSY: {one.job_id, two.job_id},
        None: {outside.job_id},
    }
    assert {lease.lease_token for _, lease in held[BUSY]} == {one.lease_token, two.lease_token}


@pytest.mark.engine
def test_a_job_without_a_lease_is_held_nowhere_even_if_the_index_lists_it(fleet: Fleet) -> None:
    fleet.submit(1)
    lease = claimed_on(fleet, BUSY)
    (running,) = fleet.client.list_jobs_by_status(JobStatus.RUNNING)
    original = running.model_copy(update={"job_id": str(uuid.uuid4())})  # of the original system
    fleet.queue.release(lease, "the machine goes")
    lagging_index(fleet.client, "GSI1", [job_item(each).serialize() for each in (running, original)])
    assert held_by_machine(fleet.client) == {}


# the commands, on an AWS that has stacks


class Standing:
    """A stack with the parameters and outputs of the workers' stack, its group, and a table."""

    def __init__(self, endpoint: str | None = None) -> None:
        self.name = f"f{uuid.uuid4().hex[:12]}"
        self.table = DynamoClient(self.name, endpoint_url=endpoint)
        infra.create_table(self.table.raw, self.name)
        self.group = make_group(f"{self.name}-workers")
        where = {"ResourceId": self.group.name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}
        self.group.client.create_or_update_tags(Tags=[{**where, "Key": FLEET_TAG, "Value": self.name}])
        values = {"TableName": self.name, "QueueName": "default"}
        outputs = {"GroupName": {"Value": self.group.name}}
        boto3.client("cloudformation", region_name=REGION).create_stack(
            StackName=self.group.name,
            TemplateBody=json.dumps({**STACK, "Outputs": outputs}),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        )

    def run(self, *words: str) -> Result:
        return run(*words, fleet=self.name)

    def pause(self) -> FleetPause | None:
        return FleetRows(self.table).get_pause(self.name)


def run(*words: str, fleet: str) -> Result:
    return CliRunner().invoke(cli, ["fleet", *words, "--fleet", fleet, "--region", REGION])


@pytest.fixture
def standing(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Standing:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return Standing(endpoint)


@pytest.fixture
def with_machines(endpoint: str, moto_aws: None, monkeypatch: pytest.MonkeyPatch) -> Standing:
    """A fleet on moto, except for its stack: moto's groups launch machines."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)  # moto has put its own in its place
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv(*NO_IMAGES)
    return Standing()


@pytest.mark.engine
def test_status_is_a_table_for_people_and_json_for_programs(standing: Standing) -> None:
    JobQueue(standing.table).submit(name="a-job", config={"config_version": 1}, created_by="me")
    shown = json.loads(standing.run("status", "--json").stdout)
    assert [(row["queue"], row["due"]) for row in shown["queues"]] == [("default", 1), ("default.ondemand", 0)]
    assert [(row["group"], row["desired"]) for row in shown["groups"]] == [(standing.group.name, 0)]
    text = standing.run("status").stdout
    assert "0.00 dollars today" in text and "no machine runs" in text and "PAUSED" not in text


@pytest.mark.engine
def test_the_table_shows_each_machine_with_its_job_and_lease(with_machines: Standing) -> None:
    with_machines.group.order(2)
    busy, idle = sorted(with_machines.group.instances)
    queue, an_hour_ago = JobQueue(with_machines.table), Clock(utcnow() - timedelta(hours=1))
    for name in ("receipts", "forgotten"):
        queue.submit(name=name, config={"config_version": 1}, created_by="me")
    lease = queue.claim(worker_id(busy, 0))
    silent = JobQueue(with_machines.table, now=an_hour_ago).claim("laptop-1-abcdef")
    assert lease and silent
    queue.renew(lease, '["train", 30, 90, 1.5]')

    result = with_machines.run("status")

    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    (own,) = [line for line in lines if busy in line]
    for text in (
        TYPE,
        "on-demand",
        "InService",
        f"receipts ({lease.job_id[:8]}), attempt 1",
        "training, step 30 of 90",
    ):
        assert text in own
    assert re.search(r"1 min|\b[5-9]\d s", own), "of 90 seconds, some are left"
    (other,) = [line for line in lines if idle in line]
    assert "idle" in other
    (outside,) = [line for line in lines if silent.job_id[:8] in line]
    assert "forgotten" in outside and outside.endswith("EXPIRED")


@pytest.mark.engine
def test_a_drained_fleet_is_paused_until_it_is_resumed(standing: Standing) -> None:
    assert "would pause" in standing.run("drain", "--dry-run").stdout
    assert standing.pause() is None
    assert standing.run("drain", "--reason", "prices are up").exit_code == 0
    pause = standing.pause()
    assert pause is not None and pause.reason == "prices are up" and pause.until > utcnow() + timedelta(days=3000)
    assert "prices are up" in standing.run("status").stdout
    assert "would end" in standing.run("resume", "--dry-run").stdout
    assert standing.pause() is not None
    assert standing.run("resume").exit_code == 0
    assert standing.pause() is None
    assert "is not paused" in standing.run("resume").stdout


@pytest.mark.engine
def test_suspended_launches_are_shown_and_resumed_and_rebalancing_is_not(with_machines: Standing) -> None:
    group = with_machines.group
    group.client.suspend_processes(AutoScalingGroupName=group.name, ScalingProcesses=["Launch", "AZRebalance"])
    shown = with_machines.run("status").stdout
    assert f"{group.name}: Launch suspended (`layoutlm-cli fleet resume --fleet {with_machines.name}" in shown
    assert "would resume Launch of group" in with_machines.run("resume", "--dry-run").stdout
    assert len(group.described()["SuspendedProcesses"]) == 2
    assert with_machines.run("resume").stdout == f"resumed Launch of group {group.name}\n"
    assert [each["ProcessName"] for each in group.described()["SuspendedProcesses"]] == ["AZRebalance"]


@pytest.mark.engine
def test_a_pause_may_be_for_some_hours(standing: Standing) -> None:
    assert standing.run("drain", "--for", "2h").exit_code == 0
    pause = standing.pause()
    assert pause is not None and timedelta(hours=1.9) < pause.until - utcnow() < timedelta(hours=2.1)
    assert "such as 30d" in standing.run("drain", "--for", "a while").output


@pytest.mark.engine
def test_a_dry_run_of_a_warm_up_shows_the_number_of_machines(standing: Standing) -> None:
    assert "would order 3 machines" in standing.run("scale", "--warm", "3", "--dry-run").stdout
    assert standing.group.desired == 0
    assert "raise it with --maximum" in standing.run("scale", "--warm", "9").output
    assert standing.run("scale").exit_code == standing.run("scale", "--warm", "1", "--maximum", "2").exit_code == 2


@pytest.mark.engine
def test_machines_that_are_ordered_ahead_of_work_stay_ordered(with_machines: Standing) -> None:
    assert with_machines.run("scale", "--warm", "3").stdout == "ordered 3 machines\n"
    warm = FleetRows(with_machines.table).get_warm_up(with_machines.name)
    assert warm is not None and warm.machines == 3
    assert timedelta(minutes=19) < warm.until - utcnow() < timedelta(minutes=21)  # a boot
    assert with_machines.group.desired == 3
    assert with_machines.run("scale", "--warm", "2").stdout == "all these machines are running or ordered\n"
    assert with_machines.group.desired == 3


@pytest.mark.engine
def test_a_deleted_group_is_reported_with_the_fix(standing: Standing) -> None:
    standing.group.client.delete_auto_scaling_group(AutoScalingGroupName=standing.group.name, ForceDelete=True)
    result = standing.run("scale", "--warm", "1")
    assert (result.exit_code, "fleet deploy" in result.stderr) == (1, True)


@pytest.mark.parametrize(("number", "text"), [("0", "at least 1"), ("501", "at most 500"), ("many", "a number")])
def test_a_maximum_is_checked_by_the_template(number: str, text: str) -> None:
    result = run("scale", "--maximum", number, fleet="any")
    assert (result.exit_code, text in result.stderr) == (2, True)


@pytest.mark.engine
def test_a_missing_fleet_is_reported_with_the_fix(standing: Standing) -> None:
    for words in (["status"], ["drain"], ["resume"], ["scale", "--warm", "1"]):
        result = run(*words, fleet="another")
        assert result.exit_code == 1 and "--fleet" in result.output, words
