"""layoutlm-cli overlay: pages with their fields as pictures and as HTML, with errors marked."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import share_bar
from receipt_layoutlm.cli.sources import (
    DeviceName,
    RuntimeChoice,
    check_one_model,
    files,
    input_options,
    open_extractor,
    say_failed,
    stored,
)
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.jobs.find import BEST
from receipt_layoutlm.paths import image_cache

if TYPE_CHECKING:
    from receipt_layoutlm.data.page import Page
    from receipt_layoutlm.reports.overlay_index import DrawnPage, Format

FORMATS: Final[dict[str, "tuple[Format, ...]"]] = {"both": ("html", "png"), "html": ("html",), "png": ("png",)}
SHOWN: Final = 10  # pages in the text


@click.command("overlay")
@input_options
@click.option(
    "--from-evaluation",
    is_flag=True,
    help="Draw the stored predictions of the job's best evaluation, and of its test set. No model is loaded.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the pages' pictures, named by SHA-256, file name or page id. Scans are their own pictures, "
    "and the pages of `dataset import scans` have theirs in the bucket.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("overlay"),
    show_default=True,
    help="Folder to draw into, new or empty. The same command again continues an interrupted one.",
)
@click.option("--overwrite", is_flag=True, help="First remove what was drawn into the folder before.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    default="both",
    show_default=True,
    help="Files of each page; the index is always HTML.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def overlay_command(
    connection: Connection,
    sources: tuple[Path, ...],
    reference: str | None,
    model: str | None,
    dataset: str | None,
    receipts: tuple[str, ...],
    date_order: Literal["dmy", "mdy"] | None,
    from_evaluation: bool,
    images: Path | None,
    output: Path,
    overwrite: bool,
    format_name: Literal["both", "html", "png"],
    device: DeviceName,
    runtime: RuntimeChoice,
    threads: int | None,
    as_json: bool,
) -> None:
    """Draw pages with their fields, and mark errors where the pages have labels.

    SOURCE is as in `layoutlm-cli predict`. The index lists the pages with most errors first, then those with the least
    certain fields.

    \b
    layoutlm-cli overlay receipt.jpg
    layoutlm-cli overlay --model best/ labelled.jsonl --images scans/
    layoutlm-cli overlay --job NAME --from-evaluation

    Words without a picture are drawn as text at their boxes. The files need no network and no other file. A file that
    cannot be read is reported and the others are drawn; the exit code is then 1.
    """
    if from_evaluation and (sources or dataset or receipts or model):
        raise click.UsageError(
            "--from-evaluation draws pages that the job held out: leave out SOURCE, --dataset, --receipt and --model"
        )
    if not (from_evaluation or sources or dataset or receipts):
        raise click.UsageError(
            "nothing to draw: name files or folders, or give --dataset, --receipt or --from-evaluation"
        )
    check_one_model(reference, model)
    require("reports")
    from receipt_layoutlm.cli.overlay_pages import Pictures, draw_pages, evaluated_pages, predicted_pages
    from receipt_layoutlm.data.jsonl import read_partly_labelled_lines
    from receipt_layoutlm.datasets.page_images import fetch_images
    from receipt_layoutlm.datasets.predictions import read_held_out
    from receipt_layoutlm.inference.scans import ScanOptions
    from receipt_layoutlm.inference.sources import InputPage
    from receipt_layoutlm.reports.overlay_folder import OverlayFolder, content_of, remove_drawn
    from receipt_layoutlm.reports.overlay_index import sorted_by_trouble

    failed: dict[str, str] = {}
    if from_evaluation:
        job = find_named_job(connection.client(), reference or BEST)
        held_out = read_held_out([job], connection.open_bucket, lambda: None)
        ((_, step),) = held_out.evaluations
        drawn_by, total = f"{job.job_id} step {step}", len(held_out.predicted)
        judged = partial(evaluated_pages, held_out)
        following = f"words whose label the model contradicts: `layoutlm-cli dataset suspects {shlex.quote(job.name)}`"
    else:
        named = files(sources, ScanOptions(threads=threads), read_partly_labelled_lines)
        inputs = [*named, *stored(connection, dataset, receipts)]
        extractor = open_extractor(connection, reference, model, device, threads, runtime, date_order)
        drawn_by, total = extractor.predictor.digest, len(inputs)
        judged = partial(predicted_pages, extractor, inputs, failed)
        options = [("--job", reference), ("--model", model), ("--dataset", dataset), ("--date-order", date_order)]
        options += [("--runtime", None if runtime == "auto" else runtime)]
        following = predict_text([*options, *(("--receipt", receipt) for receipt in receipts)], sources, output)
    bucket = connection.open_bucket(connection.default_bucket()) if from_evaluation or dataset else None

    def fetch(page: "Page") -> Path | None:
        if bucket is None:
            return None
        return next(iter(fetch_images(bucket, [page], image_cache(os.environ), lambda: None).values()), None)

    pictures = Pictures.of(images, fetch)

    def content(each: InputPage) -> str:
        return content_of(each.page, pictures.version(each), date_order or "")

    if overwrite:
        remove_drawn(output)
    with OverlayFolder(output, FORMATS[format_name], drawn_by) as folder, share_bar("draw", total) as on_progress:
        folder.failed = failed
        pages = judged(lambda page: folder.has(page.source, page.number, content(page)), on_progress)
        count = draw_pages(pages, folder, pictures, content, failed)
    drawn = sorted_by_trouble(folder.pages.values())
    if as_json:
        click.echo(overlay_json(output, drawn, failed))
    else:
        say(f"{overlay_text(output, drawn, count)}\n{following}")
    say_failed(failed)
    if failed:
        say(f"{len(failed)} could not be read", err=True)
        sys.exit(1)


def predict_text(options: Iterable[tuple[str, str | None]], sources: Iterable[Path], output: Path) -> str:
    """The command for the same fields as a table."""
    given = [word for flag, value in options if value is not None for word in (flag, value)]
    words = [*given, *map(str, sources), "--output", str(output / "fields.csv")]
    return f"the fields as a table: `layoutlm-cli predict {shlex.join(words)}`"


def overlay_json(output: Path, pages: Sequence["DrawnPage"], failed: Mapping[str, str]) -> str:
    """One document with the index, its pages by trouble, and the inputs that could not be read."""
    document = {
        "index": str(output / "index.html"),
        "pages": [page.model_dump(mode="json") for page in pages],
        "failed": [{"source": name, "error": reason} for name, reason in failed.items()],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def overlay_text(output: Path, pages: Sequence["DrawnPage"], drawn: int) -> str:
    """The pages with most trouble, the index, and how many of its pages are new."""
    rows = [
        (
            page.page_id,
            ", ".join(f"{count} {kind}" for kind, count in page.errors.items()) or ("none" if page.has_gold else ""),
            "" if page.lowest_confidence is None else f"{page.lowest_confidence:.2f}",
            output / next(iter(page.files.values())),
        )
        for page in pages[:SHOWN]
    ]
    lines = [table(("page", Column("errors", wraps=True), "lowest confidence", "file"), rows), ""] if rows else []
    judged = [page for page in pages if page.has_gold]
    errors = sum(page.error_count for page in judged)
    wrong = f", errors: {errors} on {sum(page.error_count > 0 for page in judged)} pages" if judged else ""
    before = f", {len(pages) - drawn} were there already" if drawn < len(pages) else ""
    return "\n".join([*lines, f"{clean(output / 'index.html')}: {len(pages)} pages{wrong}{before}"])
