"""fleet deploy: stacks of storage and network (unless these exist), the code in the bucket, and the workers' stack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from receipt_dynamo.client import resolve_region
from receipt_layoutlm.fleet import bundle
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.existing import check_usable, inspect_bucket, inspect_table, refuse_taken_queue
from receipt_layoutlm.fleet.groups import restore_limits
from receipt_layoutlm.fleet.images import ImageChange, image_change, image_values
from receipt_layoutlm.fleet.names import FLEET_TAG, network_stack, storage_stack, workers_stack
from receipt_layoutlm.fleet.network import UNKNOWN, check_way_out, check_zones, choose_zones
from receipt_layoutlm.fleet.quotas import MARKETS, Market, check_quotas, check_slots
from receipt_layoutlm.fleet.stack import FleetStack, StackEvent, StackPlan, StackState
from receipt_layoutlm.fleet.stack_errors import TemplateRefused, explain_refusals
from receipt_layoutlm.fleet.storage_choice import FleetStorage, StorageChoice, choose_storage, storage_of
from receipt_layoutlm.fleet.template import INSTANCE_TYPES, Template, read_template
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.owner import Owner, name_owner

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client


STORAGE, NETWORK, WORKERS = TEMPLATES = ("storage.yaml", "network.yaml", "workers.yaml")
_BOTH: Final = "table-and-bucket"  # a value of storage.yaml's parameter Makes
_CODE: Final = ("BundleSha256", "ScalerSha256")  # parameters of workers.yaml
_VERSION: Final = "ScalerVersion"
_SUBNETS: Final = "SubnetIds"
_CHECK_ROUTES: Final = "check that machines in them reach AWS, or allow ec2:DescribeRouteTables"
_ALLOW: Final = "allow ec2:DescribeInstanceTypeOfferings, or choose zones with --zone-names"


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


def build_code(wheel: Path | None, folder: Path) -> Code:
    """Build both archives; the wheel defaults to the newest in dist/, or the installed one. Raises BundleError."""
    machine = bundle.make_bundle(wheel or bundle.find_wheel(Path("dist")), folder)
    return Code(machine, bundle.make_scaler_zip(folder))


def upload_code(bucket: Bucket, code: Code) -> dict[str, str]:
    """Store the archives; returns parameters of workers.yaml. Raises StorageError."""
    bundle.upload(bucket, code.machine)
    return {**code.values(), _VERSION: bundle.upload(bucket, code.scaler)}


@dataclass(frozen=True)
class DeployCallbacks:
    """Callbacks for warnings about existing storage, for the plan of each stack, and for its events."""

    on_warning: Callable[[str, CheckResult], object]
    on_plan: Callable[[str, StackPlan | None], object]
    on_event: Callable[[StackEvent], object]


@dataclass(frozen=True)
class DeployedFleet:
    """A deployed fleet. `changed` names the stacks that were changed.

    `restored` names groups and functions that were changed beside their stack, and are as deployed again;
    `alarm_target` is an e-mail address, the ARN of a given topic, or empty.
    """

    fleet: str
    region: str
    table: str
    bucket: str
    changed: tuple[str, ...]
    outputs: Mapping[str, str]
    code: Mapping[str, str]
    restored: tuple[str, ...]
    alarm_target: str


@dataclass(frozen=True)
class Aws:
    """Clients of one region. They retry throttled requests longer than usual: a stack is followed for minutes."""

    region: str
    cloudformation: "CloudFormationClient"
    autoscaling: "AutoScalingClient"
    ec2: "EC2Client"
    dynamodb: "DynamoDBClient"
    s3: "S3Client"
    ssm: Any
    functions: Any  # like ssm, a service without installed stubs
    owner: Owner


def open_aws(region: str | None, owner: Owner = lambda: None) -> Aws:
    """Create the clients. The region defaults to the environment, the profile, us-east-1.

    `owner` is the account that owns buckets of which the fleet says nothing else.
    """
    region = resolve_region(region)
    config = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 8, "mode": "standard"})
    return Aws(
        region=region,
        cloudformation=boto3.client("cloudformation", region_name=region, config=config),
        autoscaling=boto3.client("autoscaling", region_name=region, config=config),
        ec2=boto3.client("ec2", region_name=region, config=config),
        dynamodb=boto3.client("dynamodb", region_name=region, config=config),
        s3=boto3.client("s3", region_name=region, config=config),
        ssm=boto3.client("ssm", region_name=region, config=config),
        functions=boto3.client("lambda", region_name=region, config=config),
        owner=owner,
    )


class Deployment:
    """The deployment of one fleet in one region. Tests inject `wait`."""

    def __init__(
        self, aws: Aws, request: FleetRequest, callbacks: DeployCallbacks, wait: Callable[[float], object]
    ) -> None:
        self._aws, self._request, self._callbacks = aws, request, callbacks
        self._given = image_values(request.values)
        name_owner(aws.s3, self._bucket_owner)
        self._storage = FleetStack(aws.cloudformation, storage_stack(request.fleet), wait)
        self._network = FleetStack(aws.cloudformation, network_stack(request.fleet), wait)
        self._workers = FleetStack(aws.cloudformation, workers_stack(request.fleet), wait)
        self._templates = {name: read_template(name) for name in TEMPLATES}
        self._tags = {FLEET_TAG: request.fleet}

    def image_change(self) -> ImageChange:
        """The images of new machines before and after the deployment."""
        return image_change(self._aws.ssm, self._workers.state(), self._worker_values())

    def preview(self, code: Code | None) -> list[StackPlan]:
        """Plan all stacks and discard the plans again. Raises as deploy does."""
        self._check_machines()
        state = self._storage.state()
        choice = self._choose(state)
        stream_arn = self._check_existing(choice, state)
        plans = [self._discard(self._storage, self._plan_storage(choice))] if choice.makes else []
        subnets: Mapping[str, str] = {}
        if self._makes_network():
            plans.append(self._discard(self._network, self._plan_network()))
            network = self._network.state()
            made = {} if network is None else network.outputs
            subnets = made or {_SUBNETS: "subnet-0", "VpcId": "vpc-0"}  # in place of those that are not made yet
        storage = storage_of(choice, state, stream_arn)
        if storage is None:  # parts of it are still to be created: plan with names in their place
            table = choice.table or self._request.fleet
            stream = f"arn:aws:dynamodb:{self._aws.region}:{'0' * 12}:table/{table}/stream/not-made-yet"
            storage = FleetStorage(table, stream, choice.bucket or f"{self._request.fleet}-not-made-yet")
        values = {} if code is None else code.values()
        plans.append(self._discard(self._workers, self._plan_workers(storage, {**subnets, **values})))
        return [plan for plan in plans if plan is not None]

    def deploy(self, code: Code | None) -> DeployedFleet:
        """Create or change what differs from the request; without code, the deployed code stays.

        Raises StackError, NotUsable, StorageError, TooFewGpus, NoZone, NoWayOut.
        """
        self._check_machines()
        state = self._storage.state()
        choice = self._choose(state)
        stream_arn = self._check_existing(choice, state)
        changed = []
        if choice.makes:
            state, is_changed = self._execute(self._storage, self._plan_storage(choice))
            changed += [self._storage.name] if is_changed else []
        subnets: Mapping[str, str] = {}
        if self._makes_network():
            network, is_changed = self._execute(self._network, self._plan_network())
            changed += [self._network.name] if is_changed else []
            subnets = network.outputs
        storage = storage_of(choice, state, stream_arn)
        assert storage is not None, "a deployed storage stack has outputs for its resources"
        bucket = Bucket(storage.bucket, self._aws.region, owner=self._bucket_owner)
        stored = {} if code is None else upload_code(bucket, code)
        workers, is_changed = self._execute(self._workers, self._plan_workers(storage, {**subnets, **stored}))
        changed += [self._workers.name] if is_changed else []
        restored = restore_limits(self._aws.autoscaling, workers)
        restored += [workers.outputs["ScalerName"]] if bundle.restore_code(self._aws.functions, workers) else []
        return DeployedFleet(
            fleet=self._request.fleet,
            region=self._aws.region,
            table=storage.table,
            bucket=storage.bucket,
            changed=tuple(changed),
            outputs=workers.outputs,
            code={name: workers.parameters[name] for name in _CODE},
            restored=tuple(restored),
            alarm_target=workers.parameters["AlarmEmail"] or workers.parameters["AlarmTopicArn"],
        )

    def _bucket_owner(self) -> str | None:
        """The account that machines expect to own the bucket, else the one that other commands expect."""
        return self._worker_values()["BucketOwner"] or self._aws.owner()

    def _worker_values(self) -> dict[str, str]:
        """All values of workers.yaml after the deployment, without those that it computes."""
        before = self._workers.state()
        return self._templates[WORKERS].with_defaults({**(before.parameters if before else {}), **self._given})

    def _makes_network(self) -> bool:
        """Whether the machines' subnets are those of the network stack: none are given, and none were before."""
        if (given := self._given.get(_SUBNETS)) is not None:
            return not given
        network, used = self._network.state(), self._worker_values().get(_SUBNETS)
        return not used or (network is not None and used == network.outputs.get(_SUBNETS))

    def _check_machines(self) -> None:
        """Check, before anything is created, that each slot has a GPU and machines reach AWS; warn of full quotas."""
        values = self._worker_values()
        markets = [market for market in MARKETS if _uses(market, values)]
        for quota in check_quotas(self._aws.region, _types(values), markets):
            if quota.state != "ok":
                self._callbacks.on_warning(quota.name, quota)
        with explain_refusals(self._workers.name):
            if int(values["Slots"]) > 1:
                check_slots(self._aws.ec2, _types(values), int(values["Slots"]))
        if self._makes_network():
            if self._given.get("VpcId") or self._given.get("SecurityGroupId"):
                raise TemplateRefused("--vpc-id and --security-group-id belong to given subnets: add --subnet-ids")
        elif subnets := self._given.get(_SUBNETS):
            try:
                check_way_out(self._aws.ec2, subnets.split(","))
            except ClientError as error:
                unknown = CheckResult("subnets", "warn", f"their routes are unknown: {error}", _CHECK_ROUTES)
                self._callbacks.on_warning(f"subnets {subnets}", unknown)
        standing = self._standing_subnets(values)
        if standing and (few := check_zones(self._aws.ec2, _types(values), standing.split(","))) is not None:
            self._callbacks.on_warning(f"subnets {standing}", few)

    def _standing_subnets(self, values: Mapping[str, str]) -> str:
        """The machines' subnets as far as they exist: given ones, or those of the deployed network."""
        if not self._makes_network():
            return values[_SUBNETS]
        network = self._network.state()
        return "" if network is None else network.outputs.get(_SUBNETS, "")

    def _choose(self, storage: StackState | None) -> StorageChoice:
        return choose_storage(self._request.table, self._request.bucket, storage, self._workers.state())

    def _check_existing(self, choice: StorageChoice, storage: StackState | None) -> str | None:
        """Inspect an existing table and bucket; returns the table's stream. Raises NotUsable, QueueTaken."""
        stream_arn = None
        checked: dict[str, tuple[CheckResult, ...]] = {}
        if choice.table is not None:
            table = inspect_table(self._aws.dynamodb, choice.table)
            checked[f"table {table.name}"] = table.results
            stream_arn = table.stream_arn
        if choice.bucket is not None:
            checked[f"bucket {choice.bucket}"] = inspect_bucket(self._aws.s3, choice.bucket)
        table_name = choice.table or ({} if storage is None else storage.outputs).get("TableName")
        if table_name is not None and (warning := self._refuse_taken_queue(table_name)) is not None:
            self._callbacks.on_warning(f"table {table_name}", warning)
        for name, results in checked.items():
            for result in results:
                if result.state == "warn":
                    self._callbacks.on_warning(name, result)
            check_usable(name, results)
        return stream_arn

    def _refuse_taken_queue(self, table: str) -> CheckResult | None:
        queue = self._worker_values()["QueueName"]
        return refuse_taken_queue(self._aws.cloudformation, self._request.fleet, table, queue)

    def _plan_storage(self, choice: StorageChoice) -> StackPlan | None:
        template = self._templates[STORAGE]
        names = {"TableName": choice.table, "BucketName": choice.bucket}  # for policies, and the table's tag
        existing = {key: name for key, name in names.items() if name is not None}
        values = {"Makes": choice.makes or _BOTH, **existing, **self._values_of(template)}
        return self._storage.plan(template, values, self._tags)

    def _plan_network(self) -> StackPlan | None:
        """A new network lies in zones that have the instance types; a deployed one keeps its zones."""
        template = self._templates[NETWORK]
        values = self._values_of(template)
        before = self._network.state()
        if (before is None or before.is_planned_only) and "ZoneNames" not in values:
            count = int(template.with_defaults(values)["Zones"])
            try:
                zones = choose_zones(self._aws.ec2, _types(self._worker_values()), count)
                values |= {"Zones": str(len(zones)), "ZoneNames": ",".join(zones)}
            except ClientError as error:
                unknown = CheckResult("zones", "warn", f"{UNKNOWN}: {error}", _ALLOW)
                self._callbacks.on_warning(self._network.name, unknown)
        return self._network.plan(template, values, self._tags)

    def _plan_workers(self, storage: FleetStorage, computed: Mapping[str, str]) -> StackPlan | None:
        template = self._templates[WORKERS]
        place = {"TableName": storage.table, "TableStreamArn": storage.stream_arn, "BucketName": storage.bucket}
        return self._workers.plan(template, {**self._values_of(template), **place, **computed}, self._tags)

    def _values_of(self, template: Template) -> dict[str, str]:
        values = {**self._given, "FleetName": self._request.fleet}
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


def _uses(market: Market, values: Mapping[str, str]) -> bool:
    if market == "spot":
        return float(values["OnDemandShare"]) < 100
    return float(values["OnDemandMaximum"]) > 0 or float(values["OnDemandShare"]) > 0


def _types(values: Mapping[str, str]) -> list[str]:
    return [values[name] for name in INSTANCE_TYPES if values[name]]
