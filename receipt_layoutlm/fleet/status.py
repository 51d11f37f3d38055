"""The status of a fleet: queues, machines with their jobs and leases, and today's cost. Only reads."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from receipt_dynamo import DynamoClient, FleetCost, FleetPause, FleetRows, Job, JobQueue, JobStatus, Lease
from receipt_dynamo.entities import ondemand_queue
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.groups import group_names
from receipt_layoutlm.fleet.names import instance_of, workers_stack
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.failures import failed_text
from receipt_layoutlm.fleet.scaler.group import newest_failure, suspended_of
from receipt_layoutlm.fleet.stack_errors import explain_refusals
from receipt_layoutlm.run.progress import LeaseProgress

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef

    from receipt_layoutlm.fleet.stack import StackState


class NoFleet(UserError):
    """The fleet is not deployed."""


# field names are the keys of `fleet status --json`


@dataclass(frozen=True)
class QueueRow:
    """Jobs of a queue: `due` can be claimed now, `later` wait for a retry. `oldest_seconds` is the longest wait."""

    queue: str
    due: int
    later: int
    running: int
    oldest_seconds: float


@dataclass(frozen=True)
class GroupRow:
    """Desired and maximum size of an autoscaling group, its suspended processes, and why its newest launch failed.

    `trouble` is empty when no launch has failed since the last one that succeeded.
    """

    group: str
    desired: int
    maximum: int
    suspended: Sequence[str]
    trouble: str


@dataclass(frozen=True)
class HeldJob:
    """A running job, its last known progress, and the time until its lease expires."""

    job_id: str
    name: str
    attempt: int
    position: LeaseProgress | None
    lease_seconds: float


@dataclass(frozen=True)
class MachineRow:
    """A billed machine and its jobs. `group` is "none" for one that left its group, or is not in it yet."""

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
    """The status at one moment; `elsewhere` are jobs whose workers are on no machine of the fleet."""

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
class StatusSources:
    """Everything that a status is read from."""

    workers: "StackState"
    client: DynamoClient
    autoscaling: "AutoScalingClient"
    instances: Callable[[], Sequence[FleetInstance]]


def fleet_status(fleet: str, sources: StatusSources, now: datetime) -> FleetStatus:
    """Raises StoreError, StackError."""
    parameters, client = sources.workers.parameters, sources.client
    rows = FleetRows(client, lambda: now)
    held = held_by_machine(client)
    jobs = {
        machine: [
            HeldJob(
                job_id=job.job_id,
                name=job.name,
                attempt=lease.attempt,
                position=LeaseProgress.parse(lease.progress),
                lease_seconds=(lease.expires_at - now).total_seconds() if lease.expires_at else 0.0,
            )
            for job, lease in pairs
        ]
        for machine, pairs in held.items()
    }
    running = [job.queue for pairs in held.values() for job, _ in pairs]
    spot_queue = parameters.get("QueueName", "default")
    names = group_names(sources.workers)
    with explain_refusals(workers_stack(fleet)):
        instances = sources.instances()
        # without names, AWS would list all groups of the account
        reply = sources.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=names) if names else None
        groups = reply["AutoScalingGroups"] if reply else []
        group_rows = [_group(sources.autoscaling, group) for group in groups]
    members = {
        instance["InstanceId"]: (group["AutoScalingGroupName"], instance["LifecycleState"])
        for group in groups
        for instance in group.get("Instances", [])
    }
    machines = []
    for instance in instances:
        group_name, state = members.get(instance.instance_id, ("none", "on its own"))
        machine = MachineRow(
            instance_id=instance.instance_id,
            instance_type=instance.instance_type,
            spot=instance.spot,
            zone=instance.zone,
            group=group_name,
            state=state,
            age_seconds=(now - instance.launched_at).total_seconds(),
            jobs=jobs.get(instance.instance_id, []),
        )
        machines.append(machine)
    known = {instance.instance_id for instance in instances}
    return FleetStatus(
        fleet=fleet,
        at=now,
        queues=[_queue(client, name, running.count(name), now) for name in (spot_queue, ondemand_queue(spot_queue))],
        groups=group_rows,
        machines=machines,
        elsewhere=[job for machine_id, jobs_there in jobs.items() if machine_id not in known for job in jobs_there],
        cost=rows.get_cost(fleet, now.date()),
        max_cost_per_day=float(parameters.get("MaxCostPerDay", 0)),
        pause=rows.get_pause(fleet),
    )


def _group(client: "AutoScalingClient", described: "AutoScalingGroupTypeDef") -> GroupRow:
    name = described["AutoScalingGroupName"]
    failure = newest_failure(client, name)
    return GroupRow(
        group=name,
        desired=described["DesiredCapacity"],
        maximum=described["MaxSize"],
        suspended=suspended_of(described),
        trouble="" if failure is None else failed_text(failure),
    )


def _queue(client: DynamoClient, name: str, running: int, now: datetime) -> QueueRow:
    jobs = list(client.iter_queue(name))
    due = [job for job in jobs if job.is_due(now)]
    oldest = min((client.claimable_since(job, job.attempt) for job in due), default=now)
    return QueueRow(name, len(due), len(jobs) - len(due), running, (now - oldest).total_seconds())


def held_by_machine(client: DynamoClient) -> Mapping[str | None, Sequence[tuple[Job, Lease]]]:
    """Running jobs by the instance of their worker; None for workers outside of any fleet. Raises StoreError."""
    held = defaultdict(list)
    for job, lease in JobQueue(client).held():
        held[instance_of(lease.worker_id)].append((job, lease))
    return held


def jobs_of_queue(client: DynamoClient, queue: str) -> list[Job]:
    """Waiting jobs of a queue, then running ones, which would return to it. Raises StoreError."""
    running = [job for job in client.list_jobs_by_status(JobStatus.RUNNING) if job.queue == queue]
    return list({job.job_id: job for job in [*client.iter_queue(queue), *running]}.values())
