"""layoutlm-cli weights: base weights of the model hub in the bucket, so that workers need no hub."""

import json
from dataclasses import asdict

import click
from rich.filesize import decimal

from receipt_layoutlm.cli.connection import Connection, require, store_options


@click.group()
def weights() -> None:
    """Base weights of the model hub in the bucket, so that workers need no hub."""


@weights.command()
@click.argument("name", metavar="OWNER/NAME")
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit (else the default branch).")
@click.option("--accept-license", "licences", multiple=True, metavar="LICENCE", help="Of weights not for commerce.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def mirror(connection: Connection, name: str, revision: str | None, licences: tuple[str, ...], as_json: bool) -> None:
    """Copy a model's safetensors, config and tokenizer into the bucket, once for each revision.

    From then on `train --pretrained OWNER/NAME` submits jobs that take their weights from the bucket, by revision and
    with every file's hash checked. An older revision is mirrored again to go back to it.
    """
    require("train")
    from huggingface_hub import HfApi

    from receipt_layoutlm.storage.weights import mirror as copy

    made = copy(connection.open_bucket(connection.default_bucket()), HfApi(), name, revision, licences)
    if as_json:
        click.echo(json.dumps(asdict(made), indent=1))
        return
    click.echo(f"{made.uri}: {decimal(made.size)}, revision {made.revision}, licence {made.licence or 'not named'}")
