"""What an instance costs an hour: from the user's table, from EC2, or from the list."""

from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import ANY, Stubber

from receipt_layoutlm.fleet.scaler.prices import (
    BadPrices,
    Price,
    PriceTable,
    no_spot_price,
    parse_prices,
    price_per_hour,
    spot_prices,
    surroundings_per_hour,
)
from tests.support.stores import Clock

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REQUEST = {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"]}
TABLE = parse_prices('{"g5.xlarge": {"spot": 0.4, "on-demand": 1.1}, "g6.xlarge": {"spot": 0.3}}')


def ask(_instance_type: str, _place: str) -> float:
    return 0.77


@pytest.mark.parametrize(
    ("instance_type", "spot", "price"),
    [
        pytest.param("g5.xlarge", True, 0.4, id="the table's spot price"),
        pytest.param("g5.xlarge", False, 1.1, id="the table's on-demand price"),
        pytest.param("g6.xlarge", False, 0.8048, id="a list price where the table has none"),
        pytest.param("g4dn.xlarge", True, 0.77, id="EC2's spot price where the table has none"),
        pytest.param("p5.48xlarge", False, None, id="a type that no list has"),
    ],
)
def test_a_price_comes_from_the_first_that_knows_it(instance_type: str, spot: bool, price: float | None) -> None:
    assert price_per_hour(instance_type, spot, "us-east-1a", TABLE, ask) == price


@pytest.mark.parametrize(
    ("instance_type", "table", "price"),
    [
        pytest.param("g5.xlarge", None, 1.006, id="of the list"),
        pytest.param("g5.xlarge", parse_prices('{"g5.xlarge": {"on-demand": 1.1}}'), 1.1, id="of the table"),
        pytest.param("p5.48xlarge", None, None, id="unknown too"),
    ],
)
def test_an_unknown_spot_price_counts_as_the_on_demand_price(
    instance_type: str, table: PriceTable | None, price: float | None
) -> None:
    assert price_per_hour(instance_type, True, "us-east-1a", table, no_spot_price) == price


def test_each_type_and_zone_is_requested_once(moto_aws: None) -> None:
    client = boto3.client("ec2", region_name="us-east-1")
    asked: list[str] = []
    client.meta.events.register("before-send.ec2.*", lambda request, **_: asked.append(str(request.body)))
    price = spot_prices(client, lambda: NOW)
    assert price("g5.xlarge", "us-east-1a") == price("g5.xlarge", "us-east-1a") == 0.00001
    assert len(asked) == 1
    assert price("g4dn.xlarge", "us-east-1a") == 0.00001
    assert len(asked) == 2


def test_the_price_of_a_region_is_that_of_its_dearest_zone() -> None:
    client = boto3.client("ec2", region_name="us-east-1")
    found = [{"SpotPrice": price, "AvailabilityZone": "us-east-1a"} for price in ("0.41", "0.52", "0.39")]
    with Stubber(client) as stub:
        stub.add_response(
            "describe_spot_price_history",
            {"SpotPriceHistory": found},
            {"StartTime": NOW, "Filters": [], **REQUEST},
        )
        assert spot_prices(client, lambda: NOW)("g5.xlarge", "us-east-1") == 0.52


def test_a_refused_request_is_not_repeated_at_each_look() -> None:
    client, clock = boto3.client("ec2", region_name="us-east-1"), Clock(NOW)
    with Stubber(client) as stub:
        stub.add_client_error("describe_spot_price_history", "UnauthorizedOperation", http_status_code=403)
        stub.add_response("describe_spot_price_history", {"SpotPriceHistory": [{"SpotPrice": "0.4"}]})
        price = spot_prices(client, clock)
        assert price("g5.xlarge", "us-east-1a") is None
        clock.pass_seconds(50)
        assert price("g5.xlarge", "us-east-1a") is None  # a second request would be answered


def test_a_price_is_requested_again_after_a_failure_and_after_an_hour() -> None:
    client, clock = boto3.client("ec2", region_name="us-east-1"), Clock(NOW)
    with Stubber(client) as stub:
        price = spot_prices(client, clock)

        def told_after(seconds: float, answer: str | None) -> float | None:
            clock.pass_seconds(seconds)
            if answer is None:
                stub.add_client_error("describe_spot_price_history", "RequestLimitExceeded", http_status_code=503)
            else:
                found = {"SpotPriceHistory": [{"SpotPrice": answer}]}
                stub.add_response("describe_spot_price_history", found, {"StartTime": ANY, "Filters": ANY, **REQUEST})
            told = price("g5.xlarge", "us-east-1a")
            stub.assert_no_pending_responses()
            return told

        assert told_after(0, None) is None
        assert told_after(60, "0.4") == 0.4
        assert told_after(3600, "0.6") == 0.6
        assert told_after(3600, None) == 0.6
        assert told_after(60, "0.5") == 0.5


def test_disk_and_address_of_a_machine_have_their_own_price() -> None:
    assert surroundings_per_hour(0) == 0.005
    assert surroundings_per_hour(125) == pytest.approx(0.005 + 125 * 0.08 / 730)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_no_table(text: str) -> None:
    assert parse_prices(text) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"g5.xlarge": 1}', '{"g5.xlarge": {"spot": -1}}', '{"a": {"Spot": 1}}'])
def test_an_invalid_table_is_refused(text: str) -> None:
    with pytest.raises(BadPrices, match="price table"):
        parse_prices(text)


def test_a_table_reads_both_prices_of_a_type() -> None:
    assert TABLE is not None
    assert TABLE["g5.xlarge"] == Price.model_validate({"spot": 0.4, "on-demand": 1.1})
