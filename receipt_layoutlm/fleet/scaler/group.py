"""An autoscaling group as the scaler uses it, and the pure decisions about its size.

A group is read, asked for recent launches, and raised. The decisions are the number of machines for a backlog, and the
time of the next launch after machines that ended without claiming a job.
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


class GroupMissing(Exception):
    """The autoscaling group does not exist in this account and region."""


class NotSettled(Exception):
    """The group is being changed and accepts no new capacity at the moment."""


@dataclass(frozen=True)
class GroupFigures:
    """Desired and maximum size of a group, its instances, and the reason why it cannot launch any (or None)."""

    desired: int
    largest: int
    instances: frozenset[str]
    unsettled: str | None
    read_at: datetime


@dataclass(frozen=True)
class Launch:
    """The launch of one machine."""

    instance_id: str
    started_at: datetime


@dataclass(frozen=True)
class Group:
    """One group and the queue that it serves. The three calls go to AWS, or to a simulation."""

    name: str
    queue: str
    maximum: int
    read: Callable[[], GroupFigures]
    launches: Callable[[datetime], Sequence[Launch]]
    raise_to: Callable[[int], None]


def aws_group(
    client: "AutoScalingClient", name: str, queue: str, maximum: int, now: Callable[[], datetime] = utcnow
) -> Group:
    """A group in the client's account. Its calls raise ClientError, GroupMissing and NotSettled."""
    return Group(
        name=name,
        queue=queue,
        maximum=maximum,
        read=partial(_read, client, name, now),
        launches=partial(_launches, client, name),
        raise_to=partial(_raise_to, client, name, now),
    )


def _read(client: "AutoScalingClient", name: str, now: Callable[[], datetime]) -> GroupFigures:
    read_at = now()
    groups = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not groups:
        raise GroupMissing(f"there is no autoscaling group {name!r}: create it with `layoutlm-cli fleet deploy`")
    group = groups[0]
    unsettled = None
    if group.get("Status"):  # set only while the group is being deleted
        unsettled = f"the group is being deleted ({group['Status']})"
    elif any(process.get("ProcessName") == "Launch" for process in group.get("SuspendedProcesses", [])):
        unsettled = "its Launch process is suspended"
    # terminating machines, and terminated ones that are still listed, claim no job any more
    alive = [each for each in group.get("Instances", []) if not each["LifecycleState"].startswith("Termina")]
    return GroupFigures(
        desired=group["DesiredCapacity"],
        largest=group["MaxSize"],
        instances=frozenset(each["InstanceId"] for each in alive),
        unsettled=unsettled,
        read_at=read_at,
    )


def _launches(client: "AutoScalingClient", name: str, since: datetime) -> list[Launch]:
    """All launches since a time; activities are listed newest first, page by page."""
    launches: list[Launch] = []
    for page in client.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=name):
        recent = [activity for activity in page["Activities"] if activity["StartTime"] >= since]
        for activity in recent:
            match = re.fullmatch(r"Launching a new EC2 instance: (i-[0-9a-f]+)", activity.get("Description", ""))
            if match:
                launches.append(Launch(match[1], activity["StartTime"]))
        if len(recent) < len(page["Activities"]):
            break
    return launches


def _raise_to(client: "AutoScalingClient", name: str, now: Callable[[], datetime], capacity: int) -> None:
    """Never lowers the capacity: another call may have raised it further since it was read."""
    if _read(client, name, now).desired >= capacity:
        return
    # rebalancing between zones would terminate busy machines, and CloudFormation has no property to disable it
    client.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["AZRebalance"])
    try:
        client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=capacity, HonorCooldown=False)
    except (client.exceptions.ScalingActivityInProgressFault, client.exceptions.ResourceContentionFault) as busy:
        raise NotSettled(str(busy)) from busy


SHORTEST_TRIAL = timedelta(minutes=5)  # the time after which an idle machine terminates itself
LONGEST_TRIAL = timedelta(hours=1)


def desired_workers(claimable_now: int, running: int, slots: int, maximum: int, budget: float | None) -> int:
    """The number of machines for all claimable and running jobs, with `slots` jobs on each.

    `claimable_now` counts jobs that are due, not those waiting for a retry. A `maximum` of 0 allows no machine.
    `budget` is the rest of the day's dollars, None without a limit; an exhausted budget allows no machine.
    """
    if slots < 1 or min(claimable_now, running, maximum) < 0:
        raise ValueError(f"{claimable_now=}, {running=} and {maximum=} cannot be negative, nor {slots=} less than 1")
    if budget is not None and budget <= 0:
        return 0
    return min(maximum, -(-(claimable_now + running) // slots))


def next_trial_at(ended: Sequence[datetime]) -> datetime | None:
    """The earliest time of the next launch, after `ended`: the launch times of machines that ended without a job.

    None without such machines. Each wait is as long as all trials before it together, so the interval doubles, up to
    an hour: a broken wheel costs one machine's boot per trial, all day long.
    """
    if not ended:
        return None
    last = max(ended)
    return last + min(max(last - min(ended), SHORTEST_TRIAL), LONGEST_TRIAL)
