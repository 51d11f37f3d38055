"""layoutlm-cli dataset: import labelled pages and pin them as content-addressed snapshots."""

import json
from pathlib import Path

import click

from receipt_dynamo import Dataset
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.check import check_command
from receipt_layoutlm.cli.dataset.forget import forget
from receipt_layoutlm.cli.dataset.import_files import as_json_option, import_
from receipt_layoutlm.cli.dataset.import_text import described_text
from receipt_layoutlm.cli.dataset.select import select_subset
from receipt_layoutlm.cli.dataset.store import count, dynamo, load
from receipt_layoutlm.cli.dataset.suspects import suspects
from receipt_layoutlm.cli.tables import datasets_table
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot, write_snapshot
from receipt_layoutlm.datasets.snapshots import find_dataset
from receipt_layoutlm.storage.keys import dataset_key


@click.group()
def dataset() -> None:
    """Import labelled pages and pin snapshots of them.

    A snapshot is named by its content: NAME@FINGERPRINT is the same pages for ever, NAME the newest of them.
    """


dataset.add_command(import_)
import_.add_command(dynamo)
dataset.add_command(load)
dataset.add_command(count)
dataset.add_command(check_command)
dataset.add_command(select_subset)
dataset.add_command(forget)
dataset.add_command(suspects)


@dataset.command("list")
@as_json_option
@store_options
def list_(connection: Connection, as_json: bool) -> None:
    """List the snapshots, newest first."""
    found = connection.client().list_datasets()
    if as_json:
        click.echo(json.dumps([each.model_dump(mode="json") for each in found], indent=1))
    else:
        click.echo(datasets_table(found))


@dataset.command()
@click.argument("spec", metavar="NAME[@FINGERPRINT]")
@click.option("--to", "path", type=click.Path(path_type=Path), help="Also download the pages to this .jsonl.gz file.")
@as_json_option
@store_options
def snapshot(connection: Connection, spec: str, path: Path | None, as_json: bool) -> None:
    """Show the pinned snapshot that `train --dataset NAME[@FINGERPRINT]` uses, and check what is stored."""
    found = find_dataset(connection.client(), spec)
    pages = _stored_pages(connection, found)
    if path is not None:
        write_snapshot(pages, path)
    click.echo(found.model_dump_json(indent=1) if as_json else described_text(found))


def _stored_pages(connection: Connection, found: Dataset) -> list[Page]:
    import tempfile

    bucket = connection.open_bucket(connection.default_bucket())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        bucket.get_file(dataset_key(found.fingerprint), path)
        return read_snapshot(path, found.fingerprint)
