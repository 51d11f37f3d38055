"""Follow a job that others work on, until it ends."""

import sys
import threading

import click
from rich.console import Console
from rich.status import Status

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.cli.run_here import NOT_FINISHED, exit_code
from receipt_layoutlm.cli.tables import clean, score
from receipt_layoutlm.run.progress import LeaseProgress

POLL_SECONDS = 3.0


def wait_for(client: DynamoClient, job: Job) -> int:
    """Print each new evaluation until the job is final; Ctrl-C leaves it running. Returns the exit code."""
    seen = 0
    tick = threading.Event()
    try:
        with Console(stderr=True).status("waiting") as status:
            while True:
                job = client.get_job(job.job_id, consistent=True)
                metrics = client.list_job_metrics(job.job_id)
                for metric in metrics[seen:]:
                    click.echo(
                        f"step {metric.global_step}: {clean(metric.metric_name)} {score(metric.metric_value)}", err=True
                    )
                seen = max(seen, len(metrics))
                if job.status.is_final:
                    break
                _show(status, client, job)
                tick.wait(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"job {job.job_id} goes on without you (status {job.status})", err=True)
        return NOT_FINISHED
    click.echo(f"{clean(job.name)}: {job.status}" + (f" ({clean(job.error.message)})" if job.error else ""))
    return exit_code(job.status)


def _show(status: Status, client: DynamoClient, job: Job) -> None:
    if not sys.stderr.isatty():
        return
    progress = LeaseProgress.parse(client.get_lease(job.job_id).progress)
    if progress is None:
        status.update(str(job.status))
    else:
        place = f"step {progress.step} of {progress.total}, epoch {progress.epoch}"
        status.update(f"{job.status}: {clean(progress.phase)}, {place}")
