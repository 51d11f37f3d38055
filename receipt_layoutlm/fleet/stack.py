"""What happens to a stack while it is built or deleted, told event by event until its end.

One CloudFormation stack: planned as a change set, built with its events told, deleted.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from receipt_layoutlm.fleet.stack_errors import LeftOver, StackBusy, StackError, TemplateRefused, because, explained
from receipt_layoutlm.fleet.template import Template

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.literals import ChangeSetTypeType
    from mypy_boto3_cloudformation.type_defs import ChangeTypeDef, StackEventTypeDef


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


PLANNED_ONLY: Final = "REVIEW_IN_PROGRESS"  # a stack that so far is nothing but a change set
_LEFT_OVER: Final = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True)
class Change:
    """What a change set will do to one resource; `replaces`: it is made anew."""

    action: str
    resource: str
    resource_type: str
    replaces: bool
    properties: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A change set that is ready; `makes_stack`: nothing but this plan stands of the stack."""

    stack: str
    change_set_arn: str
    makes_stack: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class StackState:
    """A stack as it stands. Values of parameters that are looked up are their names."""

    stack_id: str
    status: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_planned_only(self) -> bool:
        return self.status == PLANNED_ONLY


class FleetStack:
    """A stack by its name. `wait` is injected by tests."""

    def __init__(self, client: "CloudFormationClient", name: str, wait: Callable[[float], object] = time.sleep) -> None:
        self.name = name
        self._client, self._wait = client, wait

    def state(self) -> StackState | None:
        """None when there is no such stack. Raises StackError."""
        try:
            with explained(self.name):
                (stack,) = self._client.describe_stacks(StackName=self.name)["Stacks"]
        except TemplateRefused as error:
            if "does not exist" in str(error):  # which it says in the words of a refused request
                return None
            raise
        return StackState(
            stack_id=stack["StackId"],
            status=stack["StackStatus"],
            parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", [])},
            outputs={each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])},
        )

    def resources(self) -> list[tuple[str, str]]:
        """Name and type of everything in the stack."""
        with explained(self.name):
            pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return [
                (each["LogicalResourceId"], each["ResourceType"])
                for page in pages
                for each in page["StackResourceSummaries"]
                if each["ResourceStatus"] != "DELETE_COMPLETE"
            ]

    # planning

    def plan(self, template: Template, given: Mapping[str, str], tags: Mapping[str, str]) -> Plan | None:
        """A change set for these values; None when it would change nothing. Raises StackError.

        Values that are not given stay as the stack has them.
        """
        state = self.state()
        refuse_unless_changeable(self.name, state)
        before = None if state is None or state.is_planned_only else state
        kind: ChangeSetTypeType = "CREATE" if before is None else "UPDATE"
        with explained(self.name):
            made = self._client.create_change_set(
                StackName=self.name,
                ChangeSetName=f"layoutlm-{uuid.uuid4().hex}",
                ChangeSetType=kind,
                TemplateBody=template.text,
                Parameters=template.values(given, () if before is None else before.parameters),
                Capabilities=["CAPABILITY_IAM"],
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
        plan = Plan(self.name, made["Id"], state is None, ())
        try:
            reason = self._wait_until_ready(plan)
            if reason is not None and not any(text in reason for text in _NO_CHANGES):
                details = failure_details(self._client, self.name, ChangeSetName=plan.change_set_arn)
                reason = "\n".join([reason, *details])
                raise because(f"stack {self.name}: {reason}", reason, TemplateRefused)
            if reason is None:
                return Plan(self.name, made["Id"], state is None, tuple(self._changes(made["Id"])))
        except StackError:
            self.discard(plan)
            raise
        self.discard(plan)
        return None

    def _wait_until_ready(self, plan: Plan) -> str | None:
        """None when the change set can be executed, else why not."""
        while True:
            with explained(self.name):
                seen = self._client.describe_change_set(ChangeSetName=plan.change_set_arn)
            if seen["Status"] == "CREATE_COMPLETE":
                return None
            if seen["Status"] == "FAILED":
                return seen.get("StatusReason", "the change set failed without a reason")
            self._wait(POLL_SECONDS)

    def _changes(self, change_set_arn: str) -> Iterator[Change]:
        with explained(self.name):
            pages = self._client.get_paginator("describe_change_set").paginate(ChangeSetName=change_set_arn)
            for page in pages:
                yield from map(_change, page.get("Changes", []))

    def discard(self, plan: Plan) -> None:
        """Forget a plan, and the empty stack that was made for it alone."""
        with explained(self.name):
            self._client.delete_change_set(ChangeSetName=plan.change_set_arn)
        state = self.state() if plan.makes_stack else None
        if state is not None and state.is_planned_only:
            with explained(self.name):
                self._client.delete_stack(StackName=state.stack_id)

    # building

    def execute(self, plan: Plan, on_event: Callable[[StackEvent], object]) -> StackState:
        """Do what was planned and wait for its end. Raises StackError when it broke off."""
        state = self.state()
        assert state is not None, "a change set has its stack"
        story = StackStory(self._client, self.name, state.stack_id)
        with explained(self.name):
            self._client.execute_change_set(ChangeSetName=plan.change_set_arn)
        story.follow(on_event, self._wait)
        done = self.state()
        assert done is not None
        return done

    def delete(self, on_event: Callable[[StackEvent], object]) -> None:
        """Delete the stack and wait for its end; no stack is fine. Raises StackError when something stays."""
        state = self.state()
        if state is None:
            return
        story = StackStory(self._client, self.name, state.stack_id)
        with explained(self.name):
            self._client.delete_stack(StackName=state.stack_id)
        story.follow(on_event, self._wait)


def refuse_unless_changeable(name: str, state: StackState | None) -> None:
    """Raises LeftOver or StackBusy, with what to do first, where a stack takes no change as it stands."""
    if state is None or state.is_planned_only:
        return
    if state.status in _LEFT_OVER:
        raise LeftOver(
            f"stack {name} is {state.status}: what an earlier try left. 'layoutlm-cli fleet destroy' removes it "
            "(with --storage for the storage stack, which keeps table and bucket)"
        )
    if state.status == "UPDATE_ROLLBACK_FAILED":
        raise LeftOver(
            f"stack {name} is {state.status}: put right what the events of the stack name, then "
            f"'aws cloudformation continue-update-rollback --stack-name {name}'"
        )
    if state.status.endswith("IN_PROGRESS"):
        raise StackBusy(f"stack {name} is {state.status}: somebody else is changing it. Try again when that is over")


def _change(raw: "ChangeTypeDef") -> Change:
    change = raw["ResourceChange"]
    names = {each["Target"].get("Name") or each["Target"]["Attribute"] for each in change.get("Details", [])}
    return Change(
        action=change["Action"],
        resource=change["LogicalResourceId"],
        resource_type=change["ResourceType"],
        replaces=change.get("Replacement") == "True",
        properties=tuple(sorted(names)),
    )
