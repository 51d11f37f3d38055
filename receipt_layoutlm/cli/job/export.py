"""layoutlm-cli job export: copies of ended jobs in an MLflow server of one's own."""

import json

import click

from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.jobs.find import find_job


@click.command("export")
@click.argument("references", metavar="JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option(
    "--to",
    "target",
    type=(click.Choice(["mlflow"]), str),
    metavar="mlflow URI",
    required=True,
    help="The server, as MLflow's tracking URI: http://HOST:PORT, sqlite:///FILE or another.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be exported; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def export_runs_command(
    connection: Connection, references: tuple[str, ...], target: tuple[str, str], dry_run: bool, as_json: bool
) -> None:
    """Copy jobs that have ended into an MLflow server.

    A job becomes a run with its options, tags, visible evaluations and files, without the weights in best/, whose
    place is in the tag job.model. Its experiment is that of `layoutlm-cli ui`. Repeating an export changes nothing;
    after a retry of the job it adds what is new.
    """
    require("mlflow")
    client = connection.client()
    jobs = {job.job_id: job for job in (find_job(client, reference) for reference in references)}
    if dry_run:
        for job in jobs.values():
            say(f"would export {clean(job.name)} ({job.job_id}), which is {job.status}, to {target[1]}")
        return
    from receipt_layoutlm.mlflow_store.export import connected, export_job

    server = connected(target[1])
    outcomes = {}
    for job in jobs.values():
        outcomes[job.job_id] = export_job(server, client, connection.open_bucket, job)
        if not as_json:
            say(f"{clean(job.name)} ({job.job_id[:8]}): {outcomes[job.job_id]}")
    if as_json:
        say_json(json.dumps(outcomes, indent=1))
