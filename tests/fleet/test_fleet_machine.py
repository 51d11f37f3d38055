"""A worker's name and price on a fleet's machine, and which job its boot was for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from receipt_dynamo import AttemptEnd, DynamoClient, FleetRows, Job, JobQueue, Machine, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.cli.run_here import WorkerOptions, open_context
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.fleet.names import instance_of
from receipt_layoutlm.worker.admission import JobPolicy
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.host.fleet import FleetMembership, boot_share, uptime_seconds
from receipt_layoutlm.worker.host.registry import registered
from receipt_layoutlm.worker.host.systemd import Notifier
from tests.support.imds import Imds
from tests.support.moto_worker import kept_handlers, on_host, run, submit
from tests.support.places import Place
from tests.support.stores import Clock, Store
from tests.support.tiny import tiny_layoutlm
from tests.support.wire import Wire
from tests.worker.test_systemd import ServiceSocket

INSTANCE = "i-0123456789abcdef0"


@pytest.fixture
def on_ec2(imds: Imds, cloud: DynamoClient) -> dict[str, str]:
    """The environment of a fleet's worker."""
    return {
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint,
        "LAYOUTLM_FLEET": "layoutlm",
        "LAYOUTLM_SLOT": "3",
        "LAYOUTLM_IDLE_SECONDS": "0",
        "LAYOUTLM_PRICES": '{"g5.xlarge": {"spot": 0.42, "on-demand": 1.0}}',
    }


def attempt_of(queue: JobQueue, environment: dict[str, str], *arguments: str) -> tuple[str, Machine]:
    job = submit(queue, config={"config_version": 1, "option_of_no_task": True})  # fails before any training
    assert run("run", "--once", *arguments, **environment).exit_code == 0
    (attempt,) = queue.client.list_attempts(job.job_id)
    return attempt.worker_id, attempt.machine


def test_a_fleets_worker_is_called_by_its_instance_and_slot(queue: JobQueue, on_ec2: dict[str, str]) -> None:
    worker_id, _ = attempt_of(queue, on_ec2)

    assert worker_id.startswith(f"{INSTANCE}-3-")
    assert instance_of(worker_id) == INSTANCE


def test_a_worker_whose_machine_is_taken_away_leaves_that_word_behind(
    on_ec2: dict[str, str], imds: Imds, tmp_path: Path
) -> None:
    imds.interrupt(utcnow() + timedelta(minutes=2))
    told = tmp_path / "ended-3"

    assert run("run", **on_ec2 | {"LAYOUTLM_IDLE_SECONDS": "60", "LAYOUTLM_ENDED_FILE": str(told)}).exit_code == 0

    assert told.read_text() == "leaving"


def test_a_worker_on_ec2_outside_of_a_fleet_is_called_as_ever(queue: JobQueue, on_ec2: dict[str, str]) -> None:
    worker_id, machine = attempt_of(queue, on_ec2 | {"LAYOUTLM_FLEET": ""})

    assert instance_of(worker_id) is None
    assert machine == Machine(instance_type="g5.xlarge", spot=True, region="eu-west-1")


def test_the_price_of_the_table_is_on_the_attempt(queue: JobQueue, on_ec2: dict[str, str], imds: Imds) -> None:
    assert attempt_of(queue, on_ec2)[1].price_per_hour == 0.42
    imds.paths["instance-life-cycle"] = "on-demand"
    assert attempt_of(queue, on_ec2)[1].price_per_hour == 1.0


@pytest.mark.parametrize(
    ("zone", "price"),
    [
        pytest.param("eu-west-1b", 0.00001, id="what EC2 tells, which is always this on moto"),
        pytest.param("eu-west-1z", 1.006, id="the list price where it tells nothing"),
    ],
)
def test_without_a_table_the_spot_price_of_the_zone_is_on_the_attempt(
    queue: JobQueue, on_ec2: dict[str, str], imds: Imds, zone: str, price: float
) -> None:
    imds.paths["placement/availability-zone"] = zone
    assert attempt_of(queue, on_ec2 | {"LAYOUTLM_PRICES": ""})[1].price_per_hour == price


def test_a_price_that_was_given_is_not_looked_up(queue: JobQueue, on_ec2: dict[str, str]) -> None:
    assert attempt_of(queue, on_ec2, "--price-per-hour", "7")[1].price_per_hour == 7


def test_the_system_tells_since_when_a_machine_is_up(tmp_path: Path) -> None:
    uptime = tmp_path / "uptime"
    uptime.write_text("123.45 400.00\n")

    assert uptime_seconds(uptime) == 123.45
    assert uptime_seconds(tmp_path / "none") is None


def test_the_scaler_is_told_when_a_machine_of_its_fleet_claimed_or_ended_a_job_last(
    queue: JobQueue, on_ec2: dict[str, str]
) -> None:
    rows = FleetRows(queue.client)
    assert run("run", **on_ec2).exit_code == 0
    assert rows.claimed_at("layoutlm", INSTANCE) is None

    attempt_of(queue, on_ec2)
    first = rows.claimed_at("layoutlm", INSTANCE)
    attempt_of(queue, on_ec2)
    second = rows.claimed_at("layoutlm", INSTANCE)

    (attempt,) = queue.client.list_attempts(queue.client.list_jobs(1)[0].job_id)
    assert attempt.ended_at is not None
    assert first is not None and second is not None and first < attempt.ended_at <= second


@pytest.mark.parametrize(("days", "claims"), [("0.0001", 0), ("100000", 1)])
def test_a_machine_that_is_too_old_claims_no_further_job_and_leaves(
    queue: JobQueue, on_ec2: dict[str, str], tmp_path: Path, days: str, claims: int
) -> None:
    job, told = submit(queue), tmp_path / "ended-0"

    run("run", "--once", "--drain-after-days", days, **on_ec2 | {"LAYOUTLM_ENDED_FILE": str(told)})

    assert queue.client.get_job(job.job_id).attempt == claims
    assert told.read_text() == ("idle" if claims else "leaving")


@pytest.mark.parametrize(
    ("free_before", "seconds"),
    [
        pytest.param(250, 240, id="the machine was started for it"),
        pytest.param(100, 100, id="the machine was on its way"),
        pytest.param(-500, None, id="the machine was there"),
    ],
)
def test_only_what_a_job_waited_of_a_boot_is_its_own(free_before: float, seconds: float | None) -> None:
    ready_at = utcnow()
    assert boot_share(240, ready_at, ready_at - timedelta(seconds=free_before)) == seconds


@contextmanager
def opened(fleet: str | None) -> Iterator[WorkerContext]:
    connection = Connection(False, "the-table", None, "the-bucket")
    options = WorkerOptions(fleet=fleet)
    with kept_handlers(), open_context(connection, ProgressView(), JobPolicy.of_project([]), options) as place:
        yield place


def test_a_claim_that_cannot_be_told_is_worth_no_job(
    cloud: DynamoClient, on_ec2: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in on_ec2.items():
        monkeypatch.setenv(name, value)
    with opened("layoutlm") as place:
        Wire(place.queue.client).refuse("PutItem", "AccessDenied")
        with place.host.busy("job-1"):
            assert "the scaler does not know that this machine is in use" in caplog.text


@pytest.fixture
def on_a_machine(on_ec2: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in on_ec2.items():
        monkeypatch.setenv(name, value)


def claimed(client: DynamoClient, submitted_at: datetime) -> Job:
    """A job in a worker's hand."""
    job = submit(JobQueue(client, now=lambda: submitted_at))
    assert JobQueue(client).claim_job(job.job_id, "worker-1") is not None
    return client.get_job(job.job_id)


LINUX = pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="only Linux says when it was started")


@LINUX
def test_a_machine_outside_of_a_fleet_came_up_for_no_job(cloud: DynamoClient) -> None:
    job = claimed(cloud, utcnow() - timedelta(hours=1))
    with opened("layoutlm") as place, place.host.busy(job.job_id):
        assert place.host.boot_seconds(job) is None


@LINUX
def test_only_the_first_job_on_a_fleets_machine_has_waited_for_its_boot(
    cloud: DynamoClient, on_a_machine: None
) -> None:
    job = claimed(cloud, utcnow() - timedelta(hours=1))
    with opened("layoutlm") as place:
        assert place.host.boot_seconds(job) is None
        with place.host.busy(job.job_id):
            assert (place.host.boot_seconds(job) or 0) > 0
        with place.host.busy(job.job_id):
            assert place.host.boot_seconds(job) is None


def test_a_job_that_was_submitted_to_an_idle_machine_waited_for_no_boot(
    cloud: DynamoClient, on_a_machine: None
) -> None:
    with opened("layoutlm") as place:
        job = claimed(cloud, utcnow())
        with place.host.busy(job.job_id):
            assert place.host.boot_seconds(job) is None


def test_a_job_that_came_back_to_an_idle_machine_waited_for_no_boot(cloud: DynamoClient, on_a_machine: None) -> None:
    """It is older than the machine, but another one worked on it until now."""
    long_ago = utcnow() - timedelta(hours=1)
    job = submit(JobQueue(cloud, now=lambda: long_ago))
    queue = JobQueue(cloud)
    with opened("layoutlm") as place:
        for worker in ("worker-1", "worker-2"):
            lease = queue.claim_job(job.job_id, worker)
            assert lease is not None
            if worker == "worker-1":
                queue.release(lease, "test")
        with place.host.busy(job.job_id):
            assert place.host.boot_seconds(cloud.get_job(job.job_id)) is None


def test_a_person_who_works_a_queue_booted_the_machine_for_other_reasons(
    cloud: DynamoClient, on_a_machine: None
) -> None:
    job = claimed(cloud, utcnow() - timedelta(hours=1))
    with opened(None) as place, place.host.busy(job.job_id):
        assert place.host.boot_seconds(job) is None


@pytest.mark.engine
def test_a_trained_job_has_the_boot_among_its_phases_and_its_worker_was_alive_throughout(
    store: Store, tmp_path: Path
) -> None:
    pages = generate_pages(12, seed=1)
    listener, clock = ServiceSocket(str(tmp_path / "notify")), Clock()
    work = Place(store, tmp_path / "work")
    notify = Notifier(listener.address, lambda: clock.pass_seconds(5) or clock.monotonic())
    rounds: list[int] = []
    work.on_event = lambda _event: rounds.append(len(listener.heard()))
    job = work.submit(pages, pretrained=str(tiny_layoutlm(tmp_path / "tiny", pages)), epochs=1)
    ready_at = store.clock() + timedelta(hours=1)
    fleet = FleetMembership(store.queue.client, "layoutlm", INSTANCE, 200.0, lambda: ready_at)

    with registered(tmp_path / "workers", "worker-1") as registry:
        work.context = on_host(work.context, notifier=notify, registry=registry, fleet=fleet)
        with work.context.host.busy(job.job_id):
            work.work()

    (attempt,) = store.queue.client.list_attempts(job.job_id)
    assert attempt.phase_seconds["boot"] == 200
    assert {"prepare", "start", "train"} <= attempt.phase_seconds.keys()
    assert sum(rounds) > 0
    listener.close()


def test_job_show_tells_the_way_to_the_first_step(queue: JobQueue) -> None:
    job = submit(JobQueue(queue.client, now=lambda: utcnow() - timedelta(seconds=240)))
    lease = queue.claim("worker-1")
    assert lease is not None
    phases = {"boot": 200.0, "prepare": 8.0, "start": 60.0, "train": 60.0}
    queue.release(lease, "test", end=AttemptEnd(last_step=1, phase_seconds=phases))

    shown = CliRunner().invoke(cli, ["job", "show", job.job_id]).stdout
    (row,) = json.loads(CliRunner().invoke(cli, ["job", "show", job.job_id, "--json"]).stdout)["timeline"]

    assert all(word in shown for word in ("first step", "boot", "prepare"))
    assert row["first_step_seconds"] == pytest.approx(240 + 68, abs=5)
    assert row["phase_seconds"]["boot"] < row["wait_seconds"]
