"""Machines that are started before a job asks for them."""

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.scaling_group import Group
from receipt_layoutlm.stack_errors import explained


class TooMany(UserError):
    """More machines than the group may have."""


def missing_machines(group: Group, wanted: int) -> int:
    """How many have to be started so that there are so many; raises TooMany, StackError."""
    with explained(group.name):
        figures = group.read()
    if wanted > figures.largest:
        raise TooMany(f"the group may have {figures.largest} machines: --maximum allows more")
    return max(0, wanted - figures.desired)


def warm_up(group: Group, wanted: int) -> int:
    """Order what is missing of so many machines and return how many that was; as missing_machines, and NotSettled."""
    missing = missing_machines(group, wanted)
    if missing:
        with explained(group.name):
            group.raise_to(wanted)
    return missing
