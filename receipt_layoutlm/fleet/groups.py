"""The autoscaling groups of a deployed fleet: their machines, warm-up, and how they are emptied before deletion."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.scaler.group import Group, GroupMissing, NotSettled, suspended_of
from receipt_layoutlm.fleet.stack import FleetStack, StackEvent, StackState
from receipt_layoutlm.fleet.stack_errors import TemplateRefused, explain_refusals

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef


_OUTPUTS = {"GroupName": "MaximumInstances", "OnDemandGroupName": "OnDemandMaximum"}  # of workers.yaml; its sizes
_MAX_PROTECTED = 50  # instances in one SetInstanceProtection request
_POLL_SECONDS = 5.0  # while machines are starting


class CannotScale(UserError):
    """The group does not exist, is being changed, or may not have as many machines."""


def group_names(workers: StackState) -> list[str]:
    """Names of the fleet's groups; empty where the creation of the stack failed before them."""
    return [workers.outputs[key] for key in _OUTPUTS if key in workers.outputs]


def machines(client: "AutoScalingClient", workers: StackState) -> list[str]:
    """Ids of the instances in the fleet's groups, including those that are terminating."""
    return [instance["InstanceId"] for group in _described(client, workers) for instance in group["Instances"]]


def _described(client: "AutoScalingClient", workers: StackState) -> "list[AutoScalingGroupTypeDef]":
    return [group for name in group_names(workers) for group in _describe(client, name)]


def _describe(client: "AutoScalingClient", name: str) -> "list[AutoScalingGroupTypeDef]":
    """A list of one group; empty for a deleted one."""
    with explain_refusals(name):
        return client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]


# warm-up


def missing_machines(group: Group, target: int) -> int:
    """The number of machines to order for a capacity of `target`. Raises CannotScale, StackError."""
    with _explained(group):
        figures = group.read()
    if target > figures.largest:
        raise CannotScale(f"the group may have at most {figures.largest} machines: raise it with --maximum")
    return max(0, target - figures.desired)


def warm_up(group: Group, target: int) -> int:
    """Order the machines missing for a capacity of `target`; returns their number. Raises CannotScale, StackError."""
    missing = missing_machines(group, target)
    if missing:
        with _explained(group):
            group.raise_to(target)
    return missing


@contextmanager
def _explained(group: Group) -> Iterator[None]:
    try:
        with explain_refusals(group.name):
            yield
    except GroupMissing as error:
        raise CannotScale(str(error)) from error
    except NotSettled as error:
        raise CannotScale(f"group {group.name} is being changed ({error}): try again in a minute") from error


# after an interrupted deletion


def restore_limits(client: "AutoScalingClient", workers: StackState) -> list[str]:
    """Give groups that a deletion had begun to empty their sizes again; returns their names. Raises StackError.

    CloudFormation does not notice it: to it, a group still has the size of the template.
    """
    restored = []
    for output, parameter in _OUTPUTS.items():
        for group in _describe(client, workers.outputs[output]) if output in workers.outputs else ():
            largest = int(float(workers.parameters[parameter]))
            if group["MaxSize"] == largest and group.get("NewInstancesProtectedFromScaleIn", True):
                continue
            name = group["AutoScalingGroupName"]
            with explain_refusals(name):
                client.update_auto_scaling_group(
                    AutoScalingGroupName=name, MaxSize=largest, NewInstancesProtectedFromScaleIn=True
                )
            restored.append(name)
    return restored


# after failures


def suspended_processes(client: "AutoScalingClient", workers: StackState) -> dict[str, list[str]]:
    """Suspended processes by group, where there are any: AWS suspends launches that failed for a day."""
    groups = _described(client, workers)
    return {group["AutoScalingGroupName"]: found for group in groups if (found := suspended_of(group))}


def resume_processes(client: "AutoScalingClient", suspended: Mapping[str, Sequence[str]]) -> None:
    """Let the groups launch and replace machines again. Raises StackError."""
    for name, processes in suspended.items():
        with explain_refusals(name):
            client.resume_processes(AutoScalingGroupName=name, ScalingProcesses=list(processes))


# deletion


def destroy_workers(
    client: "AutoScalingClient",
    stack: FleetStack,
    on_event: Callable[[StackEvent], object],
    on_wait: Callable[[list[str]], object],
    wait: Callable[[float], object],
) -> None:
    """End the machines, whose jobs return to the queue, and delete the stack, if it exists. Raises StackError.

    A machine needs its role, log and network until its worker has uploaded its last checkpoint: nothing is deleted
    before the last one has ended. `on_wait` gets the ids of the instances that remain, whenever they change.
    """
    state = stack.state()
    if state is None:
        return
    for name in group_names(state):
        empty_group(client, name, wait)
    told: list[str] = []
    while remaining := machines(client, state):
        if remaining != told:
            on_wait(remaining)
        told = remaining
        wait(_POLL_SECONDS)
    stack.delete(on_event)


def empty_group(client: "AutoScalingClient", name: str, wait: Callable[[float], object]) -> None:
    """Set a group's size to 0 and remove the protection of its machines, for which CloudFormation would wait forever.

    The scaler cannot raise a group whose maximum is 0. A machine that is starting is protected when it is up.
    """
    if not _describe(client, name):
        return
    try:
        with explain_refusals(name):
            client.update_auto_scaling_group(
                AutoScalingGroupName=name,
                MinSize=0,
                MaxSize=0,
                DesiredCapacity=0,
                NewInstancesProtectedFromScaleIn=False,
            )
    except TemplateRefused:
        if _describe(client, name):
            raise
        return  # deleted a moment ago
    refused: list[str] = []
    while True:
        instances = [instance for group in _describe(client, name) for instance in group["Instances"]]
        protected = [
            instance["InstanceId"]
            for instance in instances
            if instance["ProtectedFromScaleIn"] and instance["LifecycleState"] in ("InService", "Standby")
        ]
        try:
            for start in range(0, len(protected), _MAX_PROTECTED):
                batch = protected[start : start + _MAX_PROTECTED]
                with explain_refusals(name):
                    client.set_instance_protection(
                        AutoScalingGroupName=name, InstanceIds=batch, ProtectedFromScaleIn=False
                    )
        except TemplateRefused:  # one of them has ended since they were read
            if protected == refused:
                raise
            refused = protected
            continue
        if not any(instance["LifecycleState"].startswith("Pending") for instance in instances):
            return
        wait(_POLL_SECONDS)
