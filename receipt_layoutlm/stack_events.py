"""What happens to a stack while it is built or deleted, told event by event until its end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from receipt_layoutlm.stack_errors import because, explained

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef

POLL_SECONDS: Final = 2.0
_STACK_TYPE: Final = "AWS::CloudFormation::Stack"


@dataclass(frozen=True)
class StackEvent:
    """What happened to one resource, or to the stack as a whole."""

    event_id: str
    at: datetime
    resource: str
    resource_type: str
    status: str
    reason: str

    @property
    def is_end(self) -> bool:
        return self.resource_type == _STACK_TYPE and not self.status.endswith("IN_PROGRESS")

    @property
    def is_failure(self) -> bool:
        # what was under way when something else failed is cancelled, which explains nothing
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason


class StackStory:
    """The events of one stack from now on. It begins before what is to be followed is asked for."""

    def __init__(self, client: "CloudFormationClient", name: str, stack_id: str) -> None:
        self._client, self._name, self._stack_id = client, name, stack_id
        with explained(name):
            events = client.describe_stack_events(StackName=stack_id)["StackEvents"]
        self._told = events[0]["EventId"] if events else None

    def follow(self, on_event: Callable[[StackEvent], object], wait: Callable[[float], object]) -> None:
        """Tell events until one says how it ended; the stack's own status may still be the one from before.

        Raises the StackError of what failed first.
        """
        failed: StackEvent | None = None
        while True:
            for event in self._new_events():
                on_event(event)
                failed = failed or (event if event.is_failure else None)
                if event.is_end:
                    return _check_end(self._name, event, failed)
            wait(POLL_SECONDS)

    def _new_events(self) -> list[StackEvent]:
        """Oldest first. AWS tells them newest first, page by page."""
        found = [_event(raw) for raw in self._raw_after(self._told)]
        if found:
            self._told = found[0].event_id
        return found[::-1]

    def _raw_after(self, told: str | None) -> "list[StackEventTypeDef]":
        found: list[StackEventTypeDef] = []
        with explained(self._name):
            for page in self._client.get_paginator("describe_stack_events").paginate(StackName=self._stack_id):
                for raw in page["StackEvents"]:
                    if raw["EventId"] == told:
                        return found
                    found.append(raw)
        return found


def _check_end(name: str, end: StackEvent, failed: StackEvent | None) -> None:
    if end.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"):
        return
    if failed is None:
        raise because(f"stack {name} is {end.status}: {end.reason}", end.reason)
    text = f"stack {name} is {end.status}, because of {failed.resource} ({failed.resource_type}): {failed.reason}"
    raise because(text, f"{failed.resource_type}: {failed.reason}")


def _event(raw: "StackEventTypeDef") -> StackEvent:
    return StackEvent(
        event_id=raw["EventId"],
        at=raw["Timestamp"],
        resource=raw.get("LogicalResourceId", ""),
        resource_type=raw.get("ResourceType", ""),
        status=raw.get("ResourceStatus", ""),
        reason=raw.get("ResourceStatusReason", ""),
    )
