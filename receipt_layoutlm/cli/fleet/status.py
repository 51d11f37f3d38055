"""layoutlm-cli fleet status: queues, machines with their jobs and leases, and today's cost."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, standing_fleet
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, clean, table, when
from receipt_layoutlm.jobs.wording import duration, position_text

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.status import FleetStatus, HeldJob


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@fleet_options
def show_status(fleet: str, region: str | None, as_json: bool) -> None:
    """Show queues, machines with their jobs, and today's cost.

    \b
    due      jobs that can be claimed now; later ones wait for a retry
    lease    time until the lease expires unless renewed; workers renew it every 15 s
    today    US dollars since midnight UTC, metered every five minutes while there are machines
    """
    from receipt_dynamo import utcnow
    from receipt_layoutlm.fleet.status import fleet_status

    status = fleet_status(fleet, standing_fleet(fleet, region).sources(), utcnow())
    if not as_json:
        say(status_text(status))
        return
    document = {
        **asdict(status),
        "at": status.at.isoformat(),
        "pause": status.pause and status.pause.model_dump(mode="json", exclude={"fleet"}),
        "cost": status.cost.model_dump(mode="json", exclude={"fleet"}),
    }
    click.echo(json.dumps(document, indent=1))


def status_text(status: "FleetStatus") -> str:
    """Queues, groups and machines with their jobs, as tables."""
    limit = f" of {status.max_cost_per_day:.2f} a day" if status.max_cost_per_day else ""
    head = f"fleet {status.fleet}: {status.cost.dollars:.2f} dollars today{limit}"
    if status.pause is not None:
        end = f"PAUSED until {when(status.pause.until)}: {clean(status.pause.reason)}"
        head += f"\n{end} (`layoutlm-cli fleet resume` ends the pause)"
    queues = [
        (each.queue, each.due, each.later, each.running, duration(each.oldest_seconds) if each.due else "")
        for each in status.queues
    ]
    groups = [(each.group, each.desired, each.maximum) for each in status.groups]
    machines: list[tuple[str, ...]] = []  # one line per job; the cells of a machine are on its first line
    for machine in status.machines:
        kind = f"{machine.instance_type} {'spot' if machine.spot else 'on-demand'}"
        cells = (machine.instance_id, kind, machine.zone, machine.state, duration(machine.age_seconds))
        jobs = [_job_cells(job) for job in machine.jobs] or [("idle", "", "")]
        machines += [(*(cells if number == 0 else ("",) * len(cells)), *job) for number, job in enumerate(jobs)]
    header = (
        Column("machine"),
        Column("type", rank=3, wraps=True),
        Column("zone", rank=5),
        Column("state", rank=2),
        Column("age", rank=4),
        Column("job", wraps=True),
        Column("progress", rank=1, wraps=True),
        Column("lease"),
    )
    paragraphs = [
        head,
        table(("queue", "due", "later", "running", "oldest waits"), queues),
        "\n".join((table(("group", "desired", "maximum"), groups), *_group_troubles(status))),
        table(header, machines) if machines else "no machine runs",
    ]
    if status.elsewhere:
        jobs = [_job_cells(job) for job in status.elsewhere]
        paragraphs.append(
            "workers outside of the fleet\n"
            + table((Column("job", wraps=True), Column("progress", wraps=True), Column("lease")), jobs)
        )
    return "\n\n".join(paragraphs)


def _group_troubles(status: "FleetStatus") -> Iterator[str]:
    for group in status.groups:
        if group.suspended:
            processes = " and ".join(map(clean, group.suspended))
            yield f"{clean(group.group)}: {processes} suspended (`layoutlm-cli fleet resume` resumes it)"
        if group.trouble:
            yield f"{clean(group.group)}: {clean(group.trouble)}"


def _job_cells(job: "HeldJob") -> tuple[str, str, str]:
    lease = duration(job.lease_seconds) if job.lease_seconds > 0 else "EXPIRED"
    position = "" if job.position is None else position_text(job.position)
    return f"{job.name} ({job.job_id[:8]}), attempt {job.attempt}", position, lease
