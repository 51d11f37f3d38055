"""One CloudFormation stack: plan a change set, execute it while following its events, delete the stack."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from receipt_layoutlm.fleet.stack_errors import (
    LeftOver,
    StackBusy,
    StackError,
    TemplateRefused,
    error_for,
    explain_refusals,
)
from receipt_layoutlm.fleet.template import Template

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.literals import ChangeSetTypeType, OnStackFailureType
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef


POLL_SECONDS: Final = 2.0
PLANNED_ONLY: Final = "REVIEW_IN_PROGRESS"  # a stack that consists of a change set only
_LEFT_OVER: Final = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")
_STACK_TYPE: Final = "AWS::CloudFormation::Stack"
_CHANGED: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
# CREATE_FAILED and UPDATE_FAILED are followed by a rollback
_ENDS: Final = (
    *_CHANGED,
    *(
        "DELETE_COMPLETE",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "UPDATE_ROLLBACK_COMPLETE",
        "UPDATE_ROLLBACK_FAILED",
        "DELETE_FAILED",
    ),
)


@dataclass(frozen=True)
class Change:
    """The change of one resource in a change set; `replaces` when the resource is created anew."""

    action: str
    resource: str
    resource_type: str
    replaces: bool
    properties: tuple[str, ...]


@dataclass(frozen=True)
class StackPlan:
    """A change set that can be executed; `makes_stack` when the stack consists of it only."""

    stack: str
    change_set_arn: str
    makes_stack: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class StackState:
    """The current state of a stack. Parameters that CloudFormation looks up have the looked-up names as values."""

    stack_id: str
    status: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_planned_only(self) -> bool:
        return self.status == PLANNED_ONLY


@dataclass(frozen=True)
class StackEvent:
    """An event of one resource, or of the stack as a whole."""

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
        # resources that were cancelled after another one failed explain nothing
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason


class FleetStack:
    """A stack by its name. Tests inject `wait`."""

    def __init__(self, client: "CloudFormationClient", name: str, wait: Callable[[float], object] = time.sleep) -> None:
        self.name = name
        self._client, self._wait = client, wait

    def state(self) -> StackState | None:
        """None when the stack does not exist. Raises StackError."""
        try:
            with explain_refusals(self.name):
                (stack,) = self._client.describe_stacks(StackName=self.name)["Stacks"]
        except TemplateRefused as error:
            if _is_gone(error):
                return None
            raise
        return StackState(
            stack_id=stack["StackId"],
            status=stack["StackStatus"],
            parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", [])},
            outputs={each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])},
        )

    def resources(self) -> list[tuple[str, str]]:
        """Name and type of every resource of the stack; empty where it is gone."""
        try:
            with explain_refusals(self.name):
                pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
                return [
                    (each["LogicalResourceId"], each["ResourceType"])
                    for page in pages
                    for each in page["StackResourceSummaries"]
                    if each["ResourceStatus"] != "DELETE_COMPLETE"
                ]
        except TemplateRefused as error:
            if _is_gone(error):
                return []
            raise

    # change sets

    def plan(self, template: Template, given: Mapping[str, str], tags: Mapping[str, str]) -> StackPlan | None:
        """Create a change set for these values; None when it would change nothing. Raises StackError.

        Parameters that are not given keep the stack's values.
        """
        state = self.state()
        refuse_unless_changeable(self.name, state)
        before = None if state is None or state.is_planned_only else state
        kind: ChangeSetTypeType = "CREATE" if before is None else "UPDATE"
        on_failure: dict[str, OnStackFailureType] = {"OnStackFailure": "DELETE"} if before is None else {}
        with explain_refusals(self.name):
            created = self._client.create_change_set(
                StackName=self.name,
                ChangeSetName=f"layoutlm-{uuid.uuid4().hex}",
                ChangeSetType=kind,
                TemplateBody=template.text,
                Parameters=template.values(given, () if before is None else before.parameters),
                Capabilities=["CAPABILITY_IAM"],
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                **on_failure,  # type: ignore[arg-type]  # a failed creation can only be deleted
            )
        plan = StackPlan(self.name, created["Id"], state is None, ())
        try:
            reason = self._wait_until_ready(plan)
            if reason is None:
                return replace(plan, changes=tuple(self._changes(plan)))
            if not any(text in reason for text in _NO_CHANGES):
                reason = "\n".join([reason, *self.failure_details(ChangeSetName=plan.change_set_arn)])
                raise error_for(f"stack {self.name}: {reason}", reason, TemplateRefused)
        except StackError:
            self.discard(plan)
            raise
        self.discard(plan)
        return None

    def _wait_until_ready(self, plan: StackPlan) -> str | None:
        """None when the change set can be executed, otherwise the reason why not."""
        while True:
            with explain_refusals(self.name):
                change_set = self._client.describe_change_set(ChangeSetName=plan.change_set_arn)
            if change_set["Status"] == "CREATE_COMPLETE":
                return None
            if change_set["Status"] == "FAILED":
                return change_set.get("StatusReason", "the change set failed without a reason")
            self._wait(POLL_SECONDS)

    def _changes(self, plan: StackPlan) -> Iterator[Change]:
        with explain_refusals(self.name):
            pages = self._client.get_paginator("describe_change_set").paginate(ChangeSetName=plan.change_set_arn)
            for change in (each["ResourceChange"] for page in pages for each in page.get("Changes", [])):
                targets = [detail["Target"] for detail in change.get("Details", [])]
                yield Change(
                    action=change["Action"],
                    resource=change["LogicalResourceId"],
                    resource_type=change["ResourceType"],
                    replaces=change.get("Replacement") == "True",
                    properties=tuple(sorted({target.get("Name") or target["Attribute"] for target in targets})),
                )

    def discard(self, plan: StackPlan) -> None:
        """Delete a change set, and the empty stack that was created for it."""
        with explain_refusals(self.name):
            self._client.delete_change_set(ChangeSetName=plan.change_set_arn)
        state = self.state() if plan.makes_stack else None
        if state is not None and state.is_planned_only:
            with explain_refusals(self.name):
                self._client.delete_stack(StackName=state.stack_id)

    def failure_details(self, **subject: str) -> list[str]:
        """Reasons of a failed validation, to which the events of a stack and the status of a change set only refer.

        `subject` is ChangeSetName=ARN or StackName=id. Empty where the caller lacks the permission.
        """
        try:
            with explain_refusals(self.name):
                events = self._client.describe_events(Filters={"FailedEvents": True}, **subject)["OperationEvents"]
        except StackError:
            return []
        reasons = [f"{each.get('LogicalResourceId', '')}: {each.get('ValidationStatusReason', '')}" for each in events]
        return [text for text in dict.fromkeys(reasons) if not text.endswith(": ")]

    # changes

    def execute(self, plan: StackPlan, on_event: Callable[[StackEvent], object]) -> StackState:
        """Execute a change set and wait for its end. Raises StackError when it failed."""
        state = self.state()
        assert state is not None, "a change set has a stack"
        events = StackEvents(self._client, self.name, state.stack_id)
        with explain_refusals(self.name):
            self._client.execute_change_set(ChangeSetName=plan.change_set_arn)
        self._follow(events, on_event, _CHANGED)
        done = self.state()
        assert done is not None
        return done

    def delete(self, on_event: Callable[[StackEvent], object]) -> None:
        """Delete the stack, if it exists, and wait for the end. Raises StackError when something is left."""
        state = self.state()
        if state is None:
            return
        try:
            events = StackEvents(self._client, self.name, state.stack_id)
            with explain_refusals(self.name):
                self._client.delete_stack(StackName=state.stack_id)
            self._follow(events, on_event, ("DELETE_COMPLETE",))
        except TemplateRefused as error:
            if not _is_gone(error):  # else by another call
                raise

    def _follow(
        self, events: "StackEvents", on_event: Callable[[StackEvent], object], successes: tuple[str, ...]
    ) -> None:
        """Report events until the final one: the stack's own status may still be the previous one.

        Raises the StackError of the first failure.
        """
        failed: StackEvent | None = None
        while True:
            for event in events.read():
                on_event(event)
                failed = failed or (event if event.is_failure else None)
                if event.is_end:
                    if event.status in successes:
                        return
                    first = failed or event
                    reason = "\n".join([first.reason, *self.failure_details(StackName=events.stack_id)])
                    subject = f"{first.resource} ({first.resource_type})"
                    is_gone = event.status == "DELETE_COMPLETE"
                    end = "was not created and leaves nothing" if is_gone else f"is {event.status}"
                    text = f"stack {self.name} {end}, because of {subject}: {reason}"
                    raise error_for(text, f"{first.resource_type}: {reason}")
            self._wait(POLL_SECONDS)


class StackEvents:
    """The events of one stack since the creation of this object."""

    def __init__(self, client: "CloudFormationClient", name: str, stack_id: str) -> None:
        self.stack_id = stack_id
        self._client, self._name = client, name
        with explain_refusals(name):
            events = client.describe_stack_events(StackName=stack_id)["StackEvents"]
        self._last_id = events[0]["EventId"] if events else None

    def read(self) -> list[StackEvent]:
        """The new events, oldest first. AWS lists the newest first, page by page."""
        events = [
            StackEvent(
                event_id=raw["EventId"],
                at=raw["Timestamp"],
                resource=raw.get("LogicalResourceId", ""),
                resource_type=raw.get("ResourceType", ""),
                status=raw.get("ResourceStatus", ""),
                reason=raw.get("ResourceStatusReason", ""),
            )
            for raw in self._newest()
        ]
        if events:
            self._last_id = events[0].event_id
        return events[::-1]

    def _newest(self) -> "list[StackEventTypeDef]":
        events: list[StackEventTypeDef] = []
        with explain_refusals(self._name):
            for page in self._client.get_paginator("describe_stack_events").paginate(StackName=self.stack_id):
                for raw in page["StackEvents"]:
                    if raw["EventId"] == self._last_id:
                        return events
                    events.append(raw)
        return events


def _is_gone(error: TemplateRefused) -> bool:
    """Whether a stack does not exist: CloudFormation answers with a ValidationError."""
    return "does not exist" in str(error)


def refuse_unless_changeable(name: str, state: StackState | None) -> None:
    """Raises LeftOver or StackBusy, with the fix, where the stack accepts no change in its current state."""
    if state is None or state.is_planned_only:
        return
    if state.status in _LEFT_OVER:
        raise LeftOver(
            f"stack {name} is {state.status}, left by a failed change. `layoutlm-cli fleet destroy` removes it "
            "(with --storage for the storage stack, which keeps table and bucket)"
        )
    if state.status == "UPDATE_ROLLBACK_FAILED":
        raise LeftOver(
            f"stack {name} is {state.status}: repair the resources named in its events, then run "
            f"'aws cloudformation continue-update-rollback --stack-name {name}'"
        )
    if state.status.endswith("IN_PROGRESS"):
        raise StackBusy(f"stack {name} is {state.status}: another change is in progress. Try again when it is over")
