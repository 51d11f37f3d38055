"""The number of machines for a backlog, and the time of the next launch after machines that ended without a job."""

from datetime import UTC, datetime, timedelta

import pytest

from receipt_layoutlm.fleet.scaler.wish import desired_workers, next_trial_at

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def minutes(*many: float) -> list[datetime]:
    return [NOON + timedelta(minutes=each) for each in many]


@pytest.mark.parametrize(
    ("claimable", "running", "slots", "maximum", "budget", "wanted"),
    [
        pytest.param(0, 0, 1, 4, None, 0, id="nothing to do is no machine"),
        pytest.param(1, 0, 1, 4, None, 1, id="one job is one machine"),
        pytest.param(3, 1, 1, 9, None, 4, id="what runs needs its machine still"),
        pytest.param(0, 3, 1, 4, None, 3, id="what runs is wanted when nothing waits"),
        pytest.param(9, 0, 1, 4, None, 4, id="at most the maximum"),
        pytest.param(4, 0, 1, 4, None, 4, id="exactly the maximum"),
        pytest.param(1, 0, 4, 4, None, 1, id="a part of a machine is a machine"),
        pytest.param(4, 0, 4, 4, None, 1, id="a full machine is one"),
        pytest.param(5, 0, 4, 4, None, 2, id="one more than a full machine is two"),
        pytest.param(2, 3, 4, 4, None, 2, id="running and waiting share the slots"),
        pytest.param(5, 0, 1, 0, None, 0, id="a maximum of 0 is none"),
        pytest.param(5, 0, 1, 4, 0.01, 4, id="a cent that is left buys"),
        pytest.param(5, 0, 1, 4, 0.0, 0, id="nothing left buys nothing"),
        pytest.param(5, 2, 1, 4, -3.0, 0, id="an overdrawn day buys nothing"),
        pytest.param(1000, 0, 1, 200, None, 200, id="a large burst"),
    ],
)
def test_the_number_of_machines(
    claimable: int, running: int, slots: int, maximum: int, budget: float | None, wanted: int
) -> None:
    assert desired_workers(claimable, running, slots, maximum, budget) == wanted


@pytest.mark.parametrize("wrong", [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, -1)])
def test_impossible_figures_are_refused(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        desired_workers(*wrong, budget=None)


@pytest.mark.parametrize(
    ("ended", "trial"),
    [
        pytest.param([], None, id="no machine ended"),
        pytest.param([0.5, 0.1, 0.3], 5.5, id="after the first ones the shortest wait"),
        pytest.param([55.0], 60.0, id="also when the first comes late"),
        pytest.param([0.0, 8.0], 16.0, id="then as long as it took so far"),
        pytest.param([0.0, 8.0, 16.0], 32.0, id="which doubles"),
        pytest.param([0.0, 300.0], 360.0, id="up to an hour"),
    ],
)
def test_launches_after_machines_without_a_job_get_rarer(ended: list[float], trial: float | None) -> None:
    assert next_trial_at(minutes(*ended)) == (None if trial is None else NOON + timedelta(minutes=trial))
