"""Old checkpoints are removed; what the lease names, what is being uploaded and what is newer stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from receipt_dynamo import Lease, Pointer, Storage
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import StoredCheckpoint, stored_checkpoints, superseded
from tests.support.stores import Store


def at(attempt: int, global_step: int) -> StoredCheckpoint:
    return StoredCheckpoint(attempt, global_step)


def pointer(attempt: int, global_step: int) -> Pointer:
    return Pointer(attempt=attempt, global_step=global_step, manifest_sha256="")


def lease(attempt: int, checkpoint: tuple[int, int] | None = None, **named: tuple[int, int]) -> Lease:
    pointers = {name: pointer(*place) for name, place in named.items()}
    return Lease(
        job_id="j",
        attempt=attempt,
        checkpoint=None if checkpoint is None else pointer(*checkpoint),
        **pointers,  # type: ignore[arg-type]
    )


def test_the_last_ones_of_a_straight_run_are_kept() -> None:
    stored = [at(1, step) for step in (10, 20, 30, 40)]

    assert superseded(stored, lease(1, (1, 40), previous=(1, 30)), keep=2) == [at(1, 10), at(1, 20)]
    assert superseded(stored, lease(1, (1, 40), previous=(1, 30)), keep=3) == [at(1, 10)]
    assert superseded(stored, lease(1, (1, 40), previous=(1, 30)), keep=0) == [at(1, 10), at(1, 20)]
    assert superseded(stored, lease(1, (1, 40), previous=(1, 30)), keep=9) == []


def test_the_best_and_the_best_before_stay_however_old_they_are() -> None:
    stored = [at(1, step) for step in (10, 20, 30, 40)]

    assert superseded(stored, lease(1, (1, 40), best=(1, 20), previous_best=(1, 10)), keep=1) == [at(1, 30)]


def test_what_a_dead_attempt_made_beyond_the_resume_point_goes() -> None:
    stored = [at(1, 10), at(1, 20), at(1, 30)]  # the pointer never reached 20 and 30

    assert superseded(stored, lease(2, (1, 10)), keep=5) == [at(1, 20), at(1, 30)]


def test_dead_history_takes_no_place_in_the_chain_once_its_steps_are_passed() -> None:
    stored = [at(1, 10), at(1, 20), at(2, 15), at(2, 25)]  # the second attempt went on from 10, so 20 leads nowhere

    assert superseded(stored, lease(2, (2, 25)), keep=3) == [at(1, 20)]


def test_of_a_step_made_again_the_newest_attempt_counts() -> None:
    stored = [at(1, 10), at(1, 20), at(2, 20), at(2, 30)]

    assert superseded(stored, lease(2, (2, 30)), keep=3) == [at(1, 20)]


def test_a_checkpoint_that_is_being_uploaded_is_left_alone() -> None:
    stored = [at(1, 10), at(2, 10), at(2, 20)]  # the second attempt writes its resume point again, and goes on

    assert superseded(stored, lease(2, (1, 10)), keep=1) == []
    assert superseded([at(2, 5)], lease(2), keep=0) == []


def test_without_a_resume_point_older_attempts_left_nothing_worth_keeping() -> None:
    assert superseded([at(1, 10), at(2, 10)], lease(2), keep=5) == [at(1, 10)]


def test_a_worker_that_lost_its_job_touches_nothing_of_the_newer_attempt() -> None:
    stored = [at(1, 10), at(1, 20), at(2, 5), at(2, 15)]

    assert superseded(stored, lease(1, (1, 20)), keep=0) == [at(1, 10)]


places = some.builds(at, some.integers(0, 4), some.integers(0, 6))
pointers = some.none() | some.builds(pointer, some.integers(0, 4), some.integers(0, 6))
leases = some.builds(
    Lease,
    job_id=some.just("j"),
    attempt=some.integers(1, 4),
    **dict.fromkeys(("checkpoint", "previous", "best", "previous_best"), pointers),
)


@given(stored=some.sets(places), held=leases, keep=some.integers(0, 4))
def test_whatever_is_stored_the_rule_is_safe_and_stable(stored: set[StoredCheckpoint], held: Lease, keep: int) -> None:
    gone = superseded(stored, held, keep)

    named = [one for one in (held.checkpoint, held.previous, held.best, held.previous_best) if one is not None]
    assert not {at(one.attempt, one.global_step) for one in named} & set(gone)
    assert all(one.attempt <= held.attempt for one in gone)
    end = held.checkpoint
    own = [one.global_step for one in gone if one.attempt == held.attempt]
    assert all(end is not None and step <= end.global_step for step in own)
    assert superseded(stored - set(gone), held, keep) == []


@given(stored=some.sets(places), held=leases, keep=some.integers(0, 4))
def test_keeping_more_never_removes_more(stored: set[StoredCheckpoint], held: Lease, keep: int) -> None:
    assert set(superseded(stored, held, keep + 1)) <= set(superseded(stored, held, keep))


@pytest.mark.engine
def test_superseded_checkpoints_leave_the_bucket_and_the_rest_stays(store: Store) -> None:
    run = RunKeys(Storage(bucket=store.bucket.name, prefix="team/"), "j")
    for attempt, step in ((1, 10), (1, 20), (2, 30)):
        for name in ("model.safetensors", "manifest.json"):
            store.bucket.put_new(b"x", run.checkpoint_at(attempt, step) + name)
    others = [
        run.attempt(1) + "best/manifest.json",
        run.attempt(1) + "checkpoint-40/model",
        run.attempt(1) + "run.json",
    ]
    for key in others:
        store.bucket.put_new(b"x", key)

    stored = stored_checkpoints(store.bucket, run)
    assert stored == [at(1, 10), at(1, 20), at(2, 30)]

    for old in superseded(stored, lease(2, (2, 30), previous=(1, 20)), keep=1):
        store.bucket.delete_prefix(run.checkpoint_at(old.attempt, old.global_step))

    assert stored_checkpoints(store.bucket, run) == [at(1, 20), at(2, 30)]
    assert list(store.bucket.list_keys(run.checkpoint_at(1, 10))) == []
    assert set(others) <= set(store.bucket.list_keys(run.run))
