"""The simulated fleet: no job lost, no busy machine ended, and what its machines cost over the ideal."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm.infra import template_path
from tests.support.paths import BENCH

pytestmark = pytest.mark.engine

MINUTE, HOUR = 60.0, 3600.0
LONGEST_WASTE = 1.20  # instance hours over the ideal
LONGEST_WAIT = 30.0  # seconds from a release to the next claim by a worker that was free
LONGEST_RAISE = 15.0  # seconds from a submit to the capacity raised
LONGEST_COLD, LONGEST_WARM = 360.0, 60.0  # seconds from a submit to the first step, without and with an idle machine
BOOT_AND_EVENT = 264 + 60 + 3 + 8 + 5  # seconds: the slowest boot, the event of an end, the look, the group, the worker

Simulate = Callable[..., Any]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.append(str(BENCH))  # as for `python bench/fleet_simulation.py`
    yield importlib.import_module("fleet_simulation")
    sys.path.remove(str(BENCH))


@pytest.fixture
def simulate(bench: ModuleType, make_table: Callable[[], str], dynamo_endpoint: str) -> Simulate:
    """Call it with Conditions for the row of one run."""

    def run(conditions: Any, seed: int = 0) -> Any:
        client = DynamoClient(make_table(), endpoint_url=dynamo_endpoint)
        return bench.simulated(client, "a scenario", conditions, seed)

    return run


def keeps_its_promises(row: Any) -> None:
    assert (row.jobs_lost, row.busy_ended, row.taken_from_the_living, row.lowered) == (0, 0, 0, 0), row
    assert row.longest_wait <= LONGEST_WAIT, row


def small(bench: ModuleType, **more: Any) -> Any:
    """The promised scenario on a smaller scale."""
    return replace(bench.BURST, **{"jobs": 15, "maximum": 3, **more})


def test_a_burst_on_spot_machines_wastes_little(bench: ModuleType, simulate: Simulate) -> None:
    row = simulate(small(bench), seed=1)
    keeps_its_promises(row)
    assert row.reclaimed > 0
    assert row.waste <= LONGEST_WASTE


def test_machines_that_vanish_without_notice_lose_steps_but_no_job(bench: ModuleType, simulate: Simulate) -> None:
    row = simulate(small(bench, noticed=0.0, reclaimed_per_hour=0.5), seed=1)
    keeps_its_promises(row)
    assert row.reclaimed > 0
    assert 0 < row.repeated_hours < row.reclaimed * 0.2  # a checkpoint every ten minutes, and a little


def test_the_same_seed_tells_the_same_story(bench: ModuleType, simulate: Simulate) -> None:
    conditions = small(bench, jobs=4, noticed=0.5, reclaimed_per_hour=0.7)
    first, second, other = (simulate(conditions, seed) for seed in (3, 3, 4))
    assert asdict(replace(first, ran_seconds=0)) == asdict(replace(second, ran_seconds=0))
    assert first.instance_hours != other.instance_hours


def test_a_wave_that_takes_nearly_every_machine(bench: ModuleType, simulate: Simulate) -> None:
    waves = ((20 * MINUTE, 0.9), (50 * MINUTE, 0.9))
    row = simulate(small(bench, jobs=6, reclaimed_per_hour=0.0, noticed=0.5, waves=waves))
    keeps_its_promises(row)
    assert row.reclaimed >= 3


def test_several_jobs_on_a_machine(bench: ModuleType, simulate: Simulate) -> None:
    row = simulate(small(bench, jobs=12, maximum=1, slots=4))
    keeps_its_promises(row)
    assert row.waste <= LONGEST_WASTE


def test_a_job_that_comes_while_the_last_machine_ends_is_not_left_to_the_schedule(
    bench: ModuleType, simulate: Simulate
) -> None:
    races = bench.Conditions(jobs=1, job_seconds=MINUTE, maximum=2, races=4)
    with_event, without = simulate(races), simulate(replace(races, wakes_at_ends="no"))
    keeps_its_promises(with_event)
    keeps_its_promises(without)
    assert with_event.longest_race_wait <= BOOT_AND_EVENT
    assert without.longest_race_wait > BOOT_AND_EVENT


def test_records_are_gathered_for_as_long_as_the_template_says(bench: ModuleType) -> None:
    window = bench.STREAM_WINDOW
    assert f"MaximumBatchingWindowInSeconds: {window:.0f}\n" in template_path("workers.yaml").read_text()


def test_capacity_is_raised_within_seconds_of_a_submit(bench: ModuleType, simulate: Simulate) -> None:
    row = simulate(small(bench, jobs=4, reclaimed_per_hour=0.0))
    assert row.longest_raise <= LONGEST_RAISE


def test_a_first_step_comes_in_six_minutes_without_a_machine_and_in_one_with(
    bench: ModuleType, simulate: Simulate
) -> None:
    row = simulate(replace(bench.SCENARIOS["pairs"], jobs=4, arrivals=bench.SCENARIOS["pairs"].arrivals[:4]))
    keeps_its_promises(row)
    assert LONGEST_WARM < row.longest_cold_start <= LONGEST_COLD
    assert 0 < row.longest_warm_start <= LONGEST_WARM


def test_an_image_that_does_not_start_is_tried_on_one_machine_at_a_time(bench: ModuleType, simulate: Simulate) -> None:
    conditions = small(bench, jobs=3, broken_until=2 * HOUR, reclaimed_per_hour=0.0)
    tried, churned = simulate(conditions), simulate(replace(conditions, trials="no"))
    keeps_its_promises(tried)
    boots = 264 / HOUR
    healthy = 3 * (0.5 + 2 * boots + 0.1)
    # the first three together; then one after 5 minutes at least, and after twice as long each time
    assert tried.instance_hours - healthy <= (3 + 5) * boots
    assert churned.instance_hours > 2 * tried.instance_hours


def test_machines_that_only_switch_off_on_an_empty_queue_are_not_started_again(
    bench: ModuleType, simulate: Simulate
) -> None:
    conditions = replace(bench.SCENARIOS["switched off"], max_hours=3.0)
    lowered, stays = simulate(conditions), simulate(replace(conditions, lowers="no"))
    assert (lowered.machines, lowered.late_machines, lowered.late_hours) == (4, 0, 0.0)
    assert stays.late_machines > 40


def test_orders_of_cancelled_jobs_are_never_filled(bench: ModuleType, simulate: Simulate) -> None:
    conditions = replace(bench.SCENARIOS["cancelled orders"], max_hours=2.0)
    lowered, stays = simulate(conditions), simulate(replace(conditions, lowers="no"))
    assert (lowered.machines, lowered.instance_hours) == (0, 0.0)
    assert stays.machines == 10


def test_a_group_that_delivers_nothing_leaves_its_jobs_to_the_on_demand_group(
    bench: ModuleType, simulate: Simulate
) -> None:
    row = simulate(replace(bench.SCENARIOS["no spot capacity"], jobs=2))
    keeps_its_promises(row)
    assert row.moved == 2


def test_after_an_outage_of_auto_scaling_nothing_is_started_any_more(bench: ModuleType, simulate: Simulate) -> None:
    row = simulate(small(bench, jobs=4, reclaimed_per_hour=0.0, outage=(25 * MINUTE, 85 * MINUTE)))
    keeps_its_promises(row)
    assert row.late_machines == 0


@pytest.mark.parametrize("seconds", [120.0, 1200.0])
def test_the_promises_hold_at_both_ends_of_the_boots(bench: ModuleType, simulate: Simulate, seconds: float) -> None:
    keeps_its_promises(simulate(small(bench, jobs=6, boot_seconds=seconds), seed=1))


def test_a_machine_that_is_not_ready_by_its_deadline_trains_nothing(bench: ModuleType, simulate: Simulate) -> None:
    late = small(bench, jobs=2, reclaimed_per_hour=0.0, boot_seconds=30 * MINUTE, max_hours=4.0)
    row = simulate(late)
    assert (row.jobs_lost, row.instance_hours > 0) == (2, True)
    in_time = simulate(replace(late, boot_deadline_seconds=40 * MINUTE))
    assert in_time.jobs_lost == 0


def test_overlapping_looks_lower_no_capacity_under_a_machine_that_starts(
    bench: ModuleType, make_table: Callable[[], str], dynamo_endpoint: str
) -> None:
    overlaps = importlib.import_module("fleet_overlaps")
    client = DynamoClient(make_table(), endpoint_url=dynamo_endpoint)
    assert overlaps.wrong_pairs(client, 12, is_locked=True) == 0
    assert overlaps.wrong_pairs(client, 12, is_locked=False) > 0


def test_jobs_that_keep_losing_spot_machines_end_on_machines_that_stay(
    bench: ModuleType, make_table: Callable[[], str], dynamo_endpoint: str
) -> None:
    client = DynamoClient(make_table(), endpoint_url=dynamo_endpoint)
    hard = bench.Conditions(
        jobs=3, job_seconds=HOUR, maximum=3, reclaimed_per_hour=0.95, ondemand_maximum=1, ondemand_after=2
    )
    assert bench.FleetSimulation(client, hard, seed=2).run().busy_ended == 0
    jobs = client.list_jobs_by_status("succeeded")
    assert len(jobs) == 3
    assert "default.ondemand" in {job.queue for job in jobs}


def test_a_busy_machine_that_ends_would_be_noticed(
    bench: ModuleType, make_table: Callable[[], str], dynamo_endpoint: str
) -> None:
    client = DynamoClient(make_table(), endpoint_url=dynamo_endpoint)
    conditions = bench.Conditions(jobs=1, job_seconds=HOUR, maximum=1, max_hours=0.5)
    simulation = bench.FleetSimulation(client, conditions, seed=0)
    simulation.world.clock.after(20 * MINUTE, lambda: next(simulation.machines()).end("shrinks"))
    assert simulation.run().busy_ended == 1


def test_a_job_that_is_not_done_in_time_counts_as_lost(bench: ModuleType, simulate: Simulate) -> None:
    assert simulate(bench.Conditions(jobs=2, job_seconds=HOUR, maximum=2, max_hours=0.5)).jobs_lost == 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["burst", "burst, no notice", "four slots"])
def test_the_promised_burst(bench: ModuleType, simulate: Simulate, name: str, seed: int) -> None:
    row = simulate(bench.SCENARIOS[name], seed)
    keeps_its_promises(row)
    assert row.waste <= LONGEST_WASTE


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["thousand", "waves", "hard spot", "broken image"])
def test_hundreds_of_machines(bench: ModuleType, simulate: Simulate, name: str) -> None:
    keeps_its_promises(simulate(bench.SCENARIOS[name]))
