"""The scaler's entry on AWS Lambda, triggered by the table's stream, a schedule, and instance terminations.

The stack writes its settings as one JSON document into the environment. Figures go to CloudWatch only while they are
not zero, so that an idle fleet costs nothing.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, cast

import botocore.session
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from receipt_dynamo import DynamoClient, FleetRows, Job, JobQueue, JobStatus, JsonObject, Timing, utcnow
from receipt_dynamo.client import resolve_region
from receipt_dynamo.items import RawItem, job_from
from receipt_dynamo.unreadable import read
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.scaler.costs import PAID, FleetInstance, list_instances
from receipt_layoutlm.fleet.scaler.figures import Look, Scaler, ScalerTimes
from receipt_layoutlm.fleet.scaler.group import aws_group
from receipt_layoutlm.fleet.scaler.lock import look_alone
from receipt_layoutlm.fleet.scaler.prices import (
    PriceTable,
    SpotPrice,
    price_per_hour,
    spot_prices,
    surroundings_per_hour,
)

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client


log = logging.getLogger(__name__)

VARIABLE = "LAYOUTLM_SCALER"
Metric = Literal[
    "Backlog", "OldestPendingAge", "Running", "JobsFailed", "IdleMachines", "OldestInstanceAge", "UnreadableRows"
]
UNITS: Mapping[Metric, Literal["Count", "Seconds", "None"]] = {
    "Backlog": "Count",
    "OldestPendingAge": "Seconds",
    "Running": "Count",
    "JobsFailed": "Count",
    "IdleMachines": "Count",  # while no job is waiting or running
    "OldestInstanceAge": "None",  # hours, for which CloudWatch has no unit
    "UnreadableRows": "Count",  # that a look passed over
}


class BadSettings(UserError):
    """The scaler's settings are missing or not valid."""


class GroupSettings(BaseModel):
    """An autoscaling group, the queue that it serves, and its maximum number of machines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    queue: str = Field(min_length=1)
    maximum: int = Field(ge=0)


class ScalerSettings(BaseModel):
    """`max_cost_per_day` in US dollars, 0 for no limit; `volume_gigabytes` is the disk of a machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: str = Field(min_length=1)
    table: str = Field(min_length=1)
    groups: tuple[GroupSettings, ...] = Field(min_length=1)
    slots: int = Field(1, ge=1)
    max_cost_per_day: float = Field(0.0, ge=0, allow_inf_nan=False)
    ondemand_after: int = Field(0, ge=0)
    prices: Annotated[PriceTable | None, BeforeValidator(lambda given: given or None)] = None
    volume_gigabytes: int = Field(0, ge=0)
    times: ScalerTimes = ScalerTimes()


def parse_settings(text: str | None) -> ScalerSettings:
    """Raises BadSettings."""
    if not text:
        raise BadSettings(f"{VARIABLE} is not set: deploy the function with `layoutlm-cli fleet deploy`")
    try:
        return ScalerSettings.model_validate_json(text)
    except ValidationError as error:
        raise BadSettings(f"{VARIABLE} is not valid: {error}") from error


class LookFailed(Exception):
    """Part of a look failed. Raised after the rest is done, so that AWS retries it and the alarm is triggered."""


def on_event(event: Mapping[str, object], _context: object) -> JsonObject:
    """Look at the fleet once; returns the logged document. Raises LookFailed, LookBusy."""
    changes = list(_changes(event))
    container = container_of(os.environ.get(VARIABLE))
    named = [job.job_id for _, job in changes if job.status.is_claimable]
    seen = look_alone(container.scaler, named, time.sleep)
    if seen is None:
        return {"skipped": "a look that began later has seen all that this one would"}
    document: JsonObject = {
        "groups": [
            {
                "name": each.group,
                "claimable": each.claimable,
                "running": each.running,
                "oldest_seconds": round(each.oldest_seconds),
                "raised_to": each.raised_to,
                "lowered_to": each.lowered_to,
                "reason": each.reason,
            }
            for each in seen.groups
        ],
        "rescued": [job.job_id for job in seen.rescued],
        "moved": [job.job_id for job in seen.moved],
        "replaced": seen.replaced,
        "dollars_today": seen.costs.spent.dollars if seen.costs.spent else None,
        "oldest_instance_hours": round(seen.costs.oldest_instance_hours, 2),
        "unreadable_rows": seen.unreadable,
        "errors": list(seen.errors),
    }
    print(json.dumps(document))  # one line of the log group
    failed = [job for before, job in changes if job.status is JobStatus.FAILED and before != JobStatus.FAILED]
    for job in failed:  # unless its worker told of it, which may have died just then
        container.scaler.alerts.ended(job.job_id)
    container.scaler.alerts.wait()  # a container stands still between two events
    counted = 0 if seen.errors else len(failed)  # after an error the stream delivers the same changes again
    publish(container, figures_of(seen, counted))
    if seen.errors:
        raise LookFailed("; ".join(seen.errors))
    return document


class _Images(BaseModel):
    model_config = ConfigDict(extra="ignore")

    old: RawItem = Field({}, alias="OldImage")
    new: RawItem = Field(alias="NewImage")


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")

    dynamodb: _Images


def _changes(event: Mapping[str, object]) -> Iterator[tuple[str | None, Job]]:
    """The jobs in the stream's records, each with its previous status; the other triggers have no records."""
    records = event.get("Records", ())
    for record in records if isinstance(records, list) else ():
        try:
            images = _Record.model_validate(record).dynamodb
            yield images.old.get("status", {}).get("S"), read(job_from, images.new)
        except ValueError as error:  # pydantic's, or UnreadableRow; the look counts the row itself
            log.warning("a record of the stream holds no readable job: %s", type(error).__name__)


# figures for CloudWatch


def namespace(fleet: str) -> str:
    """The namespace of a fleet's figures, which have no dimensions."""
    return f"LayoutLM/{fleet}"


def figures_of(seen: Look, failed: int) -> dict[Metric, float]:
    """Sums over all groups. Errors are not among them: AWS counts those of the function."""
    has_work = any(each.claimable or each.running for each in seen.groups)
    return {
        "Backlog": sum(each.claimable for each in seen.groups),
        "OldestPendingAge": max((each.oldest_seconds for each in seen.groups), default=0.0),
        "Running": sum(each.running for each in seen.groups),
        "JobsFailed": failed,
        "IdleMachines": 0 if has_work else sum(each.machines for each in seen.groups),
        "OldestInstanceAge": seen.costs.oldest_instance_hours,
        "UnreadableRows": seen.unreadable,
    }


def publish(container: "Container", figures: Mapping[Metric, float]) -> None:
    """Send the figures that are not zero in one request; without any, not even a client is created."""
    at = container.scaler.now()
    data = [(name, value) for name, value in figures.items() if value]
    if data:
        container.cloudwatch.put_metric_data(
            Namespace=namespace(container.settings.fleet),
            MetricData=[
                {"MetricName": name, "Timestamp": at, "Value": value, "Unit": UNITS[name]} for name, value in data
            ],
        )


@dataclass(frozen=True)
class Container:
    """State of one Lambda container between looks. Clients that an idle fleet does not need are created when used."""

    settings: ScalerSettings

    @cached_property
    def scaler(self) -> Scaler:
        settings, client = self.settings, DynamoClient(self.settings.table)
        return Scaler(
            fleet=settings.fleet,
            queue=JobQueue(
                client,
                # a container's own clocks may stand between two looks, and another one may read what this one kept
                now=client.now,
                timing=Timing(ondemand_after=settings.ondemand_after),
            ),
            rows=FleetRows(client),
            groups=[
                aws_group(self.autoscaling, each.name, each.queue, each.maximum, client.now) for each in settings.groups
            ],
            slots=settings.slots,
            instances=self.instances,
            price=self.price,
            now=client.now,
            max_cost_per_day=settings.max_cost_per_day,
            times=settings.times,
        )

    @cached_property
    def autoscaling(self) -> "AutoScalingClient":
        return cast("AutoScalingClient", _client("autoscaling"))

    @cached_property
    def ec2(self) -> "EC2Client":
        return cast("EC2Client", _client("ec2"))

    @cached_property
    def cloudwatch(self) -> "CloudWatchClient":
        return cast("CloudWatchClient", _client("cloudwatch"))

    @cached_property
    def spot_price(self) -> SpotPrice:
        return spot_prices(self.ec2, utcnow)

    def instances(self) -> list[FleetInstance]:
        return list_instances(self.ec2, self.settings.fleet, PAID)

    def price(self, instance: FleetInstance) -> float | None:
        """Dollars an hour with disk and address; None where the price of its type is unknown."""
        prices = self.settings.prices
        bare = price_per_hour(instance.instance_type, instance.spot, instance.zone, prices, self.spot_price)
        return None if bare is None else bare + surroundings_per_hour(self.settings.volume_gigabytes)


def _client(service: str) -> object:
    """A client created without boto3, whose import takes as long as all other imports together."""
    return botocore.session.get_session().create_client(service, region_name=resolve_region())


@lru_cache(maxsize=1)
def container_of(settings: str | None) -> Container:
    return Container(parse_settings(settings))
