"""Cost and speed of a fleet: the real queue and the real scaler on a simulated clock.

    python bench/fleet_simulation.py [SCENARIO ...] [--seeds 3] [--json PATH]

A local DynamoDB in memory (dynoxide, fetched with `layoutlm-cli local up`) holds the table. Real are JobQueue,
FleetRows, and `look` of the scaler with `desired_workers` below it. Simulated are the time, the workers, the machines
and their groups, and the stream, schedule and events that wake the scaler. The ideal fleet trains all jobs, each step
once, in all its slots, and does nothing else: no boot, no start of a job, no waiting, no repeated step.
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fleet_machines import NOTICE, SimulatedGroup, SimulatedMachine
from fleet_world import FLEET, Conditions, Measurements, World

from receipt_dynamo import DynamoClient, JobStatus
from receipt_dynamo.entities import ondemand_queue
from receipt_layoutlm import infra
from receipt_layoutlm.fleet.scaler.figures import Scaler, ScalerTimes
from receipt_layoutlm.fleet.scaler.look import look
from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import ACCESS_KEY, DYNOXIDE, SECRET_KEY, platform_key, programs_dir

QUEUE = "default"
MINUTE, HOUR = 60.0, 3600.0

# seconds
SCHEDULE = 300.0
STREAM_WINDOW = 2.0  # in which records are gathered: MaximumBatchingWindowInSeconds of infra/workers.yaml
STREAM_DELAY = (0.3, 4.3)  # from there to the function's first request: four looks a second, and a container's start
LOOK = 1.0  # from there to the capacity raised
EVENT_DELAY = (1.0, 3.0)

PROMISED = {"waste": 1.20, "busy_ended": 0, "jobs_lost": 0, "wait": 30.0, "raise": 15.0, "cold": 360.0, "warm": 60.0}

BURST = Conditions(jobs=100, job_seconds=30 * MINUTE, maximum=20, reclaimed_per_hour=0.20)

SWITCHED_OFF = Conditions(
    jobs=0,
    job_seconds=0.0,
    maximum=4,
    ordered_ahead=4,
    reaches_group="no",
    max_cost_per_day=2.0,
    runs_on="yes",
    max_hours=24.0,
)
CANCELLED = Conditions(
    jobs=10,
    job_seconds=30 * MINUTE,
    maximum=10,
    delivers_from=HOUR,
    cancelled_at=10 * MINUTE,
    runs_on="yes",
    max_hours=24.0,
)

SCENARIOS = {
    "burst": BURST,
    "burst, no notice": replace(BURST, noticed=0.0),
    "calm burst": replace(BURST, reclaimed_per_hour=0.0),
    "thousand": Conditions(jobs=1000, job_seconds=10 * MINUTE, maximum=200, reclaimed_per_hour=0.20, noticed=0.5),
    "waves": Conditions(
        jobs=400,
        job_seconds=30 * MINUTE,
        maximum=100,
        waves=((30 * MINUTE, 0.5), (60 * MINUTE, 0.9), (90 * MINUTE, 0.5)),
        noticed=0.5,
    ),
    "four slots": replace(BURST, maximum=5, slots=4),
    "trickle": Conditions(
        jobs=60,
        job_seconds=10 * MINUTE,
        maximum=20,
        reclaimed_per_hour=0.20,
        arrivals=tuple((number * 12 * MINUTE, 1) for number in range(60)),
    ),
    # the first job of a pair finds no machine, the second an idle one. Its start: 17 s were measured with weights of
    # base size on two busy cores (docs); added are the download of 440 MB, and CUDA
    "pairs": Conditions(
        jobs=40,
        job_seconds=10 * MINUTE,
        start_seconds=40.0,
        maximum=4,
        arrivals=tuple((pair * 45 * MINUTE + later, 1) for pair in range(20) for later in (0.0, 17.5 * MINUTE)),
    ),
    "races": Conditions(jobs=1, job_seconds=5 * MINUTE, maximum=4, races=20),
    "races, schedule alone": Conditions(jobs=1, job_seconds=5 * MINUTE, maximum=4, races=20, wakes_at_ends="no"),
    "hard spot": Conditions(
        jobs=40,
        job_seconds=60 * MINUTE,
        maximum=10,
        reclaimed_per_hour=0.80,
        noticed=0.5,
        ondemand_maximum=2,
        ondemand_after=3,
    ),
    "broken image": Conditions(jobs=100, job_seconds=30 * MINUTE, maximum=20, broken_until=6 * HOUR),
    "slot races": Conditions(jobs=1, job_seconds=5 * MINUTE, maximum=2, slots=4, races=20),
    "broken beside a good one": Conditions(
        jobs=21,
        job_seconds=3 * HOUR,
        maximum=20,
        arrivals=((0.0, 1), (10 * MINUTE, 20)),
        broken_from=8 * MINUTE,
        broken_until=6 * HOUR,
    ),
    # machines that only switch themselves off, on an empty queue; the group replaces them
    "switched off": SWITCHED_OFF,
    "switched off, wish stays": replace(SWITCHED_OFF, lowers="no"),
    # ten jobs are cancelled before the first of their machines comes
    "cancelled orders": CANCELLED,
    "cancelled orders, wish stays": replace(CANCELLED, lowers="no"),
    "switched off, jobs wait": replace(
        SWITCHED_OFF, jobs=10, job_seconds=30 * MINUTE, broken_until=24 * HOUR, max_cost_per_day=0.0
    ),
    "no spot capacity": Conditions(
        jobs=4, job_seconds=30 * MINUTE, maximum=4, delivers_from=48 * HOUR, ondemand_maximum=2, ondemand_after=3
    ),
    "late spot capacity": Conditions(
        jobs=10, job_seconds=30 * MINUTE, maximum=4, delivers_from=2 * HOUR, ondemand_maximum=1, ondemand_after=3
    ),
    "outage": replace(BURST, jobs=20, outage=(25 * MINUTE, 85 * MINUTE)),
    "broken, no trials": Conditions(jobs=100, job_seconds=30 * MINUTE, maximum=20, broken_until=6 * HOUR, trials="no"),
}


@dataclass(frozen=True)
class Row:
    """The reported figures of one run."""

    scenario: str
    seed: int
    jobs: int
    jobs_lost: int
    drained_minutes: float
    ideal_hours: float
    instance_hours: float
    waste: float  # instance hours over the ideal
    machines: int
    reclaimed: int
    busy_ended: int
    taken_from_the_living: int
    lowered: int
    moved: int
    late_machines: int  # launched after the first look that found nothing to do
    late_hours: float
    repeated_hours: float
    longest_wait: float
    longest_unnoticed: float
    longest_race_wait: float
    longest_raise: float  # from a job's submit or return to the capacity raised
    longest_cold_start: float  # from a submit to the first step on a machine launched after it
    longest_warm_start: float
    looks: int
    ran_seconds: float


class FleetSimulation:
    """A fleet of one or two groups, its scaler, and the triggers that wake it."""

    def __init__(self, client: DynamoClient, conditions: Conditions, seed: int) -> None:
        self.world = World(client, conditions, seed, self._to_stream, self._renew_all)
        self._stream: list[str] = []  # job ids that the scaler has not read yet
        group = partial(SimulatedGroup, self.world, on_event=self._machine_ended)
        spot = group(QUEUE, conditions.maximum, conditions.reclaimed_per_hour, delivers_from=conditions.delivers_from)
        self.groups = [spot]
        if conditions.ondemand_maximum:
            self.groups.append(group(ondemand_queue(QUEUE), conditions.ondemand_maximum, 0.0))
        self._scaler = Scaler(
            fleet=FLEET,
            queue=self.world.queue,
            rows=self.world.rows,
            groups=[group.seen() for group in self.groups],
            slots=conditions.slots,
            instances=lambda: [machine.billed() for machine in self.machines()],
            price=lambda _: 1.0,
            now=self.world.clock,
            max_cost_per_day=conditions.max_cost_per_day,
            times=ScalerTimes(boot_deadline_minutes=conditions.boot_deadline_seconds / MINUTE),
        )

    def run(self) -> Measurements:
        """Run until every job has ended and every machine is gone, or `max_hours` have passed."""
        conditions, clock = self.world.conditions, self.world.clock
        for at, number in conditions.arrivals or ((0.0, conditions.jobs),):
            clock.after(at, partial(self._submit, number))
        for at, fraction in conditions.waves:
            clock.after(at, partial(self._reclaim, fraction))
        if conditions.ordered_ahead:
            self.groups[0].order(conditions.ordered_ahead)
        if conditions.cancelled_at:
            clock.after(conditions.cancelled_at, self.world.cancel_waiting)
        clock.after(self.world.rng.uniform(0, SCHEDULE), self._schedule)
        clock.run(self._is_over, conditions.max_hours * HOUR)
        for machine in self.machines():
            machine.pay()
        return self.world.measured

    def _is_over(self) -> bool:
        if self.world.conditions.runs_on == "yes":
            return False
        return self.world.completed == self.world.conditions.all_jobs and not any(group.alive for group in self.groups)

    def machines(self) -> Iterator[SimulatedMachine]:
        for group in self.groups:
            yield from list(group.alive.values())

    def _submit(self, number: int) -> None:
        for _ in range(number):
            self.world.submit()

    def _reclaim(self, fraction: float) -> None:
        for machine in self.machines():
            if self.world.rng.random() < fraction:
                machine.reclaim_in(NOTICE)

    def _renew_all(self) -> None:
        """Send the renewals of all living workers that are due, before leases are read."""
        for machine in self.machines():
            machine.renew()

    # triggers of the scaler

    def _to_stream(self, job_id: str) -> None:
        """The stream wakes the scaler once for all records of a moment."""
        if not self._stream:
            self.world.clock.after(STREAM_WINDOW + self.world.rng.uniform(*STREAM_DELAY), self._read_stream)
        self._stream.append(job_id)

    def _read_stream(self) -> None:
        job_ids, self._stream = self._stream, []
        self._look(job_ids)

    def _schedule(self) -> None:
        self._look()
        self.world.clock.after(SCHEDULE, self._schedule)

    def _machine_ended(self) -> None:
        if self.world.conditions.wakes_at_ends == "yes":
            self.world.clock.after(self.world.rng.uniform(*EVENT_DELAY), self._look)

    def _look(self, job_ids: Sequence[str] = ()) -> None:
        self._renew_all()
        measured, before = self.world.measured, [group.starting() for group in self.groups]
        seen = look(self._scaler, job_ids)
        assert self.world.is_out() or not seen.errors, seen.errors
        measured.looks += 1
        for group, was, now in zip(self.groups, before, seen.groups, strict=False):
            if now.waiting and not now.hold:
                measured.lowered += len(was - group.alive.keys())
        measured.moved += len(seen.moved)
        has_work = any(group.waiting or group.busy for group in seen.groups)
        if not has_work and not seen.errors:
            measured.settled_at = self.world.clock.seconds if measured.settled_at is None else measured.settled_at
        elif has_work:
            measured.settled_at = None
        if any(group.raised_to is not None for group in seen.groups):
            measured.raise_waits.append(max(group.oldest_seconds for group in seen.groups) + LOOK)
        self.world.note_rescued(seen.rescued)


def simulated(client: DynamoClient, scenario: str, conditions: Conditions, seed: int) -> Row:
    """Run one scenario on an empty table."""
    begun = time.monotonic()
    simulation = FleetSimulation(client, conditions, seed)
    measured = simulation.run()
    statuses = [client.get_job(job_id, consistent=True).status for job_id in simulation.world.job_ids]
    return Row(
        scenario=scenario,
        seed=seed,
        jobs=conditions.all_jobs,
        jobs_lost=conditions.all_jobs - statuses.count(JobStatus.SUCCEEDED),
        drained_minutes=round(measured.drained_seconds / 60, 1),
        ideal_hours=round(conditions.ideal_hours, 3),
        instance_hours=round(measured.instance_hours, 3),
        waste=round(measured.instance_hours / conditions.ideal_hours, 3) if conditions.ideal_hours else 0.0,
        machines=measured.machines,
        reclaimed=measured.reclaimed,
        busy_ended=measured.busy_ended,
        taken_from_the_living=measured.taken_from_the_living,
        lowered=measured.lowered,
        moved=measured.moved,
        late_machines=measured.late_machines,
        late_hours=round(measured.late_hours, 3),
        repeated_hours=round(measured.repeated_seconds / 3600, 3),
        longest_wait=round(max(measured.waits, default=0.0), 1),
        longest_unnoticed=round(max(measured.unnoticed, default=0.0), 1),
        longest_race_wait=round(max(measured.race_waits, default=0.0), 1),
        longest_raise=round(max(measured.raise_waits, default=0.0), 1),
        longest_cold_start=round(max(measured.cold_starts, default=0.0), 1),
        longest_warm_start=round(max(measured.warm_starts, default=0.0), 1),
        looks=measured.looks,
        ran_seconds=round(time.monotonic() - begun, 1),
    )


@contextlib.contextmanager
def engine() -> Iterator[Callable[[], DynamoClient]]:
    """A DynamoDB in memory; each call returns the client of a new, empty table."""
    os.environ.update({"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY})
    (port,) = local_process.free_ports(1)
    command = [*DYNOXIDE.find(platform_key(), programs_dir())[0], "serve", "-p", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        pid = local_process.start_process(
            command, DYNOXIDE.environment((port,), Path(folder)), Path(folder), Path(folder, "log")
        )
        try:
            local_process.wait_until(lambda: local_process.answers(port, DYNOXIDE.health_path, DYNOXIDE.signature), 30)
            yield lambda: new_table(f"http://{local_process.LOOPBACK}:{port}")
        finally:
            local_process.stop_process(pid, command)


def new_table(endpoint: str) -> DynamoClient:
    client = DynamoClient(f"table-{uuid.uuid4().hex}", endpoint_url=endpoint)
    infra.create_table(client.raw, client.table_name)
    return client


# heading, width and field of each column: instance hours, and the longest waits in seconds
COLUMNS = (
    ("jobs", "5", "jobs"),
    ("lost", "5", "jobs_lost"),
    ("minutes", "8.0f", "drained_minutes"),
    ("ideal h", "8.1f", "ideal_hours"),
    ("hours", "7.1f", "instance_hours"),
    ("waste", "6.3f", "waste"),
    ("machines", "9", "machines"),
    ("reclaimed", "10", "reclaimed"),
    ("busy ended", "11", "busy_ended"),
    ("moved", "6", "moved"),
    ("late", "5", "late_machines"),
    ("late h", "7.2f", "late_hours"),
    ("repeated h", "11.2f", "repeated_hours"),
    ("wait", "6.1f", "longest_wait"),
    ("found", "6.0f", "longest_unnoticed"),
    ("race", "6.0f", "longest_race_wait"),
    ("raise", "6.1f", "longest_raise"),
    ("cold", "6.0f", "longest_cold_start"),
    ("warm", "6.0f", "longest_warm_start"),
    ("ran s", "6.0f", "ran_seconds"),
)


def show_heading() -> None:
    print(" " * 24 + "".join(f"{heading:>{form.split('.')[0]}}" for heading, form, _ in COLUMNS))


def show(row: Row) -> None:
    print(f"{row.scenario:24}" + "".join(f"{getattr(row, field):{form}}" for _, form, field in COLUMNS), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"one of: {', '.join(SCENARIOS)} (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each scenario (default 1)")
    parser.add_argument("--boot", type=float, metavar="SECONDS", help="boot of the machines (default 240)")
    parser.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="of a boot; later the machine ends (default 1200)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - SCENARIOS.keys():
        parser.error(f"unknown scenario: {', '.join(sorted(unknown))}")
    logging.disable(logging.ERROR)  # an outage fills the table with them
    show_heading()
    rows = []
    with engine() as table:
        for name in options.scenarios or SCENARIOS:
            for seed in range(options.seeds):
                conditions = SCENARIOS[name]
                if options.boot is not None:
                    conditions = replace(conditions, boot_seconds=options.boot)
                if options.deadline is not None:
                    conditions = replace(conditions, boot_deadline_seconds=options.deadline)
                rows.append(simulated(table(), name, conditions, seed))
                show(rows[-1])
    if options.json:
        options.json.write_text(
            json.dumps({"promised": PROMISED, "rows": [vars(row) for row in rows]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    sys.exit(main())
