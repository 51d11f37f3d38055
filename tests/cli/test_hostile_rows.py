"""Rows and objects that no program of ours writes, under every command that reads them, and under the scaler."""

import random
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from click.testing import CliRunner, Result

from receipt_dynamo import (
    DynamoClient,
    FleetCost,
    FleetPause,
    FleetRows,
    JobError,
    JobQueue,
    Storage,
    utcnow,
)
from receipt_dynamo.lease_watch import Sighting
from receipt_layoutlm import infra
from receipt_layoutlm.cli.connection import explain_errors
from receipt_layoutlm.cli.fleet.status import status_text
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.wait import wait_for
from receipt_layoutlm.fleet.scaler.figures import Scaler
from receipt_layoutlm.fleet.scaler.group import Group, GroupFigures
from receipt_layoutlm.fleet.scaler.look import look
from receipt_layoutlm.fleet.stack import StackState
from receipt_layoutlm.fleet.status import StatusSources, fleet_status
from receipt_layoutlm.storage.bucket import Bucket
from tests.support import original_system
from tests.support.commands import ok, run
from tests.support.hostile import Value, complaint, damaged, mutations
from tests.support.jobs import evaluation, pointer, summary

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

FLEET: Final = "the-fleet"
SEED: Final = 20261128
RESULTS: Final = {
    "metric_name": "eval_f1",
    "metric_value": 0.5,
    "global_step": 10,
    "best_global_step": 10,
    "stop_reason": "completed",
    "health": ["fine"],
    "per_label": {"DATE": {"f1": 0.5, "precision": 0.5, "recall": 0.5, "support": 3}},
    "best_uri": "s3://the-bucket/x",
    "remedy": {"epochs": 9},
}


class World:
    """A table with rows of every kind."""

    def __init__(self, client: DynamoClient, pages: str, folder: str) -> None:
        self.client, self.folder = client, folder
        self.queue, self.rows = JobQueue(client), FleetRows(client)
        ok("dataset", "import", "jsonl", pages, "--name", "shop")
        few = f"{folder}/few.jsonl"
        Path(few).write_text("".join(Path(pages).read_text().splitlines(keepends=True)[:2]))
        ok("dataset", "load", few)
        ok("dataset", "forget", "page-011")
        (snapshot,) = client.list_datasets()
        self.config = {
            "config_version": 1,
            "epochs": 3,
            "dataset": f"shop@{snapshot.fingerprint}",
            "given": {"epochs": "flag"},
        }
        self.ids: dict[str, str] = {}
        for name in ("good", "better", "bad", "busy"):
            self._run(name)
        self._submit("waiting")
        old = str(uuid.uuid4())
        self.put(original_system.job(old))
        for name, value in (("val_f1", {"N": "0.5"}), ("val_loss", {"S": "0.25"})):
            self.put(original_system.metric(old, name, value, "2025-03-01T12:30:00", step=3))
        self.put(original_system.log(old, "begun", "2025-03-01T12:10:00"))
        self.ids["old"] = old
        now = utcnow()
        self.rows.put_pause(FleetPause(fleet=FLEET, reason="r", paused_at=now, until=now + timedelta(hours=9)))
        self.rows.add_cost(FleetCost(fleet=FLEET, day=now.date()), 2.5, now)
        self.rows.put_sightings(FLEET, [Sighting(job_id=self.ids["busy"], attempt=1, renewals=1, seen_at=1.0)])

    def _submit(self, name: str) -> None:
        storage = Storage(bucket="the-bucket")
        job = self.queue.submit(name=name, config=self.config, created_by="me", storage=storage)
        self.ids[name] = job.job_id

    def _run(self, name: str) -> None:
        self._submit(name)
        now = utcnow() - timedelta(hours=1) if name == "busy" else utcnow()  # that lease has expired
        queue = JobQueue(self.client, now=lambda: now)
        lease = queue.claim_job(self.ids[name], f"worker-{name}")
        assert lease is not None
        self.client.add_job_metric(lease, evaluation(lease, at=utcnow()))
        lease = queue.record_checkpoint(lease, pointer(10), pointer(10))
        lease = queue.renew(lease, '["train", 30, 90, 1.5]')
        last = summary(lease, utcnow())
        if name == "bad":
            self.queue.fail(lease, JobError(cause="bad_config", message="m", page_ids=("p",)), summary=last)
        elif name != "busy":
            self.queue.complete(lease, results=RESULTS, summary=last)

    def put(self, row: Value) -> bool:
        """Whether the table takes it."""
        try:
            self.client.raw.put_item(TableName=self.client.table_name, Item=row)
        except (ClientError, ParamValidationError, ValueError, ArithmeticError):
            return False
        return True

    def stored(self) -> list[Value]:
        rows = self.client.raw.scan(TableName=self.client.table_name)["Items"]
        return sorted((dict(row) for row in rows), key=lambda row: (row["PK"]["S"], row["SK"]["S"]))

    def restore(self, rows: Sequence[Value]) -> None:
        """Put back what is missing or different, and remove the rest."""
        places = {(row["PK"]["S"], row["SK"]["S"]): row for row in rows}
        for row in self.stored():
            if places.pop((row["PK"]["S"], row["SK"]["S"]), None) is None:
                self.client.raw.delete_item(TableName=self.client.table_name, Key={"PK": row["PK"], "SK": row["SK"]})
            elif row not in rows:
                places[row["PK"]["S"], row["SK"]["S"]] = next(
                    each for each in rows if each["PK"] == row["PK"] and each["SK"] == row["SK"]
                )
        for row in places.values():
            self.put(row)

    # what reads

    def readers(self) -> dict[str, Callable[[], Result]]:
        good, better, bad, busy, waiting = (self.ids[name] for name in ("good", "better", "bad", "busy", "waiting"))
        commands = [
            "dataset list",
            "dataset list --json",
            "dataset snapshot shop",
            "dataset check shop",
            "dataset count",
            "dataset import dynamo --dry-run",
            f"dataset suspects {good}",
            "train --dataset shop --split random --dry-run",
            f"train --resume {bad} --dry-run",
            "job list",
            "job list --json",
            "job list --status running",
            "job list --name good",
            *(f"job show {job_id}" for job_id in self.ids.values()),
            f"job show {good} --json",
            *(f"job why {job_id}" for job_id in self.ids.values()),
            f"job why {bad} --json",
            f"job metrics {good}",
            f"job metrics {good} --json",
            f"job logs {bad}",
            f"job logs {bad} --json",
            f"job compare {good} {better}",
            f"job compare {good} {better} --force",
            "job show @best",
            "job show goo",
            f"job show {good[:8]}",
            f"job retry {bad} --dry-run",
            f"job retry {bad}",
            f"job cancel {busy} --dry-run",
            f"job cancel {waiting}",
            f"job cancel {busy}",
            f"job wait {good}",
            f"job wait {bad} --json",
            f"job pull {good} --to {self.folder}/pulled",
            "job prune --older-than 0 --dry-run",
            f"job delete {good} --dry-run",
            f"job delete {bad} --yes",
            "rescue --dry-run --watch 0",
            "rescue --watch 0",
            "worker peek",
            "storage usage",
        ]
        named: dict[str, Callable[[], Result]] = {each: partial(run, *each.split()) for each in commands}
        for name, call in (
            ("fleet status", self._status),
            ("look", self._look),
            ("wait", self._wait),
            ("claim", self._claim),
        ):
            named[name] = partial(CliRunner().invoke, click.command()(explain_errors(call)), [])
        return named

    def _status(self) -> None:
        autoscaling: AutoScalingClient = None  # type: ignore[assignment]  # a stack without groups asks for none
        sources = StatusSources(StackState("id", "CREATE_COMPLETE"), self.client, autoscaling, list)
        say(status_text(fleet_status(FLEET, sources, utcnow())))

    def _look(self) -> None:
        raised: list[int] = []
        figures = GroupFigures(0, 4, frozenset(), None, utcnow())
        group = Group(
            name="g",
            queue="default",
            maximum=4,
            read=lambda: figures,
            launches=lambda _since: [],
            raise_to=raised.append,
            lower_to=lambda capacity, _seen: raised.append(capacity),
            replace=lambda _instance_id: None,
            failure=lambda: None,
        )
        now = utcnow
        queue = JobQueue(self.client, now=now)
        scaler = Scaler(FLEET, queue, self.rows, [group], 1, list, lambda _: 1.0, now, 10.0)
        seen = look(scaler, list(self.ids.values()))
        assert len(seen.groups) == 1 and not seen.errors, seen.errors

    def _wait(self) -> None:
        def stop(_seconds: float) -> None:
            raise KeyboardInterrupt

        wait_for(self.queue, self.client.get_job(self.ids["busy"]), pause=stop)

    def _claim(self) -> None:
        lease = self.queue.claim("worker-9")
        assert lease is None or lease.job_id in self.ids.values()

    def readers_of(self, row: Value) -> list[str]:
        """Names of the readers that come across a row."""
        kind, job_id = row.get("TYPE", {}).get("S", ""), row["PK"]["S"].partition("#")[2]
        if kind.startswith("FLEET"):
            return ["fleet status"] if "COST" in kind else ["fleet status", "look"]
        if kind.startswith("RECEIPT") or kind in ("FORGOTTEN_PAGE", ""):
            return ["dataset count", "dataset import dynamo --dry-run"]
        if kind == "DATASET":
            return [name for name in self.readers() if name.startswith("dataset") and "dynamo" not in name]
        lists = (
            "job list",
            "look",
            "fleet status",
            "wait",
            "claim",
            "worker peek",
            "rescue",
            "job show @",
            "job show goo",
        )
        return [name for name in self.readers() if job_id in name or name.startswith(lists)]


@pytest.fixture
def world(
    moto_aws: None,
    dynamo_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
    pages: str,
    tmp_path: Path,
) -> World:
    """The table on the local engine, which is some times faster than moto; the bucket on moto."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)
    monkeypatch.setenv("DYNAMO_TABLE_NAME", table_name)
    monkeypatch.setenv("LAYOUTLM_TRAINING_BUCKET", "the-bucket")
    infra.create_bucket(Bucket("the-bucket").raw, "the-bucket")
    return World(DynamoClient(table_name), pages, str(tmp_path))


def read_mutated_rows(world: World, rng: random.Random, many: int, commands: int) -> None:
    """Change one attribute of a row at a time, and run some of the commands that read it."""
    base, readers = world.stored(), world.readers()
    kinds: dict[str, list[Value]] = {}
    for row in base:
        kinds.setdefault(row.get("TYPE", {}).get("S", ""), []).append(row)
    for _ in range(many):
        row = rng.choice(kinds[rng.choice(sorted(kinds))])
        ((name, value),) = mutations(row, rng, 1)
        changed = {key: stored for key, stored in row.items() if key != name} | ({name: value} if value else {})
        if not world.put(changed):
            continue
        names = world.readers_of(row)
        some = rng.sample(names, min(len(names), commands))
        # first of them a wait, which after a retry would have no end
        for reader in sorted(some, key=lambda each: not each.startswith("job wait")):
            fault = complaint(readers[reader]())
            assert fault is None, f"{row['PK']['S']} / {row['SK']['S']}: {name} = {str(value)[:200]}: {reader}\n{fault}"
        world.restore(base)


@pytest.mark.engine
def test_no_value_of_a_row_ends_a_command_in_a_traceback_or_steers_the_terminal(world: World) -> None:
    read_mutated_rows(world, random.Random(SEED), many=20, commands=2)


@pytest.mark.engine
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_value_of_a_row_does_so_in_the_long_run(world: World) -> None:
    read_mutated_rows(world, random.Random(SEED + 1), many=3_000, commands=4)


ODD: dict[str, tuple[str, Value]] = {
    "a lease until the end of time": ("expires_at", {"S": "9999-12-31T23:59:59+00:00"}),
    "a lease before all time": ("expires_at", {"S": "0001-01-01T00:00:00+00:00"}),
    "progress beyond any number": ("progress", {"S": f'["train", {"9" * 400}, 1, 1]'}),
    "progress nested 100,000 deep": ("progress", {"S": "[" * 100_000}),
    "progress that steers the terminal": ("progress", {"S": '["\\u001b[2J\\u202e", 1, 2, 3]'}),
    "renewals beyond any number": ("renewals", {"S": "9" * 400}),
}


@pytest.mark.engine
@pytest.mark.parametrize("odd", ODD)
def test_every_reader_of_a_lease_passes_over_what_it_cannot_use(world: World, odd: str) -> None:
    (row,) = [
        each for each in world.stored() if each["PK"]["S"].endswith(world.ids["busy"]) and "LEASE" in each["SK"]["S"]
    ]
    name, value = ODD[odd]
    assert world.put({**row, name: value})
    readers = world.readers()
    for reader in ("look", "fleet status", "job list", f"job show {world.ids['busy']}", "rescue --dry-run --watch 0"):
        assert complaint(readers[reader]()) is None, reader
    listed = readers["job list"]()
    assert listed.exit_code == 0 and all(job_id[:8] in listed.stdout for job_id in world.ids.values()), listed.output


@pytest.mark.engine
def test_damaged_snapshots_in_the_bucket_are_one_line(world: World) -> None:
    bucket, rng = Bucket("the-bucket"), random.Random(SEED)
    (key,) = bucket.list_keys("datasets/")
    whole, readers = bucket.get_bytes(key), world.readers()
    for _ in range(6):
        bucket.raw.put_object(Bucket="the-bucket", Key=key, Body=damaged(whole, rng))
        assert complaint(readers["dataset snapshot shop"]()) is None
