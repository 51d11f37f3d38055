"""layoutlm-cli dataset next: the pages most worth a person's time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import click

from receipt_dynamo import DynamoClient, ReceiptClient, ValidationStatus
from receipt_layoutlm.cli.completion import dataset_names, job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.export import LOCAL_FILES, as_predicted, write_tasks
from receipt_layoutlm.cli.dataset.suspects import marks_text
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.label_writing import proposals_text, propose_labels, table_receipts
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.sources import check_one_model, open_extractor
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.data.images import image_names
from receipt_layoutlm.data.label_studio import Proposal
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.datasets.label_proposals import write_proposals
from receipt_layoutlm.datasets.next_pages import Doubt, NextPage, choose_pages, is_labelled, suspect_pages
from receipt_layoutlm.datasets.predictions import read_held_out
from receipt_layoutlm.datasets.receipt_pages import page_of_receipt
from receipt_layoutlm.datasets.snapshots import find_dataset
from receipt_layoutlm.datasets.suspect_review import find_labels, write_marks
from receipt_layoutlm.datasets.suspects import Suspect, find_suspects
from receipt_layoutlm.jobs.find import find_job

if TYPE_CHECKING:
    from receipt_layoutlm.inference.extraction import Extraction

MIN_CONFIDENCE = 0.9  # of a prediction that contradicts a label, as in `dataset suspects`
NEEDS_REVIEW = ValidationStatus.NEEDS_REVIEW


@click.command("next")
@click.argument("spec", metavar="[NAME[@FINGERPRINT]]", required=False, shell_complete=dataset_names)
@click.option(
    "--dataset-from",
    type=click.Choice(["dynamo"]),
    help="Choose among the receipts of the table that have a label of any status, in place of a dataset.",
)
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="Number of pages.")
@click.option(
    "--job",
    "reference",
    metavar="JOB",
    shell_complete=job_names,
    help="Let the best model of this job say which pages it is unsure of.",
)
@click.option("--model", metavar="PLACE", help="The same with the model in this folder, or at s3://BUCKET/PREFIX.")
@click.option(
    "--suspects-of",
    multiple=True,
    metavar="JOB",
    shell_complete=job_names,
    help="First the pages with labels that this job contradicts, among those that it held out; repeatable.",
)
@click.option(
    "--label-studio",
    "tasks",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the pages as Label Studio tasks, with the labels of the model if one is named.",
)
@click.option(
    "--mark",
    type=click.Choice([NEEDS_REVIEW.value]),
    help="Set the wrong-looking VALID labels of these pages to this status in the table, and write the model's labels "
    "on the receipts without labels with it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def next_pages(
    connection: Connection,
    spec: str | None,
    dataset_from: Literal["dynamo"] | None,
    count: int,
    reference: str | None,
    model: str | None,
    suspects_of: tuple[str, ...],
    tasks: Path | None,
    mark: str | None,
    as_json: bool,
) -> None:
    """Name the pages that are most worth a person's time, with the reason.

    First those with wrong-looking labels (--suspects-of), most confident contradiction first. Then pages without
    labels, or with words that wait for one: those that the model of --job or --model is unsure of, and those unlike the
    labelled pages, measured by the share of letter triples that no labelled page has. A chosen page counts as labelled
    for the next choice.

    \b
    layoutlm-cli dataset next scans --count 20 --job @best --label-studio tasks.json
    layoutlm-cli dataset next --dataset-from dynamo --job @best --mark NEEDS_REVIEW
    """
    if (spec is None) == (dataset_from is None):
        raise click.UsageError("name the pages to choose from: a dataset, or --dataset-from dynamo")
    check_one_model(reference, model)
    if mark and not (suspects_of or reference or model):
        raise click.UsageError("--mark needs labels to mark: give --suspects-of, or --job or --model to propose some")
    client = connection.client()
    pages = _pages(connection, spec)
    suspects = _suspects(connection, suspects_of, pages)
    first = suspect_pages(suspects)[:count]
    judged = {each.page_id for each in suspects}
    waiting = [page for page in pages.values() if not is_labelled(page) and page.page_id not in judged]
    if not (waiting or first):
        raise DataError("every page is labelled, and no label looks wrong: --suspects-of names jobs to check them by")
    if reference is not None:  # by its id, which @best may no longer be when it is looked up again
        reference = find_job(client, reference).job_id
    read = _read(connection, reference, model, waiting) if reference or model else {}
    least_sure = {
        page_id: min(extraction.words, key=lambda word: word.confidence)
        for page_id, extraction in read.items()
        if extraction.words
    }
    doubts = {page_id: Doubt(word.text, word.label, word.confidence) for page_id, word in least_sure.items()}
    labelled = [page for page in pages.values() if is_labelled(page)]
    chosen = [*first, *choose_pages(waiting, labelled, doubts, count - len(first))]
    if as_json:
        click.echo(json.dumps({"pages": [each.model_dump(mode="json") for each in chosen]}, indent=1))
    else:
        say(next_text(chosen))
    if tasks is not None:
        _write_tasks(tasks, [pages[each.page_id] for each in chosen], read)
    if mark:
        shown = {each.page_id for each in chosen}
        _mark(client, pages, [each for each in suspects if each.page_id in shown])
        asked = [_asked(read[page_id]) for page_id in (each.page_id for each in chosen) if page_id in read]
        failed: dict[str, str] = {}
        say(proposals_text(propose_labels(client, asked, reference, write_proposals, failed), "written"), err=True)
        if failed:
            raise click.ClickException(f"{len(failed)} pages were not marked: {clean(next(iter(failed.values())))}")


def _pages(connection: Connection, spec: str | None) -> dict[str, Page]:
    """The pages of a dataset, or of the table without one, by page id."""
    if spec is not None:
        found = find_dataset(connection.client(), spec)
        pages = stored_pages(connection.open_bucket(connection.default_bucket()), found)
    else:
        receipts, page_ids = ReceiptClient(connection.client()), table_receipts(connection, ())
        pages = []
        with counting_bar("reading receipts", len(page_ids)) as on_page:
            for page_id in page_ids:
                with suppress(DataError):  # it has no words to label
                    pages.append(page_of_receipt(receipts, page_id))
                on_page()
    return {page.page_id: page for page in pages}


def _suspects(connection: Connection, references: Sequence[str], pages: Mapping[str, Page]) -> list[Suspect]:
    """Contradicted labels of these pages, as the jobs held them out."""
    if not references:
        return []
    client = connection.client()
    jobs = {job.job_id: job for job in (find_named_job(client, reference) for reference in references)}
    with counting_bar("reading predictions", len(jobs)) as on_job:
        held_out = read_held_out(list(jobs.values()), connection.open_bucket, on_job)
    predicted = [page for page in held_out.predicted if page.page_id in pages]
    found = find_suspects(pages, predicted, MIN_CONFIDENCE)
    return [suspect for suspect in found if not suspect.is_missing]


def _read(
    connection: Connection, reference: str | None, model: str | None, pages: Sequence[Page]
) -> dict[str, "Extraction"]:
    extractor = open_extractor(connection, reference, model, "auto", None, "auto", None)
    from receipt_layoutlm.inference.sources import InputPage

    read = {}
    with counting_bar("predict", len(pages)) as on_page:
        for extraction in extractor.extract(InputPage(page, page.page_id, 1) for page in pages):
            read[extraction.page_id] = extraction
            on_page()
    return read


def _asked(extraction: "Extraction") -> "Extraction":
    """All of its fields to be asked about."""
    entities = tuple(each.model_copy(update={"decision": "ask"}) for each in extraction.entities)
    return extraction.model_copy(update={"entities": entities})


def _write_tasks(output: Path, pages: Sequence[Page], read: Mapping[str, "Extraction"]) -> None:
    proposals = [Proposal(page, LOCAL_FILES + quote(image_names(page)[0]), "the labels of the page") for page in pages]
    proposals = [
        as_predicted(each, read[each.page.page_id]) if each.page.page_id in read else each for each in proposals
    ]
    interface = write_tasks(output, proposals, {*label_counts([each.page for each in proposals])})
    say(f"{clean(output)}: {len(proposals)} tasks; {clean(interface)}: the labelling interface", err=True)


def _mark(client: DynamoClient, pages: Mapping[str, Page], suspects: Sequence[Suspect]) -> None:
    if not suspects:
        return
    receipts = ReceiptClient(client)
    marks = find_labels(receipts, pages, suspects, lambda: None)
    unmarked = write_marks(receipts, marks, NEEDS_REVIEW, lambda: None)
    count = len(marks.labels) - (len(unmarked) - len(marks.unmarked))
    say(marks_text((count, unmarked), "marked"), err=True)


def next_text(chosen: Iterable[NextPage]) -> str:
    """A line a page with its reasons, the most worth first."""
    rows = [(each.page_id, f"{each.score:.2f}", "; ".join(each.reasons)) for each in chosen]
    return table(("page", "score", Column("reason", wraps=True)), rows)
