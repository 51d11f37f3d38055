"""layoutlm-cli dataset import dynamo, load and count: labelled receipts in the table."""

import itertools
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from receipt_dynamo import ReceiptClient, ValidationStatus
from receipt_dynamo.receipt_client import LabelRange, label_ranges
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.import_files import as_json_option, dry_run_option, order_option
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.progress import counting_bar, snapshot_bar
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.data.page import WordOrder
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.datasets.receipt_load import LoadReport, load_pages
from receipt_layoutlm.datasets.receipt_snapshot import THREADS, SnapshotReport
from receipt_layoutlm.datasets.snapshots import describe_dataset, pinned
from receipt_layoutlm.datasets.table_snapshots import DEFAULT_NAME, keep_snapshot, last_snapshot, read_table, source_of

SHOWN_CONFLICTS = 10
_ALL = "all"  # the row of the sums in `dataset count`


@click.command()
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the dataset.")
@click.option("--full", is_flag=True, help="Read every receipt, also those unchanged since the last snapshot.")
@click.option(
    "--over-lines",
    multiple=True,
    metavar="LABEL",
    help="Label whose entities continue over a line break, like ADDRESS_LINE and MERCHANT_NAME; repeatable.",
)
@dry_run_option
@as_json_option
@store_options
def dynamo(
    connection: Connection, name: str, full: bool, over_lines: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Make a snapshot of the table's receipts with a VALID label.

    \b
    VALID                         the word has this label; two different ones are reported, the word is unlabelled
    NEEDS_REVIEW, PENDING, NONE   the word is unlabelled: neither learned nor scored
    INVALID, or no label          the word has no label (O)

    Receipts with the same labels and the same Receipt item as in the last snapshot of this name are not read again. Use
    --full if only words changed. Other --over-lines than last time read everything again.
    """
    client, bucket = connection.client(), connection.open_bucket(connection.default_bucket())
    with snapshot_bar() as on_progress:
        known = {} if full else last_snapshot(client, bucket, name)
        taken = read_table(client, known, on_progress, over_lines)
    if dry_run:
        dataset = describe_dataset(name, taken.pages, source_of(client), client.now(), taken.report.forgotten)
    else:
        dataset = keep_snapshot(client, bucket, name, taken, client.now())
    if as_json:
        click.echo(json.dumps({**dataset.model_dump(mode="json"), "report": taken.report.model_dump()}, indent=1))
    else:
        say(f"{pinned(dataset)}\n{snapshot_text(taken.report)}\n")
        by_count = sorted(dataset.labels.items(), key=lambda pair: (-pair[1], pair[0]))
        say(table(("label", "entities"), by_count))
    if dry_run:
        say("nothing was written (--dry-run)", err=True)


def snapshot_text(report: SnapshotReport) -> str:
    """Text of a snapshot's counts and irregularities."""
    notes = report.notes
    labels = ", ".join(f"{count} {status}" for status, count in report.labels.items())
    aliases = ", ".join(f"{count} {label}" for label, count in notes.aliases.items())
    lines = [
        f"{report.receipts} receipts ({report.reused} unchanged, {report.read} read), labels: {labels}",
        f"{report.seconds:.1f} s, {report.requests} requests, {report.read_units:,.0f} read units",
        *_if_any(notes.undecided_words, "words are unlabelled: neither learned nor scored"),
        *([f"renamed to core labels: {aliases}"] if aliases else []),
        *_if_any(report.not_validated, "receipts have labels, but no VALID one: excluded"),
        *_if_any(report.without_receipt, "receipts have labels and no Receipt item: excluded"),
        *_if_any(report.without_words, "receipts have no words: excluded"),
        *_if_any(report.forgotten, "receipts are forgotten pages (`layoutlm-cli dataset forget --list`): excluded"),
        *_if_any(notes.labels_without_word, "labels belong to no word: ignored"),
        *_if_any(notes.unusable_labels, "labels have invalid names: their words are unlabelled"),
        *_if_any(notes.blank_words, "words are blank: omitted"),
        *_if_any(notes.moved_boxes, "word boxes extended over the edge of the receipt: cut there"),
        *_if_any(len(notes.conflicts), "words have two VALID labels: unlabelled until one of them is marked INVALID"),
        *(f"  {clean(conflict)}" for conflict in notes.conflicts[:SHOWN_CONFLICTS]),
        *([f"  and {more} more (--json lists them)"] if (more := len(notes.conflicts) - SHOWN_CONFLICTS) > 0 else []),
    ]
    return "\n".join(lines)


def _if_any(count: int, text: str) -> list[str]:
    return [f"{count} {text}"] if count else []


@click.command("load")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--replace",
    "known",
    flag_value="replace",
    default="keep",
    help="Overwrite pages that are already in the table; labels corrected there are lost.",
)
@order_option
@dry_run_option
@as_json_option
@store_options
def load_files(
    connection: Connection, files: tuple[Path, ...], known: str, order: WordOrder, dry_run: bool, as_json: bool
) -> None:
    """Write the pages of JSONL files into the table, as receipts with words and labels.

    Labels can then be corrected in the table; `dataset import dynamo` makes the same pages from it. Pages already in
    the table do not change. Pages that the table does not accept after retries are reported (exit code 1); loading the
    files again writes them.
    """
    pages = [page for file in files for page in read_jsonl(file, order)]
    client = connection.client()
    if dry_run:
        words = sum(len(page.words) for page in pages)
        labelled = sum(tag != "O" for page in pages for tag in page.tags)
        plan = {"pages": len(pages), "words": words, "labels": labelled, "table": client.table_name}
        text = (
            f"{len(pages)} pages with {words} words and {labelled} labels would be written to table {client.table_name}"
        )
        if as_json:
            click.echo(json.dumps(plan))
        else:
            say(text)
        say("nothing was written (--dry-run)", err=True)
        return
    with counting_bar("loading pages", len(pages)) as on_page:
        report = load_pages(
            ReceiptClient(client), pages, client.now(), "replace" if known == "replace" else "keep", on_page
        )
    if as_json:
        say_json(report.model_dump_json(indent=1))
    else:
        say(load_text(report))
    if report.unwritten:
        raise click.ClickException(
            f"{len(report.unwritten)} pages were not written completely, the first is "
            f"{clean(next(iter(report.unwritten)))}: load the files again when the table has capacity"
        )


def load_text(report: LoadReport) -> str:
    """Text of the result of a load."""
    kept = f", {report.already_there} already in the table" if report.already_there else ""
    return (
        f"{report.loaded} pages loaded with {report.words} words and {report.labels} labels{kept}\n"
        f"{report.seconds:.1f} s, {report.write_units:,.0f} write units"
    )


@click.command("count")
@click.option("--by-label", is_flag=True, help="Also count by label, which reads every label and takes longer.")
@as_json_option
@store_options
def count_labels(connection: Connection, by_label: bool, as_json: bool) -> None:
    """Count the labels in the table by validation status, without a snapshot."""
    receipts = ReceiptClient(connection.client())
    statuses, parts = zip(*itertools.product(ValidationStatus, label_ranges()), strict=True)
    with counting_bar("counting labels", len(parts)) as on_range, ThreadPoolExecutor(THREADS) as pool:

        def count_range(status: ValidationStatus, part: LabelRange) -> Counter[str]:
            if by_label:
                of_range = Counter(label.label for label in receipts.iter_labels_by_status(status, part))
                of_range += Counter({_ALL: of_range.total()})
            else:
                of_range = Counter({_ALL: receipts.count_labels(status, part)})
            on_range()
            return of_range

        by_status = {status: Counter[str]() for status in ValidationStatus}
        for status, of_range in zip(statuses, pool.map(count_range, statuses, parts), strict=True):
            by_status[status] += of_range
    names = sorted(set().union(*by_status.values()) - {_ALL})
    counts = {
        name: {status.value: of_status[name] for status, of_status in by_status.items()} for name in (*names, _ALL)
    }
    if as_json:
        click.echo(json.dumps(counts, indent=1))
        return
    rows = [(name, *row.values()) for name, row in counts.items()]
    say(table(("label", *(status.value for status in ValidationStatus)), rows))
