"""layoutlm-cli train: resolve the options, check them against the data (or the job to continue), submit the job."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import JsonValue

from receipt_dynamo import Dataset, DynamoClient, Job, Storage, utcnow
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.options import given_values, model_options
from receipt_layoutlm.cli.plan_text import dry_run_json, dry_run_text, parent_text, submitted_text
from receipt_layoutlm.cli.progress import snapshot_bar
from receipt_layoutlm.cli.run_here import work_here
from receipt_layoutlm.cli.train_submit import described, submit, told_storage
from receipt_layoutlm.cli.wait import wait_for
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.frozen_split import is_pinned
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.checks import checked, copy_split, read_split, without_errors
from receipt_layoutlm.datasets.choice import check_worker_can_snapshot, dataset_to_plan_with, is_taken_from_table
from receipt_layoutlm.datasets.snapshots import ensure_snapshot_at, find_dataset, only_dataset
from receipt_layoutlm.jobs.continuation import Parent, continued, find_parent, submit_continuation
from receipt_layoutlm.jobs.plan import Plan, make_plan, with_estimate
from receipt_layoutlm.jobs.request import QUICK, JobRequest, Resolved, read_config_file, resolve
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import dataset_key, parse_s3_uri

MODELS = (TrainConfig, JobRequest)


@click.command()
@model_options(*MODELS)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Import this JSONL file first.")
@click.option("--config", "config_file", type=click.Path(exists=True, path_type=Path), help="YAML file of options.")
@click.option("--quick", is_flag=True, help=f"A quick look: {QUICK['sample_size']} pages, {QUICK['epochs']} epochs.")
@click.option(
    "--resume",
    metavar="JOB[@STEP]",
    help="Go on from the last (or this) checkpoint of a job that has ended, as a new job; --epochs counts both.",
)
@click.option("--unique-key", help="Submitting the same key again returns the first job.")
@click.option("--run-here", is_flag=True, help="Work the job here, now, in the foreground.")
@click.option("--wait", is_flag=True, help="Follow the job until it ends (exit code 0, 100 failed, 103 cancelled).")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted and what it would take; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def train(
    connection: Connection,
    data: Path | None,
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

    Options come from flags, then a --config file, then the environment, then the defaults shown here. Without
    --dataset and LAYOUTLM_DATASET the VALID labels of the table's receipts are snapshotted, as `dataset import dynamo`
    does it; where the store has a dataset from elsewhere, or no such labels, its only dataset is taken. With
    --snapshot-on-worker the first worker takes and checks that snapshot, and pins it for every later attempt.

    With --resume the options and pages are those of the job that is continued. Its length and what does not decide
    the weights may be given anew: epochs, patience, checkpoints, time limits, device, micro-batch.
    """
    file, flags = read_config_file(config_file) if config_file else {}, given_values(MODELS, values)
    if resume is not None and (quick or data is not None or "dataset" in flags):
        raise click.UsageError("--resume goes on with the pages of its job: leave --dataset, --data and --quick out")
    if run_here and wait:
        raise click.UsageError("--run-here already stays until the job ends: leave --wait out")
    if run_here:
        require("train")
    plan: Plan | None
    if resume is not None:
        parent = find_parent(connection.client(), connection.open_bucket, resume)
        resolved = continued(parent, flags, file)
        if dry_run:
            click.echo(_dry_run_continued(connection, parent, resolved, as_json))
            return
        job, plan = _submit_continued(connection, parent, resolved, unique_key)
    else:
        resolved = resolve(flags, file, os.environ, QUICK if quick else {})
        if data is not None and "dataset" in resolved.given:
            raise click.UsageError("--data imports a dataset and --dataset names one: give one of the two")
        if data is not None and (resolved.config.snapshot_on_worker or resolved.config.over_lines):
            raise click.UsageError(
                "--data imports a dataset, so there is no snapshot for --snapshot-on-worker and --over-lines to take"
            )
        if dry_run:
            click.echo(_dry_run(connection, resolved, data, as_json))
            return
        job, plan = submit(connection, resolved, data, unique_key)
    click.echo(json.dumps(_as_json(job, plan)) if as_json else submitted_text(job, plan, connection.is_local))
    if run_here:
        sys.exit(work_here(connection, job))
    if wait:
        sys.exit(wait_for(connection.client(), job))


def _submit_continued(
    connection: Connection, parent: Parent, resolved: Resolved, unique_key: str | None
) -> tuple[Job, Plan]:
    storage = _storage_of(parent, resolved)
    dataset, evaluation, plan = _plan_of(connection.client(), parent, resolved.config)
    if storage != parent.keys.storage:
        home = connection.open_bucket(connection.default_bucket())
        for each in filter(None, (dataset, evaluation)):
            ensure_snapshot_at(home, parent.bucket, storage.prefix, each)
        copy_split(parent.bucket, parent.keys.storage.prefix, storage.prefix, resolved.config.split)
    job = submit_continuation(connection.queue(), parent, resolved, storage, connection.caller(), unique_key)
    return job, plan


def _dry_run_continued(connection: Connection, parent: Parent, resolved: Resolved, as_json: bool) -> str:
    client = connection.client()
    _storage_of(parent, resolved)
    dataset, _evaluation, plan = _plan_of(client, parent, resolved.config)
    plan = with_estimate(plan, client, resolved.config)
    if as_json:
        return dry_run_json(resolved, dataset, plan, parent)
    return f"{parent_text(parent)}\n\n{dry_run_text(resolved, dataset, plan)}"


def _storage_of(parent: Parent, resolved: Resolved) -> Storage:
    """Beside the parent's files unless told otherwise, but in its bucket, where a copy needs no way around."""
    told = resolved.request.output_s3_path
    storage = parse_s3_uri(told) if told else parent.keys.storage
    if storage.bucket != parent.bucket.name:
        raise StorageError(
            f"--output-s3-path: a checkpoint is copied inside one bucket, so name a place in s3://{parent.bucket.name}"
        )
    return storage


def _plan_of(client: DynamoClient, parent: Parent, config: TrainConfig) -> tuple[Dataset, Dataset | None, Plan]:
    """The steps are those that are left."""
    dataset = _chosen(client, config.dataset)
    evaluation = find_dataset(client, config.eval_dataset) if config.eval_dataset else None
    plan = make_plan(config, dataset, evaluation)
    return dataset, evaluation, plan.model_copy(update={"steps": max(0, plan.steps - parent.state.global_step)})


def _chosen(client: DynamoClient, spec: str | None) -> Dataset:
    return find_dataset(client, spec) if spec else only_dataset(client)


def _chosen_dry(connection: Connection, client: DynamoClient, config: TrainConfig) -> tuple[Dataset, list[Page] | None]:
    with snapshot_bar() as on_progress:
        return dataset_to_plan_with(
            client, lambda: connection.open_bucket(connection.default_bucket()), config, utcnow(), on_progress
        )


def _dry_run(connection: Connection, resolved: Resolved, data: Path | None, as_json: bool) -> str:
    """Without a table, JSON output leaves null what only the store knows; for people it is an error."""
    client = connection.client() if connection.has_table() or not as_json else None
    dataset, plan, pages = None, None, None
    if resolved.config.snapshot_on_worker:
        if client is not None:
            training_bucket = connection.default_bucket()
            check_worker_can_snapshot(client, training_bucket, told_storage(resolved, training_bucket))
    elif data is not None:
        dataset, pages = described(client, data)
    elif client is not None and (not as_json or client.list_datasets() or is_taken_from_table(client)):
        dataset, pages = _chosen_dry(connection, client, resolved.config)
    if dataset is not None:
        evaluation = None
        if client is not None and resolved.config.eval_dataset:
            evaluation = find_dataset(client, resolved.config.eval_dataset)
        report = _dry_report(connection, resolved.config, dataset, evaluation, pages)
        plan = make_plan(resolved.config, dataset, evaluation, report)
        plan = plan if client is None else with_estimate(plan, client, resolved.config)
    return dry_run_json(resolved, dataset, plan) if as_json else dry_run_text(resolved, dataset, plan)


def _dry_report(
    connection: Connection, config: TrainConfig, dataset: Dataset, evaluation: Dataset | None, pages: list[Page] | None
) -> CheckReport | None:
    """The check of the pages, as far as they are at hand; None where only the store's counts are."""
    if is_pinned(config.split):
        return None  # its content lies where the job would keep its files
    config, frozen = read_split(config)
    if pages is not None and evaluation is None:
        return without_errors(check_dataset(CheckInput(pages, frozen=frozen), config))
    if not connection.has_bucket():
        return None
    home = connection.open_bucket(connection.default_bucket())
    if not all(home.exists(dataset_key(each.fingerprint)) for each in (dataset, evaluation) if each is not None):
        return None
    return checked(home, dataset, evaluation, config, frozen)


def _as_json(job: Job, plan: Plan | None) -> dict[str, JsonValue]:
    """The plan is null where only the worker will know the pages."""
    return {**job.model_dump(mode="json"), "plan": plan and plan.model_dump(mode="json")}
