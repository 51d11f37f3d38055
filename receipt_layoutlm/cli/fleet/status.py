"""layoutlm-cli fleet status: queues, machines and what each does, leases with their countdown, cost today."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, standing_fleet
from receipt_layoutlm.cli.tables import clean, table, when
from receipt_layoutlm.jobs.wording import duration

if TYPE_CHECKING:
    from receipt_layoutlm.fleet.status import FleetStatus, HeldJob


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@fleet_options
def status(fleet: str, region: str | None, as_json: bool) -> None:
    """Show what waits, which machines there are, what each does, and what today cost.

    \b
    due      jobs that can be claimed now; later ones wait after an error
    lease    for how long a worker keeps its job without a word; it renews four times in that time
    today    US dollars since midnight UTC, metered every five minutes while there are machines
    """
    from receipt_dynamo import utcnow
    from receipt_layoutlm.fleet.status import fleet_status

    found = fleet_status(fleet, standing_fleet(fleet, region).sources(), utcnow())
    click.echo(json.dumps(_document(found), indent=1) if as_json else _text(found))


def _document(found: "FleetStatus") -> dict[str, object]:
    pause = found.pause and found.pause.model_dump(mode="json", exclude={"fleet"})
    plain = {**asdict(found), "at": found.at.isoformat(), "pause": pause}
    return {**plain, "cost": found.cost.model_dump(mode="json", exclude={"fleet"})}


def _text(found: "FleetStatus") -> str:
    parts = [_head(found), _queues(found), _groups(found)]
    parts.append(_machines(found) if found.machines else "no machine runs")
    if found.elsewhere:
        rows = [_job_cells(job) for job in found.elsewhere]
        parts.append("workers outside of the fleet\n" + table(("job", "progress", "lease"), rows))
    return "\n\n".join(parts)


def _head(found: "FleetStatus") -> str:
    limit = f" of {found.max_cost_per_day:.2f} a day" if found.max_cost_per_day else ""
    lines = [f"fleet {found.fleet}: {found.cost.dollars:.2f} dollars today{limit}"]
    if found.pause is not None:
        lines.append(f"PAUSED until {when(found.pause.until)}: {clean(found.pause.reason)} ('fleet resume' ends that)")
    return "\n".join(lines)


def _queues(found: "FleetStatus") -> str:
    rows = [
        (each.queue, each.due, each.later, each.running, duration(each.oldest_seconds) if each.due else "")
        for each in found.queues
    ]
    return table(("queue", "due", "later", "running", "oldest waits"), rows)


def _groups(found: "FleetStatus") -> str:
    return table(("group", "desired", "maximum"), [(each.group, each.desired, each.maximum) for each in found.groups])


def _machines(found: "FleetStatus") -> str:
    rows = []
    for each in found.machines:
        kind = f"{each.instance_type} {'spot' if each.spot else 'on-demand'}"
        own = (each.instance_id, kind, each.zone, each.state, duration(each.age_seconds))
        jobs = [_job_cells(job) for job in each.jobs] or [("idle", "", "")]
        rows += [(*(own if number == 0 else ("",) * len(own)), *cells) for number, cells in enumerate(jobs)]
    return table(("machine", "type", "zone", "state", "age", "job", "progress", "lease"), rows)


def _job_cells(job: "HeldJob") -> tuple[str, str, str]:
    lease = duration(job.lease_seconds) if job.lease_seconds > 0 else "EXPIRED"
    return f"{job.name} ({job.job_id[:8]}), attempt {job.attempt}", _position(job), lease


def _position(job: "HeldJob") -> str:
    at = job.position
    return "" if at is None else f"{at.phase}, step {at.step} of {at.total}"
