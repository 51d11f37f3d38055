"""layoutlm-cli dataset forget: excludes pages from new snapshots."""

import json
import shlex
from collections.abc import Sequence

import click

from receipt_dynamo import DynamoClient
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean, table, when
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.exclusions import (
    KeptPages,
    check_excluded,
    check_pages_exist,
    exclude,
    excluded_ids,
    ids_by_snapshot,
    without_excluded,
)
from receipt_layoutlm.datasets.snapshots import pinned

_SHOWN_DIGITS = 12  # of a fingerprint
_NEXT = (
    "existing snapshots do not change, and jobs pinned to them run as before. New snapshots are without the page: "
    "import the files again, train without --dataset, or take a subset: "
)


@click.command("forget")
@click.argument("pages", nargs=-1, metavar="PAGE...")
@click.option("--undo", is_flag=True, help="Include the pages in new snapshots again.")
@click.option("--list", "is_list", is_flag=True, help="List the forgotten pages, with time and person.")
@click.option("--dry-run", is_flag=True, help="Show the snapshots with the pages; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def forget_pages(
    connection: Connection, pages: tuple[str, ...], undo: bool, is_list: bool, dry_run: bool, as_json: bool
) -> None:
    """Exclude pages from every new snapshot by page id, whatever dataset or table they come from.

    Their receipts and labels stay in the table. Existing snapshots do not change; those with a page are listed. A page
    id without snapshot and receipt is an error.
    """
    if is_list == bool(pages) or (is_list and undo):
        raise click.UsageError("give page ids, or --list alone")
    client, page_ids = connection.client(), list(dict.fromkeys(pages))
    if is_list:
        forgotten = client.list_forgotten()
        if as_json:
            text = json.dumps([page.model_dump(mode="json") for page in forgotten], indent=1)
        else:
            rows = [(page.page_id, when(page.forgotten_at), page.forgotten_by) for page in forgotten]
            text = table(("page", "forgotten", "by"), rows)
    elif undo:
        check_excluded(client, page_ids)
        for page_id in () if dry_run else page_ids:
            client.remove_forgotten(page_id)
        if as_json:
            text = json.dumps({"taken_back": page_ids}, indent=1)
        else:
            text = f"{_counted(len(page_ids))} included in new snapshots again"
    else:
        text = _forget(connection, client, page_ids, dry_run, as_json)
    click.echo(text) if as_json else say(text)
    if dry_run and not is_list:
        say("nothing was written (--dry-run)", err=True)


def _forget(connection: Connection, client: DynamoClient, page_ids: list[str], dry_run: bool, as_json: bool) -> str:
    datasets = client.list_datasets()
    with counting_bar("reading snapshots", len(datasets)) as on_snapshot:
        bucket = connection.open_bucket(connection.default_bucket())
        by_snapshot = ids_by_snapshot(bucket, datasets, on_snapshot)
    check_pages_exist(client, page_ids, by_snapshot)
    before = excluded_ids(client)
    new = [page_id for page_id in page_ids if page_id not in before]
    if not dry_run:
        exclude(client, new, connection.caller(), client.now())
        datasets = client.list_datasets()  # with those that were made before the pages were excluded
        by_snapshot |= ids_by_snapshot(
            bucket, [dataset for dataset in datasets if dataset.fingerprint not in by_snapshot], lambda: None
        )
    holders = {}
    for page_id in page_ids:
        held = (pinned(dataset) for dataset in datasets if page_id in (by_snapshot[dataset.fingerprint] or ()))
        holders[page_id] = list(dict.fromkeys(held))
    unreadable = [pinned(dataset) for dataset in datasets if by_snapshot[dataset.fingerprint] is None]
    already = [page_id for page_id in page_ids if page_id in before]
    if as_json:
        document = {"forgotten": new, "already": already, "held_by": holders, "unreadable_snapshots": unreadable}
        return json.dumps(document, indent=1)
    lines = [f"{_counted(len(new))} forgotten" + (f", {len(already)} already forgotten" if already else "")]
    for page_id, names in holders.items():
        place = f"still in {', '.join(map(_short, names))}" if names else "in no snapshot"
        lines.append(f"  {clean(page_id)}  {place}")
    lines += [f"the pages of {_short(name)} cannot be read: it may contain some of them" for name in unreadable]
    if holding := next((names[0] for names in holders.values() if names), None):
        name = shlex.quote(holding.rpartition("@")[0])
        rules = "--min-labels 0 --min-validated-share 0"
        lines.append(f"{_NEXT}`layoutlm-cli dataset select {name} --name {name} {rules}`")
    return "\n".join(lines)


def _short(name: str) -> str:
    dataset, _, fingerprint = name.rpartition("@")
    return f"{clean(dataset)}@{fingerprint[:_SHOWN_DIGITS]}"


def _counted(count: int) -> str:
    return f"{count} page" if count == 1 else f"{count} pages"


def kept_pages(client: DynamoClient, pages: Sequence[Page]) -> KeptPages:
    """The pages that are not forgotten; the number of forgotten ones is printed to stderr."""
    kept = without_excluded(client, pages)
    tell_forgotten(len(kept.forgotten))
    return kept


def tell_forgotten(count: int) -> None:
    """Prints the number of forgotten pages to stderr, if any."""
    if count:
        say(
            f"{count} forgotten page{'s' if count > 1 else ''} excluded (`layoutlm-cli dataset forget --list`)",
            err=True,
        )
