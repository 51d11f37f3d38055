"""layoutlm-cli predict: fields of scans, pages and stored receipts, by a trained model."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from receipt_dynamo import ReceiptClient
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.extraction_files import ExtractionFile, PageKey
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.paths import cache_dir
from receipt_layoutlm.references import is_in_bucket

if TYPE_CHECKING:
    from receipt_layoutlm.extractor import Extractor
    from receipt_layoutlm.inference.extraction import Extraction
    from receipt_layoutlm.inference.scans import ScanOptions
    from receipt_layoutlm.inference.sources import InputPage

OUTPUT_SUFFIXES = (".jsonl", ".csv")


@dataclass(frozen=True, slots=True)
class Input:
    """A file, dataset or receipt, and how its pages are read."""

    name: str
    read: Callable[[], Iterable["InputPage"]]


@click.command("predict")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...", type=click.Path(path_type=Path))
@click.option("--job", "reference", metavar="JOB", help="Use the best model of this job (default: @best).")
@click.option("--model", metavar="PLACE", help="Use the model in this folder, or at s3://BUCKET/PREFIX.")
@click.option("--dataset", metavar="NAME", help="Predict the pages of a dataset.")
@click.option("--receipt", "receipts", multiple=True, metavar="PAGE_ID", help="Predict a receipt of the table.")
@click.option(
    "--date-order",
    type=click.Choice(["dmy", "mdy"]),
    help="How to read 01/02/2018. Without it, a date that could be either has no value.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a .jsonl or .csv file, a page a line. The same command again continues an interrupted file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the --output file.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device to compute on.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads (default: the CPUs it may use).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def predict_command(
    connection: Connection,
    sources: tuple[Path, ...],
    reference: str | None,
    model: str | None,
    dataset: str | None,
    receipts: tuple[str, ...],
    date_order: Literal["dmy", "mdy"] | None,
    output: Path | None,
    overwrite: bool,
    device: Literal["auto", "cpu", "cuda", "mps"],
    threads: int | None,
    as_json: bool,
) -> None:
    """Read the fields of receipts with a trained model.

    SOURCE is a scan or photograph (JPEG, PNG, TIFF), a PDF, a JSON file of words and boxes, or a folder of them.

    \b
    layoutlm-cli predict receipt.jpg
    layoutlm-cli predict scans/ --output fields.csv
    layoutlm-cli predict --model best/ words.jsonl --json

    Confidences are calibrated on the validation set of the job. Dates are shown as YYYY-MM-DD and amounts as decimal
    numbers beside the text as read. A file that cannot be read is reported and the others are predicted; the exit code
    is then 1.
    """
    if not (sources or dataset or receipts):
        raise click.UsageError("nothing to predict: name files or folders, or give --dataset or --receipt")
    if reference is not None and model is not None:
        raise click.UsageError("--job and --model both name a model: give one of the two")
    if output is not None and output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise click.UsageError(f"--output {output}: end the name in {' or '.join(OUTPUT_SUFFIXES)}")
    require("train")
    from receipt_layoutlm.extractor import Extractor, model_folder
    from receipt_layoutlm.inference.predictor import Predictor
    from receipt_layoutlm.inference.scans import ScanOptions

    inputs = [*_files(sources, ScanOptions(threads=threads)), *_stored(connection, dataset, receipts)]
    place = reference or "@best" if model is None else model if is_in_bucket(model) else Path(model)
    folder = model_folder(place, connection.client, connection.open_bucket, cache_dir(os.environ))
    extractor = Extractor(Predictor.load(folder, device, threads), date_order)
    for note in extractor.predictor.notes:
        say(f"note: {note}", err=True)
    failed: dict[str, str] = {}
    with counting_bar("predict", len(inputs)) as on_input:
        if output is not None:
            text = _written(extractor, inputs, output, overwrite, failed, on_input)
        else:
            pages = list(extractor.extract(_pages(inputs, set(), failed, on_input)))
            text = extractions_json(pages, failed) if as_json else extractions_table(pages)
    if as_json and output is None:
        say_json(text)
    else:
        say(text)
    for name, reason in failed.items():
        say(f"error: {clean(reason if name in reason else f'{name}: {reason}')}", err=True)
    if failed:
        say(f"{len(failed)} of {len(inputs)} could not be read", err=True)
        sys.exit(1)


def _files(sources: Iterable[Path], options: "ScanOptions") -> list[Input]:
    from receipt_layoutlm.inference.sources import files_of, read_pages

    return [Input(str(path), partial(read_pages, path, options, lambda *_: None)) for path in files_of(sources)]


def _stored(connection: Connection, dataset: str | None, receipts: Iterable[str]) -> list[Input]:
    """The pages of a dataset and receipts of the table."""
    from receipt_layoutlm.datasets.checks import stored_pages
    from receipt_layoutlm.datasets.receipt_pages import page_of_receipt
    from receipt_layoutlm.datasets.snapshots import find_dataset
    from receipt_layoutlm.inference.sources import InputPage

    def pages_of(name: str) -> Iterator[InputPage]:
        stored = find_dataset(connection.client(), name)
        pages = stored_pages(connection.open_bucket(connection.default_bucket()), stored)
        return (InputPage(page, name, number) for number, page in enumerate(pages, start=1))

    def receipt(page_id: str) -> list[InputPage]:
        return [InputPage(page_of_receipt(ReceiptClient(connection.client()), page_id), page_id, 1)]

    of_dataset = [] if dataset is None else [Input(dataset, partial(pages_of, dataset))]
    return [*of_dataset, *(Input(page_id, partial(receipt, page_id)) for page_id in receipts)]


def _pages(
    inputs: Iterable[Input], done: Set["PageKey"], failed: dict[str, str], on_input: Callable[[], None]
) -> Iterator["InputPage"]:
    """The pages that are not done yet. An input that cannot be read is added to `failed`, and the next one follows."""
    for each in inputs:
        try:
            yield from (page for page in each.read() if (page.source, page.number) not in done)
        except UserError as error:
            failed[each.name] = str(error)
        on_input()


def _written(
    extractor: "Extractor",
    inputs: Iterable[Input],
    output: Path,
    overwrite: bool,
    failed: dict[str, str],
    on_input: Callable[[], None],
) -> str:
    """Write the pages to a file as they are predicted; returns a line on what was done."""
    if overwrite:
        output.unlink(missing_ok=True)
    written = 0
    with ExtractionFile(output, extractor.labels, extractor.predictor.digest) as file:
        before = len(file.done)
        for page in extractor.extract(_pages(inputs, file.done, failed, on_input)):
            file.write(page)
            written += 1
    continued = f", {before} were there already" if before else ""
    return f"{output}: {written} pages{continued}"


def extractions_json(pages: Iterable["Extraction"], failed: Mapping[str, str]) -> str:
    """One document with all pages and the inputs that could not be read."""
    document = {
        "pages": [page.model_dump(mode="json") for page in pages],
        "failed": [{"source": name, "error": reason} for name, reason in failed.items()],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def extractions_table(pages: Sequence["Extraction"]) -> str:
    """A line a field; pages without any have a line too."""
    rows = []
    for page in pages:
        name = page.source if page.page == 1 else f"{page.source} ({page.page})"
        for entity in page.entities:
            value = entity.value.shown if entity.value else entity.problem or ""
            rows.append((name, entity.label, entity.text, value, f"{entity.confidence:.2f}"))
        if not page.entities:
            rows.append((name, "", "no field found", "", ""))
    header = (Column("page", wraps=True), "label", Column("text", wraps=True), "value", "confidence")
    return table(header, rows)
