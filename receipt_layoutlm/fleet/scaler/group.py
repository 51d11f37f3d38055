"""An autoscaling group as the scaler uses it: read, asked for launches and failures, raised and lowered."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from receipt_dynamo import utcnow

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import ActivityTypeDef, AutoScalingGroupTypeDef


# a launch that fails has its reason in the description too, after "Status Reason:", even when an instance was made
_LAUNCH: Final = re.compile(r"Launching a new EC2 instance(?:: (i-[0-9a-f]+))?\b")
_REASON: Final = re.compile(r"Status Reason: (.+)", re.DOTALL)
_FAILED: Final = ("Failed", "Cancelled")  # states of an activity
_SUSPENDED_BY_SCALER: Final = "AZRebalance"
_MOST_ACTIVITIES: Final = 1000  # read for the launches of one look: a job may have waited for weeks
_NEWEST: Final = 50  # activities read for the newest failure


class GroupMissing(Exception):
    """The autoscaling group does not exist in this account and region."""


class NotSettled(Exception):
    """The group is being changed and accepts no new capacity at the moment."""


class GroupChanged(Exception):
    """The group is not as it was seen: decide again."""


@dataclass(frozen=True)
class GroupFigures:
    """Desired and maximum size of a group, its instances, and the reason why it cannot launch any (or None).

    A lower capacity may end the `starting` instances, which are not in service yet, or not protected; no others.
    """

    desired: int
    largest: int
    instances: frozenset[str]
    unsettled: str | None
    read_at: datetime
    starting: frozenset[str] = frozenset()
    is_being_deleted: bool = False


@dataclass(frozen=True)
class Launch:
    """The launch of one machine."""

    instance_id: str
    started_at: datetime


@dataclass(frozen=True)
class FailedLaunch:
    """A launch that brought no machine, with the reason as AWS gives it."""

    reason: str
    at: datetime


@dataclass(frozen=True)
class Group:
    """One group and the queue that it serves. The calls go to AWS, or to a simulation.

    `raise_to` never lowers the capacity; `lower_to` lowers it while the group is as it was seen, else it raises
    GroupChanged. `replace` has an instance terminated, whether it is protected or not.
    """

    name: str
    queue: str
    maximum: int
    read: Callable[[], GroupFigures]
    launches: Callable[[datetime], Sequence[Launch]]
    raise_to: Callable[[int], None]
    lower_to: Callable[[int, GroupFigures], None]
    replace: Callable[[str], None]
    failure: Callable[[], FailedLaunch | None]


def aws_group(
    client: "AutoScalingClient", name: str, queue: str, maximum: int, now: Callable[[], datetime] = utcnow
) -> Group:
    """A group in the client's account. Its calls raise ClientError, GroupMissing, GroupChanged and NotSettled."""
    return Group(
        name=name,
        queue=queue,
        maximum=maximum,
        read=partial(_read, client, name, now),
        launches=partial(_launches, client, name),
        raise_to=partial(_raise_to, client, name, now),
        lower_to=partial(_lower_to, client, name, now),
        replace=partial(_replace, client),
        failure=partial(newest_failure, client, name),
    )


def _read(client: "AutoScalingClient", name: str, now: Callable[[], datetime]) -> GroupFigures:
    read_at = now()
    groups = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not groups:
        raise GroupMissing(f"there is no autoscaling group {name!r}: create it with `layoutlm-cli fleet deploy`")
    group = groups[0]
    status = group.get("Status")  # set only while the group is being deleted
    unsettled = None
    if status:
        unsettled = f"the group is being deleted ({status})"
    elif "Launch" in suspended_of(group):
        unsettled = "its Launch process is suspended: `layoutlm-cli fleet resume` resumes it"
    # terminating machines, and terminated ones that are still listed, claim no job any more
    alive = [each for each in group.get("Instances", []) if not each["LifecycleState"].startswith("Termina")]
    starting = (each for each in alive if each["LifecycleState"] != "InService" or not each["ProtectedFromScaleIn"])
    return GroupFigures(
        desired=group["DesiredCapacity"],
        largest=group["MaxSize"],
        instances=frozenset(each["InstanceId"] for each in alive),
        unsettled=unsettled,
        read_at=read_at,
        starting=frozenset(each["InstanceId"] for each in starting),
        is_being_deleted=bool(status),
    )


def _launches(client: "AutoScalingClient", name: str, since: datetime) -> list[Launch]:
    """The newest launches since a time; activities are listed newest first, page by page.

    Those that failed are left out, such as an instance whose disk key may not be used: it never ran, and cost nothing.
    """
    launches: list[Launch] = []
    pages = client.get_paginator("describe_scaling_activities").paginate(
        AutoScalingGroupName=name, PaginationConfig={"MaxItems": _MOST_ACTIVITIES}
    )
    for page in pages:
        recent = [activity for activity in page["Activities"] if activity["StartTime"] >= since]
        for activity in recent:
            match = _LAUNCH.match(activity.get("Description", ""))
            if match and match[1] and activity["StatusCode"] not in _FAILED:
                launches.append(Launch(match[1], activity["StartTime"]))
        if len(recent) < len(page["Activities"]):
            break
    return launches


def newest_failure(client: "AutoScalingClient", name: str) -> FailedLaunch | None:
    """The newest launch that failed, unless one succeeded after it. Raises ClientError."""
    reply = client.describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=_NEWEST)
    return next(_outcomes(reply["Activities"]), None)


def _outcomes(activities: "Sequence[ActivityTypeDef]") -> Iterator[FailedLaunch | None]:
    """The result of each launch that has ended, newest first: None for a success."""
    for activity in activities:
        description = activity.get("Description", "")
        if not _LAUNCH.match(description) and not description.startswith("Placing Spot instance request"):
            continue
        if activity["StatusCode"] == "Successful":
            yield None
        in_description = _REASON.search(description)
        reason = activity.get("StatusMessage") or (in_description[1] if in_description else "")
        # a launch that was only called off, by a lowered capacity, has no reason
        if activity["StatusCode"] in _FAILED and reason:
            yield FailedLaunch(reason, activity["StartTime"])


def suspended_of(described: "AutoScalingGroupTypeDef") -> list[str]:
    """Suspended processes of a group without the one that the scaler suspends for good."""
    names = {each.get("ProcessName", "") for each in described.get("SuspendedProcesses", [])}
    return sorted(names - {_SUSPENDED_BY_SCALER})


def _raise_to(client: "AutoScalingClient", name: str, now: Callable[[], datetime], capacity: int) -> None:
    """Never lowers the capacity: a person may have raised it further since it was read."""
    if _read(client, name, now).desired >= capacity:
        return
    # rebalancing between zones would terminate busy machines, and CloudFormation has no property to disable it
    client.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=[_SUSPENDED_BY_SCALER])
    _set(client, name, capacity)


def _lower_to(
    client: "AutoScalingClient", name: str, now: Callable[[], datetime], capacity: int, seen: GroupFigures
) -> None:
    """Reads the group again just before: an order may have been filled, or placed, since it was seen."""
    figures = _read(client, name, now)
    if (figures.desired, figures.instances) != (seen.desired, seen.instances):
        raise GroupChanged("it has changed since it was read")
    _set(client, name, capacity)


def _set(client: "AutoScalingClient", name: str, capacity: int) -> None:
    try:
        client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=capacity, HonorCooldown=False)
    except (client.exceptions.ScalingActivityInProgressFault, client.exceptions.ResourceContentionFault) as busy:
        raise NotSettled(str(busy)) from busy


def _replace(client: "AutoScalingClient", instance_id: str) -> None:
    client.set_instance_health(InstanceId=instance_id, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False)
