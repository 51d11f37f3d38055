"""What an instance costs an hour: a table that the user gives, the spot price of the moment, or a list price."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from receipt_layoutlm.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


log = logging.getLogger(__name__)

# US dollars an hour, Linux, on demand, in us-east-1, from https://aws.amazon.com/ec2/pricing/on-demand/ as of 2025-06.
# Other regions
# differ: a table that the user gives comes first.
LIST_PRICES_AS_OF = "2025-06"
LIST_PRICES = {"g4dn.xlarge": 0.526, "g5.xlarge": 1.006, "g6.xlarge": 0.8048}
HOLDS = timedelta(hours=1)  # what EC2 has told; it smooths spot prices over days
RETRY = timedelta(minutes=1)  # after EC2 has told nothing


class BadPrices(UserError):
    """A price table that cannot be read."""


class Price(BaseModel):
    """US dollars an hour of one instance type, as far as they are known."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    spot: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    on_demand: float | None = Field(default=None, gt=0, allow_inf_nan=False, alias="on-demand")


PriceTable = dict[str, Price]
SpotPrice = Callable[[str, str], float | None]  # of an instance type in a zone or region

_TABLE: TypeAdapter[PriceTable] = TypeAdapter(PriceTable)


def parse_prices(text: str) -> PriceTable | None:
    """The table in its JSON form, {"g5.xlarge": {"spot": 0.4, "on-demand": 1.0}}; None for no text. BadPrices."""
    if not text.strip():
        return None
    try:
        return _TABLE.validate_json(text)
    except ValidationError as error:
        raise BadPrices(f"the price table is not {{type: {{spot: …, on-demand: …}}}} in JSON: {error}") from error


def no_spot_price(_instance_type: str, _place: str) -> float | None:
    """For whoever has nobody to ask."""
    return None


def price_per_hour(
    instance_type: str,
    spot: bool,
    place: str,
    table: PriceTable | None = None,
    ask: SpotPrice = no_spot_price,
) -> float | None:
    """US dollars an hour in an availability zone, or the dearest of a region; None when nobody knows.

    A price in the table is used as it is. Else `ask` tells spot prices, and the list the on-demand ones. A spot
    machine whose price nobody tells counts as one on demand, which is not less.
    """
    given = (table or {}).get(instance_type, Price())
    if spot:
        found = given.spot if given.spot is not None else ask(instance_type, place)
        if found is not None:
            return found
    return given.on_demand if given.on_demand is not None else LIST_PRICES.get(instance_type)


def spot_prices(client: "EC2Client", now: Callable[[], datetime]) -> SpotPrice:
    """Asks EC2 once an hour for each type and place.

    It is asked again in a minute when it did not answer or does not know; until then the price before holds, if any.
    """
    told: dict[tuple[str, str], tuple[float | None, datetime]] = {}  # with the time when it is asked again

    def ask(instance_type: str, place: str) -> float | None:
        before, ask_at = told.get((instance_type, place), (None, None))
        if ask_at is not None and now() < ask_at:
            return before
        price = _told(client, instance_type, place, now())
        told[instance_type, place] = (before, now() + RETRY) if price is None else (price, now() + HOLDS)
        return told[instance_type, place][0]

    return ask


def _told(client: "EC2Client", instance_type: str, place: str, now: datetime) -> float | None:
    try:
        return _dearest(client, instance_type, place, now.astimezone(UTC))
    except (ClientError, BotoCoreError) as error:
        log.warning("the spot price of %s in %s is not known: %s", instance_type, place, error)
        return None


def _dearest(client: "EC2Client", instance_type: str, place: str, now: datetime) -> float | None:
    """The price of a zone, or the highest one of a region's zones."""
    found = client.describe_spot_price_history(
        InstanceTypes=[instance_type],  # type: ignore[list-item]  # the stubs know the types of their day only
        ProductDescriptions=["Linux/UNIX"],
        StartTime=now,  # from now on: the price that holds now, without its history
        Filters=[{"Name": "availability-zone", "Values": [place]}] if place[-1:].isalpha() else [],
    )
    prices = [float(each["SpotPrice"]) for each in found["SpotPriceHistory"]]
    return max(prices, default=None)
