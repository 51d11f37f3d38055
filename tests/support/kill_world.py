"""Real workers on real engines, killed at random: parents, children, both, the table's engine, the bucket's engine.

The plan of kills follows from a seed; when exactly each one strikes does not.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import Budgets, Job, JobMetric, JobStatus, Storage, utcnow
from receipt_layoutlm import infra
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import DYNOXIDE, SEAWEEDFS, Engine, platform_key, programs_dir
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.kill_worker import open_queue
from tests.support.paths import ROOT
from tests.support.tiny import tiny_layoutlm

TABLE, BUCKET = "kills", "kills"
START_SECONDS = 60.0
_PAUSE = threading.Event()  # never set: what is killed has to run for a while before
UNLIMITED = Budgets(
    max_errors=10_000, max_errors_in_a_row=10_000, max_interruptions=10_000, max_interruptions_in_a_row=10_000
)
# dropout, sampling, accumulation and two evaluations an epoch: all that an exact continuation has to carry
OPTIONS = {
    "epochs": 24,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "lr": 0.003,
    "o_entity_ratio": 1.0,
    "dropout": 0.2,
    "eval_every": 5,
    "device": "cpu",
}
VICTIMS = ("child", "parent", "both", "table", "bucket")
WEIGHTS = (4, 3, 2, 1, 1)


class Server:
    """One engine on fixed ports and one folder, so that it comes back as the one that was killed."""

    def __init__(self, engine: Engine, command: list[str], ports: tuple[int, ...], folder: Path) -> None:
        self._engine, self._command, self._ports, self._folder = engine, command, ports, folder
        self.endpoint = f"http://{local_process.LOOPBACK}:{ports[0]}"
        self._pid = 0

    def start(self) -> None:
        environment = self._engine.environment(self._ports, self._folder)
        self._pid = local_process.start_process(self._command, environment, self._folder, self._folder / "engine.log")
        health = (self._ports[0], self._engine.health_path, self._engine.signature)
        assert local_process.wait_until(lambda: local_process.answers(*health), START_SECONDS), self._engine.name

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        local_process.wait_until(lambda: local_process.are_free(self._ports), START_SECONDS)


def _server(engine: Engine, folder: Path) -> Server:
    folder.mkdir()
    program = engine.find(platform_key(), programs_dir())[0]
    ports = local_process.free_ports(engine.port_count)
    return Server(engine, [*program, *engine.arguments(ports, folder)], ports, folder)


@dataclass
class World:
    """Workers, engines, the jobs that were submitted, and what was killed so far."""

    folder: Path
    table: Server
    bucket: Server
    rng: random.Random
    config: WordLabelsConfig = field(init=False)
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        self.queue = open_queue(TABLE, self.table.endpoint)
        self.store = Bucket(BUCKET, endpoint_url=self.bucket.endpoint)
        infra.create_table(self.queue.client.raw, TABLE)
        assert local_process.wait_until(self._bucket_is_made, START_SECONDS)
        pages = generate_pages(12, seed=1)
        dataset = describe_dataset("d", pages, "test", utcnow())
        add_snapshot(self.queue.client, self.store, dataset, pages)
        model = tiny_layoutlm(self.folder / "tiny", pages)
        self.config = WordLabelsConfig.model_validate({**OPTIONS, "dataset": pinned(dataset), "pretrained": str(model)})

    def _bucket_is_made(self) -> bool:
        with suppress(BotoCoreError, ClientError):
            infra.create_bucket(self.store.raw, BUCKET)
            return True
        return False

    def submit(self) -> Job:
        number = len(self.jobs)
        job = self.queue.submit(
            name=f"job-{number:03}",
            config=to_document(self.config, {}),
            created_by="tests",
            storage=Storage(bucket=BUCKET),
            budgets=UNLIMITED,
            unique_key=f"kill-{number}",
        )
        self.jobs.append(job)
        return job

    def start_worker(self) -> None:
        arguments = [TABLE, self.table.endpoint, BUCKET, self.bucket.endpoint, str(self.folder / "work")]
        with (self.folder / "workers.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.support.kill_worker", *arguments]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.workers.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment))

    def strike(self) -> None:
        """Kill something, and let what nobody else would start again come back."""
        victim = self.rng.choices(VICTIMS, WEIGHTS)[0]
        if victim in ("table", "bucket"):
            server = self.table if victim == "table" else self.bucket
            server.kill()
            server.start()
        else:
            index = self.rng.randrange(len(self.workers))
            worker = self.workers[index]
            trainers = children_of(worker.pid)
            if victim != "parent" and not trainers:
                return  # nothing to kill: it is between two jobs
            if victim != "child":
                worker.kill()
                worker.wait()
                del self.workers[index]
                self.start_worker()
            for pid in trainers if victim != "parent" else ():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.killed[victim] += 1

    def revive(self) -> None:
        """Start again what ended by itself, as a service manager does: many killed trainers look like a bad machine."""
        gone = [worker for worker in self.workers if worker.poll() is not None]
        for worker in gone:
            self.workers.remove(worker)
            self.start_worker()

    def unfinished(self) -> list[Job]:
        return [job for job in map(self._stored, self.jobs) if not job.status.is_final]

    def committed_steps(self) -> int:
        """Steps up to the resume points of all jobs, which only a trainer that lives long enough makes more."""
        pointers = (self.queue.client.get_lease(job.job_id).checkpoint for job in self.jobs)
        return sum(pointer.global_step for pointer in pointers if pointer is not None)

    def _stored(self, job: Job) -> Job:
        return self.queue.client.get_job(job.job_id, consistent=True)

    def stop(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait()

    # what is left in the end

    def status(self, job: Job) -> JobStatus:
        return self._stored(job).status

    def rows_named(self, job: Job) -> int:
        return len(self.queue.client.list_jobs_by_name(job.name))

    def evaluations(self, job: Job) -> list[tuple[int | None, float, float | None]]:
        """The visible ones, by what two equal runs have in common."""
        return [_outcome(metric) for metric in self.queue.client.list_job_metrics(job.job_id)]

    def weights(self, job: Job) -> str:
        """SHA-256 of the last checkpoint's weights."""
        pointer = self.queue.client.get_lease(job.job_id).checkpoint
        assert pointer is not None
        keys = RunKeys(Storage(bucket=BUCKET), job.job_id)
        return self.store.get_manifest(keys.checkpoint(pointer)).files["model.safetensors"].sha256

    def resume_steps(self, job: Job) -> list[int]:
        """Where each attempt began."""
        return [attempt.resume_step for attempt in self.queue.client.list_attempts(job.job_id)]


def _outcome(metric: JobMetric) -> tuple[int | None, float, float | None]:
    return metric.global_step, metric.metric_value, metric.eval_loss


def children_of(pid: int) -> list[int]:
    """Trainers whose parent is this process."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"receipt_layoutlm.training" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@contextmanager
def open_world(folder: Path, seed: int) -> Iterator[World]:
    """Engines of its own, a table, a bucket and pages; everything is gone afterwards."""
    with ExitStack() as stack:
        servers = [_server(DYNOXIDE, folder / "dynoxide"), _server(SEAWEEDFS, folder / "seaweedfs")]
        for server in servers:
            server.start()
            stack.callback(server.kill)
        world = World(folder, *servers, random.Random(seed))
        world.prepare()
        stack.callback(world.stop)
        yield world


def run_kills(world: World, kills: int, workers: int, between: tuple[float, float], say: Callable[[str], None]) -> None:
    """Strike so many times, keeping the workers in work; then let them finish. The first job is never struck."""
    world.submit()
    world.start_worker()
    _wait(world, lambda: not world.unfinished(), seconds=300)
    for _ in range(workers - 1):
        world.start_worker()
    committed = world.committed_steps()
    while world.killed.total() < kills:
        while len(world.unfinished()) < workers + 1:
            world.submit()
        _PAUSE.wait(world.rng.uniform(*between))
        if world.killed.total() % 4 == 3:  # on a busy machine every trainer would else be killed while it starts
            _wait(world, lambda before=committed: world.committed_steps() > before, seconds=300)
            committed = world.committed_steps()
        world.revive()
        world.strike()
        say(f"{world.killed.total()} of {kills} kills: {dict(world.killed)}, {len(world.jobs)} jobs")
    _wait(world, lambda: not world.unfinished(), seconds=1800)


def _wait(world: World, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        log = (world.folder / "workers.log").read_text()[-3000:]
        world.revive()
        assert time.monotonic() < deadline, f"still running: {[job.name for job in world.unfinished()]}\n{log}"
        _PAUSE.wait(0.5)
