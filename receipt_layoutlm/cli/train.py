"""layoutlm-cli train: submit a training job, or show what would be submitted."""

import functools
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, get_args

import click

from receipt_dynamo import utcnow
from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.dataset.check import check_text
from receipt_layoutlm.cli.dataset.forget import tell_forgotten
from receipt_layoutlm.cli.ended import EndedJob, ended_document, ended_here, ended_text, exit_code
from receipt_layoutlm.cli.options import TaskCommand, given_values, model_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.plan_text import dry_run_json, dry_run_text, next_text, submitted_text
from receipt_layoutlm.cli.progress import snapshot_bar
from receipt_layoutlm.cli.run_here import work_here
from receipt_layoutlm.cli.tables import UNLIMITED
from receipt_layoutlm.cli.wait import WAIT_HELP, wait_for
from receipt_layoutlm.config import DEFAULT_TASK, config_class
from receipt_layoutlm.data.page import DEFAULT_ORDER, WordOrder
from receipt_layoutlm.jobs.option_checks import check_pretrained
from receipt_layoutlm.jobs.request import JobRequest, read_config_file, resolve
from receipt_layoutlm.jobs.submit import SubmitContext, earlier_job, prepare_continuation, prepare_submission, submit


@click.command("train", cls=TaskCommand)
@model_options(config_class(DEFAULT_TASK), JobRequest)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Import this JSONL file first.")
@click.option(
    "--order",
    type=click.Choice(get_args(WordOrder)),
    help="With --data: read the words by their boxes (default) or as they are given.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file of options.",
)
@click.option("--quick", is_flag=True, help="Short trial run: --recipe quick.")
@click.option(
    "--resume",
    metavar="JOB[@STEP]",
    shell_complete=job_names,
    help="Continue a job that has ended as a new job, from its last checkpoint or the one of STEP. --epochs counts "
    "the epochs of both jobs.",
)
@click.option("--unique-key", help="Idempotency key: the same key with the same options returns the first job.")
@click.option(
    "--run-here", is_flag=True, help="Run the job here and now, in the foreground; exit codes as with --wait."
)
@click.option("--wait", is_flag=True, help=WAIT_HELP)
@click.option("--dry-run", is_flag=True, help="Show the job, its steps, time and cost; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: with --run-here and --wait the finished job.")
@store_options
def train_command(
    connection: Connection,
    data: Path | None,
    order: WordOrder | None,
    config_file: Path | None,
    quick: bool,
    resume: str | None,
    unique_key: str | None,
    run_here: bool,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Submit a training job.

    Options come from flags, then a --config file, then the environment, then a recipe, then the defaults shown here.
    Without --recipe, the weights minilm have the recipe receipts and others original; `recipe list` shows what each
    reaches.

    Without --dataset and LAYOUTLM_DATASET, the job trains on a snapshot of the table's receipts with VALID labels,
    taken as `dataset import dynamo` does. If the store has a dataset from elsewhere, or the table has no such labels,
    it trains on the store's only dataset. With --snapshot-on-worker, the first worker takes, checks and pins the
    snapshot.

    With --resume, options and pages are those of the job that is continued. Its length and options that do not affect
    the weights may be changed: epochs, patience, checkpoints, time limits, device, micro-batch.
    """
    if run_here:
        require("train")
    models = (config_class(values["task"] or DEFAULT_TASK), JobRequest)
    file, flags = read_config_file(config_file) if config_file else {}, given_values(models, values)
    own = {"data": data, "order": order, "quick": quick, "resume": resume, "run_here": run_here, "wait": wait}
    refuse_combinations({name for name, value in {**file, **flags, **own}.items() if value})
    if quick and flags.setdefault("recipe", "quick") != "quick":
        raise click.UsageError("--quick is --recipe quick: give one of the two")
    open_bucket = functools.cache(connection.open_bucket)
    if resume is not None:
        context = SubmitContext(connection.client(), open_bucket, training_bucket=None)
        submission = prepare_continuation(context, resume, flags, file)
    else:
        resolved = resolve(flags, file, {} if data else os.environ)  # which may name a dataset
        client = connection.client() if connection.has_table() or not (dry_run and as_json) else None
        bucket = connection.default_bucket() if connection.has_bucket() or not dry_run else None
        context = SubmitContext(client, open_bucket, bucket)
        with snapshot_bar() as on_progress:
            submission = prepare_submission(context, resolved, data, on_progress, order or DEFAULT_ORDER)
        check_pretrained(submission.config, run_here or connection.is_local, open_bucket if bucket else None)
    if submission.dataset is not None and submission.dataset.pages is not None:
        tell_forgotten(submission.dataset.dataset.counts.get("forgotten", 0))
    if dry_run:
        earlier = earlier_job(context, submission, unique_key)
        if earlier is None:
            submission.check_time(context.client.now() if context.client else utcnow())
        if as_json:
            click.echo(dry_run_json(submission, earlier))
        else:
            say(dry_run_text(submission, earlier))
        return
    summary = check_text(submission.report, UNLIMITED) if submission.report else None
    submitted = submit(context, submission, connection.caller(), unique_key, summary)
    if not as_json:
        say(submitted_text(submitted, submission))
        if not run_here:
            say(next_text(submitted.job))
    ended = EndedJob(submitted.job, None)
    if run_here:
        ended = work_here(connection, submitted.job)
    elif wait:
        ended = ended_here(wait_for(connection.queue(), submitted.job), os.environ)
    if as_json:
        plan = submission.plan and submission.plan.model_dump(mode="json")
        beside = {"plan": plan, "was_there_already": not submitted.is_new}
        click.echo(json.dumps({**ended_document(ended.job, ended.folder), **beside}))
    elif run_here or wait:
        say(ended_text(connection.queue(), ended.job, ended.folder))
    if run_here or wait:
        sys.exit(exit_code(ended.job.status))


_COMBINATIONS: Final = (  # an option, those that it excludes, and the way out
    ("run_here", {"wait"}, "--run-here already waits until the job ends: leave --wait out"),
    (
        "resume",
        {"dataset", "data", "recipe", "quick"},
        "--resume keeps the pages and options of its job: leave --dataset, --data, --recipe and --quick out",
    ),
    (
        "run_here",
        {"max_cost"},
        "--run-here does not know the price of this machine, so it cannot keep --max-cost: leave it out, or submit "
        "the job and start `layoutlm-cli worker run --price-per-hour 0.35`",
    ),
    (
        "run_here",
        {"not_before"},
        "--run-here starts now, before --not-before: leave one of the two out",
    ),
    ("data", {"dataset"}, "--data imports a dataset and --dataset names one: give one of the two"),
    (
        "data",
        {"snapshot_on_worker", "over_lines"},
        "--snapshot-on-worker and --over-lines take pages from the table: leave --data out",
    ),
)


def refuse_combinations(given: Collection[str]) -> None:
    """Raises UsageError for options, by name, that exclude each other."""
    for name, excluded, text in _COMBINATIONS:
        if name in given and not excluded.isdisjoint(given):
            raise click.UsageError(text)
    if "order" in given and "data" not in given:
        raise click.UsageError(
            "--order is of the words in --data FILE; a dataset has the order of its import: "
            "import it again with --order given (`layoutlm-cli dataset import --help`)"
        )
