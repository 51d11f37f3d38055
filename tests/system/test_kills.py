"""No job is lost, none is run twice, none starts over: whatever is killed, every job ends with the same weights."""

from pathlib import Path

import pytest

from receipt_dynamo import JobStatus
from tests.support.kill_world import World, open_world, run_kills

pytestmark = pytest.mark.engine


@pytest.mark.timeout(5400)
@pytest.mark.parametrize(
    ("kills", "between"), [(20, (1.0, 6.0)), pytest.param(200, (1.0, 9.0), marks=pytest.mark.long)], ids=["20", "200"]
)
def test_after_kills_of_parents_children_and_engines_every_job_ends_as_if_nothing_had_happened(
    tmp_path: Path, kills: int, between: tuple[float, float]
) -> None:
    with open_world(tmp_path, seed=20261121) as world:
        run_kills(world, kills, workers=2, between=between, say=print)
        check(world)


def check(world: World) -> None:
    undisturbed, *struck = world.jobs
    expected = world.evaluations(undisturbed)
    assert world.resume_steps(undisturbed) == [0] and len(expected) > 5
    for job in world.jobs:
        assert world.status(job) is JobStatus.SUCCEEDED
        assert world.rows_named(job) == 1
        assert world.evaluations(job) == expected, job.name
        assert world.weights(job) == world.weights(undisturbed), job.name
    begun = [step for job in struck for step in world.resume_steps(job)]
    print(f"{len(begun)} attempts at {len(struck)} jobs began at the steps {sorted(begun)}")
    assert len(begun) > len(struck) and max(begun) > 0
