"""The lease is renewed, its deadline counts from the sending, and a lost one is noticed."""

import pytest

from receipt_dynamo import Lease, LeaseLost, Timing
from receipt_layoutlm.worker.heartbeat import RETRY_SECONDS, Heartbeat
from tests.support.stores import Store

pytestmark = pytest.mark.engine

LEASE_SECONDS, RENEW_SECONDS = Timing().lease_seconds, Timing().renew_seconds
STOP_BEFORE_SECONDS = Timing().stop_before_seconds


def heartbeat(store: Store, lease: Lease) -> Heartbeat:
    return Heartbeat(store.queue, lease, store.clock.monotonic)


def test_a_beat_renews_the_lease_and_carries_the_progress(store: Store) -> None:
    lease = store.claimed()
    beat = heartbeat(store, lease)
    beat.progress = "step 3"
    store.clock.pass_seconds(60)

    assert beat.beat() == RENEW_SECONDS

    stored = store.queue.client.get_lease(lease.job_id)
    assert stored.renewals == 1
    assert stored.progress == "step 3"
    assert stored.expires_at is not None and lease.expires_at is not None
    assert stored.expires_at > lease.expires_at
    assert beat.seconds_left() == pytest.approx(LEASE_SECONDS, abs=0.01)


def test_without_a_beat_the_time_left_runs_down(store: Store) -> None:
    beat = heartbeat(store, store.claimed())

    store.clock.pass_seconds(85)

    assert beat.seconds_left() == pytest.approx(LEASE_SECONDS - 85, abs=0.01)


def test_the_trainer_stops_before_the_lease_runs_out(store: Store) -> None:
    beat = heartbeat(store, store.claimed())

    store.clock.pass_seconds(LEASE_SECONDS - STOP_BEFORE_SECONDS - 1)
    beat.check()
    assert not beat.must_stop

    store.clock.pass_seconds(2)
    assert beat.must_stop and beat.seconds_left() > 0
    with pytest.raises(LeaseLost):
        beat.check()


def test_a_slow_renewal_counts_from_its_sending(store: Store) -> None:
    beat = heartbeat(store, store.claimed())
    store.queue.client.raw.meta.events.register_first(
        "before-send.dynamodb.UpdateItem", lambda **_: store.clock.pass_seconds(20)
    )

    beat.beat()

    assert beat.seconds_left() == pytest.approx(LEASE_SECONDS - 20, abs=0.01)


def test_the_first_deadline_counts_from_the_sending_of_the_claim(store: Store) -> None:
    store.submit()
    store.queue.client.raw.meta.events.register_first(
        "before-send.dynamodb.TransactWriteItems", lambda **_: store.clock.pass_seconds(30)
    )
    lease = store.queue.claim("worker-1")
    assert lease is not None

    assert heartbeat(store, lease).seconds_left() == pytest.approx(LEASE_SECONDS - 30, abs=0.01)


def test_a_cancel_request_arrives_with_the_next_beat(store: Store) -> None:
    lease = store.claimed()
    beat = heartbeat(store, lease)
    store.queue.cancel(lease.job_id)

    assert not beat.cancel_requested
    beat.beat()

    assert beat.cancel_requested


def test_a_lease_that_somebody_took_over_is_lost_for_good(store: Store) -> None:
    lease = store.claimed()
    beat = heartbeat(store, lease)
    store.clock.pass_seconds(200)
    assert [job.job_id for job in store.queue.rescue()] == [lease.job_id]

    assert beat.beat() == RETRY_SECONDS

    assert beat.is_lost


def test_a_renewal_that_is_refused_is_tried_again_until_the_deadline(store: Store) -> None:
    lease = store.claimed()
    beat = heartbeat(store, lease)
    store.queue.client.table_name = store.queue.client.writer._table = "gone-for-a-while"

    assert beat.beat() == RETRY_SECONDS

    assert not beat.is_lost
    assert beat.seconds_left() < LEASE_SECONDS
