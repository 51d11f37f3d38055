"""Looks at fleets of which something goes wrong: machines that switch off, hang or never come, and looks at once."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import boto3
import pytest
from botocore.stub import Stubber

from receipt_dynamo import DynamoClient, FleetPause, FleetWarmUp, ServedQueue
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.failures import plain
from receipt_layoutlm.fleet.scaler.figures import GroupLook, Scaler, ScalerTimes
from receipt_layoutlm.fleet.scaler.group import (
    FailedLaunch,
    Group,
    GroupChanged,
    GroupFigures,
    Launch,
    NotSettled,
    aws_group,
    newest_failure,
)
from receipt_layoutlm.fleet.scaler.lock import LOCK_SECONDS, LookBusy, look_alone
from receipt_layoutlm.fleet.scaler.look import look
from tests.support.fleets import FLEET, NO_IMAGES, NOON, REGION, TYPE, ZONE, Fleet, activity, lagging_index, make_group
from tests.support.stores import Clock

pytestmark = pytest.mark.engine


@pytest.fixture
def fleet(moto_aws: None, table_name: str, dynamo_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv(*NO_IMAGES)
    return Fleet(DynamoClient(table_name, endpoint_url=dynamo_endpoint), make_group(f"{FLEET}-workers"), Clock(NOON))


def only(looks: Sequence[GroupLook]) -> GroupLook:
    (one,) = looks
    return one


def minutes(many: float) -> timedelta:
    return timedelta(minutes=many)


def figures(fleet: Fleet, desired: int, *instances: str, starting: Sequence[str] = ()) -> GroupFigures:
    return GroupFigures(desired, 8, frozenset(instances), None, fleet.clock(), frozenset(starting))


def in_group(fleet: Fleet, seen: GroupFigures, **more: object) -> tuple[Group, list[int]]:
    """A group with these figures, and what it is set to: moto fills each order at once, and has no failures."""
    set_to: list[int] = []
    group = replace(
        fleet.group(),
        read=lambda: replace(seen, read_at=fleet.clock()),
        raise_to=set_to.append,
        lower_to=lambda capacity, _seen: set_to.append(capacity),
        launches=lambda _since: [],
        failure=lambda: None,
        **more,  # type: ignore[arg-type]
    )
    return group, set_to


# where no machine may be started, the wish is the number of busy ones


def test_an_order_for_which_no_job_waits_any_more_goes_back(fleet: Fleet) -> None:
    jobs = fleet.submit(4)
    group, set_to = in_group(fleet, figures(fleet, 4))
    for job in jobs:
        fleet.queue.cancel(job.job_id)
    assert only(look(fleet.scaler(group)).groups).lowered_to == 0
    assert set_to == [0]


def test_machines_that_switch_off_on_an_empty_queue_are_not_replaced_and_busy_ones_stay(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.stored.order(3)
    busy = fleet.stored.instances[0]
    fleet.claim(instance_id=busy)
    assert only(look(fleet.scaler()).groups).lowered_to == 1
    assert fleet.stored.desired == 1
    assert busy in fleet.stored.instances
    assert len(fleet.stored.instances) == 3  # all are protected: they end themselves


def test_a_paused_fleet_replaces_no_machine_either(fleet: Fleet) -> None:
    fleet.submit(3)
    group, set_to = in_group(fleet, figures(fleet, 4, "i-00000001", "i-00000002"))
    fleet.claim(instance_id="i-00000002")
    fleet.rows.put_pause(FleetPause(fleet=FLEET, reason="a rest", paused_at=NOON, until=NOON + minutes(60)))
    seen = only(look(fleet.scaler(group)).groups)
    assert (seen.lowered_to, set_to, seen.hold) == (1, [1], "paused until 2026-05-01 13:00 UTC: a rest")


def test_between_two_trials_a_machine_that_switches_off_is_not_replaced(fleet: Fleet) -> None:
    fleet.submit(3)
    group, set_to = in_group(fleet, figures(fleet, 3))
    fleet.clock.pass_seconds(600)
    ended = [Launch("i-00000009", NOON + minutes(6))]
    seen = only(look(fleet.scaler(replace(group, launches=lambda _since: ended))).groups)
    assert (seen.lowered_to, set_to) == (0, [0])
    assert seen.hold == "machines ended without claiming a job: the next launch is at 12:11 UTC"


def test_a_trial_that_is_starting_is_not_called_off(fleet: Fleet) -> None:
    fleet.submit(3)
    group, set_to = in_group(fleet, figures(fleet, 3, "i-00000007", starting=["i-00000007"]))
    fleet.clock.pass_seconds(600)
    launches = [Launch("i-00000009", NOON + minutes(1)), Launch("i-00000007", NOON + minutes(9.5))]
    look(fleet.scaler(replace(group, launches=lambda _since: launches)))
    assert set_to == [1]


def test_an_order_that_is_larger_than_the_need_goes_back_as_far_as_no_machine_came(fleet: Fleet) -> None:
    fleet.submit(1)
    group, set_to = in_group(fleet, figures(fleet, 4, "i-00000001", "i-00000002"))
    look(fleet.scaler(group))
    assert set_to == [2]


def test_a_group_that_changed_since_it_was_read_is_not_lowered_under_the_new_machine(fleet: Fleet) -> None:
    fleet.stored.order(2)
    first = iter([fleet.group().read()])
    fleet.submit(1)

    def read() -> GroupFigures:
        stale = next(first, None)
        return fleet.group().read() if stale is None else replace(stale, desired=3)

    look(fleet.scaler(replace(fleet.group(), read=read)))
    assert (fleet.stored.desired, len(fleet.stored.instances)) == (2, 2)


def test_an_order_is_not_taken_back_because_the_index_lags(fleet: Fleet) -> None:
    fleet.submit(2)
    look(fleet.scaler())
    lagging_index(fleet.client, "GSI3")
    fleet.clock.pass_seconds(20)
    look(fleet.scaler())
    assert fleet.stored.desired == 2
    fleet.clock.pass_seconds(60)  # an index that is still behind is not the reason
    look(fleet.scaler())
    assert fleet.stored.desired == 0


def test_machines_that_a_person_ordered_ahead_stay_ordered_for_as_long_as_a_boot(fleet: Fleet) -> None:
    group, set_to = in_group(fleet, figures(fleet, 3))
    fleet.rows.put_warm_up(FleetWarmUp(fleet=FLEET, machines=2, until=NOON + minutes(20)))
    look(fleet.scaler(group))
    assert set_to == [2]
    fleet.clock.pass_seconds(1201)
    look(fleet.scaler(group))
    assert set_to == [2, 0]


# one look at a time


def test_a_second_look_waits_until_the_first_has_ended(fleet: Fleet) -> None:
    fleet.submit(1)
    waited, ended = threading.Event(), threading.Event()
    second = threading.Thread(target=lambda: look_alone(fleet.scaler(), ["any"], wait))
    order: list[str] = []

    def wait(_seconds: float) -> None:
        waited.set()
        assert ended.wait(30)

    def price(_machine: FleetInstance) -> float:
        second.start()
        assert waited.wait(30)
        order.append("first")
        return 1.0

    fleet.stored.order(1)
    fleet.pay_for(1, since=NOON)
    look_alone(replace(fleet.scaler(), price=price), [], lambda _: None)
    ended.set()
    second.join(30)
    assert order == ["first"] and not second.is_alive()


def test_a_look_leaves_its_work_to_one_that_began_later_unless_it_names_jobs(fleet: Fleet) -> None:
    def another(_seconds: float) -> None:
        fleet.clock.pass_seconds(5)
        fleet.rows.release_lock(FLEET, "the first")
        assert fleet.rows.take_lock(FLEET, "the second", LOCK_SECONDS) is None

    assert fleet.rows.take_lock(FLEET, "the first", LOCK_SECONDS) is None
    assert look_alone(fleet.scaler(), [], another) is None
    with pytest.raises(LookBusy, match="12:00:05"):
        look_alone(fleet.scaler(), ["a job"], lambda _: None)


def test_the_lock_of_a_look_that_died_expires(fleet: Fleet) -> None:
    assert fleet.rows.take_lock(FLEET, "dead", LOCK_SECONDS) is None
    fleet.clock.pass_seconds(LOCK_SECONDS + 1)
    assert look_alone(fleet.scaler(), ["a job"], lambda _: None) is not None


@pytest.mark.parametrize("expires_at", [{"S": "9999-12-31T00:00:00.000000+00:00"}, {"N": "7"}, None])
def test_a_lock_that_no_look_wrote_stops_nobody(fleet: Fleet, expires_at: dict[str, str] | None) -> None:
    row = {"PK": {"S": f"FLEET#{FLEET}"}, "SK": {"S": "LOCK"}, **({"expires_at": expires_at} if expires_at else {})}
    fleet.client.raw.put_item(TableName=fleet.client.table_name, Item=row)  # type: ignore[arg-type]
    assert look_alone(fleet.scaler(), [], lambda _: None) is not None


# machines that hang


def hanging(fleet: Fleet, age: float) -> tuple[Scaler, str]:
    """A fleet whose machines are this many minutes old."""
    fleet.stored.order(2)
    since = fleet.clock() - minutes(age)
    fleet.paid = [FleetInstance(each, TYPE, True, ZONE, since) for each in fleet.stored.instances]
    return fleet.scaler(), fleet.stored.instances[0]


@pytest.mark.parametrize(("age", "replaced"), [(34.9, 0), (35.1, 1)])
def test_a_machine_without_a_lease_long_after_boot_and_idle_time_is_replaced_one_a_look(
    fleet: Fleet, age: float, replaced: int
) -> None:
    scaler, _ = hanging(fleet, age)
    before = set(fleet.stored.instances)
    seen = look(scaler)
    health = {each["InstanceId"]: each["HealthStatus"] for each in fleet.stored.described()["Instances"]}
    assert len(before - {name for name, status in health.items() if status == "Healthy"}) == replaced
    assert (seen.replaced is not None) is bool(replaced)
    assert fleet.stored.desired == 0  # lowered before


def test_a_machine_with_a_lease_or_one_that_has_just_ended_a_job_is_left(fleet: Fleet) -> None:
    scaler, machine = hanging(fleet, 600)
    busy = fleet.stored.instances[1]
    fleet.submit(1)
    fleet.claim(instance_id=busy)
    fleet.rows.note_claim(FLEET, machine)
    assert look(scaler).replaced is None
    fleet.clock.pass_seconds(901)  # idle and the margin
    fleet.queue.renew(fleet.queue.held()[0][1])
    assert look(scaler).replaced == machine


def test_the_times_of_the_settings_decide_when_a_machine_hangs(fleet: Fleet) -> None:
    scaler, _ = hanging(fleet, 30)
    assert look(scaler).replaced is None
    fleet.stored.order(2)
    quick = ScalerTimes(boot_deadline_minutes=10, idle_minutes=5)
    assert look(replace(scaler, times=quick)).replaced is not None


@pytest.mark.parametrize(
    ("desired", "starting", "error", "lowered", "is_replaced"),
    [
        (2, (), None, [1], True),  # two jobs wait: lowered for the one that hangs, and ordered again later
        (4, (), None, [2, 1], True),  # orders that no job needs went back before
        (2, (), NotSettled("busy"), [], False),
        (2, (), GroupChanged("another machine came"), [], False),
        (2, ("i-00000002",), None, [], False),  # the lower capacity would end the one that is starting
    ],
)
def test_a_machine_that_hangs_ends_once_the_capacity_has_no_place_for_it(
    fleet: Fleet,
    desired: int,
    starting: Sequence[str],
    error: Exception | None,
    lowered: list[int],
    is_replaced: bool,
) -> None:
    fleet.submit(2)
    names, ended, order = ("i-00000001", "i-00000002"), list[str](), list[object]()
    fleet.paid = [FleetInstance(names[0], TYPE, True, ZONE, NOON - minutes(600))]
    seen = figures(fleet, desired, *names, starting=starting)
    group, set_to = in_group(fleet, seen, replace=lambda name: (ended.append(name), order.append(list(set_to))))

    def lower_to(capacity: int, _seen: GroupFigures) -> None:
        if error is not None:
            raise error
        set_to.append(capacity)

    result = look(fleet.scaler(replace(group, lower_to=lower_to)))
    assert (result.replaced, ended) == ((names[0], [names[0]]) if is_replaced else (None, []))
    assert set_to == lowered
    assert order == ([lowered] if is_replaced else []), "lowered first"


def test_machines_of_unknown_price_are_not_replaced_when_they_switch_off(fleet: Fleet) -> None:
    """The limit cannot be enforced: none is ordered, those that start may still take a job, and no other is kept."""
    fleet.submit(3)
    names = ("i-00000001", "i-00000002", "i-00000003")
    group, set_to = in_group(fleet, figures(fleet, 3, *names, starting=names[2:]))
    fleet.claim(instance_id=names[0])
    fleet.paid = [FleetInstance(name, TYPE, True, ZONE, NOON) for name in names]
    scaler = replace(fleet.scaler(group, max_cost_per_day=5.0), price=lambda _: None)
    seen = only(look(scaler).groups)
    assert (set_to, seen.lowered_to) == ([2], 2)
    assert seen.hold == f"the price of {TYPE} is unknown: give a price table"


# machines that never come


NEVER = FailedLaunch("Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count", NOON)


def ondemand(fleet: Fleet, maximum: int = 1) -> Group:
    group, _ = in_group(fleet, figures(fleet, 0))
    return replace(group, name="ondemand", queue="default.ondemand", maximum=maximum)


def test_a_job_that_waited_while_no_ordered_machine_came_moves_to_the_on_demand_queue(fleet: Fleet) -> None:
    first, second = fleet.submit(2)
    spot, _ = in_group(fleet, figures(fleet, 2))
    scaler = fleet.scaler(spot, ondemand(fleet))
    assert look(scaler).moved == []
    fleet.clock.pass_seconds(1150)
    assert look(scaler).moved == []
    fleet.clock.pass_seconds(60)
    (moved,) = look(scaler).moved
    assert (moved.job_id, moved.queue) == (first.job_id, "default.ondemand")
    assert [job.job_id for job in fleet.client.iter_queue("default.ondemand")] == [first.job_id]
    assert look(scaler).moved == []  # there is one place: the other may still get a spot machine
    assert fleet.client.get_job(second.job_id).queue == "default"


def test_jobs_for_which_no_on_demand_machine_comes_either_go_back_and_rest_there(fleet: Fleet) -> None:
    """As without a quota of on-demand machines: the group orders, and gets nothing."""
    (job,) = fleet.submit(1)
    (own,) = fleet.submit(1, queue="default.ondemand")  # where a person wants it
    spot, _ = in_group(fleet, figures(fleet, 1))
    market, _ = in_group(fleet, figures(fleet, 2))
    other = replace(market, name="ondemand", queue="default.ondemand", maximum=2)
    wide = replace(other, failure=lambda: NEVER)
    queues = []
    for _ in range(20):  # a look every five minutes
        look(fleet.scaler(spot, wide))
        queues.append(fleet.client.get_job(job.job_id).queue)
        fleet.clock.pass_seconds(300)
    assert fleet.client.get_job(own.job_id).queue == "default.ondemand"
    assert "default.ondemand" not in queues, "the group is known not to deliver"


def test_a_job_alternates_between_two_markets_that_deliver_nothing(fleet: Fleet) -> None:
    (job,) = fleet.submit(1)
    spot, _ = in_group(fleet, figures(fleet, 1))
    market, _ = in_group(fleet, figures(fleet, 1))
    scaler = fleet.scaler(spot, replace(market, name="ondemand", queue="default.ondemand", maximum=1))
    queues = []
    for _ in range(24):  # a look every five minutes
        look(scaler)
        queues.append(fleet.client.get_job(job.job_id).queue.removeprefix("default"))
        fleet.clock.pass_seconds(300)
    changes = [number for number in range(1, 24) if queues[number] != queues[number - 1]]
    assert queues[0] == "" and queues[changes[0]] == ".ondemand"
    assert min(after - before for before, after in pairwise(changes)) >= 4, "20 minutes in each"
    assert len(changes) >= 3, queues


@pytest.mark.parametrize(
    ("case", "moves"),
    [("as it is", 1), ("never", 0), ("no group", 0), ("one came", 0), ("not ordered", 0), ("longer", 0)],
)
def test_only_an_order_that_is_not_filled_moves_jobs(fleet: Fleet, case: str, moves: int) -> None:
    fleet.submit(1)
    spot, _ = in_group(fleet, figures(fleet, 1, *(["i-00000001"] if case == "not ordered" else [])))
    if case == "one came":
        spot = replace(spot, launches=lambda since: [Launch("i-00000001", since + minutes(1))])
    times = ScalerTimes(ondemand_wait_minutes={"never": 0, "longer": 60}.get(case, 20))
    groups = [spot] if case == "no group" else [spot, ondemand(fleet)]
    scaler = replace(fleet.scaler(*groups), times=times)
    look(scaler)
    fleet.clock.pass_seconds(1300)
    assert len(look(scaler).moved) == moves


def test_why_no_machine_comes_is_kept_for_whoever_asks_about_the_queue(fleet: Fleet) -> None:
    fleet.submit(1)
    spot, _ = in_group(fleet, figures(fleet, 1))
    look(fleet.scaler(replace(spot, failure=lambda: NEVER)))
    served = fleet.rows.get_served("default")
    assert served is not None and served.fleet == FLEET
    assert served.unfilled_since is not None and abs(served.unfilled_since - NOON) < minutes(1)
    assert "quota for spot machines is used up, or 0 (MaxSpotInstanceCountExceeded)" in served.trouble
    assert "2026-05-01 12:00 UTC" in served.trouble


def test_a_job_that_no_machine_comes_for_is_told_once(fleet: Fleet) -> None:
    (job,) = fleet.submit(1, notify="team")
    spot, _ = in_group(fleet, figures(fleet, 1))
    told = list[str]()

    def one_look() -> None:
        scaler = fleet.scaler(replace(spot, failure=lambda: NEVER))
        scaler = replace(scaler, deliver=lambda _target, alert: told.append(alert.message))
        look(scaler)
        scaler.alerts.wait()

    one_look()
    fleet.clock.pass_seconds(590)
    one_look()
    assert told == [], "a machine takes some minutes"
    for _ in range(3):
        fleet.clock.pass_seconds(60)
        one_look()
    (message,) = told
    assert "job-0 has waited" in message and "MaxSpotInstanceCountExceeded" in message
    (row,) = fleet.client.list_job_alerts(job.job_id)
    assert (row.kind, row.level, row.raised_by) == ("waits_for_capacity", "warning", f"scaler of {FLEET}")


def test_a_machine_that_comes_ends_the_trouble(fleet: Fleet) -> None:
    fleet.submit(1)
    spot, _ = in_group(fleet, figures(fleet, 1))
    look(fleet.scaler(replace(spot, failure=lambda: NEVER)))
    fleet.clock.pass_seconds(60)
    look(fleet.scaler(in_group(fleet, figures(fleet, 1, "i-00000001"))[0]))
    served = fleet.rows.get_served("default")
    assert served is not None and (served.unfilled_since, served.trouble) == (None, "")


def test_an_idle_fleet_writes_what_it_remembers_every_ten_minutes_only(fleet: Fleet) -> None:
    for _ in range(5):
        look(fleet.scaler())
        fleet.clock.pass_seconds(150)
    served = fleet.rows.get_served("default")
    assert served is not None and NOON + minutes(9) < served.seen_at < NOON + minutes(11)


def test_a_queue_that_another_fleet_serves_is_left_to_it(fleet: Fleet) -> None:
    fleet.submit(1)
    fleet.rows.put_served(ServedQueue(queue="default", fleet="another", seen_at=NOON))
    seen = look(fleet.scaler())
    assert fleet.stored.desired == 0
    assert "served by fleet 'another'" in seen.errors[0]
    fleet.clock.pass_seconds(1801)  # it has gone
    look(fleet.scaler())
    assert fleet.stored.desired == 1


# reasons of AWS


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Max spot instance count exceeded. Launching EC2 instance failed.", "quota for spot machines"),
        ("You have requested more vCPU capacity than your current vCPU limit of 0 allows for", "vCPU quota"),
        (
            "There is no Spot capacity available that matches your request. Launching EC2 instance failed.",
            "no capacity",
        ),
        (
            "We currently do not have sufficient g5.xlarge capacity in the Availability Zone you requested",
            "no capacity",
        ),
        ("Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity", "no capacity"),
        ("Instance became unhealthy. Termination Reason: Client.InternalError: Client error on launch", "KMS key"),
        ("The default Service-Linked Role for Auto Scaling could not be assumed", "service-linked role"),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted - The provided credentials do not", "service-linked role"),
        ("Your requested instance type (g6.xlarge) is not supported in your requested Availability Zone", "zones"),
        ("The image id '[ami-0]' does not exist. Launching EC2 instance failed.", "image does not exist"),
        ("Your request for accessing resources in this region is being validated", "not released the account"),
        ("Something   new\nof AWS", "Something new of AWS"),
    ],
)
def test_reasons_are_told_in_plain_words(reason: str, words: str) -> None:
    assert words in plain(reason)


FAILED = activity("Launching a new EC2 instance.  Status Reason: no capacity", "Failed", "no capacity")
DIED = activity("Launching a new EC2 instance: i-0123456789abcdef0.  Status Reason: Client.InternalError", "Cancelled")
LAUNCHED = activity("Launching a new EC2 instance: i-0123456789abcdef1", "Successful")
CALLED_OFF = activity("Launching a new EC2 instance", "Cancelled")
UNDER_WAY = activity("Launching a new EC2 instance", "InProgress")
ENDED = activity("Terminating EC2 instance: i-0123456789abcdef1", "Failed", "protected from scale-in")


@pytest.mark.parametrize(
    ("activities", "reason"),
    [
        ([FAILED], "no capacity"),
        ([UNDER_WAY, CALLED_OFF, ENDED, FAILED], "no capacity"),
        ([LAUNCHED, FAILED], None),
        ([DIED, LAUNCHED], "Client.InternalError"),
        ([], None),
    ],
)
def test_the_newest_failure_counts_unless_a_launch_succeeded_after_it(
    activities: list[dict[str, object]], reason: str | None
) -> None:
    client = boto3.client("autoscaling", region_name=REGION)
    with Stubber(client) as stub:
        stub.add_response("describe_scaling_activities", {"Activities": activities})
        failure = newest_failure(client, "a-group")
    assert (failure and failure.reason) == reason


def test_a_machine_that_died_at_its_launch_is_no_machine_that_came() -> None:
    """It costs nothing, so no trial is due: its reason is shown, and jobs move to the on-demand group after a while."""
    client = boto3.client("autoscaling", region_name=REGION)
    with Stubber(client) as stub:
        stub.add_response("describe_scaling_activities", {"Activities": [DIED, FAILED, LAUNCHED]})
        launches: Callable[[datetime], Sequence[Launch]] = aws_group(client, "a-group", "default", 4).launches
        assert [each.instance_id for each in launches(NOON)] == ["i-0123456789abcdef1"]
