"""layoutlm-cli model: trained models outside of training."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.labelled_pages import named_pages, open_subject
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.promotion import list_command, promote_command, rollback_command, show_command
from receipt_layoutlm.cli.tables import clean

if TYPE_CHECKING:
    from receipt_layoutlm.data.page import Page

GENERATED: Final = 200
"""Receipts of the check where none are named."""


@click.group()
def model() -> None:
    """Bring a model into use, go back to an earlier one, export one to run it without torch."""


for command in (promote_command, list_command, show_command, rollback_command):
    model.add_command(command)


@model.command("export")
@click.argument("subject_name", metavar="MODEL", shell_complete=job_names)
@click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Write this new folder."
)
@click.option("--onnx", "is_onnx", is_flag=True, help="Export to ONNX.")
@click.option("--int8", "is_int8", is_flag=True, help="Quantize to 8 bits: a quarter of the size, twice the speed.")
@click.option("--check", metavar="PLACE", help="Pages of the check: a JSONL file, or a dataset (default: generated).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def export_command(
    connection: Connection,
    subject_name: str,
    target: Path,
    is_onnx: bool,
    is_int8: bool,
    check: str | None,
    as_json: bool,
) -> None:
    """Export a model to a folder that runs without torch.

    MODEL is a job (id, name, @last, @best), a folder that `job pull` wrote, or s3://BUCKET/PREFIX.

    \b
    layoutlm-cli model export @best --to exported/ --onnx --int8
    layoutlm-cli predict --model exported/ receipt.jpg

    The export is compared with torch on the pages of the check. Nothing is written if fewer than 99.9 % of their words
    keep their label, or 99 % with --int8.
    """
    if not is_onnx:
        raise click.UsageError("name the format: --onnx")
    require("train")
    from receipt_layoutlm.inference.onnx_export import export_onnx

    subject = open_subject(connection, subject_name)
    pages = checked_pages(connection, check)
    with counting_bar("check", None) as on_batch:
        done = export_onnx(subject.folder, target, "int8" if is_int8 else "fp32", pages, on_batch)
    if as_json:
        say_json(done.model_dump_json(indent=1))
        return
    say(
        f"{clean(str(target))}: {done.size / 1e6:.1f} MB; {done.agreement:.2%} of {done.words} words on {done.pages} "
        "pages keep their label"
    )
    if done.is_calibration_left:
        say("note: its certainties differ, so that --max-error needs `layoutlm-cli calibrate` of the export", err=True)


def checked_pages(connection: Connection, check: str | None) -> "list[Page]":
    """The pages of --check, generated ones without it. Raises DataError, NotFound."""
    if check is None:
        from receipt_layoutlm.data.sample import generate_pages

        return generate_pages(GENERATED, seed=0)
    path = Path(check)
    return (named_pages(connection, None, path) if path.is_file() else named_pages(connection, check, None)) or []
