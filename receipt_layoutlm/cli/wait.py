"""Follows a submitted job until it ends."""

import sys
import threading

import click
from rich.console import Console

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.cli import INTERRUPTED
from receipt_layoutlm.cli.run_here import exit_code
from receipt_layoutlm.cli.tables import clean, score
from receipt_layoutlm.run.progress import LeaseProgress

POLL_SECONDS = 3.0


def wait_for(client: DynamoClient, job: Job) -> int:
    """Print each evaluation until the job ends; returns the exit code. Ctrl-C ends the waiting, not the job."""
    newest = None
    tick = threading.Event()
    try:
        with Console(stderr=True).status("waiting") as status:
            while True:
                job = client.get_job(job.job_id, consistent=True)
                for metric in client.list_all_job_metrics(job.job_id, after=newest):
                    newest = metric.timestamp
                    value = f"{clean(metric.metric_name)} {score(metric.metric_value)}"
                    click.echo(f"step {metric.global_step}: {value}", err=True)
                if job.status.is_final:
                    break
                if sys.stderr.isatty():
                    progress, text = LeaseProgress.parse(client.get_lease(job.job_id).progress), str(job.status)
                    if progress is not None:
                        place = f"step {progress.step} of {progress.total}, epoch {progress.epoch}"
                        text = f"{job.status}: {clean(progress.phase)}, {place}"
                    status.update(text)
                tick.wait(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"stopped waiting: job {job.job_id} is {job.status} and not affected", err=True)
        return INTERRUPTED
    click.echo(f"{clean(job.name)}: {job.status}" + (f" ({clean(job.error.message)})" if job.error else ""))
    return exit_code(job.status)
