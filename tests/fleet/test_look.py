"""The scaler, by what is stored after a look: the group's capacity (moto), jobs, pause and costs (dynoxide)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from receipt_dynamo import DynamoClient, FleetPause, JobError, JobQueue, JobStatus
from receipt_dynamo.items import job_item
from receipt_layoutlm.fleet.scaler.costs import PAID, FleetInstance, list_instances
from receipt_layoutlm.fleet.scaler.figures import GroupLook, Scaler
from receipt_layoutlm.fleet.scaler.group import GroupFigures, Launch, aws_group
from receipt_layoutlm.fleet.scaler.look import look
from tests.support.fleets import (
    FLEET,
    NO_IMAGES,
    NOON,
    REGION,
    TYPE,
    Fleet,
    activity,
    counted,
    lagging_index,
    listed,
    make_group,
)
from tests.support.stores import Clock

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

pytestmark = pytest.mark.engine

HANG = JobError(cause="hang", message="no step for an hour")
LEASE_AND_GRACE = 121.0  # seconds


@pytest.fixture
def fleet(moto_aws: None, table_name: str, dynamo_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv(*NO_IMAGES)
    client = DynamoClient(table_name, endpoint_url=dynamo_endpoint)
    return Fleet(client, make_group(f"{FLEET}-workers"), Clock(NOON))


def only(looks: Sequence[GroupLook]) -> GroupLook:
    (one,) = looks
    return one


def hours(many: float) -> timedelta:
    return timedelta(hours=many)


# how many machines


def test_each_waiting_job_gets_a_machine(fleet: Fleet) -> None:
    fleet.submit(3)
    assert only(look(fleet.scaler()).groups).raised_to == 3
    assert fleet.stored.desired == 3
    assert len(fleet.stored.instances) == 3


def test_an_idle_fleet_stays_without_machines(fleet: Fleet) -> None:
    assert only(look(fleet.scaler()).groups).reason == "no job is waiting"
    assert fleet.stored.desired == 0


def test_machines_are_at_most_as_many_as_the_settings_allow(fleet: Fleet) -> None:
    fleet.submit(9)
    look(fleet.scaler(fleet.group(maximum=4)))
    assert fleet.stored.desired == 4


def test_machines_are_at_most_as_many_as_the_group_allows(fleet: Fleet) -> None:
    fleet.submit(9)
    fleet.stored.client.update_auto_scaling_group(AutoScalingGroupName=fleet.stored.name, MaxSize=2)
    look(fleet.scaler(fleet.group(maximum=4)))
    assert fleet.stored.desired == 2


def test_a_maximum_of_zero_means_none(fleet: Fleet) -> None:
    fleet.submit(2)
    look(fleet.scaler(fleet.group(maximum=0)))
    assert fleet.stored.desired == 0


def test_while_a_job_waits_no_machine_that_is_there_is_given_up(fleet: Fleet) -> None:
    fleet.stored.order(4)
    fleet.submit(1)
    assert only(look(fleet.scaler()).groups).reason == "capacity needed: 4, desired: 4"
    assert fleet.stored.desired == 4


def test_the_machines_of_running_jobs_are_not_counted_on(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.stored.order(2)
    for instance_id in fleet.stored.instances:
        fleet.claim(instance_id=instance_id)
    seen = only(look(fleet.scaler()).groups)
    assert (seen.claimable, seen.running, fleet.stored.desired) == (1, 2, 3)


def test_jobs_of_workers_outside_of_the_fleet_need_no_machine(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.stored.order(1)
    fleet.claim(instance_id=fleet.stored.instances[0])
    fleet.queue.claim("somebodys-laptop")
    seen = only(look(fleet.scaler()).groups)
    assert (seen.claimable, seen.running, fleet.stored.desired) == (1, 1, 2)


def test_jobs_share_a_machine_of_several_slots(fleet: Fleet) -> None:
    fleet.submit(5)
    look(fleet.scaler(slots=4))
    assert fleet.stored.desired == 2


def test_running_jobs_alone_start_no_machine(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.claim()  # its machine may be dead: until its lease has run out nobody can tell
    assert only(look(fleet.scaler()).groups).reason == "no job is waiting"
    assert fleet.stored.desired == 0


def test_a_group_counts_the_jobs_of_its_own_queue(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.submit(1, queue="default.ondemand")
    fleet.submit(1, queue="another")
    fleet.claim("another")
    seen = only(look(fleet.scaler(fleet.group("default.ondemand"))).groups)
    assert (seen.claimable, seen.running, fleet.stored.desired) == (1, 0, 1)


def test_a_job_of_another_queue_that_is_named_or_rescued_buys_nothing_here(fleet: Fleet) -> None:
    fleet.submit(1, queue="another")
    fleet.claim("another")
    fleet.clock.pass_seconds(LEASE_AND_GRACE)
    (named,) = fleet.submit(1, queue="another")
    seen = look(fleet.scaler(), [named.job_id])
    assert (len(seen.rescued), only(seen.groups).claimable, fleet.stored.desired) == (1, 0, 0)


def test_a_raised_group_no_longer_rebalances_its_zones(fleet: Fleet) -> None:
    fleet.submit(1)
    look(fleet.scaler())
    assert [each["ProcessName"] for each in fleet.stored.described()["SuspendedProcesses"]] == ["AZRebalance"]


# which jobs count


def test_a_job_that_waits_after_an_error_buys_no_machine_before_it_is_due(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.queue.fail(fleet.claim(), HANG)
    assert only(look(fleet.scaler()).groups).claimable == 0
    assert fleet.stored.desired == 0
    fleet.clock.pass_seconds(30)  # the longest first backoff
    look(fleet.scaler())
    assert fleet.stored.desired == 1


def test_a_job_that_only_a_newer_worker_knows_buys_no_machine(fleet: Fleet) -> None:
    fleet.submit(1, version=999)
    assert only(look(fleet.scaler()).groups).claimable == 0
    assert fleet.stored.desired == 0


def test_the_job_of_a_dead_machine_counts_in_the_look_that_rescues_it(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    fleet.claim()
    fleet.clock.pass_seconds(LEASE_AND_GRACE)
    seen = look(fleet.scaler())
    assert [rescued.job_id for rescued in seen.rescued] == [job.job_id]
    assert fleet.client.get_job(job.job_id).status is JobStatus.INTERRUPTED
    assert fleet.stored.desired == 1


def fresh(fleet: Fleet, minutes: float = 0.0) -> Scaler:
    """The scaler of a container that has just been started, whose clock is off."""
    now = lambda: fleet.clock() + timedelta(minutes=minutes)  # noqa: E731
    return replace(fleet.scaler(), queue=JobQueue(fleet.client, now=now), now=now)


def test_a_scaler_that_starts_anew_for_each_look_rescues_in_the_second_one(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    fleet.claim()
    fleet.clock.pass_seconds(100)  # its lease has run out, and not yet by 30 s
    assert look(fresh(fleet)).rescued == []
    fleet.clock.pass_seconds(300)
    assert [rescued.job_id for rescued in look(fresh(fleet)).rescued] == [job.job_id]
    assert fleet.rows.get_sightings(FLEET) == ()


@pytest.mark.parametrize("minutes", [-10.0, 10.0])
def test_a_scaler_whose_clock_is_off_takes_no_job_from_a_worker_that_renews(fleet: Fleet, minutes: float) -> None:
    fleet.submit(1)
    lease = fleet.claim()
    for _ in range(4):
        for _ in range(20):
            fleet.clock.pass_seconds(15)
            lease = fleet.queue.renew(lease)
        assert look(fresh(fleet, minutes)).rescued == []


def test_a_look_at_leases_that_are_renewed_reads_and_writes_no_sightings(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.claim()
    keys = keys_of_requests(fleet.client)
    look(fleet.scaler())
    assert "SILENT" not in keys()


def test_sightings_that_cannot_be_read_are_replaced(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.claim()
    row = {"PK": {"S": f"FLEET#{FLEET}"}, "SK": {"S": "SILENT"}, "leases": {"S": '[{"job_id": 7}]'}}
    fleet.client.raw.put_item(TableName=fleet.client.table_name, Item=row)
    fleet.clock.pass_seconds(200)
    assert look(fresh(fleet)).errors == []
    fleet.clock.pass_seconds(200)
    assert len(look(fresh(fleet)).rescued) == 1


def keys_of_requests(client: DynamoClient) -> Callable[[], str]:
    """The bodies of all requests since."""
    bodies: list[str] = []
    client.raw.meta.events.register_first(
        "before-send.dynamodb", lambda request, **_: bodies.append(request.body.decode())
    )
    return lambda: "\n".join(bodies)


def test_a_rescued_job_counts_although_the_indexes_have_not_heard_of_it(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.claim()
    fleet.clock.pass_seconds(LEASE_AND_GRACE)
    running = fleet.client.list_jobs_by_status(JobStatus.RUNNING)
    lagging_index(fleet.client, "GSI1", [job_item(job).serialize() for job in running])
    lagging_index(fleet.client, "GSI3")
    seen = only(look(fleet.scaler()).groups)
    assert (seen.claimable, seen.running, fleet.stored.desired) == (1, 0, 1)


def test_a_job_named_by_the_stream_counts_before_the_index_lists_it(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    lagging_index(fleet.client, "GSI3")
    look(fleet.scaler())
    assert fleet.stored.desired == 0
    look(fleet.scaler(), [job.job_id])
    assert fleet.stored.desired == 1


def test_a_job_that_is_named_and_listed_counts_once(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    look(fleet.scaler(), [job.job_id, job.job_id])
    assert fleet.stored.desired == 1


def test_a_job_claimed_since_the_stream_named_it_counts_as_running_only(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    fleet.stored.order(1)
    fleet.claim(instance_id=fleet.stored.instances[0])
    seen = only(look(fleet.scaler(), [job.job_id]).groups)
    assert (seen.claimable, seen.running) == (0, 1)


def test_a_job_in_both_indexes_counts_once(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    lagging_index(fleet.client, "GSI3", [job_item(job).serialize()])
    fleet.claim()  # GSI1 lists it as running, GSI3 still as waiting
    look(fleet.scaler())
    assert fleet.stored.desired == 1


def test_a_named_job_that_is_gone_is_nothing(fleet: Fleet) -> None:
    seen = look(fleet.scaler(), ["00000000-0000-4000-8000-000000000000"])
    assert (only(seen.groups).claimable, seen.errors) == (0, [])


def test_of_many_names_as_many_as_there_are_places_are_read(fleet: Fleet) -> None:
    read: list[str] = []
    fleet.client.raw.meta.events.register("before-send.dynamodb.GetItem", lambda **_: read.append("one"))
    look(fleet.scaler(fleet.group(maximum=4)), [f"{n:08x}-0000-4000-8000-000000000000" for n in range(1000)])
    assert len(read) == 5 + 2  # the day's costs, and what earlier looks kept


def test_one_entry_more_than_the_places_is_read_and_no_further_page(fleet: Fleet) -> None:
    fleet.submit(8)
    pages, entries = counted(fleet.client, "GSI3"), listed(fleet.client)
    seen = only(look(fleet.scaler(fleet.group(maximum=1), slots=2)).groups)
    assert (seen.claimable, pages(), entries()) == (3, 1, 3)
    assert fleet.stored.desired == 1


def test_jobs_that_wait_after_an_error_hide_none_that_is_due(fleet: Fleet) -> None:
    fleet.submit(4)
    for _ in range(4):
        fleet.queue.fail(fleet.claim(), HANG)
    fleet.submit(1)
    seen = only(look(fleet.scaler(fleet.group(maximum=1))).groups)
    assert (seen.claimable, fleet.stored.desired) == (1, 1)


def test_the_oldest_age_is_that_of_due_jobs(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.queue.fail(fleet.claim(), HANG)  # waits, up to 30 s
    assert only(look(fleet.scaler()).groups).oldest_seconds == 0
    fleet.clock.pass_seconds(3600)
    fleet.submit(1)
    assert only(look(fleet.scaler()).groups).oldest_seconds == pytest.approx(3600 - 15, abs=15.1)


def test_an_interrupted_job_has_waited_since_its_interruption(fleet: Fleet) -> None:
    fleet.submit(1)
    lease = fleet.claim()
    fleet.clock.pass_seconds(36_000)
    fleet.queue.release(lease, "spot")
    fleet.clock.pass_seconds(60)
    assert only(look(fleet.scaler()).groups).oldest_seconds == pytest.approx(60, abs=1)


# when a group is left as it is


def test_a_group_that_cannot_start_machines_is_left_as_it_is(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.stored.client.suspend_processes(AutoScalingGroupName=fleet.stored.name, ScalingProcesses=["Launch"])
    assert only(look(fleet.scaler()).groups).reason.startswith("its Launch process is suspended: `layoutlm-cli")
    assert fleet.stored.desired == 0


def described(**more: object) -> dict[str, object]:
    group = {
        "AutoScalingGroupName": "a-group",
        "MinSize": 0,
        "MaxSize": 4,
        "DesiredCapacity": 0,
        "DefaultCooldown": 300,
        "AvailabilityZones": [],
        "HealthCheckType": "EC2",
        "CreatedTime": NOON,
    }
    return {"AutoScalingGroups": [{**group, **more}]}


@pytest.fixture
def autoscaling() -> "AutoScalingClient":
    return boto3.client("autoscaling", region_name=REGION)


def test_a_group_that_is_being_deleted_is_left_as_it_is(fleet: Fleet, autoscaling: "AutoScalingClient") -> None:
    fleet.submit(1)
    with Stubber(autoscaling) as stub:  # moto deletes in an instant
        stub.add_response("describe_auto_scaling_groups", described(Status="Delete in progress"))
        seen = only(look(fleet.scaler(aws_group(autoscaling, "a-group", "default", 4, fleet.clock))).groups)
    assert (seen.raised_to, seen.reason) == (None, "the group is being deleted (Delete in progress)")


@pytest.mark.parametrize("code", ["ScalingActivityInProgress", "ResourceContention"])
def test_a_group_that_is_busy_is_left_to_the_next_look(
    fleet: Fleet, autoscaling: "AutoScalingClient", code: str
) -> None:
    fleet.submit(1)
    with Stubber(autoscaling) as stub:
        stub.add_response("describe_auto_scaling_groups", described())
        stub.add_response("describe_scaling_activities", {"Activities": []})
        stub.add_response("describe_auto_scaling_groups", described())
        stub.add_response("suspend_processes", {})
        stub.add_client_error("set_desired_capacity", code)
        seen = look(fleet.scaler(aws_group(autoscaling, "a-group", "default", 4, fleet.clock)))
    assert (only(seen.groups).raised_to, seen.errors) == (None, [])
    assert "has not settled" in only(seen.groups).reason


def test_a_capacity_that_somebody_else_has_raised_further_stands(fleet: Fleet) -> None:
    fleet.submit(2)

    def launches(_since: datetime) -> list[Launch]:
        fleet.stored.order(5)  # between the look's reading of the group and its order
        return []

    look(fleet.scaler(replace(fleet.group(), launches=launches)))
    assert fleet.stored.desired == 5


def test_figures_that_are_stale_are_read_again(fleet: Fleet) -> None:
    fleet.submit(1)
    slow = iter([60.0, 0.0])  # the first reading takes a minute, in which a job comes

    def read() -> GroupFigures:
        figures = fleet.group().read()
        if passed := next(slow):
            fleet.clock.pass_seconds(passed)
            fleet.submit(1)
        return figures

    look(fleet.scaler(replace(fleet.group(), read=read)))
    assert fleet.stored.desired == 2


def test_figures_that_are_always_stale_raise_nothing(fleet: Fleet) -> None:
    fleet.submit(1)

    def read() -> GroupFigures:
        figures = fleet.group().read()
        fleet.clock.pass_seconds(60)
        return figures

    seen = only(look(fleet.scaler(replace(fleet.group(), read=read))).groups)
    assert (seen.raised_to, fleet.stored.desired) == (None, 0)
    assert "stale" in seen.reason


def test_a_paused_fleet_gets_no_machine_until_the_pause_is_over(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.rows.put_pause(FleetPause(fleet=FLEET, reason="a rest", paused_at=NOON, until=NOON + hours(1)))
    assert only(look(fleet.scaler()).groups).reason == "paused until 2026-05-01 13:00 UTC: a rest"
    assert fleet.stored.desired == 0
    fleet.clock.pass_seconds(3600)
    look(fleet.scaler())
    assert fleet.stored.desired == 1


def test_a_group_that_is_missing_does_not_stop_the_others(fleet: Fleet) -> None:
    fleet.submit(1)
    missing = aws_group(fleet.stored.client, "no-such-group", "default", 4, fleet.clock)
    seen = look(fleet.scaler(missing, fleet.group()))
    assert fleet.stored.desired == 1
    assert ["no-such-group" in error for error in seen.errors] == [True]


# machines that end without taking a job


def started(*ago: float) -> Callable[[datetime], list[Launch]]:
    """Machines that the group does not list any more, by the minutes since they started."""
    found = [Launch(f"i-{n:08x}", NOON + hours(2) - timedelta(minutes=each)) for n, each in enumerate(ago)]
    return lambda since: [each for each in found if each.started_at >= since]


@pytest.mark.parametrize(
    ("ago", "desired"),
    [
        pytest.param([], 3, id="none ended"),
        pytest.param([125], 3, id="ended before the jobs were there"),
        pytest.param([1], 3, id="started just now: not listed yet"),
        pytest.param([119, 119, 119], 1, id="the first try, two hours ago"),
        pytest.param([119, 90], 1, id="a second try, longer ago than it waited"),
        pytest.param([119, 40], 0, id="another try, not long enough ago"),
        pytest.param([6], 1, id="one alone, late"),
        pytest.param([4], 0, id="one alone, just now"),
    ],
)
def test_where_machines_ended_without_taking_a_job_one_is_tried_now_and_then(
    fleet: Fleet, ago: list[float], desired: int
) -> None:
    fleet.submit(3)
    fleet.clock.time = NOON + hours(2)
    look(fleet.scaler(replace(fleet.group(), launches=started(*ago))))
    assert fleet.stored.desired == desired


def on_trial(fleet: Fleet, *ago: float) -> int:
    """The capacity after a look two hours later, after machines of which `started` tells, and those that are there."""
    fleet.clock.time = NOON + hours(2)
    there = [Launch(each, NOON + hours(2) - timedelta(minutes=1)) for each in fleet.stored.instances]
    look(fleet.scaler(replace(fleet.group(), launches=lambda since: [*there, *started(*ago)(since)])))
    return fleet.stored.desired


def test_while_one_is_on_trial_no_other_is_started(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.stored.order(1)
    assert on_trial(fleet, 119) == 0  # so that it is not replaced when it switches itself off
    assert len(fleet.stored.instances) == 1


def test_once_one_has_taken_a_job_the_others_follow(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.stored.order(1)
    fleet.claim(instance_id=fleet.stored.instances[0])
    assert on_trial(fleet, 119) == 3


def test_a_good_machine_from_before_says_nothing_of_those_that_end_without_a_job(fleet: Fleet) -> None:
    fleet.stored.order(1)
    (good,) = fleet.stored.instances
    fleet.submit(4)
    lease = fleet.claim(instance_id=good)
    fleet.clock.time = NOON + hours(2)
    fleet.queue.renew(lease)

    def launches(since: datetime) -> list[Launch]:
        return started(3, 4)(since)

    look(fleet.scaler(replace(fleet.group(), launches=launches)))
    assert fleet.stored.desired == 1
    fleet.clock.pass_seconds(3600)
    fleet.queue.renew(lease)
    look(fleet.scaler(replace(fleet.group(), launches=launches)))
    assert fleet.stored.desired == 2  # one trial, beside what works


def test_machines_that_took_jobs_and_ended_say_nothing_against_the_next(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.rows.note_claim(FLEET, "i-00000000")
    assert on_trial(fleet, 15) == 3


def test_a_retried_job_waits_since_its_retry(fleet: Fleet) -> None:
    fleet.submit(1)
    failed = fleet.claim()
    for _ in range(3):
        fleet.queue.fail(failed, HANG)
        fleet.clock.pass_seconds(3600)
        if fleet.client.get_job(failed.job_id, consistent=True).status is JobStatus.FAILED:
            break
        failed = fleet.claim()
    fleet.clock.pass_seconds(86_400)
    fleet.queue.retry(failed.job_id)
    fleet.clock.pass_seconds(60)
    assert only(look(fleet.scaler()).groups).oldest_seconds == pytest.approx(60, abs=1)


def test_launches_are_found_among_the_activities_of_a_group(autoscaling: "AutoScalingClient") -> None:
    died = activity("Launching a new EC2 instance: i-0123456789abcdef2.  Status Reason: Client.InternalError", "Failed")
    texts = (
        "Launching a new EC2 instance: i-0123456789abcdef0",
        "Terminating EC2 instance: i-0123456789abcdef1",
        "Launching a new EC2 instance.  Status Reason: there is no spot capacity",
    )
    with Stubber(autoscaling) as stub:
        newest = [*(activity(text, "Successful") for text in texts), died]
        for page in (newest, [activity(texts[0], "Successful", at=NOON - hours(1))]):
            stub.add_response("describe_scaling_activities", {"Activities": page, "NextToken": "more"})
        launches = aws_group(autoscaling, "a-group", "default", 4).launches(NOON)
    assert launches == [Launch("i-0123456789abcdef0", NOON)]


# what the fleet costs


def test_costs_are_metered_from_look_to_look(fleet: Fleet) -> None:
    fleet.stored.order(2)
    fleet.pay_for(2, since=NOON - hours(1))
    look(fleet.scaler())
    assert fleet.rows.get_cost(FLEET, NOON.date()).dollars == pytest.approx(2.0, abs=1e-6)
    fleet.clock.pass_seconds(1800)
    look(fleet.scaler())
    assert fleet.rows.get_cost(FLEET, NOON.date()).dollars == pytest.approx(3.0, abs=1e-6)


def test_a_machine_that_started_since_the_last_look_costs_from_its_start(fleet: Fleet) -> None:
    fleet.stored.order(2)
    fleet.pay_for(1, since=NOON - hours(1))
    look(fleet.scaler())
    fleet.clock.pass_seconds(3600)
    fleet.pay_for(1, since=NOON + hours(0.5))
    look(fleet.scaler())
    assert fleet.rows.get_cost(FLEET, NOON.date()).dollars == pytest.approx(1 + 1 + 0.5, abs=1e-6)


def test_each_day_has_its_own_costs(fleet: Fleet) -> None:
    fleet.stored.order(1)
    fleet.clock.time = NOON.replace(hour=22)
    fleet.pay_for(1, since=fleet.clock.time - hours(1))
    look(fleet.scaler())
    fleet.clock.pass_seconds(3 * 3600)
    look(fleet.scaler())
    assert fleet.rows.get_cost(FLEET, date(2026, 5, 1)).dollars == pytest.approx(1.0, abs=1e-6)
    assert fleet.rows.get_cost(FLEET, date(2026, 5, 2)).dollars == pytest.approx(1.0, abs=1e-6)  # since midnight


def test_of_two_looks_at_once_one_meters(fleet: Fleet) -> None:
    fleet.stored.order(1)
    fleet.pay_for(1, since=NOON - hours(1))
    during = fleet.scaler()

    def instances() -> list[FleetInstance]:
        return fleet.paid

    def price_while_another_looks(_: FleetInstance) -> float:
        look(during)
        return 1.0

    scaler = replace(fleet.scaler(), instances=instances, price=price_while_another_looks)
    seen = look(scaler)
    assert fleet.rows.get_cost(FLEET, NOON.date()).dollars == pytest.approx(1.0, abs=1e-6)
    assert seen.costs.spent is not None
    assert seen.costs.spent.dollars == pytest.approx(1.0, abs=1e-6)


def test_a_limit_that_is_reached_pauses_the_fleet_until_midnight(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.stored.order(2)
    fleet.pay_for(2, since=NOON - hours(3))
    seen = only(look(fleet.scaler(max_cost_per_day=5.0)).groups)
    assert (seen.raised_to, seen.lowered_to, fleet.stored.desired) == (None, 0, 0)
    assert len(fleet.stored.instances) == 2
    pause = fleet.rows.get_pause(FLEET)
    assert pause is not None
    assert pause.until == datetime(2026, 5, 2, tzinfo=UTC)
    assert pause.reason == "6.00 dollars were spent on 2026-05-01, of 5.00 a day"


def test_below_the_limit_machines_are_added(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.stored.order(2)
    fleet.pay_for(2, since=NOON - hours(2))
    look(fleet.scaler(max_cost_per_day=5.0))
    assert (fleet.stored.desired, fleet.rows.get_pause(FLEET)) == (3, None)


def test_after_midnight_a_paused_fleet_goes_on(fleet: Fleet) -> None:
    fleet.submit(3)
    fleet.pay_for(2, since=NOON - hours(3))
    fleet.stored.order(2)
    look(fleet.scaler(max_cost_per_day=5.0))
    fleet.paid.clear()
    fleet.clock.time = datetime(2026, 5, 2, tzinfo=UTC)
    look(fleet.scaler(max_cost_per_day=5.0))
    assert fleet.stored.desired == 3


@pytest.mark.parametrize(("limit", "desired"), [(5.0, 0), (0.0, 3)], ids=["with a limit", "without a limit"])
def test_a_price_that_nobody_knows_stops_only_a_fleet_with_a_limit(fleet: Fleet, limit: float, desired: int) -> None:
    fleet.submit(3)
    fleet.stored.order(1)
    fleet.pay_for(1, since=NOON, instance_type="x9.huge")
    seen = look(replace(fleet.scaler(max_cost_per_day=limit), price=lambda _: None))
    assert fleet.stored.desired == desired
    assert ("the price of x9.huge is unknown" in only(seen.groups).reason) == bool(limit)
    assert len(seen.errors) == bool(limit)  # so that the alarm of the scaler tells


@pytest.mark.parametrize(("limit", "desired"), [(5.0, 0), (0.0, 3)], ids=["with a limit", "without a limit"])
def test_without_the_right_to_see_machines_a_limit_cannot_be_kept(fleet: Fleet, limit: float, desired: int) -> None:
    def refused() -> list[FleetInstance]:
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "DescribeInstances")

    fleet.submit(3)
    fleet.stored.order(1)
    seen = look(replace(fleet.scaler(max_cost_per_day=limit), instances=refused))
    assert fleet.stored.desired == desired
    assert "UnauthorizedOperation" in seen.errors[0]


def test_what_was_spent_counts_although_no_machine_is_left(fleet: Fleet) -> None:
    fleet.submit(3)
    spent = fleet.rows.get_cost(FLEET, NOON.date())
    fleet.rows.add_cost(spent, 6.0, NOON - hours(1))
    assert "has reached its limit" in only(look(fleet.scaler(max_cost_per_day=5.0)).groups).reason
    assert fleet.stored.desired == 0


def test_a_persons_pause_that_is_shorter_gives_way_to_that_of_the_limit(fleet: Fleet) -> None:
    fleet.rows.put_pause(FleetPause(fleet=FLEET, reason="lunch", paused_at=NOON, until=NOON + hours(1)))
    fleet.stored.order(2)
    fleet.pay_for(2, since=NOON - hours(3))
    look(fleet.scaler(max_cost_per_day=5.0))
    pause = fleet.rows.get_pause(FLEET)
    assert pause is not None
    assert pause.until == datetime(2026, 5, 2, tzinfo=UTC)


def test_the_last_minutes_of_a_machine_that_ended_are_paid(fleet: Fleet) -> None:
    fleet.stored.order(1)
    fleet.pay_for(1, since=NOON - hours(1))
    look(fleet.scaler())
    fleet.clock.pass_seconds(240)
    fleet.paid[0] = replace(fleet.paid[0], ended_at=NOON + timedelta(minutes=3))
    fleet.stored.end_an_instance()
    spent = look(fleet.scaler()).costs.spent
    assert spent is not None
    assert spent.dollars == pytest.approx(1.05, abs=1e-4)


def test_a_machine_that_comes_and_goes_between_two_looks_is_paid(fleet: Fleet) -> None:
    fleet.submit(1)
    look(fleet.scaler())
    fleet.stored.end_an_instance()
    fleet.pay_for(1, since=NOON + timedelta(minutes=1))
    fleet.paid[0] = replace(fleet.paid[0], ended_at=NOON + timedelta(minutes=4))
    fleet.clock.pass_seconds(300)
    spent = look(fleet.scaler()).costs.spent
    assert spent is not None
    assert spent.dollars == pytest.approx(0.05, abs=1e-4)


def test_a_retry_by_a_clock_that_is_ahead_gets_its_machine_at_once(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    fleet.queue.fail(fleet.claim(), HANG)
    due = fleet.client.get_job(job.job_id, consistent=True).not_before
    assert due is not None
    fleet.clock.time = due - timedelta(seconds=20)
    look(fleet.scaler(), [job.job_id])
    assert fleet.stored.desired == 1


def test_an_idle_fleet_asks_ec2_nothing(fleet: Fleet) -> None:
    asked: list[str] = []

    def instances() -> list[FleetInstance]:
        asked.append("instances")
        return []

    look(replace(fleet.scaler(), instances=instances))
    assert asked == []


def test_machines_of_the_fleet_are_found_by_their_tag(fleet: Fleet) -> None:
    fleet.stored.order(2)
    fleet.stored.end_an_instance()
    ec2 = boto3.client("ec2", region_name=REGION)
    assert [(each.instance_id, each.instance_type, each.spot) for each in list_instances(ec2, FLEET)] == [
        (fleet.stored.instances[0], TYPE, False)
    ]
    assert list_instances(ec2, "another-fleet") == []
    ended = [each.ended_at for each in list_instances(ec2, FLEET, PAID) if each.ended_at]
    assert [each.tzinfo for each in ended] == [UTC]
