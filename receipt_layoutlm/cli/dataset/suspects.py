"""layoutlm-cli dataset suspects: lists labels that models contradict, and marks them for review."""

import json
from collections.abc import Sequence

import click

from receipt_dynamo import ReceiptClient, ValidationStatus
from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.datasets.predictions import HeldOut, read_held_out
from receipt_layoutlm.datasets.suspect_review import Unmarked, find_labels, write_marks
from receipt_layoutlm.datasets.suspects import Suspect, find_suspects

SHOWN_UNMARKED = 10


@click.command()
@click.argument("references", metavar="JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Minimum probability of the model's prediction for each word.",
)
@click.option("--label", "labels", multiple=True, help="Only this label, stored or predicted; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Maximum number of rows.")
@click.option("--missing", is_flag=True, help="List words without a label for which the model predicts one.")
@click.option(
    "--mark",
    type=click.Choice([ValidationStatus.NEEDS_REVIEW.value]),
    help="Set the VALID labels of the listed words to this status in the table.",
)
@click.option("--dry-run", is_flag=True, help="With --mark: show the labels that would be marked; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def suspects(
    connection: Connection,
    references: tuple[str, ...],
    min_confidence: float,
    labels: tuple[str, ...],
    limit: int,
    missing: bool,
    mark: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """List words whose VALID label a model contradicts, most confident first. JOB is as in `layoutlm-cli job`.

    Only pages that a job held out are judged: its validation set, by the best weights, and its test set. On its
    training set a model repeats the labels. To judge every page by a model that has not seen it, train all folds of one
    snapshot:

    \b
    for i in 1 2 3 4 5; do layoutlm-cli train --dataset NAME --split kfold:5/$i --job-name fold-$i; done
    layoutlm-cli worker run --idle-timeout 60
    layoutlm-cli dataset suspects fold-1 fold-2 fold-3 fold-4 fold-5

    Adjacent words with the same label and prediction are one row. Jobs that held out the same word must agree on it.
    --mark skips labels that are no longer VALID and receipts whose words changed. From the next snapshot on, words
    under review are neither learned nor scored.
    """
    if missing and mark:
        raise click.UsageError("--missing lists words without a label, which cannot be marked: omit --mark")
    if dry_run and not mark:
        raise click.UsageError("--dry-run needs --mark: without it nothing is written")
    client = connection.client()
    jobs = {job.job_id: job for job in (find_named_job(client, reference) for reference in references)}
    with counting_bar("reading predictions", len(jobs)) as on_job:
        held_out = read_held_out(list(jobs.values()), connection.open_bucket, on_job)
    matching = [
        suspect
        for suspect in find_suspects(held_out.pages, held_out.predicted, min_confidence)
        if suspect.is_missing == missing and (not labels or suspect.label in labels or suspect.says in labels)
    ]
    shown = matching[:limit]
    marked = _mark(ReceiptClient(client), held_out, shown, ValidationStatus(mark), dry_run) if mark else None
    if as_json:
        document: dict[str, object] = {
            "evaluations": [{"job": name, "global_step": step} for name, step in held_out.evaluations],
            "pages": {"held_out": held_out.covered, "all": len(held_out.pages)},
            "found": len(matching),
            "suspects": [suspect.model_dump() for suspect in shown],
        }
        if marked is not None:
            document |= {"marked": marked[0], "unmarked": [word.model_dump() for word in marked[1]]}
        click.echo(json.dumps(document, indent=1))
    else:
        say(suspects_text(held_out, matching, shown))
        if marked is not None:
            say(marks_text(marked, "would be marked" if dry_run else "marked"))
    if dry_run:
        say("nothing was written (--dry-run)", err=True)


Marked = tuple[int, list[Unmarked]]
"""The number of labels marked (or to be marked), and the words that were not."""


def _mark(
    receipts: ReceiptClient, held_out: HeldOut, shown: Sequence[Suspect], status: ValidationStatus, dry_run: bool
) -> Marked:
    with counting_bar("looking up labels", len({suspect.page_id for suspect in shown})) as on_page:
        marks = find_labels(receipts, held_out.pages, shown, on_page)
    if dry_run:
        return len(marks.labels), marks.unmarked
    with counting_bar("marking", len(marks.labels)) as on_label:
        unmarked = write_marks(receipts, marks, status, on_label)
    return len(marks.labels) - (len(unmarked) - len(marks.unmarked)), unmarked


def suspects_text(held_out: HeldOut, matching: Sequence[Suspect], shown: Sequence[Suspect]) -> str:
    """Text of the suspects shown, their number, and the pages judged."""
    rows = [(item.page_id, item.text, item.label, item.says, f"{item.confidence:.4f}") for item in shown]
    lines = (
        [table((Column("page"), Column("text", wraps=True), "label", "prediction", "confidence"), rows), ""]
        if rows
        else []
    )
    if more := len(matching) - len(shown):
        lines.append(f"and {more} more (--limit)")
    judged = ", ".join(f"{clean(name)} (step {step})" for name, step in held_out.evaluations)
    lines.append(f"{len(matching)} found on {held_out.covered} of {len(held_out.pages)} pages, held out by {judged}")
    if held_out.covered < len(held_out.pages):
        lines.append("the other pages were in the training set: --help shows how folds cover all pages")
    return "\n".join(lines)


def marks_text(marked: Marked, verb: str) -> str:
    """Text of the number of marked labels and of those that were not."""
    count, unmarked = marked
    rows = [
        f"  {clean(word.page_id)}, word {word.index} {clean(word.text)}, {clean(word.label)}: {word.reason}"
        for word in unmarked[:SHOWN_UNMARKED]
    ]
    more = len(unmarked) - SHOWN_UNMARKED
    lines = [f"{count} labels {verb}", *([f"{len(unmarked)} labels not marked:"] if unmarked else []), *rows]
    return "\n".join([*lines, *([f"  and {more} more (--json)"] if more > 0 else [])])
