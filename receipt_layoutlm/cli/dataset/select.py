"""layoutlm-cli dataset select: the pages of a snapshot that keep some rules, as a snapshot of their own."""

import json
from typing import Any

import click

from receipt_dynamo import utcnow
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.forget import kept_pages
from receipt_layoutlm.cli.options import given_values, model_options
from receipt_layoutlm.cli.tables import table
from receipt_layoutlm.config import parse_model
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.datasets.selection import RELAXED_IN_ORDER, Rules, Selection, facts_of, source_of_subset
from receipt_layoutlm.datasets.selection import select as select_pages
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, find_dataset, pinned
from receipt_layoutlm.datasets.table_snapshots import marks_of, put_marks


@click.command()
@click.argument("spec", metavar="NAME[@FINGERPRINT]")
@click.option("--name", help="Name of the subset (default: NAME-subset).")
@model_options(Rules)
@click.option(
    "--min-pages",
    type=click.IntRange(min=1),
    help="Relax the rules step by step until at least N pages pass (default: leave them as they are).",
)
@click.option("--dry-run", is_flag=True, help="Say which rules would give how many pages; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def select(
    connection: Connection,
    spec: str,
    name: str | None,
    min_pages: int | None,
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Make a snapshot of the pages that keep some rules, say to train on the surest ones first.

    \b
    validated share   labelled words against those that wait for a decision (PENDING, NEEDS_REVIEW; "-" in a file)
    labels            entities on the page
    confidence        how sure the OCR was of the labelled words, on average; a page that lacks it fails the rule

    Where too few pages pass, --min-pages relaxes the rules step by step: confidence by 0.05 down to 0 (it says nothing
    of the labels), the validated share by 0.05 down to 0 (undecided words are neither learned nor scored), labels by 1
    down to 1. Each step takes the first of these that alone keeps some page out; where none does, the first of those
    that do so together. It is reported with the number of pages that it let in.
    """
    rules = parse_model(Rules, given_values((Rules,), values))
    client, bucket = connection.client(), connection.open_bucket(connection.default_bucket())
    whole = find_dataset(client, spec)
    kept = kept_pages(client, stored_pages(bucket, whole))
    marks = {mark.page_id: mark for mark in marks_of(bucket, whole)}
    facts = [facts_of(page, mark.confidence if (mark := marks.get(page.page_id)) else None) for page in kept.pages]
    selection = select_pages(facts, rules, min_pages or 0)
    chosen = [kept.pages[place] for place in selection.chosen]
    source = source_of_subset(whole.source, pinned(whole), selection)
    subset = describe_dataset(name or f"{whole.name}-subset", chosen, source, utcnow(), len(kept.forgotten))
    if not dry_run:
        if known := [marks[page.page_id] for page in chosen if page.page_id in marks]:
            put_marks(bucket, subset, known)
        subset = add_snapshot(client, bucket, subset, chosen)
    if as_json:
        told = {**selection.model_dump(exclude={"chosen"}), "page_ids": [page.page_id for page in chosen]}
        click.echo(json.dumps({**subset.model_dump(mode="json"), "selection": told}, indent=1))
    else:
        click.echo(f"{pinned(subset)}\n{selection_text(selection)}")
    if dry_run:
        click.echo("nothing was written (--dry-run)", err=True)


def selection_text(selection: Selection) -> str:
    """How many pages, what kept the others out, and what was relaxed."""
    out = ", ".join(f"{selection.failed[name]} {_title(name)}" for name in RELAXED_IN_ORDER if selection.failed[name])
    lines = [
        f"{len(selection.chosen)} of {selection.of} pages, by {selection.rules.in_words()}",
        f"asked for: {selection.asked.in_words()}: {selection.passed} pages" + (f" (kept out by {out})" if out else ""),
    ]
    if selection.without_confidence and selection.asked.min_confidence:
        lines.append(f"{selection.without_confidence} pages have no confidence and fail that rule")
    if selection.steps:
        rows = [
            (_title(step.rule), f"{step.before:g}", f"{step.after:g}", step.admitted, step.pages)
            for step in selection.steps
        ]
        lines += ["", f"relaxed until {selection.min_pages} pages pass:"]
        lines.append(table(("rule", "from", "to", "pages let in", "pages"), rows))
    return "\n".join(lines)


def _title(rule: str) -> str:
    return rule.replace("_", " ")
