"""layoutlm-cli fleet deploy: two CloudFormation stacks, and what the machines run."""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, tell_event
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.cli.template_options import given_values, parameter_options
from receipt_layoutlm.fleet.template import Parameter, read_template

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.check_result import CheckResult
    from receipt_layoutlm.fleet.deploy import Aws, Code, Deployed, Wanted
    from receipt_layoutlm.fleet.stack import Plan


# what deploy finds out or makes itself, and what has an option of its own
_NO_OPTION: Final = frozenset(
    {"FleetName", "TableName", "TableStreamArn", "BucketName", "BundleSha256", "ScalerSha256", "Makes"}
)


def _parameters() -> list[Parameter]:
    both = [*read_template("workers.yaml").parameters.values(), *read_template("storage.yaml").parameters.values()]
    return [each for each in both if each.name not in _NO_OPTION]


PARAMETERS: Final = _parameters()


@click.command()
@click.option("--table", "table_name", metavar="TABLE", help="A table that exists: it is checked and never changed.")
@click.option("--bucket", metavar="BUCKET", help="A bucket that exists: it is checked and never changed.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What the machines install (else the newest in dist/, else what this was installed from).",
)
@click.option("--keep-code", is_flag=True, help="Change nothing of what machines and scaler run.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would change and leave no trace of it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@parameter_options(PARAMETERS)
@fleet_options
def deploy(
    fleet: str,
    region: str | None,
    table_name: str | None,
    bucket: str | None,
    wheel: Path | None,
    keep_code: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Build a fleet in your AWS account, or change the one that is there.

    A stack for table and bucket, unless both exist; then a stack of the workers, which costs nothing until there is
    a job. What is not given stays as it is, or is the template's default. Jobs that run are not touched: machines
    that are there go on with what they have.
    """
    from receipt_layoutlm.fleet.deploy import Deployment, Listener, Wanted, open_aws

    if keep_code and wheel is not None:
        raise click.UsageError("--wheel brings new code, --keep-code keeps the old: give one of the two")
    wanted = Wanted(fleet, table_name, bucket, given_values(PARAMETERS, options))
    aws = open_aws(region)
    if _leaves_jobs(aws, wanted) and not (yes or dry_run):
        click.confirm("Take the on-demand group away all the same?", abort=True, err=True)
    deployment = Deployment(aws, wanted, Listener(tell_finding, tell_plan, tell_event), time.sleep)
    with tempfile.TemporaryDirectory() as folder:
        code = None if keep_code else _make_code(wheel, Path(folder))
        if dry_run:
            plans = deployment.preview(code)
            click.echo(_plans_as_json(plans) if as_json else plans_text(plans))
            click.echo("nothing was changed (--dry-run)", err=True)
        else:
            done = deployment.deploy(code)
            click.echo(json.dumps(asdict(done), indent=1) if as_json else _deployed_text(done))


def _leaves_jobs(aws: "Aws", wanted: "Wanted") -> bool:
    """Whether the on-demand group goes while its queue has jobs, which is told on stderr with the ways out."""
    from receipt_dynamo import DynamoClient, StoreError
    from receipt_dynamo.entities import ondemand_queue
    from receipt_layoutlm.fleet.names import workers_stack
    from receipt_layoutlm.fleet.stack import FleetStack
    from receipt_layoutlm.fleet.status import jobs_of_queue
    from receipt_layoutlm.jobs.wording import count

    if float(wanted.values.get("OnDemandMaximum", 1)) > 0:
        return False
    before = FleetStack(aws.cloudformation, workers_stack(wanted.fleet)).state()
    if before is None or "TableName" not in before.parameters:
        return False
    queue = ondemand_queue(before.parameters["QueueName"])
    try:
        jobs = jobs_of_queue(DynamoClient(before.parameters["TableName"], aws.region), queue)
    except StoreError as error:
        click.echo(f"warning: whether queue {queue} has jobs is not known: {clean(error)}", err=True)
        return False
    if jobs:
        named = ", ".join(f"{clean(job.name)} ({job.job_id[:8]})" for job in jobs[:3]) + ", …" * (len(jobs) > 3)
        click.echo(
            f"warning: queue {queue} has {count(len(jobs), 'job')} ({named}), which no machine "
            f"would take any more. Fix: wait until they are done, run 'layoutlm-cli worker run --queue {queue}' "
            "somewhere, or bring the group back with 'layoutlm-cli fleet deploy --on-demand-maximum 1'",
            err=True,
        )
    return bool(jobs)


def _make_code(wheel: Path | None, folder: Path) -> "Code":
    from receipt_layoutlm.fleet import bundle
    from receipt_layoutlm.fleet.deploy import Code

    click.echo("making what machines and scaler run", err=True)
    machine = bundle.make_bundle(wheel or bundle.find_wheel(Path("dist")), folder)
    return Code(machine, bundle.make_scaler_zip(folder))


def tell_finding(name: str, finding: "CheckResult") -> None:
    click.echo(f"warning: {clean(name)}: {clean(finding.found)}. Fix: {clean(finding.advice)}", err=True)


def tell_plan(stack: str, plan: "Plan | None") -> None:
    count = 0 if plan is None else len(plan.changes)
    click.echo(f"stack {stack}: {f'{count} changes' if count != 1 else '1 change'}", err=True)


def _plans_as_json(plans: "list[Plan]") -> str:
    shown = [
        {"stack": plan.stack, "is_new": plan.makes_stack, "changes": [asdict(each) for each in plan.changes]}
        for plan in plans
    ]
    return json.dumps({"dry_run": True, "stacks": shown}, indent=1)


def plans_text(plans: "list[Plan]") -> str:
    if not plans:
        return "nothing would change"
    rows = [
        (plan.stack, each.action, each.resource, each.resource_type, "anew" if each.replaces else "", what)
        for plan in plans
        for each in plan.changes
        for what in [", ".join(each.properties)]
    ]
    return table(("stack", "action", "resource", "type", "made", "properties"), rows)


def _deployed_text(done: "Deployed") -> str:
    changed = " and ".join(done.changed) or "nothing, it was as wanted"
    return "\n".join(
        [
            f"fleet {done.fleet} in {done.region}: built {changed}",
            f"export DYNAMO_TABLE_NAME={done.table}",
            f"export LAYOUTLM_TRAINING_BUCKET={done.bucket}",
        ]
    )
