"""layoutlm-cli dataset suspects: labels that a model contradicts with confidence, and marking them for review."""

import json
from collections.abc import Sequence

import click

from receipt_dynamo import DynamoClient, ReceiptClient, ValidationStatus
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.datasets.predictions import HeldOut, read_held_out
from receipt_layoutlm.datasets.suspect_review import Unmarked, find_labels, write_marks
from receipt_layoutlm.datasets.suspects import Suspect, find_suspects
from receipt_layoutlm.jobs.find import find_job

SHOWN_UNMARKED = 10


@click.command()
@click.argument("references", metavar="JOB...", nargs=-1, required=True)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="The model's probability, of each word, of what it says instead.",
)
@click.option(
    "--label", "labels", multiple=True, help="Only this label, as it stands or as the model says; repeatable."
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many, first ones.")
@click.option("--missing", is_flag=True, help="Instead: words without a label to which the model gives one.")
@click.option(
    "--mark",
    type=click.Choice([ValidationStatus.NEEDS_REVIEW.value]),
    help="Give the VALID labels of the words that are listed this status in the table.",
)
@click.option("--dry-run", is_flag=True, help="With --mark: say what would be marked; write nothing.")
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
    """List words whose VALID label a model contradicts, those it is surest of first. JOB is as in `layoutlm-cli job`.

    Judged are the pages that a job held out: its evaluation part, by the best weights, and its test part. Of the pages
    that it learned from a model only repeats the labels. So train the folds of one snapshot and give all of them;
    every page is then judged by a model that has not seen it:

    \b
    for i in 1 2 3 4 5; do layoutlm-cli train --dataset NAME --split kfold:5/$i --job-name fold-$i; done
    layoutlm-cli worker run --idle-timeout 60
    layoutlm-cli dataset suspects fold-1 fold-2 fold-3 fold-4 fold-5

    Neighbouring words that are contradicted alike are one row. A word that several jobs saw counts when all of them
    say the same. --mark leaves a label alone that is not VALID any more, or whose receipt has other words by now;
    words under review are neither learned nor scored from the next snapshot on.
    """
    if missing and mark:
        raise click.UsageError("--missing lists words without a label, so there is none to --mark")
    if dry_run and not mark:
        raise click.UsageError("--dry-run goes with --mark: without it nothing is written anyway")
    client = connection.client()
    held_out = _held_out(connection, client, references)
    found = find_suspects(held_out.pages, held_out.predicted, min_confidence)
    wanted = [each for each in found if each.is_missing == missing and _is_about(each, labels)]
    shown = wanted[:limit]
    marked = _mark(ReceiptClient(client), held_out, shown, ValidationStatus(mark), dry_run) if mark else None
    if as_json:
        click.echo(_json(held_out, wanted, shown, marked))
    else:
        click.echo(_text(held_out, wanted, shown))
        if marked is not None:
            click.echo(_marked_text(marked, "would be marked" if dry_run else "marked"))
    if dry_run:
        click.echo("nothing was written (--dry-run)", err=True)


def _held_out(connection: Connection, client: DynamoClient, references: Sequence[str]) -> HeldOut:
    jobs = {job.job_id: job for job in (find_job(client, reference) for reference in references)}
    with counting_bar("reading predictions", len(jobs)) as on_job:
        return read_held_out(list(jobs.values()), connection.open_bucket, on_job)


def _is_about(suspect: Suspect, labels: Sequence[str]) -> bool:
    return not labels or suspect.label in labels or suspect.says in labels


Marked = tuple[int, list[Unmarked]]
"""How many labels were marked (or would be), and what was left as it is."""


def _mark(
    receipts: ReceiptClient, held_out: HeldOut, shown: Sequence[Suspect], status: ValidationStatus, dry_run: bool
) -> Marked:
    with counting_bar("looking up labels", len({each.page_id for each in shown})) as on_page:
        marks = find_labels(receipts, held_out.pages, shown, on_page)
    if dry_run:
        return len(marks.labels), marks.unmarked
    with counting_bar("marking", len(marks.labels)) as on_label:
        unmarked = write_marks(receipts, marks, status, on_label)
    return len(marks.labels) - (len(unmarked) - len(marks.unmarked)), unmarked


def _json(held_out: HeldOut, wanted: Sequence[Suspect], shown: Sequence[Suspect], marked: Marked | None) -> str:
    told: dict[str, object] = {
        "evaluations": [{"job": name, "global_step": step} for name, step in held_out.evaluations],
        "pages": {"held_out": held_out.covered, "all": len(held_out.pages)},
        "found": len(wanted),
        "suspects": [each.model_dump() for each in shown],
    }
    if marked is not None:
        told |= {"marked": marked[0], "unmarked": [each.model_dump() for each in marked[1]]}
    return json.dumps(told, indent=1)


def _text(held_out: HeldOut, wanted: Sequence[Suspect], shown: Sequence[Suspect]) -> str:
    rows = [(each.page_id, each.text, each.label, each.says, f"{each.confidence:.4f}") for each in shown]
    lines = [table(("page", "text", "label", "the model says", "confidence"), rows), ""] if rows else []
    if more := len(wanted) - len(shown):
        lines.append(f"and {more} more (--limit)")
    judged = ", ".join(f"{clean(name)} (step {step})" for name, step in held_out.evaluations)
    lines.append(
        f"{len(wanted)} found on {held_out.covered} of {len(held_out.pages)} pages, those held out by {judged}"
    )
    if held_out.covered < len(held_out.pages):
        lines.append("the other pages were learned from: --help says how folds cover all of them")
    return "\n".join(lines)


def _marked_text(marked: Marked, what: str) -> str:
    count, unmarked = marked
    rows = [
        f"  {clean(each.page_id)}, word {each.index} {clean(each.text)}, {clean(each.label)}: {each.reason}"
        for each in unmarked[:SHOWN_UNMARKED]
    ]
    more = len(unmarked) - SHOWN_UNMARKED
    lines = [f"{count} labels {what}", *([f"{len(unmarked)} labels left as they are:"] if unmarked else []), *rows]
    return "\n".join([*lines, *([f"  and {more} more (--json)"] if more > 0 else [])])
