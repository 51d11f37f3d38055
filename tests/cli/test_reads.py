"""Every command that reads: JSON on request, and tables that fit terminals of 80 and 60 columns."""

import json
from collections.abc import Iterator

import click
import pytest
from rich.cells import cell_len

from receipt_dynamo import JobQueue
from receipt_layoutlm.cli import cli
from tests.support.commands import ok, on_terminal
from tests.support.jobs import NOON, claim, evaluation, submit, summary

SCORES = {"precision": 0.25, "recall": 0.5, "f1": 0.3333, "support": 12}

READS = {
    "recipe list": [],
    "recipe show": ["receipts"],
    "worker peek": [],
    "model list": [],
    "job alerts": [],
    "job compare": ["a-job-with-a-rather-long-name", "another", "--force"],
    "job list": [],
    "job logs": ["a-job-with-a-rather-long-name"],
    "job metrics": ["a-job-with-a-rather-long-name"],
    "job show": ["a-job-with-a-rather-long-name"],
    "job wait": ["a-job-with-a-rather-long-name"],
    "job why": ["a-job-with-a-rather-long-name"],
    "cost": [],
    "dataset list": [],
    "dataset count": [],
    "storage usage": [],
    "rescue": ["--dry-run"],
}
ELSEWHERE = {
    # read more than a table in moto; each has --json, and a test of its own
    *("predict", "evaluate", "calibrate", "overlay", "report", "doctor", "model show", "fleet status", "local status"),
    *(
        "job evaluate-checkpoints",
        "job verify-resume",
        "job watch",
        "dataset check",
        "dataset next",
        "dataset suspects",
    ),
    *("dataset select", "dataset export label-studio", "job export"),
}
WRITES = {
    *("train", "chaos", "demo", "serve", "ui", "mcp", "completion", "worker run", "worker drain"),
    *("model export", "model promote", "model rollback", "weights mirror", "local up", "local down"),
    *("job cancel", "job delete", "job prune", "job pull", "job retry"),
    *("fleet deploy", "fleet scale", "fleet drain", "fleet resume", "fleet destroy", "fleet template", "fleet bundle"),
    *("dataset forget", "dataset load", "dataset snapshot"),
}


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(group, click.Group):
        yield " ".join(path), group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        if (command := group.get_command(context, name)) is not None:
            yield from commands(command, (*path, name))


def test_each_command_reads_or_writes_and_those_that_read_have_json() -> None:
    known = dict(commands(cli))
    others = {name for name in known if name.startswith(("dataset import ", "dataset xfund"))}

    assert known.keys() - others == READS.keys() | ELSEWHERE | WRITES
    without = {
        name for name in READS.keys() | ELSEWHERE if not any("--json" in each.opts for each in known[name].params)
    }
    assert without == set()


@pytest.fixture
def filled(queue: JobQueue) -> JobQueue:
    """Two jobs that ended, with evaluations and events, one of a long name; one that waits."""
    for name, f1 in (("a-job-with-a-rather-long-name", 0.5), ("another", 0.75)):
        submit(queue, name, tags={"team": "receipts of the north"})
        lease = claim(queue)
        for seq in (1, 2):
            row = evaluation(lease, f1=f1 * seq / 2, step=seq * 10, seq=seq, at=NOON)
            extras = {"macro_f1": 0.25, "field_f1": 0.125, "train_f1": 0.5}
            losses = {"train_loss": 1.5, "eval_loss": 2.5, "lr": 6e-5, "epoch": 1.0, "precision": 0.5, "recall": 0.5}
            queue.client.add_job_metric(lease, row.model_copy(update={**losses, "extras": extras}))
        results = {"metric_name": "eval_f1", "metric_value": f1, "per_label": {"MERCHANT_NAME": SCORES, "DATE": SCORES}}
        results["confusion"] = {"MERCHANT_NAME": {"MERCHANT_NAME": 3, "DATE": 1}, "DATE": {"DATE": 4}}
        queue.complete(lease, results=results, summary=summary(lease))  # type: ignore[arg-type]
    submit(queue, "waiting")
    return queue


@pytest.mark.parametrize("command", READS)
def test_json_of_every_read_can_be_parsed(filled: JobQueue, command: str) -> None:
    assert json.loads(ok(*command.split(), *READS[command], "--json")) is not None


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("command", READS)
def test_every_table_fits_the_terminal(
    filled: JobQueue, command: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")

    shown = on_terminal(*command.split(), *READS[command])

    lines = [line for line in shown.splitlines() if "layoutlm-cli" not in line]  # a command stays whole
    assert max(map(cell_len, lines), default=0) <= columns, shown
