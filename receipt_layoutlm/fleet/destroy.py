"""fleet destroy: machines ended, stacks deleted; table and bucket stay."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from receipt_layoutlm.fleet.stack import FleetStack, StackEvent, StackState
from receipt_layoutlm.fleet.stack_errors import explained

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import InstanceTypeDef


_GROUPS = ("GroupName", "OnDemandGroupName")  # outputs of workers.yaml
_AT_ONCE = 50  # instances that one SetInstanceProtection takes
_STARTING_SECONDS = 5.0  # between two looks at a machine that is still starting


def group_names(workers: StackState) -> list[str]:
    """None where the stack did not get as far as its groups."""
    return [workers.outputs[key] for key in _GROUPS if key in workers.outputs]


def machines(client: "AutoScalingClient", workers: StackState) -> list[str]:
    """The instances of the fleet's groups, ending ones too."""
    return [each["InstanceId"] for name in group_names(workers) for each in _instances(client, name)]


def _instances(client: "AutoScalingClient", group: str) -> "list[InstanceTypeDef]":
    """Nothing for a group that is gone."""
    with explained(group):
        groups = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    return [instance for each in groups for instance in each["Instances"]]


def destroy_workers(
    client: "AutoScalingClient",
    stack: FleetStack,
    on_event: Callable[[StackEvent], object],
    wait: Callable[[float], object],
) -> None:
    """End the machines, whose jobs go back to the queue, and delete the stack; no stack is fine. Raises StackError."""
    state = stack.state()
    if state is None:
        return
    for name in group_names(state):
        empty_group(client, name, wait)
    stack.delete(on_event)


def empty_group(client: "AutoScalingClient", group: str, wait: Callable[[float], object]) -> None:
    """Leave no machine protected: CloudFormation would wait for it for ever.

    The scaler cannot raise a group whose largest size is 0. A machine that is still starting comes up protected.
    """
    if not _exists(client, group):
        return
    with explained(group):
        client.update_auto_scaling_group(
            AutoScalingGroupName=group, MinSize=0, MaxSize=0, DesiredCapacity=0, NewInstancesProtectedFromScaleIn=False
        )
    while True:
        instances = _instances(client, group)
        _unprotect(client, group, [each["InstanceId"] for each in instances if _is_held(each)])
        if not any(each["LifecycleState"].startswith("Pending") for each in instances):
            return
        wait(_STARTING_SECONDS)


def _exists(client: "AutoScalingClient", group: str) -> bool:
    with explained(group):
        return bool(client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"])


def _is_held(instance: "InstanceTypeDef") -> bool:
    return instance["ProtectedFromScaleIn"] and instance["LifecycleState"] in ("InService", "Standby")


def _unprotect(client: "AutoScalingClient", group: str, instances: list[str]) -> None:
    for start in range(0, len(instances), _AT_ONCE):
        with explained(group):
            client.set_instance_protection(
                AutoScalingGroupName=group,
                InstanceIds=instances[start : start + _AT_ONCE],
                ProtectedFromScaleIn=False,
            )
