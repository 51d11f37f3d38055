"""layoutlm-cli dataset forget: pages that no new snapshot holds, and which old ones still do."""

import json
from collections.abc import Mapping, Sequence

import click

from receipt_dynamo import Dataset, DynamoClient, ForgottenPage, utcnow
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean, table, when
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.exclusions import (
    Kept,
    check_forgotten,
    check_known,
    forgotten_ids,
    ids_by_snapshot,
    without_forgotten,
)
from receipt_layoutlm.datasets.exclusions import forget as forget_pages
from receipt_layoutlm.datasets.snapshots import pinned

_SHOWN_DIGITS = 12  # of a fingerprint
_NEXT = (
    "old snapshots stay as they are, and jobs that are pinned to them run as before. Without the page are new ones: "
    "'dataset import …' again, 'train' without --dataset, or 'dataset select NAME --name NAME --min-labels 0 "
    "--min-validated-share 0'"
)


@click.command()
@click.argument("pages", nargs=-1, metavar="PAGE...")
@click.option("--undo", is_flag=True, help="Take the pages back: new snapshots may hold them again.")
@click.option("--list", "is_list", is_flag=True, help="List the forgotten pages: when, and by whom.")
@click.option("--dry-run", is_flag=True, help="Say which snapshots hold the pages; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def forget(
    connection: Connection, pages: tuple[str, ...], undo: bool, is_list: bool, dry_run: bool, as_json: bool
) -> None:
    """Leave pages out of every snapshot from now on, by their page ids, whichever dataset or table brings them.

    Their receipts and labels stay in the table. Snapshots that exist already stay as they are; those that hold a page
    are named. A page that no snapshot and no receipt has is an error.
    """
    if is_list == bool(pages) or (is_list and undo):
        raise click.UsageError("give the ids of pages, or --list alone")
    client, page_ids = connection.client(), list(dict.fromkeys(pages))
    if is_list:
        found = client.list_forgotten()
        told = json.dumps([each.model_dump(mode="json") for each in found], indent=1) if as_json else _listed(found)
    elif undo:
        told = _undo(client, page_ids, dry_run, as_json)
    else:
        told = _forget(connection, client, page_ids, dry_run, as_json)
    click.echo(told)
    if dry_run and not is_list:
        click.echo("nothing was written (--dry-run)", err=True)


def _listed(found: Sequence[ForgottenPage]) -> str:
    rows = [(each.page_id, when(each.forgotten_at), each.forgotten_by) for each in found]
    return table(("page", "forgotten", "by"), rows)


def _undo(client: DynamoClient, page_ids: list[str], dry_run: bool, as_json: bool) -> str:
    check_forgotten(client, page_ids)
    for page_id in () if dry_run else page_ids:
        client.remove_forgotten(page_id)
    if as_json:
        return json.dumps({"taken_back": page_ids}, indent=1)
    return f"{_counted(len(page_ids))} may be in new snapshots again"


def _forget(connection: Connection, client: DynamoClient, page_ids: list[str], dry_run: bool, as_json: bool) -> str:
    datasets = client.list_datasets()
    with counting_bar("reading snapshots", len(datasets)) as on_snapshot:
        bucket = connection.open_bucket(connection.default_bucket())
        by_snapshot = ids_by_snapshot(bucket, datasets, on_snapshot)
    check_known(client, page_ids, by_snapshot)
    before = forgotten_ids(client)
    new = [page_id for page_id in page_ids if page_id not in before]
    if not dry_run:
        forget_pages(client, new, connection.caller(), utcnow())
    holders = {page_id: _holders(page_id, datasets, by_snapshot) for page_id in page_ids}
    unread = [pinned(each) for each in datasets if by_snapshot[each.fingerprint] is None]
    already = [page_id for page_id in page_ids if page_id in before]
    if as_json:
        told = {"forgotten": new, "already": already, "held_by": holders, "unreadable_snapshots": unread}
        return json.dumps(told, indent=1)
    lines = [f"{_counted(len(new))} forgotten" + (f", {len(already)} were already" if already else "")]
    lines += [f"  {clean(page_id)}  {_held_text(held)}" for page_id, held in holders.items()]
    lines += [f"the pages of {_short(name)} cannot be read: perhaps it holds some of them" for name in unread]
    return "\n".join([*lines, *([_NEXT] if any(holders.values()) else [])])


def _holders(page_id: str, datasets: Sequence[Dataset], by_snapshot: Mapping[str, frozenset[str] | None]) -> list[str]:
    held = (pinned(each) for each in datasets if page_id in (by_snapshot[each.fingerprint] or ()))
    return list(dict.fromkeys(held))


def _held_text(held: Sequence[str]) -> str:
    return f"still in {', '.join(map(_short, held))}" if held else "in no snapshot"


def _short(name: str) -> str:
    dataset, _, fingerprint = name.rpartition("@")
    return f"{clean(dataset)}@{fingerprint[:_SHOWN_DIGITS]}"


def _counted(count: int) -> str:
    return f"{count} page" if count == 1 else f"{count} pages"


def kept_pages(client: DynamoClient, pages: Sequence[Page]) -> Kept:
    """The pages that nobody has forgotten; how many were left out is said on stderr."""
    kept = without_forgotten(client, pages)
    tell_forgotten(len(kept.forgotten))
    return kept


def tell_forgotten(count: int) -> None:
    """One line on stderr, where there is something to say."""
    if count:
        click.echo(f"{count} forgotten page{'s' if count > 1 else ''} left out ('dataset forget --list')", err=True)
