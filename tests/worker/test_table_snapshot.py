"""train --snapshot-on-worker: one snapshot, taken under the lease, for every attempt whatever becomes of the first."""

import random
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_dynamo import (
    DynamoClient,
    Job,
    JobQueue,
    JobStatus,
    JsonObject,
    LeaseLost,
    ReceiptClient,
    ReceiptWordLabel,
    Storage,
    Timing,
    ValidationStatus,
)
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import from_document, to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.frozen_split import FrozenSplit, pinned_frozen
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import fingerprint
from receipt_layoutlm.datasets.exclusions import exclude
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.receipt_pages import image_id_of, receipt_from_page
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.jobs.continuation import continued, find_parent
from receipt_layoutlm.run.comparability import stamp_of
from receipt_layoutlm.run.events import Checkpoint, Started
from receipt_layoutlm.run.state import config_hash
from receipt_layoutlm.storage.keys import check_key, split_key
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.patience import Patience, Stopped
from receipt_layoutlm.worker.table_snapshot import pin_snapshot
from receipt_layoutlm.worker.worker import run_job
from tests.support.places import Place, signal_trainer
from tests.support.stores import Store
from tests.support.tiny import tiny_layoutlm
from tests.support.wire import Wire

pytestmark = pytest.mark.engine

PAGES = generate_pages(16, seed=1)
FIRST, LATER = sorted(PAGES[:12], key=lambda page: page.page_id), PAGES[12:]


@pytest.fixture
def place(store: Store, tmp_path: Path) -> Place:
    load(store, FIRST)
    return Place(store, tmp_path / "work")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_layoutlm(tmp_path_factory.mktemp("tiny"), PAGES))


def load(store: Store, pages: list[Page]) -> None:
    load_pages(ReceiptClient(store.queue.client), pages, store.clock(), "keep", lambda: None)


def submit(place: Place, pretrained: str = "minilm", **options: object) -> Job:
    given = {"snapshot_on_worker": True, "batch_size": 4, "device": "cpu", "epochs": 2, "pretrained": pretrained}
    document = to_document(WordLabelsConfig.model_validate({**given, **options}), {"epochs": "flag"})
    storage = Storage(bucket=place.store.bucket.name)
    return place.store.queue.submit(name="a-job", config=document, created_by="tests", storage=storage)


def stored(place: Place, job: Job) -> Job:
    return place.store.queue.client.get_job(job.job_id, consistent=True)


def logged(place: Place, job: Job, event: str) -> list[JsonObject]:
    return [row.data for row in place.store.queue.client.list_job_logs(job.job_id) if row.event == event]


KEY = {"image_id", "receipt_id", "line_id", "word_id"}
PIN = f"receipts@{fingerprint(FIRST)}"


def test_the_worker_takes_the_pages_checks_them_and_pins_them(place: Place, model: str) -> None:
    client, bucket = place.store.queue.client, place.store.bucket
    load(place.store, LATER)
    exclude(client, [page.page_id for page in LATER], "me", place.store.clock())
    job = submit(place, model)

    assert place.work() is JobStatus.SUCCEEDED

    done = stored(place, job)
    assert done.job_config["dataset"] == PIN
    assert {**done.job_config, "dataset": None, "warnings": 0} == {**job.job_config, "warnings": 0}
    stamp = stamp_of(done.results)
    assert stamp is not None and stamp.dataset == fingerprint(FIRST)
    (dataset,) = client.list_datasets()
    assert (pinned(dataset), dataset.counts["forgotten"]) == (PIN, len(LATER))
    (row,) = logged(place, job, "dataset_pinned")
    assert row["dataset"] == PIN
    assert [log["dataset"] for log in logged(place, job, "run_config")] == [PIN]
    warnings = [row for row in client.list_job_logs(job.job_id) if row.event == "check_few_pages"]
    assert [(row.level, "under 500" in row.message) for row in warnings] == [("warning", True)]
    assert any("under 500" in str(text) for text in done.job_config["warnings"])  # type: ignore[union-attr]
    assert b"few_pages" in bucket.get_bytes(check_key(dataset.fingerprint))
    parent = find_parent(client, lambda _name: bucket, "a-job")
    assert continued(parent, {"epochs": 4}, {}).config.dataset == PIN
    with pytest.raises(ConfigError, match="snapshot_on_worker cannot change"):
        continued(parent, {"epochs": 4, "snapshot_on_worker": False}, {})


def kill_once(place: Place) -> None:
    place.on_event = lambda event: signal_trainer(signal.SIGKILL) if isinstance(event, Started | Checkpoint) else None


def test_a_second_attempt_trains_on_the_pages_of_the_first_though_the_table_changed(place: Place, model: str) -> None:
    job = submit(place, model, epochs=20)
    kill_once(place)
    assert place.work() is JobStatus.PENDING
    place.on_event = lambda _event: None
    assert stored(place, job).job_config["dataset"] == PIN

    load(place.store, LATER)
    place.store.clock.pass_seconds(3600)
    wire = Wire(place.store.queue.client)
    assert place.work() is JobStatus.SUCCEEDED

    asked = {str(body.get("ExpressionAttributeValues")) for body in wire.bodies}
    assert not any("VALIDATION_STATUS" in values for values in asked)  # the table's labels were not read again
    assert [log["dataset"] for log in logged(place, job, "run_config")] == [PIN, PIN]
    assert len(logged(place, job, "dataset_pinned")) == 1
    stamp = stamp_of(stored(place, job).results)
    assert stamp is not None and stamp.dataset == fingerprint(FIRST)


def pin_by(place: Place, job: Job, config: WordLabelsConfig) -> Callable[[], str]:
    """Claim the job and return what pins it as that attempt, whenever it is called, without anything of the lease."""
    queue = place.store.queue
    lease = queue.claim("another")
    assert lease is not None

    def pin() -> str:
        heartbeat = Heartbeat(queue, lease)
        patience = Patience(place.context, heartbeat)
        found = pin_snapshot(place.context, job, config, lease, place.store.bucket, patience)
        return str(found.job.job_config["dataset"])

    return pin


def lose(place: Place) -> None:
    """The machine of the running attempt is gone."""
    place.store.clock.pass_seconds(1000)
    (moved,) = place.store.queue.rescue()
    assert moved.status is JobStatus.INTERRUPTED


def test_an_attempt_that_died_after_its_pin_has_chosen_for_all(place: Place, model: str) -> None:
    job = submit(place, model)
    assert pin_by(place, job, from_document(job.job_config))() == PIN
    lose(place)
    load(place.store, LATER)

    assert place.work() is JobStatus.SUCCEEDED

    assert stored(place, job).job_config["dataset"] == PIN
    assert [log["dataset"] for log in logged(place, job, "run_config")] == [PIN]


def test_an_attempt_that_lost_its_machine_before_the_pin_chooses_nothing_any_more(place: Place) -> None:
    """Its reading goes on in a worker that was taken for dead, and ends after the next attempt has pinned."""
    job = submit(place)
    late = pin_by(place, job, from_document(job.job_config))
    lose(place)
    second = pin_by(place, job, from_document(job.job_config))
    assert second() == PIN
    load(place.store, LATER)

    with pytest.raises(LeaseLost):
        late()

    assert stored(place, job).job_config["dataset"] == PIN
    lose(place)
    with pytest.raises(LeaseLost):
        second()
    assert stored(place, job).job_config["dataset"] == PIN


def test_until_it_is_pinned_the_next_attempt_takes_the_table_as_it_is_then(place: Place) -> None:
    job = submit(place)
    pin_by(place, job, from_document(job.job_config))
    lose(place)
    load(place.store, LATER)

    everything = sorted(PAGES, key=lambda page: page.page_id)
    assert pin_by(place, job, from_document(job.job_config))() == f"receipts@{fingerprint(everything)}"


# what the checks find


def test_data_that_cannot_be_trained_on_fails_the_job_for_good_and_pins_nothing(place: Place) -> None:
    """Once it is put right, the job can be retried, and takes the table as it is then."""
    frozen = FrozenSplit(validation=(FIRST[0].page_id, LATER[0].page_id))
    place.store.bucket.put_new(frozen.canonical(), split_key(frozen.sha256))
    job = submit(place, split=pinned_frozen("mine", frozen))

    assert place.work() is JobStatus.FAILED

    failed = stored(place, job)
    assert failed.error is not None and failed.error.cause == "bad_data"
    assert LATER[0].page_id in failed.error.message
    assert failed.job_config["dataset"] is None
    load(place.store, LATER)
    place.store.queue.retry(job.job_id)
    assert pin_by(place, job, from_document(job.job_config))().startswith("receipts@")


def test_the_labels_that_go_on_over_lines_are_those_of_the_job(place: Place) -> None:
    """The same table, other pages: where nobody said where an entity begins, the rule does."""
    receipts = ReceiptClient(place.store.queue.client)
    stored_page = receipt_from_page(FIRST[0], place.store.clock())
    labels = [
        ReceiptWordLabel.model_validate({**word.model_dump(include=KEY), "label": "TIP", "validation_status": "VALID"})
        for word in stored_page.words
    ]
    receipts.delete_leftovers(stored_page.receipt, stored_page.words, labels)
    receipts.put(labels=labels)
    pins = []
    for over_lines in ((), ("TIP",)):
        job = submit(place, over_lines=over_lines)
        pins.append(pin_by(place, job, from_document(job.job_config))())
    assert pins[0] != pins[1]


def test_an_unknown_label_that_goes_on_over_lines_fails_the_job_with_the_nearest_known_one(place: Place) -> None:
    job = submit(place, over_lines=("PRODUCT_NAMES",))

    assert place.work() is JobStatus.FAILED

    failed = stored(place, job)
    assert failed.error is not None and failed.error.cause == "bad_config"
    assert "did you mean PRODUCT_NAME?" in failed.error.message


def test_a_table_without_valid_labels_fails_the_job_for_good(place: Place) -> None:
    receipts = ReceiptClient(place.store.queue.client)
    for page in FIRST:
        labels = receipts.list_labels(image_id_of(page.page_id))
        receipts.put(
            labels=[each.model_copy(update={"validation_status": ValidationStatus.PENDING}) for each in labels]
        )
    job = submit(place)

    assert place.work() is JobStatus.FAILED

    failed = stored(place, job)
    assert failed.error is not None and failed.error.cause == "bad_data" and "VALID" in failed.error.message
    assert logged(place, job, "run_summary") == [{"cause": "bad_data", "last_step": 0, "lost_steps": 0}]


def test_a_separate_evaluation_dataset_is_checked_beside_it(place: Place, model: str) -> None:
    described = describe_dataset("held", FIRST[:4], "test", place.store.clock())
    held_out = add_snapshot(place.store.queue.client, place.store.bucket, described, FIRST[:4])
    job = submit(place, model, eval_dataset=pinned(held_out))

    assert place.work() is JobStatus.SUCCEEDED

    assert "check_near_duplicates" in {row.event for row in place.store.queue.client.list_job_logs(job.job_id)}


# under the lease


def on_first_query(client: DynamoClient, action: Callable[[], object]) -> None:
    """Do something while the labels of the table are being read."""
    once = threading.Lock()

    def hook(**_: object) -> None:
        if once.acquire(blocking=False):
            action()

    client.raw.meta.events.register_first("before-send.dynamodb.Query", hook)


def claimed_then(place: Place, action: Callable[[Job], object], job: Job) -> JobStatus | None:
    lease = place.store.queue.claim("worker-1")
    assert lease is not None
    on_first_query(place.store.queue.client, lambda: action(job))
    return run_job(place.context, lease)


def test_a_stop_while_the_table_is_read_gives_the_job_back_unpinned(place: Place) -> None:
    job = submit(place)

    assert claimed_then(place, lambda _job: place.stop.set(), job) is JobStatus.INTERRUPTED

    assert stored(place, job).job_config["dataset"] is None
    assert place.store.queue.client.list_datasets() == []


def test_a_stop_after_the_reading_leaves_it_to_the_next_attempt_to_read_what_changed(place: Place) -> None:
    job = submit(place)

    def stop(**_: object) -> None:
        place.stop.set()

    place.store.bucket.raw.meta.events.register_first("before-send.s3.PutObject", stop)
    assert place.work() is JobStatus.INTERRUPTED
    assert stored(place, job).job_config["dataset"] is None
    place.store.bucket.raw.meta.events.unregister("before-send.s3.PutObject", stop)
    place.stop.clear()
    load(place.store, LATER[:1])
    wire = Wire(place.store.queue.client)

    pin_by(place, job, from_document(job.job_config))()

    asked = [body.get("ExpressionAttributeValues", {}).get(":p", {}).get("S", "") for body in wire.bodies]
    assert {key for key in asked if key.startswith("IMAGE#")} == {f"IMAGE#{image_id_of(LATER[0].page_id)}"}


def fast(place: Place) -> None:
    """Renewals follow each other at once."""
    queue = place.store.queue
    timing = Timing(renew_seconds=0.01)
    place.context = replace(
        place.context, queue=JobQueue(queue.client, now=place.store.clock, rng=random.Random(1), timing=timing)
    )


def test_a_cancel_is_heard_by_the_heartbeat_while_the_table_is_read(place: Place) -> None:
    """The reading waits here until a renewal has brought the wish, so the heartbeat runs beside it."""
    job = submit(place)
    fast(place)
    heard = threading.Event()

    def cancel(_job: Job) -> None:
        place.store.queue.cancel(job.job_id)
        seen = place.store.queue.client.get_lease(job.job_id).renewals
        while not heard.wait(0.01):
            if place.store.queue.client.get_lease(job.job_id).renewals > seen + 2:
                heard.set()

    assert claimed_then(place, cancel, job) is JobStatus.CANCELLED

    assert stored(place, job).job_config["dataset"] is None


def test_a_worker_whose_lease_is_gone_reads_no_further(place: Place) -> None:
    queue = place.store.queue
    submit(place)
    lease = queue.claim("worker-1")
    assert lease is not None
    now = [0.0]
    heartbeat = Heartbeat(queue, lease, monotonic=lambda: now[0])
    patience = Patience(place.context, heartbeat)
    patience.check()

    now[0] = queue.timing.lease_seconds
    with pytest.raises(LeaseLost):
        patience.check()

    now[0] = 0.0
    place.stop.set()
    with pytest.raises(Stopped, match="asked to stop"):
        patience.check()


# the pin itself


def test_the_first_pin_stays(store: Store) -> None:
    lease = store.claimed()
    seen = store.queue.client.get_job(lease.job_id).job_config
    one, other = ({**seen, "dataset": name} for name in ("one", "other"))

    assert store.queue.pin(lease, seen, one).job_config == one
    assert store.queue.pin(lease, seen, other).job_config == one
    assert store.queue.pin(lease, seen, one).job_config == one


def test_a_pin_whose_reply_is_lost_is_stored_once(store: Store) -> None:
    lease = store.claimed()
    seen = store.queue.client.get_job(lease.job_id).job_config
    wire = Wire(store.queue.client)
    wire.lose_reply("TransactWriteItems", times=2)

    assert store.queue.pin(lease, seen, {**seen, "dataset": "one"}).job_config["dataset"] == "one"


@pytest.mark.parametrize("change", [{"lease_token": "another"}, {"attempt": 2}])
def test_only_the_holder_pins(store: Store, change: dict[str, object]) -> None:
    lease = store.claimed()
    seen = store.queue.client.get_job(lease.job_id).job_config

    with pytest.raises(LeaseLost):
        store.queue.pin(lease.model_copy(update=change), seen, {**seen, "dataset": "one"})

    assert store.queue.client.get_job(lease.job_id).job_config == seen


def test_who_takes_the_snapshot_does_not_decide_the_weights() -> None:
    there, here = WordLabelsConfig(snapshot_on_worker=True, dataset=PIN), WordLabelsConfig(dataset=PIN)
    assert config_hash(there, ["a"]) == config_hash(here, ["a"])
