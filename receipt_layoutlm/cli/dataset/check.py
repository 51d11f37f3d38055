"""layoutlm-cli dataset check: problems of a dataset under the options of a run."""

import shlex
import sys
from pathlib import Path
from typing import Any, get_args

import click

from receipt_layoutlm.cli.completion import dataset_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.options import TaskCommand, given_values, model_options
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.config import DEFAULT_TASK, config_class
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.check_report import SET_TITLES, CheckReport
from receipt_layoutlm.data.images import check_images
from receipt_layoutlm.data.page import Page, WordOrder
from receipt_layoutlm.data.snapshot import in_given_order, survey_jsonl
from receipt_layoutlm.datasets.checks import keep_order_command, read_split, stored_pages
from receipt_layoutlm.datasets.snapshots import find_dataset
from receipt_layoutlm.jobs.request import read_config_file, resolve


@click.command("check", cls=TaskCommand)
@click.argument("source", metavar="NAME|FILE", shell_complete=dataset_names)
@model_options(config_class(DEFAULT_TASK))
@click.option(
    "--order",
    type=click.Choice(get_args(WordOrder)),
    help="Of a FILE: read the words by their boxes (default) or as they are given.",
)
@click.option("--config", "config_file", type=click.Path(exists=True, path_type=Path), help="YAML file of options.")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the pages' images, named by SHA-256, file name or page id, to check them too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def check_command(
    connection: Connection,
    source: str,
    order: WordOrder | None,
    config_file: Path | None,
    images: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Check a stored dataset or a JSONL file as a run with these options would see it.

    Give the options of `train`: they determine the sets, the labels and the length of a window. `train` makes the same
    check before it submits.

    \b
    errors    the run would fail or its metrics would be meaningless; exit code 1, and no job is submitted
    warnings  for you to judge; `train` shows them and stores them with the job
    """
    flags = given_values((config_class(values["task"] or DEFAULT_TASK),), values)
    if "dataset" in flags:
        raise click.UsageError("the dataset to check is the argument: leave --dataset out")
    config = resolve(flags, read_config_file(config_file) if config_file else {}, {}).config
    if Path(source).is_file():
        pages, unreadable = survey_jsonl(Path(source))
        pages = in_given_order(pages) if order == "given" else pages
        keep_order = f"`layoutlm-cli dataset import jsonl {shlex.quote(source)} --order given`"
    else:
        if order is not None:
            raise click.UsageError(f"--order is for files: dataset {source} has the order of its import")
        pages, unreadable = _stored(connection, source), []
        keep_order = keep_order_command(find_dataset(connection.client(), source))
    given = CheckInput(
        pages=pages,
        validation=_stored(connection, config.eval_dataset) if config.eval_dataset else None,
        frozen=read_split(config)[1],
        unreadable=unreadable,
        images=check_images(pages, images) if images else None,
        keep_order=keep_order,
    )
    report = check_dataset(given, config)
    if as_json:
        say_json(report.model_dump_json(indent=1))
    else:
        say(check_text(report))
    if report.errors:
        sys.exit(1)


def _stored(connection: Connection, spec: str) -> list[Page]:
    bucket = connection.open_bucket(connection.default_bucket())
    return stored_pages(bucket, find_dataset(connection.client(), spec))


def check_text(report: CheckReport, width: int | None = None) -> str:
    """Pages by set, labels, and findings with errors first; `width` as for a table."""
    header = ("label", "becomes", "entities", *(SET_TITLES[name] for name in report.pages if name != "all"))
    rows = [
        (row.label, row.becomes or "(dropped)", row.entities, *row.parts.values())
        for row in sorted(report.labels, key=lambda row: -row.entities)
    ]
    lines = [f"pages: {report.pages_text}", "", table(header, rows, width), ""]
    for finding in report.findings:
        lines.append(f"{finding.severity:8} {finding.check.replace('_', ' '):20} {clean(finding.message)}")
        if finding.severity == "error":  # the message names the first
            lines += [f"{'':8} {'':20} {clean(example)}" for example in finding.examples[1:]]
    return "\n".join([*lines, f"{len(report.errors)} error(s), {len(report.warnings)} warning(s)"])
