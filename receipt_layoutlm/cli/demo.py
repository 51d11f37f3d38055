"""layoutlm-cli demo: run the whole system once on generated receipts, one command per step."""

import subprocess
import sys
import time

import click

from receipt_dynamo import Job, JobStatus
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean, per_label_table, score
from receipt_layoutlm.jobs.find import find_job

LABELS = ("MERCHANT_NAME", "PHONE_NUMBER", "ADDRESS_LINE", "DATE", "TIME", "PRODUCT_NAME", "AMOUNT")


@click.command()
@click.option("--pages", type=click.IntRange(min=20), default=240, show_default=True, help="Receipts to generate.")
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True, help="Epochs to train.")
@click.option("--layers", type=click.IntRange(1, 6), default=3, show_default=True, help="Encoder layers to keep.")
@store_options
def demo(connection: Connection, pages: int, epochs: int, layers: int) -> None:
    """Generate receipts, submit a job, run it and show its results.

    Everything runs on this machine, on the embedded DynamoDB and S3 of --local.
    """
    began = time.monotonic()
    connection.is_local = click.get_current_context().find_root().obj = True
    name = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    _run("dataset", "import", "sample", "--pages", str(pages))
    _run(
        *("train", "--job-name", name, "--dataset", "sample", "--pretrained", "minilm", "--layers", str(layers)),
        *("--epochs", str(epochs), "--batch-size", "8", "--lr", "4e-4", "--warmup-ratio", "0.1"),
        *("--label-smoothing", "0.1", "--merge-amounts", "--priority", "critical"),
        *(word for label in LABELS for word in ("--allowed-label", label)),
    )
    _run("worker", "run", "--once")
    job = find_job(connection.client(), name)
    if job.status is not JobStatus.SUCCEEDED:
        raise click.ClickException(f"the job is {job.status}: `layoutlm-cli job why {name}` explains it")
    _run("job", "metrics", name)
    _run("job", "list", "--status", "succeeded", "--limit", "5")
    say("\n" + summary(job))
    say(f"\nthe whole system took {time.monotonic() - began:.0f} s on this machine")


def _run(*arguments: str) -> None:
    """Print one command of this program as a person would type it, and run it in its own process."""
    click.secho("\n$ layoutlm-cli --local " + " ".join(arguments), bold=True)
    result = subprocess.run([sys.executable, "-m", "receipt_layoutlm.cli", "--local", *arguments])
    if result.returncode:
        sys.exit(result.returncode)


def summary(job: Job) -> str:
    """Job, status, epochs, best F1, F1 by label, checkpoint, and the next commands."""
    results = job.results or {}
    short = job.job_id[:8]
    facts = [
        ("job", f"{job.name}  {job.job_id}"),
        ("status", job.status),
        ("epochs", job.job_config.get("epochs")),
        ("best F1", f"{score(results.get('metric_value'))} at epoch {results.get('best_epoch')}"),
        ("best model", results.get("best_uri")),
        ("checkpoint", results.get("checkpoint_uri")),
    ]
    lines = [f"{name:10}  {clean(value)}" for name, value in facts]
    lines += ["", per_label_table(results.get("per_label")), "", "next:"]
    lines += [
        f"  layoutlm-cli job show {short}",
        f"  layoutlm-cli job pull {short} --to model-{short}",
        "  layoutlm-cli dataset import --help",
    ]
    return "\n".join(lines)
