"""The hourly price of an instance: from the user's table, the current spot price, or the list price."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from receipt_dynamo import Machine
from receipt_layoutlm.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


log = logging.getLogger(__name__)

# US dollars an hour, Linux, on demand, in us-east-1, from https://aws.amazon.com/ec2/pricing/on-demand/ as of 2025-06.
# Other regions differ: the user's table takes precedence.
LIST_PRICES = {"g4dn.xlarge": 0.526, "g5.xlarge": 1.006, "g6.xlarge": 0.8048}
# of a gp3 volume a GB and month, and of a public IPv4 address an hour: https://aws.amazon.com/ebs/pricing/ and
# https://aws.amazon.com/vpc/pricing/, us-east-1, as of 2025-06
DISK_PER_GIGABYTE_MONTH, ADDRESS_PER_HOUR, HOURS_PER_MONTH = 0.08, 0.005, 730
PRICES_VARIABLE = "LAYOUTLM_PRICES"  # the fleet's price table, in JSON
QUICK = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})  # no reason to claim late
VALID_FOR = timedelta(hours=1)  # EC2 smooths spot prices over days
RETRY_AFTER = timedelta(minutes=1)  # when EC2 returned no price


class BadPrices(UserError):
    """The price table is not valid."""


class Price(BaseModel):
    """Known prices of one instance type in US dollars an hour."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    spot: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    on_demand: float | None = Field(default=None, gt=0, allow_inf_nan=False, alias="on-demand")


PriceTable = dict[str, Price]
SpotPrice = Callable[[str, str], float | None]  # takes an instance type and a zone or region

_TABLE: TypeAdapter[PriceTable] = TypeAdapter(PriceTable)


def parse_prices(text: str) -> PriceTable | None:
    """Parse a table like {"g5.xlarge": {"spot": 0.4, "on-demand": 1.0}}; None for an empty text. Raises BadPrices."""
    if not text.strip():
        return None
    try:
        return _TABLE.validate_json(text)
    except ValidationError as error:
        raise BadPrices(f"the price table must be JSON like {{type: {{spot: …, on-demand: …}}}}: {error}") from error


def no_spot_price(_instance_type: str, _place: str) -> float | None:
    """A SpotPrice without a source."""
    return None


def price_per_hour(
    instance_type: str,
    spot: bool,
    place: str,
    table: PriceTable | None = None,
    ask: SpotPrice = no_spot_price,
) -> float | None:
    """US dollars an hour in an availability zone, or the highest of a region's zones; None when unknown.

    Prices come from the table, then from `ask` for spot and from the list for on demand. A spot machine without a
    known price is counted at the on-demand price, which is not lower.
    """
    given = (table or {}).get(instance_type, Price())
    if spot:
        price = given.spot if given.spot is not None else ask(instance_type, place)
        if price is not None:
            return price
    return given.on_demand if given.on_demand is not None else LIST_PRICES.get(instance_type)


def surroundings_per_hour(gigabytes: int) -> float:
    """US dollars an hour for a machine's disk and its public address, which no price of an instance includes."""
    return gigabytes * DISK_PER_GIGABYTE_MONTH / HOURS_PER_MONTH + ADDRESS_PER_HOUR


def spot_prices(client: "EC2Client", now: Callable[[], datetime]) -> SpotPrice:
    """Request the price of each type and place from EC2 once an hour; a region's is the highest of its zones.

    After a failure, or without a price, it is requested again in a minute; until then the previous price is used.
    """
    cache: dict[tuple[str, str], tuple[float | None, datetime]] = {}  # price and time of the next request

    def ask(instance_type: str, place: str) -> float | None:
        before, next_at = cache.get((instance_type, place), (None, None))
        if next_at is not None and now() < next_at:
            return before
        try:
            reply = client.describe_spot_price_history(
                InstanceTypes=[instance_type],  # type: ignore[list-item]  # the stubs list the types known at their release
                ProductDescriptions=["Linux/UNIX"],
                StartTime=now().astimezone(UTC),  # the current price without its history
                Filters=[{"Name": "availability-zone", "Values": [place]}] if place[-1:].isalpha() else [],
            )
            price = max((float(each["SpotPrice"]) for each in reply["SpotPriceHistory"]), default=None)
        except (ClientError, BotoCoreError) as error:
            log.warning("the spot price of %s in %s is unknown: %s", instance_type, place, error)
            price = None
        cache[instance_type, place] = (before, now() + RETRY_AFTER) if price is None else (price, now() + VALID_FOR)
        return cache[instance_type, place][0]

    return ask


def machine_price(machine: Machine, zone: str | None, environ: Mapping[str, str]) -> Callable[[], float | None]:
    """A lookup of this machine's current price, by the rules of the scaler."""
    import boto3  # the scaler's Lambda does not ship it

    if machine.instance_type is None:
        return lambda: None
    table = parse_prices(environ.get(PRICES_VARIABLE, ""))
    ask = spot_prices(boto3.client("ec2", region_name=machine.region, config=QUICK), lambda: datetime.now(UTC))
    return partial(price_per_hour, machine.instance_type, bool(machine.spot), zone or machine.region or "", table, ask)
