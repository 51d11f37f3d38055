"""What the scaler on AWS is told: one JSON document, which the stack writes into its environment.

The scaler's entry on AWS Lambda: woken by the table's stream, by a schedule, and by each machine that ends.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, cast

import botocore.session
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from receipt_dynamo import DynamoClient, FleetRows, Job, JobQueue, JobStatus, JsonObject, Timing, utcnow
from receipt_dynamo.client import resolve_region
from receipt_dynamo.items import RawItem, job_from
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.scaler.costs import PAID, FleetInstance, list_instances
from receipt_layoutlm.fleet.scaler.group import aws_group
from receipt_layoutlm.fleet.scaler.look import Look, Scaler, look
from receipt_layoutlm.fleet.scaler.metrics import Metric, publish
from receipt_layoutlm.fleet.scaler.prices import PriceTable, SpotPrice, price_per_hour, spot_prices

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client


VARIABLE = "LAYOUTLM_SCALER"


class BadSettings(UserError):
    """The scaler's settings cannot be read."""


class GroupSettings(BaseModel):
    """An autoscaling group, the queue that it serves, and the most machines that it may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    queue: str = Field(min_length=1)
    maximum: int = Field(ge=0)


class ScalerSettings(BaseModel):
    """`max_cost_per_day` in US dollars, 0 for no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: str = Field(min_length=1)
    table: str = Field(min_length=1)
    groups: tuple[GroupSettings, ...] = Field(min_length=1)
    slots: int = Field(1, ge=1)
    max_cost_per_day: float = Field(0.0, ge=0, allow_inf_nan=False)
    ondemand_after: int = Field(0, ge=0)
    prices: Annotated[PriceTable | None, BeforeValidator(lambda given: given or None)] = None


def parse_settings(text: str | None) -> ScalerSettings:
    """Raises BadSettings."""
    if not text:
        raise BadSettings(f"{VARIABLE} is not set: the stack of 'layoutlm-cli fleet deploy' sets it")
    try:
        return ScalerSettings.model_validate_json(text)
    except ValidationError as error:
        raise BadSettings(f"{VARIABLE} cannot be read: {error}") from error


log = logging.getLogger(__name__)


class LookFailed(Exception):
    """Part of a look failed: raised when everything else is done, so that AWS tries again and its alarm sees it."""


class _Images(BaseModel):
    model_config = ConfigDict(extra="ignore")

    old: RawItem = Field({}, alias="OldImage")
    new: RawItem = Field(alias="NewImage")


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")

    dynamodb: _Images


def run(event: Mapping[str, object], _context: object) -> JsonObject:
    """One look at the fleet; returns what is also logged. Raises LookFailed."""
    changes = list(_changes(event))
    container = container_of(os.environ.get(VARIABLE))
    seen = look(container.scaler, [job.job_id for _, job in changes if job.status.is_claimable])
    told = _told(seen)
    print(json.dumps(told))  # one line of the log group
    failed = sum(job.status is JobStatus.FAILED and was != JobStatus.FAILED for was, job in changes)
    counted = 0 if seen.errors else failed  # after an error the stream brings the same changes again
    publish(lambda: container.cloudwatch, container.settings.fleet, figures_of(seen, counted), utcnow())
    if seen.errors:
        raise LookFailed("; ".join(seen.errors))
    return told


def _changes(event: Mapping[str, object]) -> Iterator[tuple[str | None, Job]]:
    """The jobs in a stream's records, each with the status it had before; the other triggers bring none."""
    records = event.get("Records", ())
    for record in records if isinstance(records, list) else ():
        try:
            images = _Record.model_validate(record).dynamodb
            yield images.old.get("status", {}).get("S"), job_from(images.new)
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            log.warning("a record of the stream holds no job that can be read: %s", type(error).__name__)


def figures_of(seen: Look, failed: int) -> dict[Metric, float]:
    """What a look tells CloudWatch, all groups together. Its errors are the function's own, which AWS counts."""
    has_work = any(each.claimable or each.running for each in seen.groups)
    return {
        "Backlog": sum(each.claimable for each in seen.groups),
        "OldestPendingAge": max((each.oldest_seconds for each in seen.groups), default=0.0),
        "Running": sum(each.running for each in seen.groups),
        "JobsFailed": failed,
        "IdleMachines": 0 if has_work else sum(each.machines for each in seen.groups),
        "OldestInstanceAge": seen.costs.oldest_instance_hours,
    }


def _told(seen: Look) -> JsonObject:
    return {
        "groups": [
            {
                "name": each.group,
                "claimable": each.claimable,
                "running": each.running,
                "oldest_seconds": round(each.oldest_seconds),
                "raised_to": each.raised_to,
                "reason": each.reason,
            }
            for each in seen.groups
        ],
        "rescued": [job.job_id for job in seen.rescued],
        "dollars_today": seen.costs.spent.dollars if seen.costs.spent else None,
        "oldest_instance_hours": round(seen.costs.oldest_instance_hours, 2),
        "errors": list(seen.errors),
    }


@dataclass(frozen=True)
class Container:
    """What one container of the function keeps between looks. Clients of what an idle fleet does not need come late."""

    settings: ScalerSettings

    @cached_property
    def scaler(self) -> Scaler:
        settings, client = self.settings, DynamoClient(self.settings.table)
        return Scaler(
            fleet=settings.fleet,
            queue=JobQueue(client, timing=Timing(ondemand_after=settings.ondemand_after)),
            rows=FleetRows(client),
            groups=[aws_group(self.autoscaling, each.name, each.queue, each.maximum) for each in settings.groups],
            slots=settings.slots,
            instances=self.instances,
            price=self.price,
            max_cost_per_day=settings.max_cost_per_day,
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

    def price(self, each: FleetInstance) -> float | None:
        return price_per_hour(each.instance_type, each.spot, each.zone, self.settings.prices, self.spot_price)


def _client(service: str) -> object:
    """A client without boto3, whose import takes as long as everything else here together."""
    return botocore.session.get_session().create_client(service, region_name=resolve_region())


@lru_cache(maxsize=1)
def container_of(settings: str | None) -> Container:
    return Container(parse_settings(settings))
