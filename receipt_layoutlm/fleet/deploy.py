"""Where a fleet's table and bucket come from: its storage stack, ones that exist already, or one of each.

fleet deploy: storage unless it exists, the code into the bucket, then the workers; or only what would change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from receipt_dynamo.client import resolve_region
from receipt_layoutlm.fleet import bundle
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.existing import check_usable, inspect_bucket, inspect_table
from receipt_layoutlm.fleet.names import FLEET_TAG, storage_stack, workers_stack
from receipt_layoutlm.fleet.quotas import check_slots
from receipt_layoutlm.fleet.stack import FleetStack, Plan, StackEvent, StackState
from receipt_layoutlm.fleet.stack_errors import explained
from receipt_layoutlm.fleet.template import INSTANCE_TYPES, Template, read_template
from receipt_layoutlm.storage.bucket import Bucket

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client


_BOTH: Final = "table-and-bucket"  # as storage.yaml's parameter Makes has it


@dataclass(frozen=True)
class StorageChoice:
    """Existing ones by name, None for those of the storage stack; `makes` is None where it makes nothing."""

    table: str | None
    bucket: str | None
    makes: str | None

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Parameters of storage.yaml."""
        named = {} if self.bucket is None else {"BucketName": self.bucket}  # the table's tag tells it
        return {"Makes": self.makes or _BOTH, **named, **given}


@dataclass(frozen=True)
class Storage:
    """What a fleet works on."""

    table: str
    stream_arn: str
    bucket: str


def choose(
    table: str | None, bucket: str | None, storage: StackState | None, workers: StackState | None
) -> StorageChoice:
    """The named ones, else what the fleet had before, else new ones. What the storage stack has made it keeps."""
    made = {} if storage is None else storage.outputs
    before = {} if workers is None else workers.parameters
    table = _existing(table, made.get("TableName"), before.get("TableName"))
    bucket = _existing(bucket, made.get("BucketName"), before.get("BucketName"))
    makes = [
        name
        for name, existing, output in (("table", table, "TableName"), ("bucket", bucket, "BucketName"))
        if existing is None or output in made
    ]
    return StorageChoice(table, bucket, "-and-".join(makes) or None)


def _existing(named: str | None, made: str | None, before: str | None) -> str | None:
    """None where the storage stack's own is meant."""
    name = named or (before if made is None else None)
    return None if name == made else name


def planned(choice: StorageChoice, fleet: str, region: str) -> Storage:
    """Stands for what is not made yet, where only a plan is asked for."""
    table, bucket = choice.table or fleet, choice.bucket or f"{fleet}-not-made-yet"
    return Storage(table, f"arn:aws:dynamodb:{region}:{'0' * 12}:table/{table}/stream/not-made-yet", bucket)


STORAGE, WORKERS = "storage.yaml", "workers.yaml"
_CODE = ("BundleSha256", "ScalerSha256")  # parameters of workers.yaml


@dataclass(frozen=True)
class Aws:
    """Clients of one region, with patience for throttling: a stack is watched for minutes."""

    region: str
    cloudformation: "CloudFormationClient"
    autoscaling: "AutoScalingClient"
    ec2: "EC2Client"
    dynamodb: "DynamoDBClient"
    s3: "S3Client"


def open_aws(region: str | None) -> Aws:
    """Region as everywhere: argument, environment, profile, us-east-1."""
    region = resolve_region(region)
    config = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 8, "mode": "standard"})
    return Aws(
        region=region,
        cloudformation=boto3.client("cloudformation", region_name=region, config=config),
        autoscaling=boto3.client("autoscaling", region_name=region, config=config),
        ec2=boto3.client("ec2", region_name=region, config=config),
        dynamodb=boto3.client("dynamodb", region_name=region, config=config),
        s3=boto3.client("s3", region_name=region, config=config),
    )


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `table` and `bucket` exist already; `values` are parameters of either template."""

    fleet: str
    table: str | None = None
    bucket: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Code:
    """What machines and scaler run: archives whose file names begin with the SHA-256 of their content."""

    machine: Path
    scaler: Path

    def values(self) -> dict[str, str]:
        """Parameters of workers.yaml."""
        return dict(zip(_CODE, map(_hash_in, (self.machine, self.scaler)), strict=True))


@dataclass(frozen=True)
class Listener:
    """Hears what is found, planned and built."""

    on_finding: Callable[[str, CheckResult], object]
    on_plan: Callable[[str, Plan | None], object]
    on_event: Callable[[StackEvent], object]


@dataclass(frozen=True)
class Deployed:
    """A fleet that stands. `changed` names the stacks in which something had to be done."""

    fleet: str
    region: str
    table: str
    bucket: str
    changed: tuple[str, ...]
    outputs: Mapping[str, str]
    code: Mapping[str, str]


class Deployment:
    """One fleet in one region. `wait` of the stacks is injected by tests."""

    def __init__(self, aws: Aws, wanted: Wanted, listener: Listener, wait: Callable[[float], object]) -> None:
        self._aws, self._wanted, self._listener = aws, wanted, listener
        self._storage = FleetStack(aws.cloudformation, storage_stack(wanted.fleet), wait)
        self._workers = FleetStack(aws.cloudformation, workers_stack(wanted.fleet), wait)
        self._templates = {name: read_template(name) for name in (STORAGE, WORKERS)}
        self._tags = {FLEET_TAG: wanted.fleet}

    def preview(self, code: Code | None) -> list[Plan]:
        """What deploying would do, told and forgotten again: nothing stays of it. As deploy raises."""
        self._check_machines()
        before = self._storage.state()
        choice = self._choose(before)
        existing = self._look(choice)
        plans = [self._forget(self._storage, self._plan_storage(choice))] if choice.makes else []
        storage = _settled(choice, before, existing) or planned(choice, self._wanted.fleet, self._aws.region)
        plans.append(self._forget(self._workers, self._plan_workers(storage, code)))
        return [plan for plan in plans if plan is not None]

    def deploy(self, code: Code | None) -> Deployed:
        """Build or change what is not yet as wanted; without code, what runs now stays.

        Raises StackError, NotUsable, StorageError, TooFewGpus.
        """
        self._check_machines()
        before = self._storage.state()
        choice = self._choose(before)
        existing = self._look(choice)
        changed = []
        if choice.makes:
            before, did = self._settle(self._storage, self._plan_storage(choice))
            changed += [self._storage.name] if did else []
        storage = _settled(choice, before, existing)
        assert storage is not None, "a storage stack that stands tells what it has made"
        for archive in () if code is None else (code.machine, code.scaler):
            bundle.upload(Bucket(storage.bucket, self._aws.region), archive)
        workers, did = self._settle(self._workers, self._plan_workers(storage, code))
        changed += [self._workers.name] if did else []
        return Deployed(
            fleet=self._wanted.fleet,
            region=self._aws.region,
            table=storage.table,
            bucket=storage.bucket,
            changed=tuple(changed),
            outputs=workers.outputs,
            code={name: workers.parameters[name] for name in _CODE},
        )

    def _check_machines(self) -> None:
        """Before anything is made: whether each slot of a machine has a GPU."""
        before = self._workers.state()
        given = {**(before.parameters if before else {}), **self._wanted.values}
        values = self._templates[WORKERS].with_defaults(given)
        if int(values["Slots"]) > 1:
            types = [values[name] for name in INSTANCE_TYPES if values[name]]
            with explained(self._workers.name):
                check_slots(self._aws.ec2, types, int(values["Slots"]))

    def _choose(self, storage: StackState | None) -> StorageChoice:
        return choose(self._wanted.table, self._wanted.bucket, storage, self._workers.state())

    def _look(self, choice: StorageChoice) -> str | None:
        """The stream of an existing table; raises NotUsable when an existing one will not do."""
        stream = None
        if choice.table is not None:
            table = inspect_table(self._aws.dynamodb, choice.table)
            self._tell(f"table {table.name}", table.results)
            stream = table.stream_arn
        if choice.bucket is not None:
            self._tell(f"bucket {choice.bucket}", inspect_bucket(self._aws.s3, choice.bucket))
        return stream

    def _tell(self, name: str, findings: tuple[CheckResult, ...]) -> None:
        for finding in findings:
            if finding.state == "warn":
                self._listener.on_finding(name, finding)
        check_usable(name, findings)

    def _plan_storage(self, choice: StorageChoice) -> Plan | None:
        template = self._templates[STORAGE]
        values = choice.values(self._given(template))
        return self._storage.plan(template, values, self._tags)

    def _plan_workers(self, storage: Storage, code: Code | None) -> Plan | None:
        template = self._templates[WORKERS]
        place = {"TableName": storage.table, "TableStreamArn": storage.stream_arn, "BucketName": storage.bucket}
        run = {} if code is None else code.values()
        return self._workers.plan(template, {**self._given(template), **place, **run}, self._tags)

    def _given(self, template: Template) -> dict[str, str]:
        values = {**self._wanted.values, "FleetName": self._wanted.fleet}
        return {name: value for name, value in values.items() if name in template.parameters}

    def _forget(self, stack: FleetStack, plan: Plan | None) -> Plan | None:
        self._listener.on_plan(stack.name, plan)
        if plan is not None:
            stack.discard(plan)
        return plan

    def _settle(self, stack: FleetStack, plan: Plan | None) -> tuple[StackState, bool]:
        """The stack as wanted, and whether anything had to be done for it."""
        self._listener.on_plan(stack.name, plan)
        if plan is not None:
            return stack.execute(plan, self._listener.on_event), True
        state = stack.state()
        assert state is not None, "a stack without changes exists"
        return state, False


def _settled(choice: StorageChoice, storage: StackState | None, stream: str | None) -> Storage | None:
    """None where something of it is not made yet."""
    made = {} if storage is None else storage.outputs
    table, bucket = choice.table or made.get("TableName"), choice.bucket or made.get("BucketName")
    stream = stream or made.get("TableStreamArn")
    if table is None or bucket is None or stream is None:
        return None
    return Storage(table, stream, bucket)


def _hash_in(archive: Path) -> str:
    return archive.name.partition(".")[0]
