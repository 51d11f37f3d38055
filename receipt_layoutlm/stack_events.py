"""What happens to a stack while it is built or deleted, told event by event until its end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from receipt_layoutlm.stack_errors import StackError, because, explained

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef

POLL_SECONDS: Final = 2.0
_STACK_TYPE: Final = "AWS::CloudFormation::Stack"
_DONE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")
# CREATE_FAILED and UPDATE_FAILED are followed by a rollback
_ENDS: Final = (
    *_DONE,
    *("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"),
)


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
    def is_of_stack(self) -> bool:
        return self.resource_type == _STACK_TYPE

    @property
    def is_end(self) -> bool:
        return self.is_of_stack and self.status in _ENDS

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
                    return self._check_end(event, failed)
            wait(POLL_SECONDS)

    def _check_end(self, end: StackEvent, failed: StackEvent | None) -> None:
        if end.status in _DONE:
            return
        first = failed or end
        details = failure_details(self._client, self._name, StackName=self._stack_id)
        reason = "\n".join([first.reason, *details])
        text = f"stack {self._name} is {end.status}, because of {first.resource} ({first.resource_type}): {reason}"
        raise because(text, f"{first.resource_type}: {reason}")

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


def failure_details(client: "CloudFormationClient", name: str, **which: str) -> list[str]:
    """What a validation found before anything was made: a stack's events and a plan's status only point to it.

    `which` is ChangeSetName=ARN or StackName=id. Nothing where the caller may not ask.
    """
    try:
        with explained(name):
            events = client.describe_events(Filters={"FailedEvents": True}, **which)["OperationEvents"]
    except StackError:
        return []
    found = [f"{each.get('LogicalResourceId', '')}: {each.get('ValidationStatusReason', '')}" for each in events]
    return [text for text in dict.fromkeys(found) if not text.endswith(": ")]


def _event(raw: "StackEventTypeDef") -> StackEvent:
    return StackEvent(
        event_id=raw["EventId"],
        at=raw["Timestamp"],
        resource=raw.get("LogicalResourceId", ""),
        resource_type=raw.get("ResourceType", ""),
        status=raw.get("ResourceStatus", ""),
        reason=raw.get("ResourceStatusReason", ""),
    )
