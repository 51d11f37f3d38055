"""layoutlm-cli storage: what lies in the bucket."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.tables import table

if TYPE_CHECKING:
    from receipt_layoutlm.storage.usage import Amount


@click.group()
def storage() -> None:
    """What lies in the bucket; `job prune` removes what ended jobs no longer need."""


@storage.command()
@click.option("--jobs", "job_count", type=click.IntRange(min=0), default=10, show_default=True, help="Largest jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def usage(connection: Connection, job_count: int, as_json: bool) -> None:
    """Count objects and bytes by kind, and of the largest jobs. Lists every key: 1,000 to a request.

    Versions that S3 keeps of what was replaced or removed are not counted: the bucket's lifecycle rules expire them.
    """
    from receipt_layoutlm.storage.usage import usage_of

    found = usage_of(connection.open_bucket(connection.default_bucket()))
    largest = dict(_by_size(found.jobs)[:job_count])
    if as_json:
        kinds = {name: asdict(amount) for name, amount in found.kinds.items()}
        jobs = {name: asdict(amount) for name, amount in largest.items()}
        click.echo(json.dumps({"total": asdict(found.total), "kinds": kinds, "jobs": jobs}, indent=1))
        return
    click.echo(_table("kind", [*_by_size(found.kinds), ("total", found.total)]))
    if largest:
        click.echo("\n" + _table("job", list(largest.items())))


def _by_size(amounts: "Mapping[str, Amount]") -> "list[tuple[str, Amount]]":
    return sorted(amounts.items(), key=lambda pair: (-pair[1].size, pair[0]))


def _table(title: str, rows: "list[tuple[str, Amount]]") -> str:
    return table((title, "objects", "size"), [(name, each.objects, decimal(each.size)) for name, each in rows])
