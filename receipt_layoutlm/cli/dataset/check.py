"""layoutlm-cli dataset check: what is wrong or odd about pages, before a GPU exists."""

import sys
from pathlib import Path
from typing import Any

import click

from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.options import given_values, model_options
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.images import check_images
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import survey_jsonl
from receipt_layoutlm.datasets.checks import read_split, stored_pages
from receipt_layoutlm.datasets.snapshots import find_dataset
from receipt_layoutlm.jobs.request import read_config_file, resolve


@click.command()
@click.argument("source", metavar="NAME|FILE")
@model_options(TrainConfig)
@click.option("--config", "config_file", type=click.Path(exists=True, path_type=Path), help="YAML file of options.")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the pages' images, by SHA-256, file name or page id: are they there, readable, not blank?",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def check(
    connection: Connection,
    source: str,
    config_file: Path | None,
    images: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Check a dataset of the store, or a JSONL file, as a run with these options would see it.

    Give the options that `train` would get: they decide the parts, which labels are left, and how long a window is.
    `train` does the same check before it submits.

    \b
    errors    the run would fail, or its numbers would mean nothing; exit code 1, and no job is submitted
    warnings  for you to judge; `train` shows them and keeps them with the job
    """
    flags = given_values((TrainConfig,), values)
    if "dataset" in flags:
        raise click.UsageError("the dataset to check is the argument: leave --dataset out")
    config = resolve(flags, read_config_file(config_file) if config_file else {}, {}, {}).config
    report = check_dataset(_material(connection, source, config, images), config)
    click.echo(report.model_dump_json(indent=1) if as_json else report_text(report))
    if report.errors:
        sys.exit(1)


def _material(connection: Connection, source: str, config: TrainConfig, images: Path | None) -> CheckInput:
    if Path(source).is_file():
        pages, unreadable = survey_jsonl(Path(source))
    else:
        pages, unreadable = _stored(connection, source), []
    return CheckInput(
        pages=pages,
        validation=_stored(connection, config.eval_dataset) if config.eval_dataset else None,
        frozen=read_split(config)[1],
        unreadable=unreadable,
        images=check_images(pages, images) if images else None,
    )


def _stored(connection: Connection, spec: str) -> list[Page]:
    bucket = connection.open_bucket(connection.default_bucket())
    return stored_pages(bucket, find_dataset(connection.client(), spec))


def report_text(report: CheckReport) -> str:
    """Parts, labels, then what was found: errors first."""
    parts = list(report.pages)
    pages = ", ".join(f"{count} {part}" for part, count in report.pages.items())
    header = ("label", "becomes", "entities", *(part for part in parts if part != "all"))
    rows = [
        (row.label, row.becomes or "(dropped)", row.entities, *(row.parts[part] for part in row.parts))
        for row in sorted(report.labels, key=lambda row: -row.entities)
    ]
    summary = f"{len(report.errors)} error(s), {len(report.warnings)} warning(s)"
    lines = [f"pages: {pages}", "", table(header, rows), ""]
    for each in report.findings:
        lines.append(f"{each.severity:8} {each.check:20} {clean(each.message)}")
        if each.severity == "error":  # the message names the first
            lines += [f"{'':8} {'':20} {clean(example)}" for example in each.examples[1:]]
    return "\n".join([*lines, summary])
