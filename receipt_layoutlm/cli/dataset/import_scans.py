"""layoutlm-cli dataset import images and scans: pictures and PDF files as pages, with labels by a table of values."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.dataset.import_files import (
    added,
    as_json_option,
    dry_run_option,
    encoding_option,
    keep_labels_option,
    label_map_option,
    skip_bad_option,
    store_dataset,
)
from receipt_layoutlm.cli.dataset.import_text import described_text
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.frozen_split import shortened
from receipt_layoutlm.data.importers.find_values import Document, How
from receipt_layoutlm.data.importers.label_table import LabelTable, check_all_used, own_table, read_label_map
from receipt_layoutlm.data.importers.labelled_scans import ScanReport, label_scans
from receipt_layoutlm.data.importers.plausibility import refuse_unfound
from receipt_layoutlm.data.importers.value_columns import EmptyCells, column_table, read_values
from receipt_layoutlm.data.importers.value_table import ValueRow, join_rows, read_value_rows
from receipt_layoutlm.data.page import DataError, bad_lines
from receipt_layoutlm.data.source_text import TextOptions
from receipt_layoutlm.run.hardware import usable_cpus

if TYPE_CHECKING:
    from receipt_layoutlm.inference.scan_batch import ScannedFile

F = TypeVar("F", bound=Callable[..., Any])
_SHOWN = 10  # values that were not found, or not surely; --json has all of them


def scan_options(command: F) -> F:
    """Adds the arguments and options of an import of scans."""
    return added(
        command,
        click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)),
        click.option("--name", help="Name of the dataset (default: the first file's or folder's name)."),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="Processes that read scans, of one thread and some 500 MB each (default: the CPUs it may use).",
        ),
        click.option(
            "--no-images",
            "keep",
            flag_value="leave",
            default="store",
            help="Leave the scans out of the bucket, for instance where they must not leave this machine.",
        ),
        skip_bad_option,
        dry_run_option,
        as_json_option,
        store_options,
    )


@click.command()
@scan_options
def images(
    connection: Connection,
    paths: tuple[Path, ...],
    name: str | None,
    workers: int | None,
    keep: Literal["store", "leave"],
    skip_bad: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import scans, photographs and PDF files as pages without labels, to label or to predict them.

    A page is named after its file, with #2 and so on for further pages. What was read is kept: after an interruption
    the same command goes on where it was. The files are stored in the bucket, each once.
    """
    require("ocr")
    from receipt_layoutlm.inference.scan_batch import scan_names

    read = read_all(scan_names(paths), workers, skip_bad)
    pages = [page for scan in read for page in scan.as_pages()]
    source = " ".join(["images", *(path.name for path in paths)])
    described = store_dataset(connection, name or _default_name(paths), pages, source, dry_run, _pictures(read, keep))
    click.echo(described.model_dump_json(indent=1)) if as_json else say(described_text(described))


@click.command()
@scan_options
@click.option(
    "--values",
    "values_path",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE.csv|FOLDER",
    help="Values of the receipts: a CSV file, or a folder with a JSON file a scan (default: beside the scans).",
)
@click.option(
    "--date-order",
    type=click.Choice(get_args(DateOrder)),
    help="Order of day and month in the table, where no date of its column shows it.",
)
@click.option(
    "--empty",
    type=click.Choice(get_args(EmptyCells)),
    default="unknown",
    show_default=True,
    help="Meaning of an empty cell: the receipt may have a value, or has none.",
)
@click.option(
    "--overlays",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Draw the scans whose values were not found surely, the worst first.",
)
@label_map_option
@keep_labels_option
@encoding_option
def scans(
    connection: Connection,
    paths: tuple[Path, ...],
    name: str | None,
    workers: int | None,
    keep: Literal["store", "leave"],
    values_path: Path | None,
    date_order: DateOrder | None,
    empty: EmptyCells,
    overlays: Path | None,
    label_map_file: Path | None,
    keep_labels: bool,
    encoding: str | None,
    skip_bad: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import scans with the values of each receipt, as bookkeeping has them: the values are found among the words.

    \b
    file,company,date,address,total
    000.jpg,ACME SDN BHD,2018-12-25,"NO 5, JALAN SAGU, 81100 JOHOR",1234.50

    The first column is the scan's name, the others are labels: ours, or company, merchant, vendor, supplier, store
    (MERCHANT_NAME), address, phone, total, amount (GRAND_TOTAL), net (SUBTOTAL), vat, gst (TAX); --label-map names
    others. Instead of a table each scan may have a JSON file: {"company": "ACME SDN BHD", "total": 1234.50}.

    Texts may be spread over lines and misread in a fifth of their characters. Dates and amounts are found in every
    form. Of several places with the same amount the one with the caption of its label is taken. A value that is not
    found surely is left unlabelled, with all words that may be it. So is an empty cell; write `not printed` where a
    receipt has no such value.

    What was read is kept: after an interruption the same command goes on where it was. The scans are stored in the
    bucket, each once.
    """
    require("ocr")
    if overlays is not None:
        require("reports")
    from receipt_layoutlm.inference.scan_batch import scan_names

    names = scan_names(paths)
    options = TextOptions(encoding, note=lambda text: say(f"note: {text}", err=True))
    rows = _rows_of(names, read_value_rows(values_path or _only_folder(paths), options), skip_bad)
    label_map = read_label_map(label_map_file) if label_map_file else {}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row.texts))
    check_all_used(label_map, columns)
    labels = own_table({}, label_map) if keep_labels else column_table(columns, label_map)
    values, bad = read_values(list(rows.values()), labels, date_order, empty)
    if bad:
        raise bad_lines(bad)
    values_of = dict(zip(rows, values, strict=True))
    read = read_all({path: names[path] for path in rows}, workers, skip_bad)
    documents = [Document((page.words, page.boxes) for page in scan.pages) for scan in read]
    labelled, report = label_scans(
        [(scan.name, document, values_of[scan.path]) for scan, document in zip(read, documents, strict=True)]
    )
    refuse_unfound(report.matches)
    pages = [
        page
        for scan, found in zip(read, labelled, strict=True)
        for page in scan.as_pages(found.tags, values_of[scan.path].group)
    ]
    if overlays is not None:
        from receipt_layoutlm.cli.dataset.scan_overlays import Labelled, draw_doubtful

        drawn = draw_doubtful(overlays, list(map(Labelled, read, documents, labelled)), report)
        say(f"{drawn} scans are drawn: open {overlays / 'index.html'}", err=True)
    source = " ".join(["scans", *(path.name for path in paths), *([values_path.name] if values_path else [])])
    described = store_dataset(connection, name or _default_name(paths), pages, source, dry_run, _pictures(read, keep))
    if as_json:
        click.echo(json.dumps({**described.model_dump(mode="json"), "report": asdict(report)}, indent=1))
    else:
        say(f"{described_text(described)}\n\n{scan_report_text(report, columns, labels)}")


def _pictures(read: Iterable["ScannedFile"], keep: Literal["store", "leave"]) -> dict[str, Path]:
    """The files to store by their SHA-256."""
    return {scan.digest: scan.path for scan in read} if keep == "store" else {}


def _default_name(paths: Sequence[Path]) -> str:
    first = paths[0].resolve()
    return first.name if first.is_dir() else first.stem


def _only_folder(paths: Sequence[Path]) -> Path:
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    raise click.UsageError("--values FILE.csv|FOLDER is needed where several files or folders are named")


def _rows_of(names: Mapping[Path, str], rows: Iterable[ValueRow], skip_bad: bool) -> dict[Path, ValueRow]:
    """The row of each scan. Rows without a scan and scans without a row are refused, or left out and counted."""
    joined = join_rows(list(names), rows)
    bad = [*joined.refused]
    if joined.without_row:
        shown = shortened([names[path] for path in joined.without_row])
        bad.append(DataError(f"{len(joined.without_row)} scans have no row: {shown}"))
    if not joined.rows:
        raise bad_lines(bad)
    _refuse(bad, skip_bad, "rows and scans", "correct the table")
    return joined.rows


def read_all(names: dict[Path, str], workers: int | None, skip_bad: bool) -> list["ScannedFile"]:
    """The scans that can be read; the others are refused, or left out and listed."""
    from receipt_layoutlm.inference.scan_batch import read_scans
    from receipt_layoutlm.inference.scans import ScanError, ScanOptions

    read: list[ScannedFile] = []
    bad: list[DataError] = []
    processes = workers or usable_cpus()
    with (
        counting_bar("reading scans", len(names)) as on_scan,
        closing(read_scans(names, ScanOptions(threads=1), processes)) as results,
    ):
        for result in results:
            if isinstance(result, ScanError):
                bad.append(DataError(f"{result.reason}: {result.remedy}", file=str(result.file)))
            else:
                read.append(result)
            on_scan()
    if not read:
        raise bad_lines(bad, "scans")
    _refuse(bad, skip_bad, "scans", "replace them")
    return read


def _refuse(bad: Sequence[DataError], skip_bad: bool, kind: str, remedy: str) -> None:
    if bad and not skip_bad:
        raise DataError(f"{bad_lines(bad, kind)}\n{remedy}, or leave them out with --skip-bad")
    for error in bad:
        say(f"left out: {clean(error)}", err=True)


def scan_report_text(report: ScanReport, columns: Iterable[str], labels: LabelTable) -> str:
    """How often the values were found, and those that a person should look at."""
    column_of = {labels(column): column for column in columns}
    rows = [
        (label, column_of[label], *(counts.get(outcome, 0) for outcome in get_args(How)), *_absent(counts))
        for label, counts in report.outcomes.items()
    ]
    header = ("label", "column", *get_args(How), "unknown", "not printed")
    share = report.unlabelled / max(report.words, 1)
    parts = [table(header, rows), "", f"{share:.0%} of {report.words} words are unlabelled, neither learned nor scored"]
    if any(counts.get("unknown") for counts in report.outcomes.values()):
        parts.append("unknown are empty cells; --empty not-printed says that these receipts have no such value")
    if report.doubts:
        titles = (Column("file"), "label", "found", Column("value", wraps=True), Column("words", wraps=True))
        doubts = [(each.file, each.label, each.outcome, each.value, each.words) for each in report.doubts[:_SHOWN]]
        parts += ["", table(titles, doubts)]
    if (more := len(report.doubts) - _SHOWN) > 0:
        parts.append(f"and {more} more (--json lists all)")
    return "\n".join(parts)


def _absent(counts: Mapping[str, int]) -> tuple[int, int]:
    return counts.get("unknown", 0), counts.get("not printed", 0)
