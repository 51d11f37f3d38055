"""layoutlm-cli fleet deploy: CloudFormation stacks and the code that the machines run."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from receipt_layoutlm.cli.fleet.options import fleet_aws, fleet_options, show_event
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.cli.template_options import parameter_options, parameter_values
from receipt_layoutlm.fleet.template import read_template

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.check_result import CheckResult
    from receipt_layoutlm.fleet.deploy import Aws, FleetRequest
    from receipt_layoutlm.fleet.images import ImageChange
    from receipt_layoutlm.fleet.stack import StackPlan


# parameters that deploy computes, or that have an option of their own
_WITHOUT_OPTION: Final = frozenset(
    {
        *("FleetName", "TableName", "TableStreamArn", "BucketName", "Makes"),
        *("BundleSha256", "ScalerSha256", "ScalerVersion", "ImageId"),
    }
)
PARAMETERS: Final = [
    parameter
    for template in ("workers.yaml", "network.yaml", "storage.yaml")
    for parameter in read_template(template).parameters.values()
    if parameter.name not in _WITHOUT_OPTION
]

keep_image_option = click.option(
    "--keep-image", is_flag=True, help="Keep the image of the deployed fleet, until --ami-id names a parameter again."
)


@click.command()
@click.option("--table", "table_name", metavar="TABLE", help="Existing table to use; it is checked, and not changed.")
@click.option("--bucket", metavar="BUCKET", help="Existing bucket to use; it is checked, and not changed.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Wheel to install on the machines (default: the newest in dist/, or the one installed here).",
)
@click.option("--keep-code", is_flag=True, help="Keep the deployed code of machines and scaler.")
@keep_image_option
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
    keep_image: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a fleet in your AWS account, or change a deployed one.

    Creates a storage stack for table and bucket, unless both exist, a network stack unless subnets are given, and a
    stack of the workers, which costs nothing until there is a job. Options that are not given keep their deployed
    values, or the template's defaults. Running jobs are not affected: existing machines keep their code and settings.
    """
    from receipt_layoutlm.fleet.deploy import DeployCallbacks, Deployment, FleetRequest, build_code

    if keep_code and wheel is not None:
        raise click.UsageError("--wheel and --keep-code exclude each other: give one of the two")
    aws, values = fleet_aws(region), parameter_values(PARAMETERS, options)
    if keep_image:
        values |= kept_image(aws, fleet, values)
    request = FleetRequest(fleet, table_name, bucket, values)
    if _strands_jobs(aws, request) and not (yes or dry_run):
        click.confirm("Remove the on-demand group anyway?", abort=True, err=True)
    deployment = Deployment(aws, request, DeployCallbacks(show_warning, show_plan, show_event), time.sleep)
    image = deployment.image_change()
    show_image(image)
    with tempfile.TemporaryDirectory() as folder:
        code = None
        if not keep_code:
            say("building the archives for machines and scaler", err=True)
            code = build_code(wheel, Path(folder))
        if dry_run:
            plans = deployment.preview(code)
            stacks = [
                {"stack": plan.stack, "is_new": plan.makes_stack, "changes": [asdict(each) for each in plan.changes]}
                for plan in plans
            ]
            document = {"dry_run": True, "image": asdict(image), "stacks": stacks}
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
    if done.restored:
        say(f"changed beside their stacks, and as deployed again: {', '.join(done.restored)}", err=True)
    if "@" in done.alarm_target:
        say(f"alarms go to {done.alarm_target}, once the link in AWS's first e-mail is followed", err=True)
    elif not done.alarm_target:
        say("alarms go nowhere: deploy with --alarm-email, or with --alarm-topic-arn", err=True)
    say(f"export DYNAMO_TABLE_NAME={done.table}")
    say(f"export LAYOUTLM_TRAINING_BUCKET={done.bucket}")


def show_image(image: "ImageChange") -> None:
    """Name the image that new machines start from, and the one before, on stderr."""
    if image.before is not None and image.before != image.after:
        after = image.after or "the one that its parameter names"
        say(f"image of new machines: {image.before} -> {after} (--keep-image keeps it)", err=True)
    elif image.before is not None:
        say(f"image of new machines: {image.before}, as deployed", err=True)


def kept_image(aws: "Aws", fleet: str, values: Mapping[str, str]) -> dict[str, str]:
    """The deployed image as a value of the request."""
    from receipt_layoutlm.fleet.images import PARAMETER, deployed_image
    from receipt_layoutlm.fleet.names import workers_stack
    from receipt_layoutlm.fleet.stack import FleetStack

    if PARAMETER in values:
        raise click.UsageError("--ami-id and --keep-image exclude each other: give one of the two")
    image = deployed_image(FleetStack(aws.cloudformation, workers_stack(fleet)).state())
    if image is None:
        raise click.ClickException(f"fleet {fleet} in {aws.region} has no image to keep: omit --keep-image")
    return {PARAMETER: image}


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
