"""layoutlm-cli dataset: import labelled pages and pin them as content-addressed snapshots."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from receipt_dynamo import Dataset, utcnow
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.extras import require
from receipt_layoutlm.cli.tables import datasets_table, table
from receipt_layoutlm.data import Page, read_jsonl, read_snapshot, write_snapshot
from receipt_layoutlm.datasets import add_snapshot, describe, find_dataset, pinned
from receipt_layoutlm.s3 import dataset_key

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Read and check everything; write nothing.")


@click.group()
def dataset() -> None:
    """Import labelled pages and pin snapshots of them.

    A snapshot is named by its content: NAME@FINGERPRINT is the same pages for ever, NAME the newest of them.
    """


@dataset.group("import")
def import_() -> None:
    """Import pages from a file or a generator into the store."""


@import_.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the dataset (default: the first file's name).")
@dry_run_option
@as_json_option
@store_options
def jsonl(connection: Connection, files: tuple[Path, ...], name: str | None, dry_run: bool, as_json: bool) -> None:
    """Import JSONL files, one page a line; several files become one dataset.

    \b
    id | page_id                  the page
    words | tokens                texts
    bboxes | boxes                [x0, y0, x1, y1] in 0..1000, origin top-left
    labels | ner_tags | tags      O, B-LABEL, I-LABEL
    group                         merchant (else key.company, else the page itself)

    A file with one bad line is refused whole, with file, line and reason.
    """
    pages = [page for file in files for page in read_jsonl(file)]
    source = "jsonl " + " ".join(file.name for file in files)
    _keep(connection, name or files[0].stem, pages, source, dry_run, as_json)


@import_.command()
@click.option("--pages", "count", type=click.IntRange(min=2), default=300, show_default=True, help="Receipts to make.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same receipts.")
@click.option("--name", default="sample", show_default=True, help="Name of the dataset.")
@dry_run_option
@as_json_option
@store_options
def sample(connection: Connection, count: int, seed: int, name: str, dry_run: bool, as_json: bool) -> None:
    """Generate plausible receipts: several merchant layouts, item tables, totals, jitter, OCR noise."""
    require("local")
    from receipt_layoutlm.sample import generate_pages

    _keep(connection, name, generate_pages(count, seed), f"sample seed {seed}", dry_run, as_json)


def _keep(connection: Connection, name: str, pages: Sequence[Page], source: str, dry_run: bool, as_json: bool) -> None:
    described = describe(name, pages, source, utcnow())
    if not dry_run:
        bucket = connection.open_bucket(connection.default_bucket())
        described = add_snapshot(connection.client(), bucket, described, pages)
    click.echo(described.model_dump_json(indent=1) if as_json else _described_text(described))
    if dry_run:
        click.echo("nothing was written (--dry-run)", err=True)


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
    click.echo(found.model_dump_json(indent=1) if as_json else _described_text(found))


def _stored_pages(connection: Connection, found: Dataset) -> list[Page]:
    import tempfile

    bucket = connection.open_bucket(connection.default_bucket())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        bucket.get_file(dataset_key(found.fingerprint), path)
        return read_snapshot(path, found.fingerprint)


def _described_text(found: Dataset) -> str:
    counts = ", ".join(f"{value} {name}" for name, value in found.counts.items())
    labels = sorted(found.labels.items(), key=lambda pair: -pair[1])
    return f"{pinned(found)}\n{counts}\nfrom {found.source}\n\n{table(('label', 'entities'), labels)}"
