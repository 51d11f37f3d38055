"""layoutlm-cli dataset: imports labelled pages and pins them as content-addressed snapshots."""

import json
import os
import shutil
from pathlib import Path

import click

from receipt_layoutlm.cli.completion import dataset_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.check import check_command
from receipt_layoutlm.cli.dataset.export import export
from receipt_layoutlm.cli.dataset.forget import forget_pages
from receipt_layoutlm.cli.dataset.import_files import as_json_option, import_, store_pictures
from receipt_layoutlm.cli.dataset.import_scans import images, scans
from receipt_layoutlm.cli.dataset.import_text import described_text
from receipt_layoutlm.cli.dataset.import_tools import IMPORTS
from receipt_layoutlm.cli.dataset.next_pages import next_pages
from receipt_layoutlm.cli.dataset.select import select_subset
from receipt_layoutlm.cli.dataset.store import count_labels, dynamo, load_files
from receipt_layoutlm.cli.dataset.suspects import suspects
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean, datasets_table
from receipt_layoutlm.data.images import images_by_name, suffix_of
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.datasets.page_images import fetch_images, image_digests
from receipt_layoutlm.datasets.snapshots import find_dataset
from receipt_layoutlm.paths import image_cache


@click.group(cls=FullHelpGroup)
def dataset() -> None:
    """Import labelled pages and pin snapshots of them.

    A snapshot is named by its content: NAME@FINGERPRINT always has the same pages, NAME is the newest.
    """


dataset.add_command(import_)
import_.add_command(dynamo)
import_.add_command(images)
import_.add_command(scans)
for command in IMPORTS:
    import_.add_command(command)
dataset.add_command(load_files)
dataset.add_command(export)
dataset.add_command(count_labels)
dataset.add_command(check_command)
dataset.add_command(select_subset)
dataset.add_command(forget_pages)
dataset.add_command(suspects)
dataset.add_command(next_pages)


@dataset.command("list")
@as_json_option
@store_options
def list_datasets(connection: Connection, as_json: bool) -> None:
    """List the snapshots, newest first."""
    datasets = connection.client().list_datasets()
    if as_json:
        click.echo(json.dumps([dataset.model_dump(mode="json") for dataset in datasets], indent=1))
    else:
        say(datasets_table(datasets))


@dataset.command()
@click.argument("spec", metavar="NAME[@FINGERPRINT]", shell_complete=dataset_names)
@click.option("--to", "path", type=click.Path(path_type=Path), help="Also download the pages to this .jsonl.gz file.")
@click.option(
    "--images-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Store the pictures of the pages in the bucket, from this folder; pages name them by their SHA-256.",
)
@click.option(
    "--images-to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also download the pages' pictures to this folder, named by their SHA-256, for overlay and export --images.",
)
@as_json_option
@store_options
def snapshot(
    connection: Connection,
    spec: str,
    path: Path | None,
    images_from: Path | None,
    images_to: Path | None,
    as_json: bool,
) -> None:
    """Show the snapshot that `train --dataset NAME[@FINGERPRINT]` uses, and verify its stored pages.

    \b
    layoutlm-cli dataset snapshot scans --to scans.jsonl.gz --images-to pictures/
    layoutlm-cli overlay scans.jsonl.gz --images pictures/
    """
    stored = find_dataset(connection.client(), spec)
    bucket = connection.open_bucket(connection.default_bucket())
    pages = stored_pages(bucket, stored)
    digests = image_digests(pages)
    if path is not None:
        write_snapshot(pages, path)
    if images_from is not None:
        files = images_by_name(images_from)
        store_pictures(bucket, {digest: files[digest] for digest in digests if digest in files})
        tell_without_picture(len(digests), sum(digest in files for digest in digests), images_from)
    if images_to is not None:
        with counting_bar("reading pictures", len(digests)) as on_image:
            found = fetch_images(bucket, pages, image_cache(os.environ), on_image)
        images_to.mkdir(parents=True, exist_ok=True)
        for digest, picture in found.items():
            shutil.copyfile(picture, images_to / f"{digest}{suffix_of(picture)}")
        say(f"{len(found)} pictures in {clean(images_to)}", err=True)
        tell_without_picture(len(digests), len(found), "the bucket")
    if as_json:
        say_json(stored.model_dump_json(indent=1))
    else:
        say(described_text(stored))


def tell_without_picture(named: int, found: int, place: object) -> None:
    """Tells on stderr how many pictures that pages name are not at a place."""
    if named == 0:
        say("no page names a picture by its SHA-256, as those of `layoutlm-cli dataset import scans` do", err=True)
    elif found < named:
        say(f"{named - found} of {named} pictures are not in {clean(place)}", err=True)
