"""An autoscaling group as the scaler sees it: its figures, what it started lately, and its capacity raised.

How many machines a queue needs, and when to try again after machines that ended without taking a job: pure.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from receipt_dynamo import utcnow

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import ActivityTypeDef, AutoScalingGroupTypeDef


class GroupMissing(Exception):
    """No autoscaling group has this name here."""


class NotSettled(Exception):
    """The group is being changed and takes no new capacity just now."""


@dataclass(frozen=True)
class GroupFigures:
    """A group as it was read: machines wanted and allowed, which there are, why it cannot start any (or None)."""

    desired: int
    largest: int
    instances: frozenset[str]
    unsettled: str | None
    read_at: datetime


@dataclass(frozen=True)
class Launch:
    """One start of a machine."""

    instance_id: str
    started_at: datetime


@dataclass(frozen=True)
class Group:
    """One group and the queue it serves. The three calls go to AWS, or to a simulation."""

    name: str
    queue: str
    maximum: int
    read: Callable[[], GroupFigures]
    launches: Callable[[datetime], Sequence[Launch]]
    raise_to: Callable[[int], None]


def aws_group(
    client: "AutoScalingClient", name: str, queue: str, maximum: int, now: Callable[[], datetime] = utcnow
) -> Group:
    """A group of the account that `client` belongs to. Its calls raise ClientError, GroupMissing and NotSettled."""
    return Group(
        name=name,
        queue=queue,
        maximum=maximum,
        read=partial(_read, client, name, now),
        launches=partial(_launches, client, name),
        raise_to=partial(_raise_to, client, name),
    )


def _read(client: "AutoScalingClient", name: str, now: Callable[[], datetime]) -> GroupFigures:
    read_at = now()
    found = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not found:
        raise GroupMissing(f"there is no autoscaling group {name!r}: 'layoutlm-cli fleet deploy' makes it")
    group = found[0]
    # one that ends, or has ended but is still listed, takes no job any more
    alive = [each for each in group.get("Instances", []) if not each["LifecycleState"].startswith("Termina")]
    return GroupFigures(
        desired=group["DesiredCapacity"],
        largest=group["MaxSize"],
        instances=frozenset(each["InstanceId"] for each in alive),
        unsettled=_unsettled(group),
        read_at=read_at,
    )


def _unsettled(group: "AutoScalingGroupTypeDef") -> str | None:
    if group.get("Status"):  # set only while the group is being deleted
        return f"the group is being deleted ({group['Status']})"
    if any(each.get("ProcessName") == "Launch" for each in group.get("SuspendedProcesses", [])):
        return "its Launch process is suspended"
    return None


def _launches(client: "AutoScalingClient", name: str, since: datetime) -> list[Launch]:
    """All from `since` on: the newest activities come first, page after page."""
    launches: list[Launch] = []
    for page in client.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=name):
        recent = [each for each in page["Activities"] if each["StartTime"] >= since]
        launches += [launch for each in recent if (launch := _launch(each)) is not None]
        if len(recent) < len(page["Activities"]):
            break
    return launches


def _launch(activity: "ActivityTypeDef") -> Launch | None:
    started = re.fullmatch(r"Launching a new EC2 instance: (i-[0-9a-f]+)", activity.get("Description", ""))
    return Launch(started[1], activity["StartTime"]) if started else None


def _raise_to(client: "AutoScalingClient", name: str, capacity: int) -> None:
    """Never lowers it: somebody else may have raised it further since it was read."""
    if _read(client, name, utcnow).desired >= capacity:
        return
    # a rebalance between zones would end busy machines, and CloudFormation has no property against it; it stays so
    client.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["AZRebalance"])
    try:
        client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=capacity, HonorCooldown=False)
    except (client.exceptions.ScalingActivityInProgressFault, client.exceptions.ResourceContentionFault) as busy:
        raise NotSettled(str(busy)) from busy


SHORTEST_TRIAL = timedelta(minutes=5)  # as long as an idle machine waits before it ends itself
LONGEST_TRIAL = timedelta(hours=1)


def desired_workers(claimable_now: int, running: int, slots: int, maximum: int, budget: float | None) -> int:
    """Machines wanted: enough for what can be claimed now and what runs, `slots` jobs on each.

    `claimable_now` are jobs that are due; one that waits buys nothing. `maximum` 0 is no machine, not any number.
    `budget` is what is left of the day's dollars, None without a limit; once nothing is left, nothing is wanted.
    """
    if slots < 1 or min(claimable_now, running, maximum) < 0:
        raise ValueError(f"{claimable_now=}, {running=} and {maximum=} cannot be negative, nor {slots=} less than 1")
    if budget is not None and budget <= 0:
        return 0
    return min(maximum, -(-(claimable_now + running) // slots))


def next_trial_at(ended: Sequence[datetime]) -> datetime | None:
    """When the next machine may start, after `ended`: the starts of machines that are gone without a job.

    None when there is nothing of the kind. Each wait is as long as the trials before it took together, so the time
    between two doubles, up to an hour: a wheel that does not start costs one machine's boot a trial, all day long.
    """
    if not ended:
        return None
    last = max(ended)
    return last + min(max(last - min(ended), SHORTEST_TRIAL), LONGEST_TRIAL)
