"""layoutlm-cli storage, weights: contents of the bucket, and base weights mirrored into it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import table

if TYPE_CHECKING:
    from receipt_layoutlm.storage.usage import Amount


@click.group(cls=FullHelpGroup)
def storage() -> None:
    """Show what the bucket holds. `job prune` removes checkpoints of jobs that have ended."""


@storage.command()
@click.option(
    "--jobs",
    "job_count",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of largest jobs to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def usage(connection: Connection, job_count: int, as_json: bool) -> None:
    """Count objects and bytes by kind and job.

    Lists every key and every version, 1,000 per request. Old versions, of objects that were replaced or removed, are
    billed until the bucket's lifecycle rules delete them: those of runs after a day.
    """
    from receipt_layoutlm.storage.usage import usage_of

    total_usage = usage_of(connection.open_bucket(connection.default_bucket()))
    largest = dict(_by_size(total_usage.jobs)[:job_count])
    if as_json:
        kinds = {name: asdict(amount) for name, amount in total_usage.kinds.items()}
        jobs = {name: asdict(amount) for name, amount in largest.items()}
        click.echo(json.dumps({"total": asdict(total_usage.total), "kinds": kinds, "jobs": jobs}, indent=1))
        return
    say(_table("kind", [*_by_size(total_usage.kinds), ("total", total_usage.total)]))
    if largest:
        say("\n" + _table("job", list(largest.items())))


def _by_size(amounts: "Mapping[str, Amount]") -> "list[tuple[str, Amount]]":
    return sorted(amounts.items(), key=lambda pair: (-pair[1].size, pair[0]))


def _table(title: str, rows: "list[tuple[str, Amount]]") -> str:
    return table((title, "objects", "size"), [(name, each.objects, decimal(each.size)) for name, each in rows])


@click.group(cls=FullHelpGroup)
def weights() -> None:
    """Mirror base weights from the model hub into the bucket, so that workers need no hub."""


@weights.command("mirror")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit (else the default branch).")
@click.option(
    "--accept-license",
    "licences",
    multiple=True,
    metavar="LICENCE",
    help="Accept a licence that forbids commercial use; repeat for more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def mirror_command(
    connection: Connection, name: str, revision: str | None, licences: tuple[str, ...], as_json: bool
) -> None:
    """Copy a model's safetensors, config and tokenizer into the bucket, once per revision.

    Afterwards, jobs submitted with `train --pretrained OWNER/NAME` read this revision from the bucket and verify the
    hash of every file. To go back to an older revision, mirror it again.
    """
    require("train")
    from huggingface_hub import HfApi

    from receipt_layoutlm.storage.weights import mirror

    mirrored = mirror(connection.open_bucket(connection.default_bucket()), HfApi(), name, revision, licences)
    if as_json:
        click.echo(json.dumps(asdict(mirrored), indent=1))
        return
    licence = mirrored.licence or "unknown"
    say(f"{mirrored.uri}: {decimal(mirrored.size)}, revision {mirrored.revision}, licence {licence}")
