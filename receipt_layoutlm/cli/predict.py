"""layoutlm-cli predict: fields of scans, pages and stored receipts, by a trained model."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.extraction_files import ExtractionFile
from receipt_layoutlm.cli.label_writing import proposals_text, propose_labels, table_receipts
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.progress import share_bar
from receipt_layoutlm.cli.sources import (
    DeviceName,
    Input,
    RuntimeChoice,
    check_one_model,
    files,
    input_options,
    open_extractor,
    pages_of,
    say_failed,
    stored,
)
from receipt_layoutlm.cli.tables import Column, table
from receipt_layoutlm.datasets.label_proposals import plan_proposals, write_proposals
from receipt_layoutlm.jobs.find import BEST, find_job

if TYPE_CHECKING:
    from receipt_layoutlm.extractor import Extractor
    from receipt_layoutlm.inference.extraction import Extraction

Fill = Callable[[Iterable["Extraction"]], Iterable["Extraction"]]

OUTPUT_SUFFIXES = (".jsonl", ".csv")


@click.command("predict")
@input_options
@click.option(
    "--dataset-from",
    type=click.Choice(["dynamo"]),
    help="Read every receipt of the table that has a label of any status; name one without labels with --receipt.",
)
@click.option(
    "--write-labels",
    is_flag=True,
    help="Write the fields into the table, as labels with status PENDING, or NEEDS_REVIEW where --max-error asks.",
)
@click.option("--dry-run", is_flag=True, help="With --write-labels: count the labels; write nothing.")
@click.option(
    "--max-error",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Mark each field accept or ask, so that at most this share of the accepted ones is wrong.",
)
@click.option(
    "--fallback",
    "answers",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="Answers of a heuristic by file name and label (.csv, .json, .jsonl), for fields that the model leaves out "
    "or, with --max-error, asks about.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a .jsonl or .csv file, a page a line. The same command again continues an interrupted file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the --output file.")
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
    dataset_from: Literal["dynamo"] | None,
    write_labels: bool,
    dry_run: bool,
    max_error: float | None,
    answers: Path | None,
    output: Path | None,
    overwrite: bool,
    device: DeviceName,
    runtime: RuntimeChoice,
    threads: int | None,
    as_json: bool,
) -> None:
    """Read the fields of receipts with a trained model.

    SOURCE is a scan or photograph (JPEG, PNG, TIFF), a PDF, a JSON file of words and boxes, or a folder of them.

    \b
    layoutlm-cli predict receipt.jpg
    layoutlm-cli predict scans/ --output fields.csv
    layoutlm-cli predict --model best/ words.jsonl --json
    layoutlm-cli predict --dataset-from dynamo --write-labels --max-error 0.02

    Confidences are calibrated on the validation set of the job. Dates are shown as YYYY-MM-DD and amounts as decimal
    numbers beside the text as read. A file that cannot be read is reported and the others are predicted; the exit code
    is then 1.

    --write-labels never touches a word that a person labelled, nor a proposal that a person has decided on. Run again,
    it writes what is missing; another model replaces the open proposals of earlier ones. A label that is not VALID is
    not learned: review the proposals first.
    """
    if not (sources or dataset or receipts or dataset_from):
        raise click.UsageError(
            "nothing to predict: name files or folders, or give --dataset, --receipt or --dataset-from"
        )
    if write_labels and (sources or dataset or output is not None):
        raise click.UsageError(
            "--write-labels labels receipts of the table: give --dataset-from dynamo or --receipt, and no other pages "
            "or --output"
        )
    if write_labels and answers is not None:
        raise click.UsageError("--write-labels writes what the model read: leave --fallback out")
    if dry_run and not write_labels:
        raise click.UsageError("--dry-run needs --write-labels: without it nothing is written")
    check_one_model(reference, model)
    if output is not None and output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise click.UsageError(f"--output {output}: end the name in {' or '.join(OUTPUT_SUFFIXES)}")
    from receipt_layoutlm.data.jsonl import read_unlabelled_lines
    from receipt_layoutlm.inference.scans import ScanOptions

    inputs = [
        *files(sources, ScanOptions(threads=threads), read_unlabelled_lines),
        *stored(connection, dataset, receipts if dataset_from is None else table_receipts(connection, receipts)),
    ]
    if write_labels and model is None:  # the job by its id, which @best may no longer be when it is looked up again
        reference = find_job(connection.client(), reference or BEST).job_id
    extractor = open_extractor(connection, reference, model, device, threads, runtime, date_order, max_error)
    fill: Fill = iter
    if answers is not None:
        from receipt_layoutlm.inference.fallback import Fallback

        fill = Fallback.read(answers, [each.name for each in inputs], extractor.labels, date_order).fill
    failed: dict[str, str] = {}
    with share_bar("predict", len(inputs)) as on_progress:
        if write_labels:
            found = extractor.extract(pages_of(inputs, lambda _: False, failed, on_progress))
            write, verb = (plan_proposals, "would be written") if dry_run else (write_proposals, "written")
            report = propose_labels(connection.client(), found, reference, write, failed)
            text = report.model_dump_json(indent=1) if as_json else proposals_text(report, verb)
        elif output is not None:
            text = _written(extractor, fill, inputs, output, overwrite, failed, on_progress)
        else:
            pages = list(fill(extractor.extract(pages_of(inputs, lambda _: False, failed, on_progress))))
            text = extractions_json(pages, failed) if as_json else extractions_table(pages)
    if as_json and output is None:
        say_json(text)
    else:
        say(text)
    if dry_run:
        say("nothing was written (--dry-run)", err=True)
    say_failed(failed)
    if failed:
        say(f"{len(failed)} of {len(inputs)} could not be read", err=True)
        sys.exit(1)


def _written(
    extractor: "Extractor",
    fill: "Fill",
    inputs: Iterable[Input],
    output: Path,
    overwrite: bool,
    failed: dict[str, str],
    on_progress: Callable[[float], None],
) -> str:
    """Write the pages to a file as they are predicted; returns a line on what was done."""
    if overwrite:
        output.unlink(missing_ok=True)
    written = 0
    with ExtractionFile(output, extractor.labels, extractor.predictor.digest) as file:
        before = len(file.done)
        pages = pages_of(inputs, lambda page: (page.source, page.number) in file.done, failed, on_progress)
        for page in fill(extractor.extract(pages)):
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
            decision = f"{entity.decision or ''}{': ' if entity.doubts else ''}{'; '.join(entity.doubts)}"
            rows.append((name, entity.label, entity.text, value, f"{entity.confidence:.2f}", decision))
        for field in page.fallback:
            value = field.value.shown if field.value else field.problem or ""
            rows.append((name, field.label, field.text, value, "", f"fallback ({field.reason})"))
        if not page.entities and not page.fallback:
            rows.append((name, "", "no field found", "", "", ""))
    header = (Column("page", wraps=True), "label", Column("text", wraps=True), "value", "confidence")
    if not any(row[-1] for row in rows):
        return table(header, [row[:-1] for row in rows])
    return table((*header, Column("decision", wraps=True)), rows)
