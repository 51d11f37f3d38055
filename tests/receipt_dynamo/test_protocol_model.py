"""The protocol keeps its rules under drawn workers, rescuers, people, time and faults; and breaking one is seen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.receipt_dynamo.protocol_breaks import BREAKS, Break, is_caught
from tests.receipt_dynamo.protocol_model import Laboratory, laboratory, prove

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

SCHEDULES, LONG_SCHEDULES = 1000, 20_000
PARTS = 4  # of the long form, so that several processes may share it
SHORT_FORM = 150  # ends at the first catch, which comes within 30
SEED = 1


@pytest.fixture
def opened(dynamo_endpoint: str, dynamo: "DynamoDBClient") -> Iterator[Laboratory]:
    with laboratory(dynamo_endpoint, dynamo) as opened:
        yield opened


@pytest.mark.timeout(900)
def test_a_thousand_schedules_break_no_rule(opened: Laboratory) -> None:
    prove(opened, SCHEDULES, SEED)
    assert opened.count >= SCHEDULES


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_twenty_thousand_schedules_break_no_rule(opened: Laboratory, part: int) -> None:
    prove(opened, LONG_SCHEDULES // PARTS, SEED + part)
    assert opened.count >= LONG_SCHEDULES // PARTS


@pytest.mark.parametrize("how", BREAKS, ids=lambda how: how.rule)
def test_code_that_breaks_a_rule_on_purpose_is_caught(opened: Laboratory, how: Break) -> None:
    assert is_caught(opened, how, SHORT_FORM, SEED)
