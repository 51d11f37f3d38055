"""layoutlm-cli fleet template, fleet bundle: a fleet's templates and code, for other tools than `fleet deploy`."""

import json
import tempfile
from pathlib import Path
from typing import Final

import click

from receipt_layoutlm.cli.connection import region_option
from receipt_layoutlm.cli.fleet.options import aws_only, bucket_owner
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.infra import template_path

NAMES: Final = ("storage", "network", "workers")


@click.command("template")
@click.argument("name", type=click.Choice(NAMES))
def show_template(name: str) -> None:
    """Print a template of the fleet's stacks, for CDK, Terraform or the AWS CLI.

    Parameters of the code that machines and scaler run come from `fleet bundle`. Tag the stacks with layoutlm:fleet and
    the fleet's name.
    """
    click.echo(template_path(f"{name}.yaml").read_text(encoding="utf-8"), nl=False)


@click.command("bundle")
@click.option("--bucket", required=True, metavar="BUCKET", help="Bucket of the fleet.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Wheel to install on the machines (default: the newest in dist/, or the one installed here).",
)
@click.option("--dry-run", is_flag=True, help="Build the archives and print their names; upload nothing.")
@region_option
@aws_only
def upload_bundle(bucket: str, wheel: Path | None, dry_run: bool, region: str | None) -> None:
    """Upload the code of machines and scaler, and print the parameters of the workers' template as JSON.

    For people who deploy `fleet template workers` with CDK, Terraform or the AWS CLI, which reads the printed document
    by --parameter-overrides file://FILE.
    """
    from receipt_layoutlm.fleet.deploy import build_code, upload_code
    from receipt_layoutlm.storage.bucket import Bucket

    with tempfile.TemporaryDirectory() as folder:
        say("building the archives for machines and scaler", err=True)
        code = build_code(wheel, Path(folder))
        values = code.values() if dry_run else upload_code(Bucket(bucket, region, owner=bucket_owner(region)), code)
    if dry_run:
        say("nothing was uploaded (--dry-run)", err=True)
    click.echo(json.dumps({"Parameters": {**values, "BucketName": bucket}}, indent=1))
