"""Runs small jobs with kills, pauses, lost replies, throttles and wrong clocks, and checks what is stored.

The jobs have no trainer: worker processes of chaos_worker.py take them through the protocol. They are in a queue of
their own, so that no other worker claims them.
"""

import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from receipt_dynamo import Budgets, JobQueue, JobStatus, JsonObject, StateConflict
from receipt_layoutlm.jobs.chaos_checks import Claim, violations
from receipt_layoutlm.jobs.chaos_worker import STEPS, TIMING, Break, WorkerSettings

WORKERS = 4
FAULT_SHARE = 0.02  # of the requests lose their reply, and as many are throttled
SKEWS = (0.0, -600.0, 600.0, -115.0, 115.0)  # seconds, in turn
CANCELLED_SHARE = 0.1  # of the jobs, while a worker holds them
PAUSED_SHARE = 0.4  # of the blows are pauses: such a worker comes back after its job was rescued
PAUSE_SECONDS = TIMING.lease_seconds + TIMING.rescue_grace_seconds + 5.0
BLOW_SECONDS = 0.6  # mean time between two blows
LASTING_SECONDS = 60.0  # once the kills are over, without an end or a pointer that moves: the rest never ends
PLENTY = Budgets(max_errors=10**6, max_errors_in_a_row=10**6, max_interruptions=10**6, max_interruptions_in_a_row=10**6)


class ChaosReport(BaseModel):
    """Outcome of a run. `violations` names each broken invariant with its job."""

    table: str
    queue: str
    broken: Break | None
    jobs: int
    kills: int
    pauses: int
    claims: int
    statuses: dict[str, int]
    seconds: float
    violations: list[str]
    job_ids: list[str]


@dataclass
class Crowd:
    """Worker processes; one that is killed is replaced at once, on a machine with another clock."""

    table: str
    region: str | None
    queue: str
    folder: Path
    broken: Break | None
    rng: random.Random
    started: int = 0
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)  # by worker id
    paused: dict[str, tuple[float, subprocess.Popen[bytes]]] = field(default_factory=dict)  # until when
    crashes: list[str] = field(default_factory=list)

    def start(self) -> None:
        settings = WorkerSettings(
            table=self.table,
            region=self.region,
            queue=self.queue,
            worker_id=f"chaos-{self.started}",
            journal=self.folder / f"claims-{self.started}.jsonl",
            skew_seconds=SKEWS[self.started % len(SKEWS)],
            share=FAULT_SHARE,
            seed=self.rng.randrange(1 << 30),
            broken=self.broken,
        )
        self.started += 1
        command = [sys.executable, "-m", "receipt_layoutlm.jobs.chaos_worker", settings.model_dump_json()]
        log = (self.folder / f"{settings.worker_id}.log").open("wb")
        self.running[settings.worker_id] = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()

    def kill(self, worker_id: str) -> None:
        victim = self.running.pop(worker_id)
        victim.kill()
        victim.wait()

    def pause(self, worker_id: str) -> None:
        """Stop a worker, as a swapping machine does, until its job has been rescued."""
        victim = self.running.pop(worker_id)
        victim.send_signal(signal.SIGSTOP)
        self.paused[worker_id] = time.monotonic() + PAUSE_SECONDS, victim

    def bury(self) -> None:
        """Note workers that ended without a kill, which none ever should."""
        for worker_id, process in list(self.running.items()):
            if process.poll() is not None:
                lines = (self.folder / f"{worker_id}.log").read_text(errors="replace").strip().splitlines()
                self.crashes.append(f"worker {worker_id} ended by itself: {lines[-1] if lines else process.returncode}")
                del self.running[worker_id]

    def wake(self, now: float) -> None:
        for worker_id, (until, victim) in list(self.paused.items()):
            if until <= now:
                victim.send_signal(signal.SIGCONT)
                del self.paused[worker_id]
                self.running[worker_id] = victim

    def end(self) -> None:
        for victim in [*self.running.values(), *(victim for _, victim in self.paused.values())]:
            victim.kill()
            victim.wait()

    def claims(self) -> list[Claim]:
        lines = [line for path in sorted(self.folder.glob("claims-*.jsonl")) for line in path.read_text().splitlines()]
        return [(job_id, attempt, token) for job_id, attempt, token in map(json.loads, lines)]


def run_chaos(
    queue: JobQueue,
    region: str | None,
    jobs: int,
    kills: int,
    seed: int,
    broken: Break | None,
    folder: Path,
    on_kill: Callable[[], None],
) -> ChaosReport:
    """Submit, disturb, wait until every job has ended, and check. The rows of the jobs stay. Raises StoreError."""
    rng, name, began = random.Random(seed), f"chaos-{uuid.uuid4().hex[:8]}", time.monotonic()
    config: JsonObject = {"config_version": 1, "chaos": True}
    ids = [
        queue.submit(name=f"{name}-{number}", config=config, created_by="chaos", queue=name, budgets=PLENTY).job_id
        for number in range(jobs)
    ]
    crowd = Crowd(queue.client.table_name, region, name, folder, broken, rng)
    left, to_cancel, cancelled = set(ids), max(1, round(jobs * CANCELLED_SHARE)), set[str]()
    reached = dict[str, int]()  # step of the pointer, by job
    killed = pauses = 0
    moved_at = time.monotonic()
    try:
        while left and (killed < kills or time.monotonic() - moved_at < LASTING_SECONDS):
            crowd.bury()
            while len(crowd.running) < WORKERS:
                crowd.start()
            time.sleep(rng.uniform(0, 2 * BLOW_SECONDS))
            crowd.wake(time.monotonic())
            busy = _busy(queue, name, crowd)
            if busy and to_cancel:
                to_cancel -= 1
                cancelled |= _cancel(queue, busy[0][1])
            if killed < kills and busy and rng.random() < PAUSED_SHARE:
                crowd.pause(busy[-1][0])
                pauses += 1
            elif killed < kills and busy:
                crowd.kill(busy[-1][0])
                killed += 1
                on_kill()
            ended = {job_id for job_id in left if queue.client.get_job(job_id, consistent=True).status.is_final}
            steps = _steps(queue, name)
            if ended or any(step > reached.get(job_id, 0) for job_id, step in steps.items()):
                left, moved_at = left - ended, time.monotonic()
                reached |= steps
        _let_return(crowd)
    finally:
        crowd.end()
    stored = [queue.client.get_job(job_id, consistent=True) for job_id in ids]
    statuses = [job.status for job in stored]
    return ChaosReport(
        table=queue.client.table_name,
        queue=name,
        broken=broken,
        jobs=jobs,
        kills=killed,
        pauses=pauses,
        claims=sum(job.attempt for job in stored),  # a worker that is killed may not have noted its last one
        statuses={status: statuses.count(status) for status in JobStatus if status in statuses},
        seconds=round(time.monotonic() - began, 1),
        violations=[*crowd.crashes, *violations(queue.client, name, ids, crowd.claims(), cancelled, STEPS)],
        job_ids=ids,
    )


def _busy(queue: JobQueue, name: str, crowd: Crowd) -> list[tuple[str, str]]:
    """Workers that hold a job now, with its id, in random order."""
    held = {str(lease.worker_id): job.job_id for job, lease in queue.held() if job.queue == name}
    busy = [(worker_id, held[worker_id]) for worker_id in crowd.running if worker_id in held]
    crowd.rng.shuffle(busy)
    return busy


def _steps(queue: JobQueue, name: str) -> dict[str, int]:
    """Step of the pointer of each job that is held; pointers only go forwards, so progress is bounded."""
    held = [lease for job, lease in queue.held() if job.queue == name]
    return {lease.job_id: lease.checkpoint.global_step for lease in held if lease.checkpoint}


def _cancel(queue: JobQueue, job_id: str) -> set[str]:
    try:
        queue.cancel(job_id)
    except StateConflict:  # it had ended
        return set()
    return {job_id}


def _let_return(crowd: Crowd) -> None:
    """Paused workers come back once more, and may try to write."""
    if crowd.paused:
        time.sleep(max(0.0, max(until for until, _ in crowd.paused.values()) - time.monotonic()))
        crowd.wake(time.monotonic())
        time.sleep(1.0)
