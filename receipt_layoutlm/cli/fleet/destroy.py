"""layoutlm-cli fleet destroy: the workers' stack goes; what holds jobs and files stays."""

import time
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, tell_event
from receipt_layoutlm.cli.tables import clean, table

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.deploy import Aws
    from receipt_layoutlm.fleet.stack import FleetStack, StackState


@click.command()
@click.option("--storage", is_flag=True, help="Delete the storage stack too; table and bucket themselves stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and which jobs still run.")
@fleet_options
def destroy(fleet: str, region: str | None, storage: bool, yes: bool, dry_run: bool) -> None:
    """Delete a fleet: end its machines, whose jobs go back to the queue, and delete everything that made them.

    Table and bucket, and all that is in them, stay in any case.
    """
    from receipt_layoutlm.fleet.deploy import open_aws
    from receipt_layoutlm.fleet.destroy import destroy_workers
    from receipt_layoutlm.fleet.names import storage_stack, workers_stack
    from receipt_layoutlm.fleet.stack import FleetStack

    aws = open_aws(region)
    workers = FleetStack(aws.cloudformation, workers_stack(fleet))
    stored = FleetStack(aws.cloudformation, storage_stack(fleet))
    stacks = [workers, stored] if storage else [workers]
    there = {stack.name: state for stack in stacks if (state := stack.state()) is not None}
    if not there:
        raise click.ClickException(f"there is no fleet {fleet} in {aws.region}: name it with --fleet and --region")
    if workers.name in there:
        _tell_jobs(aws, there[workers.name])
    if dry_run:
        click.echo(_contents([stack for stack in stacks if stack.name in there]))
        click.echo("nothing was deleted (--dry-run)", err=True)
        return
    if not yes:
        click.confirm(f"Delete {' and '.join(there)} in {aws.region}?", abort=True, err=True)
    destroy_workers(aws.autoscaling, workers, tell_event, time.sleep)
    if storage:
        stored.delete(tell_event)
    click.echo(f"deleted {' and '.join(there)}")
    _tell_kept(stored, there.get(stored.name))


def _tell_jobs(aws: "Aws", workers: "StackState") -> None:
    """What still runs on the fleet's machines, on stderr. A table that cannot be read is no reason to keep a fleet."""
    from receipt_dynamo import DynamoClient, StoreError
    from receipt_layoutlm.fleet.destroy import machines
    from receipt_layoutlm.fleet.status import held_by_machine

    instances = machines(aws.autoscaling, workers)
    name = workers.parameters.get("TableName", "")
    click.echo(f"machines that end: {len(instances)}", err=True)
    try:
        held = held_by_machine(DynamoClient(name, aws.region)) if instances else {}
    except StoreError as error:
        click.echo(f"warning: which jobs run there is not known: {clean(error)}", err=True)
        return
    lines = [
        f"runs on {each}: {clean(job.name)} ({job.job_id[:8]})" for each in instances for job, _ in held.get(each, ())
    ]
    for line in lines:
        click.echo(line, err=True)
    if lines:
        click.echo("these jobs go back to the queue, where nothing takes them until a worker runs again", err=True)


def _contents(stacks: "list[FleetStack]") -> str:
    rows = [(stack.name, name, kind) for stack in stacks for name, kind in stack.resources()]
    return table(("stack", "resource", "type"), rows)


def _tell_kept(stored: "FleetStack", deleted: "StackState | None") -> None:
    """Where everything still is, on stderr."""
    state = deleted or stored.state()
    names = {} if state is None else state.outputs
    kept = [f"{what} {names[key]}" for what, key in (("table", "TableName"), ("bucket", "BucketName")) if key in names]
    if not kept:
        return
    click.echo(f"{' and '.join(kept)} {'stay' if len(kept) > 1 else 'stays'}, with all that is there", err=True)
    if deleted is not None:
        flags = " ".join(f"--{each}" for each in kept)
        click.echo(f"a later fleet takes what stays with 'fleet deploy {flags}'", err=True)
