"""fleet deploy: the storage stack (unless table and bucket exist), the code in the bucket, and the workers' stack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from receipt_dynamo.client import resolve_region
from receipt_layoutlm.fleet import bundle
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.existing import check_usable, inspect_bucket, inspect_table, refuse_taken_queue
from receipt_layoutlm.fleet.names import FLEET_TAG, storage_stack, workers_stack
from receipt_layoutlm.fleet.quotas import check_quotas, check_slots
from receipt_layoutlm.fleet.stack import FleetStack, StackEvent, StackPlan, StackState
from receipt_layoutlm.fleet.stack_errors import explain_refusals
from receipt_layoutlm.fleet.template import INSTANCE_TYPES, Template, read_template
from receipt_layoutlm.storage.bucket import Bucket

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client


STORAGE, WORKERS = "storage.yaml", "workers.yaml"
_BOTH: Final = "table-and-bucket"  # a value of storage.yaml's parameter Makes
_CODE: Final = ("BundleSha256", "ScalerSha256")  # parameters of workers.yaml


@dataclass(frozen=True)
class FleetRequest:
    """The options of a deployment: an existing table and bucket, and values for the parameters of both templates."""

    fleet: str
    table: str | None = None
    bucket: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Code:
    """Archives of the code for machines and scaler. Each file name begins with the SHA-256 of its content."""

    machine: Path
    scaler: Path

    def values(self) -> dict[str, str]:
        """Parameters of workers.yaml."""
        hashes = (archive.name.partition(".")[0] for archive in (self.machine, self.scaler))
        return dict(zip(_CODE, hashes, strict=True))


@dataclass(frozen=True)
class DeployCallbacks:
    """Callbacks for warnings about existing storage, for the plan of each stack, and for its events."""

    on_warning: Callable[[str, CheckResult], object]
    on_plan: Callable[[str, StackPlan | None], object]
    on_event: Callable[[StackEvent], object]


@dataclass(frozen=True)
class DeployedFleet:
    """A deployed fleet. `changed` names the stacks that were changed."""

    fleet: str
    region: str
    table: str
    bucket: str
    changed: tuple[str, ...]
    outputs: Mapping[str, str]
    code: Mapping[str, str]


@dataclass(frozen=True)
class Aws:
    """Clients of one region. They retry throttled requests longer than usual: a stack is followed for minutes."""

    region: str
    cloudformation: "CloudFormationClient"
    autoscaling: "AutoScalingClient"
    ec2: "EC2Client"
    dynamodb: "DynamoDBClient"
    s3: "S3Client"


def open_aws(region: str | None) -> Aws:
    """Create the clients. The region defaults to the environment, the profile, us-east-1."""
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


# table and bucket


@dataclass(frozen=True)
class StorageChoice:
    """Names of an existing table and bucket, None for those of the storage stack.

    `makes` is the stack's parameter Makes, None when the fleet has no storage stack.
    """

    table: str | None
    bucket: str | None
    makes: str | None


@dataclass(frozen=True)
class FleetStorage:
    """The table and the bucket of a fleet."""

    table: str
    stream_arn: str
    bucket: str


def choose_storage(
    table: str | None, bucket: str | None, storage: StackState | None, workers: StackState | None
) -> StorageChoice:
    """Choose the given ones, else those of the deployed fleet, else new ones. The storage stack keeps its resources."""
    made = {} if storage is None else storage.outputs
    before = {} if workers is None else workers.parameters
    existing: dict[str, str | None] = {}
    for key, given in (("TableName", table), ("BucketName", bucket)):
        name = given or (None if key in made else before.get(key))
        existing[key] = None if name == made.get(key) else name  # None: the storage stack's own
    makes = [
        kind for kind, key in (("table", "TableName"), ("bucket", "BucketName")) if existing[key] is None or key in made
    ]
    return StorageChoice(existing["TableName"], existing["BucketName"], "-and-".join(makes) or None)


class Deployment:
    """The deployment of one fleet in one region. Tests inject `wait`."""

    def __init__(
        self, aws: Aws, request: FleetRequest, callbacks: DeployCallbacks, wait: Callable[[float], object]
    ) -> None:
        self._aws, self._request, self._callbacks = aws, request, callbacks
        self._storage = FleetStack(aws.cloudformation, storage_stack(request.fleet), wait)
        self._workers = FleetStack(aws.cloudformation, workers_stack(request.fleet), wait)
        self._templates = {name: read_template(name) for name in (STORAGE, WORKERS)}
        self._tags = {FLEET_TAG: request.fleet}

    def preview(self, code: Code | None) -> list[StackPlan]:
        """Plan both stacks and discard the plans again. Raises as deploy does."""
        self._check_slots()
        state = self._storage.state()
        choice = self._choose(state)
        stream_arn = self._check_existing(choice)
        plans = [self._discard(self._storage, self._plan_storage(choice))] if choice.makes else []
        storage = _storage_of(choice, state, stream_arn)
        if storage is None:  # parts of it are still to be created: plan with names in their place
            table = choice.table or self._request.fleet
            stream = f"arn:aws:dynamodb:{self._aws.region}:{'0' * 12}:table/{table}/stream/not-made-yet"
            storage = FleetStorage(table, stream, choice.bucket or f"{self._request.fleet}-not-made-yet")
        plans.append(self._discard(self._workers, self._plan_workers(storage, code)))
        return [plan for plan in plans if plan is not None]

    def deploy(self, code: Code | None) -> DeployedFleet:
        """Create or change what differs from the request; without code, the deployed code stays.

        Raises StackError, NotUsable, StorageError, TooFewGpus.
        """
        self._check_slots()
        state = self._storage.state()
        choice = self._choose(state)
        stream_arn = self._check_existing(choice)
        changed = []
        if choice.makes:
            state, is_changed = self._execute(self._storage, self._plan_storage(choice))
            changed += [self._storage.name] if is_changed else []
        storage = _storage_of(choice, state, stream_arn)
        assert storage is not None, "a deployed storage stack has outputs for its resources"
        for archive in () if code is None else (code.machine, code.scaler):
            bundle.upload(Bucket(storage.bucket, self._aws.region), archive)
        workers, is_changed = self._execute(self._workers, self._plan_workers(storage, code))
        changed += [self._workers.name] if is_changed else []
        return DeployedFleet(
            fleet=self._request.fleet,
            region=self._aws.region,
            table=storage.table,
            bucket=storage.bucket,
            changed=tuple(changed),
            outputs=workers.outputs,
            code={name: workers.parameters[name] for name in _CODE},
        )

    def _check_slots(self) -> None:
        """Check, before anything is created, that each slot of a machine has a GPU; warn of quotas without room."""
        before = self._workers.state()
        given = {**(before.parameters if before else {}), **self._request.values}
        values = self._templates[WORKERS].with_defaults(given)
        types = [values[name] for name in INSTANCE_TYPES if values[name]]
        for quota in check_quotas(self._aws.region, types):
            if quota.state == "missing":
                self._callbacks.on_warning(quota.name, quota)
        if int(values["Slots"]) > 1:
            with explain_refusals(self._workers.name):
                check_slots(self._aws.ec2, types, int(values["Slots"]))

    def _choose(self, storage: StackState | None) -> StorageChoice:
        return choose_storage(self._request.table, self._request.bucket, storage, self._workers.state())

    def _check_existing(self, choice: StorageChoice) -> str | None:
        """Inspect an existing table and bucket; returns the table's stream. Raises NotUsable."""
        stream_arn = None
        checked: dict[str, tuple[CheckResult, ...]] = {}
        if choice.table is not None:
            table = inspect_table(self._aws.dynamodb, choice.table)
            checked[f"table {table.name}"] = table.results
            stream_arn = table.stream_arn
        if choice.bucket is not None:
            checked[f"bucket {choice.bucket}"] = inspect_bucket(self._aws.s3, choice.bucket)
        if choice.table is not None and (warning := self._refuse_taken_queue(choice.table)) is not None:
            self._callbacks.on_warning(f"table {choice.table}", warning)
        for name, results in checked.items():
            for result in results:
                if result.state == "warn":
                    self._callbacks.on_warning(name, result)
            check_usable(name, results)
        return stream_arn

    def _refuse_taken_queue(self, table: str) -> CheckResult | None:
        before = self._workers.state()
        given = {**(before.parameters if before else {}), **self._request.values}
        queue = self._templates[WORKERS].with_defaults(given)["QueueName"]
        return refuse_taken_queue(self._aws.cloudformation, self._request.fleet, table, queue)

    def _plan_storage(self, choice: StorageChoice) -> StackPlan | None:
        template = self._templates[STORAGE]
        bucket = {} if choice.bucket is None else {"BucketName": choice.bucket}  # for the table's tag
        values = {"Makes": choice.makes or _BOTH, **bucket, **self._values_of(template)}
        return self._storage.plan(template, values, self._tags)

    def _plan_workers(self, storage: FleetStorage, code: Code | None) -> StackPlan | None:
        template = self._templates[WORKERS]
        place = {"TableName": storage.table, "TableStreamArn": storage.stream_arn, "BucketName": storage.bucket}
        values = {**self._values_of(template), **place, **({} if code is None else code.values())}
        return self._workers.plan(template, values, self._tags)

    def _values_of(self, template: Template) -> dict[str, str]:
        values = {**self._request.values, "FleetName": self._request.fleet}
        return {name: value for name, value in values.items() if name in template.parameters}

    def _discard(self, stack: FleetStack, plan: StackPlan | None) -> StackPlan | None:
        self._callbacks.on_plan(stack.name, plan)
        if plan is not None:
            stack.discard(plan)
        return plan

    def _execute(self, stack: FleetStack, plan: StackPlan | None) -> tuple[StackState, bool]:
        """The state of the stack after its plan, and whether anything was changed."""
        self._callbacks.on_plan(stack.name, plan)
        if plan is not None:
            return stack.execute(plan, self._callbacks.on_event), True
        state = stack.state()
        assert state is not None, "a stack without changes exists"
        return state, False


def _storage_of(choice: StorageChoice, storage: StackState | None, stream_arn: str | None) -> FleetStorage | None:
    """Table and bucket with their names; None where one of them is not created yet."""
    made = {} if storage is None else storage.outputs
    table, bucket = choice.table or made.get("TableName"), choice.bucket or made.get("BucketName")
    stream_arn = stream_arn or made.get("TableStreamArn")
    if table is None or bucket is None or stream_arn is None:
        return None
    return FleetStorage(table, stream_arn, bucket)
