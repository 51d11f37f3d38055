"""layoutlm-cli model promote|list|show|rollback: which model is in use, since when, and why."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from receipt_dynamo import NotFound, Promotion
from receipt_layoutlm.cli.before_after import labelled_source, show_before_after
from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.tables import Column, clean, table, when
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.jobs.find import none_in_use
from receipt_layoutlm.jobs.promotion import Gates

if TYPE_CHECKING:
    from receipt_layoutlm.jobs.promotion import Candidate

F = TypeVar("F", bound=Callable[..., Any])

STAGE: Final = click.option(
    "--stage",
    default="production",
    show_default=True,
    metavar="NAME",
    help="The model in use is @NAME in all commands.",
)


class Bound(click.ParamType[float]):
    """A number, or `none` for a gate that is off."""

    name = "NUMBER|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "none" else click.FLOAT.convert(value, param, ctx)


def gate_options(command: F) -> F:
    """An option for each gate; the command receives them by name, None where they were not given."""
    for name, field in reversed(Gates.model_fields.items()):
        default = "" if field.default is None else f"  [default: {field.default:g}]"
        command = click.option(flag_of(name), name, type=Bound(), help=f"{field.description}{default}")(command)
    return command


@click.command("promote")
@click.argument("reference", metavar="JOB", shell_complete=job_names)
@STAGE
@click.option("--reason", help="Why; it is kept with the version.")
@click.option(
    "--before-after",
    metavar="SOURCE",
    help="Promote nothing: count perfect, partial and wrong answers of the model in use and of this one on labelled "
    "pages, a dataset, a JSONL file, or a folder of such files.",
)
@click.option("--pages", type=click.IntRange(min=1), default=100, show_default=True, help="Pages for --before-after.")
@gate_options
@click.option("--force", is_flag=True, help="Promote although gates refuse; what they said is kept with the version.")
@click.option("--dry-run", is_flag=True, help="Ask the gates and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def promote_command(
    connection: Connection,
    reference: str,
    stage: str,
    reason: str | None,
    before_after: str | None,
    pages: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **bounds: float | str | None,
) -> None:
    """Bring the best model of a job into use.

    From then on `@production` names the job wherever a job is named. The gates compare it with the model in use, on the
    validation pages that both predicted; `none` switches a gate off. A model that was in use is never deleted.

    \b
    layoutlm-cli model promote @best --before-after receipts
    layoutlm-cli model promote @best --reason "two points more on totals"
    layoutlm-cli predict receipt.jpg --job @production
    """
    from receipt_layoutlm.jobs.promotion import NotPromoted, examine, promote

    if before_after is not None:
        show_before_after(connection, reference, stage, labelled_source(connection, before_after), pages, as_json)
        return
    if reason is None and not dry_run:
        raise click.UsageError("--reason is missing: say why, it is kept with the version")
    given = {name: None if bound == "none" else bound for name, bound in bounds.items() if bound is not None}
    gates = Gates.model_validate(given)
    queue = connection.queue()
    job = find_named_job(queue.client, reference)
    promotion = None
    while promotion is None:  # another model came into use in between: its gates are asked anew
        candidate = examine(queue, connection.open_bucket, job, stage, gates)
        if not as_json:
            say(_gates_text(candidate), err=True)
        if candidate.refusals and not force:
            raise NotPromoted(f"{job.name} is not promoted: {'; '.join(candidate.refusals)}")
        if dry_run:
            say(f"{clean(job.name)} would be in use as @{stage}")
            return
        promotion = promote(queue, connection.open_bucket, candidate, stage, reason or "")
    _say_in_use(promotion, as_json)


@click.command("list")
@STAGE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def list_command(connection: Connection, stage: str, as_json: bool) -> None:
    """List the versions of a stage, the one in use first."""
    history = connection.client().list_promotions(stage)
    if as_json:
        say_json(json.dumps([each.model_dump(mode="json") for each in history], indent=1))
    elif not history:
        say(none_in_use(stage))
    else:
        columns = [Column(title) for title in ("version", "job")]
        columns += [Column("id", rank=3), Column("action", rank=4), Column("promoted", rank=2), Column("by", rank=1)]
        rows = [
            (
                each.version,
                each.job_name,
                each.job_id[:8],
                each.action,
                when(each.promoted_at),
                each.promoted_by,
                each.reason,
            )
            for each in history
        ]
        say(table([*columns, Column("reason", rank=1, wraps=True)], rows))


@click.command("show")
@STAGE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def show_command(connection: Connection, stage: str, as_json: bool) -> None:
    """Show the model in use, with the gates that it passed."""
    newest = connection.client().list_promotions(stage, limit=1)
    if not newest:
        raise NotFound(none_in_use(stage))
    _say_in_use(newest[0], as_json)


@click.command("rollback")
@STAGE
@click.option("--to", "version", type=click.IntRange(min=1), help="Version to go back to (default: the model before).")
@click.option("--reason", required=True, help="Why; it is kept with the version.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def rollback_command(connection: Connection, stage: str, version: int | None, reason: str, as_json: bool) -> None:
    """Bring an earlier model into use again, as a new version."""
    from receipt_layoutlm.jobs.promotion import rollback

    _say_in_use(rollback(connection.queue(), stage, version, reason), as_json)


def _gates_text(candidate: "Candidate") -> str:
    against = "no model is in use yet" if candidate.in_use is None else f"against {clean(candidate.in_use.job_name)}"
    lines = [f"{'met' if each.is_met else 'refused':8} {clean(each.text)}" for each in candidate.gates]
    return "\n".join([f"gates, {against}:", *lines])


def _say_in_use(promotion: Promotion, as_json: bool) -> None:
    if as_json:
        say_json(promotion.model_dump_json(indent=1))
        return
    since = f"version {promotion.version} since {when(promotion.promoted_at)}, by {clean(promotion.promoted_by)}"
    say(f"@{promotion.stage} is {clean(promotion.job_name)} ({promotion.job_id}), {since}: {clean(promotion.reason)}")
    say(clean(promotion.model_uri))
    for gate, asked in promotion.evidence.items():
        if isinstance(asked, dict):
            say(f"  {clean(gate):24} {clean(asked.get('text', ''))}")
