"""A worker on the test's store, with a real trainer as its child."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file

from receipt_dynamo import Job, JobStatus, Lease, Machine, Storage
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.run.events import Event
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.worker.admission import ANY_BUCKET, JobPolicy
from receipt_layoutlm.worker.context import Host, WorkerContext, WorkerIdentity
from receipt_layoutlm.worker.host.spot import InstanceMetadata, SpotWatch
from receipt_layoutlm.worker.worker import run_job
from tests.support import forked_trainer
from tests.support.imds import Imds
from tests.support.stores import Store


class Place:
    """A worker on the test's store; `on_event` sees what the trainer says."""

    def __init__(self, store: Store, work_dir: Path) -> None:
        self.store = store
        self.stop = threading.Event()
        self.work_dir = work_dir
        self.events: list[Event] = []
        self.on_event = lambda _event: None
        self.context = WorkerContext(
            queue=store.queue,
            open_bucket=lambda _name: store.bucket,
            stop=self.stop,
            identity=WorkerIdentity("worker-1", Machine(instance_type="test")),
            policy=JobPolicy.of_this_machine([ANY_BUCKET], work_dir),
            host=Host(),
            environment=os.environ,
            now=store.clock,
            observe=self._observe,
        )

    def _observe(self, _job: Job, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def submit(self, pages: list[Page], **options: object) -> Job:
        client = self.store.queue.client
        described = describe_dataset("d", pages, "test", self.store.clock())
        dataset = add_snapshot(client, self.store.bucket, described, pages)
        config = WordLabelsConfig.model_validate(
            {"dataset": pinned(dataset), "batch_size": 4, "device": "cpu", **options}
        )
        storage = Storage(bucket=self.store.bucket.name)
        return self.store.queue.submit(
            name="a-job", config=to_document(config, {}), created_by="tests", storage=storage
        )

    def watch_spot(self, imds: Imds) -> SpotWatch:
        """Let this worker look at the metadata each time that its test says so, by `poll`."""
        watch = SpotWatch(InstanceMetadata(imds.endpoint), now=self.store.clock)
        self.context = replace(self.context, host=replace(self.context.host, spot=watch))
        return watch

    def work(self) -> JobStatus | None:
        lease = self.store.queue.claim("worker-1", machine=self.context.machine)
        assert lease is not None
        return run_job(self.context, lease)


def lease_of(place: Place, job: Job) -> Lease:
    return place.store.queue.client.get_lease(job.job_id)


def last_weights(place: Place, job: Job, folder: Path) -> dict:  # type: ignore[type-arg]
    pointer = lease_of(place, job).checkpoint
    assert pointer is not None
    keys = RunKeys(Storage(bucket=place.store.bucket.name), job.job_id)
    place.store.bucket.get_folder(keys.checkpoint(pointer), folder)
    return load_file(folder / "model.safetensors")


def signal_trainer(number: signal.Signals) -> None:
    """Send a signal to the one child of this process that runs the trainer."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_own_trainer(entry):
            os.kill(int(entry.name), number)


def is_own_trainer(entry: Path) -> bool:
    try:
        parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        is_cold = b"receipt_layoutlm.training" in (entry / "cmdline").read_bytes()
        return parent == os.getpid() and (is_cold or (entry / "comm").read_text().strip() == forked_trainer.NAME)
    except OSError:
        return False


def own_trainers() -> list[int]:
    """Processes of trainers that this process started."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and is_own_trainer(entry)]
