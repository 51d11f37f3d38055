"""layoutlm-cli dataset select: a snapshot of the pages that meet quality thresholds."""

import json
from typing import Any

import click

from receipt_layoutlm.cli.completion import dataset_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.forget import kept_pages
from receipt_layoutlm.cli.options import given_values, model_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, table
from receipt_layoutlm.config_documents import parse_model
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.datasets.selection import (
    THRESHOLDS,
    Selection,
    SelectionRules,
    TooFewPages,
    quality_of,
    select_pages,
    source_of_subset,
)
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, find_dataset, pinned
from receipt_layoutlm.datasets.table_snapshots import marks_of, put_marks
from receipt_layoutlm.references import as_dataset_name


@click.command("select")
@click.argument("spec", metavar="NAME[@FINGERPRINT]", shell_complete=dataset_names)
@click.option("--name", help="Name of the subset (default: NAME-subset).")
@model_options(SelectionRules)
@click.option("--min-pages", type=click.IntRange(min=1), default=1, help="Fail if fewer than N pages meet the rules.")
@click.option("--dry-run", is_flag=True, help="Show the number of pages at several thresholds; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def select_subset(
    connection: Connection, spec: str, name: str | None, min_pages: int, dry_run: bool, as_json: bool, **values: Any
) -> None:
    """Make a snapshot of the pages that meet quality thresholds, for instance to train on the best ones first.

    \b
    validated share   labelled words among labelled and unlabelled ones (PENDING, NEEDS_REVIEW; "-" in a file)
    labels            entities on the page
    confidence        mean OCR confidence of the labelled words; a page without one only meets a minimum of 0

    The output shows the number of pages at other thresholds. Where too few pages pass, lower the confidence first (it
    does not tell whether a label is right), then the validated share (unlabelled words are neither learned nor
    scored), then the number of labels.
    """
    rules = parse_model(SelectionRules, given_values((SelectionRules,), values))
    client, bucket = connection.client(), connection.open_bucket(connection.default_bucket())
    whole = find_dataset(client, spec)
    kept = kept_pages(client, stored_pages(bucket, whole))
    marks = {mark.page_id: mark for mark in marks_of(bucket, whole)}
    confidence = {page_id: mark.confidence for page_id, mark in marks.items()}
    selection = select_pages([quality_of(page, confidence.get(page.page_id)) for page in kept.pages], rules)
    if selection.passed < min_pages:
        say(thresholds_text(selection), err=True)
        raise TooFewPages(
            f"{selection.passed} of {selection.of} pages meet {rules.in_words()}, fewer than {min_pages}: "
            "choose lower thresholds from the table above"
        )
    chosen = [kept.pages[place] for place in selection.chosen]
    source = source_of_subset(whole.source, pinned(whole), rules)
    name = name or as_dataset_name(f"{whole.name}-subset")
    subset = describe_dataset(name, chosen, source, client.now(), len(kept.forgotten))
    if not dry_run:
        if known := [marks[page.page_id] for page in chosen if page.page_id in marks]:
            put_marks(bucket, subset, known)
        subset = add_snapshot(client, bucket, subset, chosen)
    if as_json:
        document = {**selection.model_dump(exclude={"chosen"}), "min_pages": min_pages}
        document["page_ids"] = [page.page_id for page in chosen]
        click.echo(json.dumps({**subset.model_dump(mode="json"), "selection": document}, indent=1))
    else:
        say(f"{pinned(subset)}\n{selection_text(selection)}")
    if dry_run:
        say("nothing was written (--dry-run)", err=True)


def selection_text(selection: Selection) -> str:
    """The number of pages, the rules that exclude others, and the number of pages at other thresholds."""
    lines = [f"{selection.passed} of {selection.of} pages: {selection.rules.in_words()}"]
    if failed := ", ".join(f"{count} {_title(rule)}" for rule, count in selection.failed.items() if count):
        lines.append(f"excluded by rule: {failed}")
    if selection.without_confidence and selection.rules.min_confidence:
        lines.append(f"{selection.without_confidence} pages have no confidence and fail that rule")
    return "\n".join([*lines, "", thresholds_text(selection)])


def thresholds_text(selection: Selection) -> str:
    """A table of the number of pages at several thresholds of each rule."""
    rows = [
        (_title(rule), ", ".join(f"{count.pages} at {count.threshold:g}" for count in counts))
        for rule in THRESHOLDS
        if (counts := [count for count in selection.thresholds if count.rule == rule])
    ]
    return table(("rule", Column("pages with this rule changed", wraps=True)), rows)


def _title(rule: str) -> str:
    return rule.replace("_", " ")
