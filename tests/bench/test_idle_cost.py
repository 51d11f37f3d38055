"""What an idle fleet costs: a look reads a little, writes its lock and memory, and the sum stays below the promise."""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm import infra
from tests.support.fleets import NO_IMAGES
from tests.support.paths import BENCH

pytestmark = pytest.mark.engine


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("LAYOUTLM_SCALER", "")  # the bench sets them for the function; they go with the test
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "")
    monkeypatch.setenv(*NO_IMAGES)
    sys.path.append(str(BENCH))  # as for `python bench/idle_cost.py`
    yield importlib.import_module("idle_cost")
    sys.path.remove(str(BENCH))


def test_an_idle_fleet_costs_less_than_ten_cents_a_month(
    bench: ModuleType, moto_aws: None, make_table: Callable[[], str], dynamo_endpoint: str
) -> None:
    look = bench.measured(lambda: DynamoClient(make_table(), endpoint_url=dynamo_endpoint), repeats=1)
    assert look.units.keys() == {"read", "write"}
    assert look.units["read"] <= 5 and look.units["write"] <= 4  # taking and leaving its lock, and two queues
    assert not any(word in request for request in look.requests for word in ("Update", "Delete", "Set", "EC2"))
    assert sum(look.requests.values()) <= 12
    function = bench.function_of(infra.template_path("workers.yaml").read_text())
    # the time of this machine is not asserted: these are more than was measured
    assumed = bench.Look(look.requests, look.units, 0.05, 1.0, look.log_bytes)
    assert sum(bench.by_item(function, assumed).values()) <= bench.PROMISED
