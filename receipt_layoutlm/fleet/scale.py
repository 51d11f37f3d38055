"""Machines that are started before a job asks for them."""

from collections.abc import Iterator
from contextlib import contextmanager

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.scaler.group import Group, GroupMissing, NotSettled
from receipt_layoutlm.fleet.stack_errors import explained


class CannotScale(UserError):
    """The group is not there, is being changed, or may not have so many machines."""


def missing_machines(group: Group, wanted: int) -> int:
    """How many have to be started so that there are so many; raises CannotScale, StackError."""
    with _told(group):
        figures = group.read()
    if wanted > figures.largest:
        raise CannotScale(f"the group may have {figures.largest} machines: --maximum allows more")
    return max(0, wanted - figures.desired)


def warm_up(group: Group, wanted: int) -> int:
    """Order what is missing of so many machines and return how many that was; raises as missing_machines does."""
    missing = missing_machines(group, wanted)
    if missing:
        with _told(group):
            group.raise_to(wanted)
    return missing


@contextmanager
def _told(group: Group) -> Iterator[None]:
    try:
        with explained(group.name):
            yield
    except GroupMissing as error:
        raise CannotScale(str(error)) from error
    except NotSettled as error:
        raise CannotScale(f"group {group.name} is being changed ({error}): try again in a minute") from error
