"""layoutlm-cli fleet destroy: delete the workers' stack; table and bucket stay."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.fleet.options import fleet_aws, fleet_options, show_event
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean, table

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.deploy import Aws
    from receipt_layoutlm.fleet.stack import StackState


@click.command()
@click.option("--storage", is_flag=True, help="Delete the storage stack too; its table and bucket stay.")
@click.option(
    "--everything",
    is_flag=True,
    help="Delete also the table and bucket that the fleet created, with all jobs, datasets and weights. Asks twice.",
)
@click.option("--yes", is_flag=True, help="Do not ask; of two questions, the first.")
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and the running jobs.")
@fleet_options
def destroy(fleet: str, region: str | None, storage: bool, everything: bool, yes: bool, dry_run: bool) -> None:
    """Terminate a fleet's machines, whose jobs return to the queue, and delete everything that starts them.

    Nothing is deleted before the last machine has uploaded its checkpoint and ended. The table and the bucket stay,
    with all their contents.
    """
    from receipt_layoutlm.fleet.erasure import erase_bucket, erase_table
    from receipt_layoutlm.fleet.groups import destroy_workers
    from receipt_layoutlm.fleet.names import network_stack, storage_stack, workers_stack
    from receipt_layoutlm.fleet.stack import FleetStack
    from receipt_layoutlm.storage.owner import name_owner

    aws = fleet_aws(region)
    workers, network, stored = (
        FleetStack(aws.cloudformation, name(fleet)) for name in (workers_stack, network_stack, storage_stack)
    )
    stacks = [workers, network, stored] if storage or everything else [workers, network]
    states = {stack.name: state for stack in stacks if (state := stack.state()) is not None}
    if not states:
        left = (
            ". A table and a bucket that --storage kept are not found without their stack: delete them with 'aws "
            "dynamodb delete-table' and 'aws s3 rb --force', or deploy them again with --table and --bucket"
        )
        text = f"there is no fleet {fleet} in {aws.region}: give --fleet and --region"
        raise click.ClickException(text + left * everything)
    if workers.name in states:
        _show_jobs(aws, states[workers.name])
    kept_storage = states.get(stored.name) or stored.state()
    names = {} if kept_storage is None else kept_storage.outputs
    contents = [(kind, names[key]) for kind, key in (("table", "TableName"), ("bucket", "BucketName")) if key in names]
    foreign = _not_created(states[workers.name], names) if everything and workers.name in states else []
    for kind, name in foreign:
        say(f"{kind} {name} stays: stack {stored.name} did not create it, or exists no more", err=True)
    if dry_run:
        existing = [stack for stack in stacks if stack.name in states]
        rows = [(stack.name, name, kind) for stack in existing for name, kind in stack.resources()]
        rows += [("", name, f"{kind}, with all contents") for kind, name in contents if everything]
        say(table(("stack", "resource", "type"), rows))
        say("nothing was deleted (--dry-run)", err=True)
        return
    if not yes:
        click.confirm(f"Delete {' and '.join(states)} in {aws.region}?", abort=True, err=True)
    if everything and contents:
        _confirm_erasure(contents, fleet)
    destroy_workers(
        aws.autoscaling, workers, show_event, lambda _left: _show_jobs(aws, states[workers.name]), time.sleep
    )
    network.delete(show_event)
    name_owner(aws.s3, aws.owner)
    if everything:  # before their stack, whose outputs name them: this command can then be repeated
        for kind, name in contents:
            if kind == "table":
                erase_table(aws.dynamodb, name)
            else:
                erase_bucket(aws.s3, name)
            say(f"deleted {kind} {name}, with all contents")
    if storage or everything:
        stored.delete(show_event)
    say(f"deleted {' and '.join(states)}")
    kept = [f"{kind} {name}" for kind, name in contents if not everything]
    if kept:
        say(f"{' and '.join(kept)} {'stay' if len(kept) > 1 else 'stays'}, with all contents", err=True)
    if kept and stored.name in states:
        flags = " ".join(f"--{each}" for each in kept)
        say(f"use them in another fleet with `layoutlm-cli fleet deploy {flags}`", err=True)


def _not_created(workers: "StackState", names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Table and bucket of the machines that are not among those of the storage stack."""
    places = (("table", "TableName"), ("bucket", "BucketName"))
    used = [(kind, key, workers.parameters.get(key, "")) for kind, key in places]
    return [(kind, name) for kind, key, name in used if name and name != names.get(key)]


def _confirm_erasure(contents: list[tuple[str, str]], fleet: str) -> None:
    """Ask the second time, for the fleet's name."""
    named = " and ".join(f"{kind} {name}" for kind, name in contents)
    say(f"all jobs, metrics, datasets and weights in {named} will be deleted for ever", err=True)
    if click.prompt("Type the fleet's name to go on", err=True) != fleet:
        raise click.ClickException(f"that is not {fleet}: nothing was deleted")


def _show_jobs(aws: "Aws", workers: "StackState") -> None:
    """Print the machines that are left and their jobs, on stderr. An unreadable table does not prevent the deletion."""
    from receipt_dynamo import DynamoClient, StoreError
    from receipt_layoutlm.fleet.groups import machines
    from receipt_layoutlm.fleet.status import held_by_machine

    instances = machines(aws.autoscaling, workers)
    say(f"machines to terminate: {len(instances)}", err=True)
    try:
        table_name = workers.parameters.get("TableName", "")
        held = held_by_machine(DynamoClient(table_name, aws.region)) if instances else {}
    except StoreError as error:
        say(f"warning: their running jobs are unknown: {clean(error)}", err=True)
        return
    jobs = [(instance, job) for instance in instances for job, _ in held.get(instance, ())]
    for instance, job in jobs:
        say(f"runs on {instance}: {clean(job.name)} ({job.job_id[:8]})", err=True)
    if jobs:
        say("these jobs return to the queue and wait there until a worker runs again", err=True)
