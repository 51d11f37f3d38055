"""The protocol keeps its rules under drawn workers, rescuers, people, time and faults; and breaking one is seen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.receipt_dynamo.protocol_breaks import BREAKS, Break, is_caught
from tests.receipt_dynamo.protocol_model import Laboratory, laboratory, prove

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

SCHEDULES, LONG_SCHEDULES = 300, 1000  # bench/protocol_breaks.py runs any number of them
SHORT_FORM = 150  # ends at the first catch, which comes within 30
SEED = 1


@pytest.fixture
def opened(dynamo_endpoint: str, dynamo: "DynamoDBClient") -> Iterator[Laboratory]:
    with laboratory(dynamo_endpoint, dynamo) as opened:
        yield opened


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [SCHEDULES, pytest.param(LONG_SCHEDULES, marks=pytest.mark.long)])
def test_no_schedule_breaks_a_rule(opened: Laboratory, count: int) -> None:
    prove(opened, count, SEED)
    assert opened.count >= count


@pytest.mark.parametrize("how", BREAKS, ids=lambda how: how.rule)
def test_code_that_breaks_a_rule_on_purpose_is_caught(opened: Laboratory, how: Break) -> None:
    assert is_caught(opened, how, SHORT_FORM, SEED)
