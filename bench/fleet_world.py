"""State that all simulated workers and machines share: conditions, clock, job queue, measurements.

JobQueue and FleetRows are the real ones on a real table. The time is simulated.
"""

import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet_clock import Clock

from receipt_dynamo import DynamoClient, FleetRows, Job, JobQueue, Timing

FLEET = "simulated"


@dataclass(frozen=True)
class Conditions:
    """One scenario. Times in seconds; `reclaimed_per_hour` is the fraction of spot machines reclaimed in an hour."""

    jobs: int
    job_seconds: float
    maximum: int
    slots: int = 1
    arrivals: tuple[tuple[float, int], ...] = ()  # (time, number of jobs); empty: all at once
    reclaimed_per_hour: float = 0.0
    noticed: float = 1.0  # fraction of reclaims with two minutes' notice
    waves: tuple[tuple[float, float], ...] = ()  # (time, fraction of the machines reclaimed)
    boot_seconds: float = 240.0  # mean; varies by 10 %
    boot_deadline_seconds: float = 1200.0  # after which a machine that is not ready terminates itself
    idle_seconds: float = 300.0
    start_seconds: float = 60.0  # from a claim to the first step
    stop_seconds: float = 20.0  # from a notice that was seen to the checkpoint in the bucket
    checkpoint_seconds: float = 600.0
    broken_from: float = 0.0
    broken_until: float = 0.0  # machines launched between these terminate themselves before they claim a job
    races: int = 0  # additional jobs, submitted while a machine terminates itself
    drains: str = "yes"  # whether a machine checks its slots once more before it terminates itself
    wakes_at_ends: str = "yes"
    trials: str = "yes"
    lowers: str = "yes"  # whether the scaler's wish for fewer machines reaches the group
    ordered_ahead: int = 0  # machines of the first group at the beginning
    reaches_group: str = "yes"  # whether machines can ask their group to end them; else they only switch off
    delivers_from: float = 0.0  # until then the first group gets no machine
    outage: tuple[float, float] = (0.0, 0.0)  # in between, every request to a group fails
    cancelled_at: float = 0.0  # of all jobs that wait; 0: never
    max_cost_per_day: float = 0.0
    runs_on: str = "no"  # whether the simulation goes on to max_hours after the last job and machine
    lease_seconds: float = 90.0
    renew_seconds: float = 15.0
    ondemand_maximum: int = 0
    ondemand_after: int = 0
    max_hours: float = 48.0

    @property
    def all_jobs(self) -> int:
        return self.jobs + self.races

    @property
    def ideal_hours(self) -> float:
        """Instance hours that train all jobs, each step once, in all slots: no boot, no start, no waiting."""
        return self.all_jobs * self.job_seconds / self.slots / 3600


@dataclass
class Measurements:
    """Results of a run. Waits in seconds."""

    drained_seconds: float = 0.0
    instance_hours: float = 0.0
    machines: int = 0
    reclaimed: int = 0
    busy_ended: int = 0
    taken_from_the_living: int = 0  # jobs rescued from a worker that was alive
    repeated_seconds: float = 0.0  # of training
    waits: list[float] = field(default_factory=list)  # of a released or rescued job while its next worker was free
    unnoticed: list[float] = field(default_factory=list)  # from a death without notice to the rescue
    race_waits: list[float] = field(default_factory=list)  # from a submit while the last machine ended to the claim
    raise_waits: list[float] = field(default_factory=list)  # from a submit to the look that raised the capacity
    # from a submit to the first training step, queueing included
    cold_starts: list[float] = field(default_factory=list)  # on a machine launched after the submit
    warm_starts: list[float] = field(default_factory=list)  # on a machine that was running before
    looks: int = 0
    lowered: int = 0  # looks that lowered the desired capacity under a machine that was starting while jobs waited
    moved: int = 0  # jobs moved to the on-demand queue because no spot machine came
    settled_at: float | None = None  # of the first look at which no machine may be started any more
    late_machines: int = 0  # launched after that
    late_hours: float = 0.0


class World:
    """Clock, queue and measurements of one run, and the history of its jobs.

    `on_claimable` receives the id of a job that became claimable; `renew_all` sends the renewals that are due.
    """

    def __init__(
        self,
        client: DynamoClient,
        conditions: Conditions,
        seed: int,
        on_claimable: Callable[[str], None],
        renew_all: Callable[[], None],
    ) -> None:
        self.conditions = conditions
        self.clock, self.measured, self.rng = Clock(), Measurements(), random.Random(seed)
        timing = Timing(
            lease_seconds=conditions.lease_seconds,
            renew_seconds=conditions.renew_seconds,
            ondemand_after=conditions.ondemand_after,
        )
        self.queue = JobQueue(client, now=self.clock, rng=random.Random(seed), timing=timing)
        self.rows = FleetRows(client, self.clock)
        self.puts = 0  # how often something was put into the queue
        self.job_ids: list[str] = []
        self.completed = 0
        self.trained: dict[str, float] = {}  # maximum seconds that each job was ever trained
        self.free_since: dict[str, dict[str, float]] = {}  # by queue and id of each free worker
        self._races_left = conditions.races
        self._on_claimable, self._renew_all = on_claimable, renew_all
        # times of the last event of each kind, by job
        self._submitted: dict[str, float] = {}
        self._freed: dict[str, float] = {}  # released or rescued, and waiting
        self._died: dict[str, float] = {}  # on a machine that vanished without notice
        self._raced: dict[str, float] = {}

    # jobs

    def cancel_waiting(self) -> None:
        for job in list(self.queue.due_jobs()):
            self.queue.cancel(job.job_id)
            self.completed += 1

    def is_out(self) -> bool:
        """Whether requests to Auto Scaling fail at the moment."""
        since, until = self.conditions.outage
        return since <= self.clock.seconds < until

    def submit(self) -> str:
        job_id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        name = f"job-{len(self.job_ids)}"
        self.queue.submit(name=name, config={"config_version": 1}, created_by="bench", job_id=job_id)
        self.job_ids.append(job_id)
        self._submitted[job_id] = self.clock.seconds
        self._claimable(job_id)
        return job_id

    def may_race(self, within: float) -> None:
        """Submit a job while a machine terminates itself, if the scenario has one left."""
        if self._races_left:
            self._races_left -= 1
            self.clock.after(within * self.rng.uniform(0, 0.5), self._race)

    def _race(self) -> None:
        self._raced[self.submit()] = self.clock.seconds

    def claimed(self, job_id: str, queue: str, claimer_since: float) -> None:
        """Measure the job's waits, from when a worker was free that could have claimed it earlier."""
        now, free_since = self.clock.seconds, min([claimer_since, *self.free_since.get(queue, {}).values()])
        if job_id in self._freed:
            self.measured.waits.append(now - max(self._freed.pop(job_id), free_since))
        if job_id in self._raced:
            self.measured.race_waits.append(now - self._raced.pop(job_id))

    def trains(self, job_id: str, first_step_at: float, machine_started: float) -> None:
        submitted = self._submitted.pop(job_id, None)
        if submitted is not None:
            starts = self.measured.cold_starts if machine_started > submitted else self.measured.warm_starts
            starts.append(first_step_at - submitted)

    def released(self, job_id: str) -> None:
        self._freed[job_id] = self.clock.seconds
        self._claimable(job_id)

    def _claimable(self, job_id: str) -> None:
        self.puts += 1
        self._on_claimable(job_id)

    def died_with(self, job_id: str) -> None:
        self._died[job_id] = self.clock.seconds

    def succeeded(self) -> None:
        self.completed += 1
        self.measured.drained_seconds = self.clock.seconds

    def rescue(self) -> None:
        """The rescue of an idle worker. Not sent while no worker is dead, when it would find nothing."""
        if self._died:
            self._renew_all()
            self.note_rescued(self.queue.rescue())

    def note_rescued(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            died = self._died.pop(job.job_id, None)
            if died is None:
                self.measured.taken_from_the_living += 1
            else:
                self.measured.unnoticed.append(self.clock.seconds - died)
            self.released(job.job_id)
