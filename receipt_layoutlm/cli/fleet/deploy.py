"""layoutlm-cli fleet deploy: two CloudFormation stacks and the code that the machines run."""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, show_event
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.cli.template_options import parameter_options, parameter_values
from receipt_layoutlm.fleet.template import read_template

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.check_result import CheckResult
    from receipt_layoutlm.fleet.deploy import Aws, FleetRequest
    from receipt_layoutlm.fleet.stack import StackPlan


# parameters that deploy computes, or that have an option of their own
_WITHOUT_OPTION: Final = frozenset(
    {"FleetName", "TableName", "TableStreamArn", "BucketName", "BundleSha256", "ScalerSha256", "Makes"}
)
PARAMETERS: Final = [
    parameter
    for template in ("workers.yaml", "storage.yaml")
    for parameter in read_template(template).parameters.values()
    if parameter.name not in _WITHOUT_OPTION
]


@click.command()
@click.option("--table", "table_name", metavar="TABLE", help="Existing table to use; it is checked, and not changed.")
@click.option("--bucket", metavar="BUCKET", help="Existing bucket to use; it is checked, and not changed.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Wheel to install on the machines (default: the newest in dist/, or the one installed here).",
)
@click.option("--keep-code", is_flag=True, help="Keep the deployed code of machines and scaler.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
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
    """Create a fleet in your AWS account, or change a deployed one.

    Creates a storage stack for table and bucket, unless both exist, and a stack of the workers, which costs nothing
    until there is a job. Options that are not given keep their deployed values, or the template's defaults. Running
    jobs are not affected: existing machines keep their code and settings.
    """
    from receipt_layoutlm.fleet import bundle
    from receipt_layoutlm.fleet.deploy import Code, DeployCallbacks, Deployment, FleetRequest, open_aws

    if keep_code and wheel is not None:
        raise click.UsageError("--wheel and --keep-code exclude each other: give one of the two")
    request = FleetRequest(fleet, table_name, bucket, parameter_values(PARAMETERS, options))
    aws = open_aws(region)
    if _strands_jobs(aws, request) and not (yes or dry_run):
        click.confirm("Remove the on-demand group anyway?", abort=True, err=True)
    deployment = Deployment(aws, request, DeployCallbacks(show_warning, show_plan, show_event), time.sleep)
    with tempfile.TemporaryDirectory() as folder:
        code = None
        if not keep_code:
            say("building the archives for machines and scaler", err=True)
            machine = bundle.make_bundle(wheel or bundle.find_wheel(Path("dist")), Path(folder))
            code = Code(machine, bundle.make_scaler_zip(Path(folder)))
        if dry_run:
            plans = deployment.preview(code)
            stacks = [
                {"stack": plan.stack, "is_new": plan.makes_stack, "changes": [asdict(each) for each in plan.changes]}
                for plan in plans
            ]
            document = {"dry_run": True, "stacks": stacks}
            if as_json:
                click.echo(json.dumps(document, indent=1))
            else:
                say(plans_text(plans))
            say("nothing was changed (--dry-run)", err=True)
            return
        done = deployment.deploy(code)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    changed = " and ".join(done.changed) or "nothing"
    say(f"fleet {done.fleet} in {done.region}: changed {changed}")
    say(f"export DYNAMO_TABLE_NAME={done.table}")
    say(f"export LAYOUTLM_TRAINING_BUCKET={done.bucket}")


def _strands_jobs(aws: "Aws", request: "FleetRequest") -> bool:
    """Whether the request removes the on-demand group while its queue has jobs; warns of them on stderr."""
    from receipt_dynamo import DynamoClient, StoreError
    from receipt_dynamo.entities import ondemand_queue
    from receipt_layoutlm.fleet.names import workers_stack
    from receipt_layoutlm.fleet.stack import FleetStack
    from receipt_layoutlm.fleet.status import jobs_of_queue
    from receipt_layoutlm.jobs.wording import count

    if float(request.values.get("OnDemandMaximum", 1)) > 0:
        return False
    before = FleetStack(aws.cloudformation, workers_stack(request.fleet)).state()
    if before is None or "TableName" not in before.parameters:
        return False
    queue = ondemand_queue(before.parameters["QueueName"])
    try:
        jobs = jobs_of_queue(DynamoClient(before.parameters["TableName"], aws.region), queue)
    except StoreError as error:
        say(f"warning: the jobs of queue {queue} are unknown: {clean(error)}", err=True)
        return False
    if jobs:
        names = ", ".join(f"{clean(job.name)} ({job.job_id[:8]})" for job in jobs[:3]) + ", …" * (len(jobs) > 3)
        say(
            f"warning: queue {queue} has {count(len(jobs), 'job')} ({names}) that no machine would claim any more. "
            f"Fix: wait until they are done, run `layoutlm-cli worker run --queue {queue}` somewhere, or restore the "
            "group with `layoutlm-cli fleet deploy --on-demand-maximum 1`",
            err=True,
        )
    return bool(jobs)


def show_warning(name: str, warning: "CheckResult") -> None:
    say(f"warning: {clean(name)}: {clean(warning.found)}. Fix: {clean(warning.advice)}", err=True)


def show_plan(stack: str, plan: "StackPlan | None") -> None:
    count = 0 if plan is None else len(plan.changes)
    say(f"stack {stack}: {f'{count} changes' if count != 1 else '1 change'}", err=True)


def plans_text(plans: "list[StackPlan]") -> str:
    if not plans:
        return "nothing would change"
    rows = [
        (
            plan.stack,
            change.action,
            change.resource,
            change.resource_type,
            "yes" if change.replaces else "",
            ", ".join(change.properties),
        )
        for plan in plans
        for change in plan.changes
    ]
    header = (
        *(Column("stack", rank=3), Column("action"), Column("resource"), Column("type", rank=2), Column("replaced")),
        Column("properties", rank=1, wraps=True),
    )
    return table(header, rows)
