"""What a fleet does now: its queues, its machines with their jobs and leases, what it cost today. Only reads.

Which jobs are held on which machine, as their leases say, and which need the machines of a queue.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from receipt_dynamo import DynamoClient, FleetCost, FleetPause, FleetRows, Job, JobQueue, JobStatus, Lease
from receipt_dynamo.entities import ondemand_queue
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.destroy import group_names
from receipt_layoutlm.fleet.names import instance_of, workers_stack
from receipt_layoutlm.fleet.scaler.backlog import waiting_since
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.stack_errors import explained
from receipt_layoutlm.run.progress import LeaseProgress

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

    from receipt_layoutlm.fleet.stack import StackState


NO_GROUP = "none"  # of a machine that its group has let go, or does not have yet


class NoFleet(UserError):
    """There is no such fleet here."""


@dataclass(frozen=True)
class QueueRow:
    """Jobs of a queue: `due` can be claimed now, `later` wait after an error; the oldest has been due so long."""

    queue: str
    due: int
    later: int
    running: int
    oldest_seconds: float


@dataclass(frozen=True)
class GroupRow:
    """Machines that a group should have, and at most may have."""

    group: str
    desired: int
    maximum: int


@dataclass(frozen=True)
class HeldJob:
    """A job on a machine: where its worker last said to be, and for how long its lease holds without a renewal."""

    job_id: str
    name: str
    attempt: int
    position: LeaseProgress | None
    lease_seconds: float


@dataclass(frozen=True)
class MachineRow:
    """A machine that is paid for, and its jobs."""

    instance_id: str
    instance_type: str
    spot: bool
    zone: str
    group: str
    state: str
    age_seconds: float
    jobs: Sequence[HeldJob]


@dataclass(frozen=True)
class FleetStatus:
    """One look; `elsewhere` are jobs whose workers are on no machine of the fleet."""

    fleet: str
    at: datetime
    queues: Sequence[QueueRow]
    groups: Sequence[GroupRow]
    machines: Sequence[MachineRow]
    elsewhere: Sequence[HeldJob]
    cost: FleetCost
    max_cost_per_day: float
    pause: FleetPause | None


@dataclass(frozen=True)
class Sources:
    """Where a status comes from."""

    workers: "StackState"
    client: DynamoClient
    autoscaling: "AutoScalingClient"
    instances: Callable[[], Sequence[FleetInstance]]


@dataclass(frozen=True)
class _InGroup:
    group: str
    state: str


def fleet_status(fleet: str, sources: Sources, now: datetime) -> FleetStatus:
    """Raises StoreError, StackError."""
    settings, client = sources.workers.parameters, sources.client
    held = held_by_machine(client)
    running = [job for pairs in held.values() for job, _ in pairs]
    jobs = {machine: [_job(job, lease, now) for job, lease in pairs] for machine, pairs in held.items()}
    with explained(workers_stack(fleet)):
        groups, members = _groups(sources)
        instances = sources.instances()
    there = {each.instance_id for each in instances}
    spot_queue = settings.get("QueueName", "default")
    rows = FleetRows(client, lambda: now)
    return FleetStatus(
        fleet=fleet,
        at=now,
        queues=[_queue(client, name, running, now) for name in _names(spot_queue)],
        groups=groups,
        machines=[_machine(each, members, jobs.get(each.instance_id, []), now) for each in instances],
        elsewhere=[job for machine, several in jobs.items() if machine not in there for job in several],
        cost=rows.get_cost(fleet, now.date()),
        max_cost_per_day=float(settings.get("MaxCostPerDay", 0)),
        pause=rows.get_pause(fleet),
    )


def _names(queue: str) -> tuple[str, str]:
    return queue, ondemand_queue(queue)


def _job(job: Job, lease: Lease, now: datetime) -> HeldJob:
    left = (lease.expires_at - now).total_seconds() if lease.expires_at else 0.0
    return HeldJob(job.job_id, job.name, lease.attempt, LeaseProgress.parse(lease.progress), left)


def _queue(client: DynamoClient, name: str, running: Iterable[Job], now: datetime) -> QueueRow:
    jobs = list(client.iter_queue(name))
    due = [job for job in jobs if job.is_due(now)]
    oldest = min((waiting_since(client, job, job.attempt) for job in due), default=now)
    here = sum(job.queue == name for job in running)
    return QueueRow(name, len(due), len(jobs) - len(due), here, (now - oldest).total_seconds())


def _groups(sources: Sources) -> tuple[list[GroupRow], dict[str, _InGroup]]:
    names = group_names(sources.workers)
    if not names:  # AWS would tell of every group
        return [], {}
    found = sources.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=names)["AutoScalingGroups"]
    rows = [GroupRow(each["AutoScalingGroupName"], each["DesiredCapacity"], each["MaxSize"]) for each in found]
    members = {
        instance["InstanceId"]: _InGroup(each["AutoScalingGroupName"], instance["LifecycleState"])
        for each in found
        for instance in each.get("Instances", [])
    }
    return rows, members


def _machine(
    instance: FleetInstance, members: dict[str, _InGroup], jobs: Sequence[HeldJob], now: datetime
) -> MachineRow:
    member = members.get(instance.instance_id, _InGroup(NO_GROUP, "on its own"))
    return MachineRow(
        instance_id=instance.instance_id,
        instance_type=instance.instance_type,
        spot=instance.spot,
        zone=instance.zone,
        group=member.group,
        state=member.state,
        age_seconds=(now - instance.launched_at).total_seconds(),
        jobs=jobs,
    )


def held_by_machine(client: DynamoClient) -> Mapping[str | None, Sequence[tuple[Job, Lease]]]:
    """Running jobs by the instance of their worker; None stands for workers outside of any fleet. Raises StoreError."""
    held = defaultdict(list)
    for job, lease in JobQueue(client).held():
        held[instance_of(lease.worker_id)].append((job, lease))
    return held


def jobs_of_queue(client: DynamoClient, queue: str) -> list[Job]:
    """What waits in a queue, then what runs and would come back to it. Raises StoreError."""
    running = [job for job in client.list_jobs_by_status(JobStatus.RUNNING) if job.queue == queue]
    return list({job.job_id: job for job in [*client.iter_queue(queue), *running]}.values())
