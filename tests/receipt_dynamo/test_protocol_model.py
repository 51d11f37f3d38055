"""The protocol keeps its rules under drawn workers, rescuers, people, clocks, time and faults; breaking one is seen."""

from typing import TYPE_CHECKING

import pytest

from tests.receipt_dynamo.protocol_breaks import BREAKS, Break, broken, catches
from tests.receipt_dynamo.protocol_faults import Fault
from tests.receipt_dynamo.protocol_model import Schedule, broken_among, drawn, in_memory, on_engine, prove, smallest
from tests.receipt_dynamo.protocol_store import Memory
from tests.receipt_dynamo.protocol_world import ACTORS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SEED = 1
SHORT_FORM = 300  # of the breaks; ends at the first catch
EVERY_RULE = pytest.mark.parametrize("how", BREAKS, ids=lambda how: how.rule)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("count", [500, pytest.param(100_000, marks=pytest.mark.long)])
def test_no_schedule_breaks_a_rule(count: int) -> None:
    prove(in_memory(), count, SEED)


@pytest.mark.engine
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_the_memory_answers_every_request_as_the_engine_does(
    dynamo_endpoint: str, dynamo: "DynamoDBClient", count: int
) -> None:
    with on_engine(dynamo_endpoint, dynamo, twin=Memory()) as opened:
        prove(opened, count, SEED)
        assert opened.sent > 20 * count


@EVERY_RULE
def test_code_that_breaks_a_rule_on_purpose_is_caught(how: Break) -> None:
    assert next(catches(in_memory(), how, SHORT_FORM, SEED), None) is not None


def test_what_breaks_a_rule_is_shown_as_the_smallest_schedule_that_does() -> None:
    opened = in_memory()
    with broken(BREAKS[0]):
        number, _ = next(broken_among(opened, SHORT_FORM, SEED))
        schedule = smallest(opened, drawn(SEED, number))
        assert opened.broken_rule(schedule) is not None
        assert len(schedule.steps) < len(drawn(SEED, number).steps)
    assert opened.broken_rule(schedule) is None


def test_a_cancel_that_is_refused_after_its_reply_was_lost_is_told_as_done() -> None:
    lost = Fault("write", 0, ("lost", "throttle", "conflict and a failed condition"))  # three waits: over its patience
    schedule = Schedule((0.0,) * len(ACTORS), ("plain", "critical"), "medium", (("cancel", 10, lost),))
    assert in_memory().broken_rule(schedule) is None


@pytest.mark.engine
def test_the_engine_and_the_memory_are_asked_the_same(dynamo_endpoint: str, dynamo: "DynamoDBClient") -> None:
    remembered = in_memory()
    with on_engine(dynamo_endpoint, dynamo) as opened:
        for number in range(1, 21):
            assert opened.broken_rule(drawn(SEED, number)) is remembered.broken_rule(drawn(SEED, number)) is None
            assert opened.sent == remembered.sent, f"schedule {number}"
