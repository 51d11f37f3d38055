"""layoutlm-cli job verify-resume: replay training between two checkpoints and compare them bit by bit."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.jobs.find import find_job

if TYPE_CHECKING:
    from receipt_layoutlm.jobs.verify_resume import ReplaySpan, Verdict
    from receipt_layoutlm.run.events import Event


@click.command("verify-resume")
@click.argument("reference", metavar="JOB")
@click.option(
    "--from", "from_step", type=int, metavar="STEP", help="Checkpoint to start from [default: the one before --to]."
)
@click.option("--to", "to_step", type=int, metavar="STEP", help="Checkpoint to compare with [default: the last one].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def verify_resume(
    connection: Connection, reference: str, from_step: int | None, to_step: int | None, as_json: bool
) -> None:
    """Verify that training resumes bit-identically.

    Replays the steps between two stored checkpoints on this machine and compares the result bit by bit. Exit code 0
    if weights, optimizer state, random states and evaluations are equal, otherwise 1. Writes nothing to the table
    or the bucket. The temporary folder (TMPDIR) must hold three checkpoints.
    """
    require("train")
    from receipt_layoutlm.cli.progress import ProgressView
    from receipt_layoutlm.jobs import verify_resume as replay

    client = connection.client()
    job = find_job(client, reference)
    span = replay.choose_span(client, connection.open_bucket, job, from_step, to_step)
    with tempfile.TemporaryDirectory(prefix="verify-resume-") as folder, ProgressView() as view:
        shown = _within(span, lambda event: view.observe(job, event))
        verdict = replay.verify_resume(span, connection.open_bucket, Path(folder), shown)
    click.echo(verdict.model_dump_json(indent=1) if as_json else verdict_text(verdict))
    sys.exit(0 if verdict.is_identical else 1)


def _within(span: "ReplaySpan", observe: Callable[["Event"], None]) -> Callable[["Event"], None]:
    """Progress counts the steps of the replay instead of the job's."""
    from receipt_layoutlm.run.events import Progress

    def shown(event: "Event") -> None:
        if isinstance(event, Progress) and event.phase != "encode":
            done = max(0, event.global_step - span.start.global_step)
            event = event.model_copy(update={"global_step": done, "total_steps": span.steps})
        observe(event)

    return shown


def verdict_text(verdict: "Verdict") -> str:
    """One line if everything is equal; otherwise the differences and the likely reasons."""
    span = f"{verdict.to_step - verdict.from_step} steps replayed from {verdict.from_step} to {verdict.to_step}"
    left_out = verdict.comparison.left_out
    if verdict.is_identical:
        earlier = "" if left_out is None else "earlier "
        lines = [f"identical: {span}, every weight, moment and {earlier}evaluation equal"]
    else:
        lines = [f"different: {span}", *_differences(verdict)]
    if left_out is not None:
        lines.append(f"the evaluation at step {left_out} was still due in the stored checkpoint: it is not compared")
    return "\n".join(lines)


def _differences(verdict: "Verdict") -> list[str]:
    found = verdict.comparison
    counts = {kind: f"{count.differing} of {count.tensors} {kind}" for kind, count in found.tensors.items()}
    largest = max(count.largest_difference for count in found.tensors.values())
    lines = [f"  {', '.join(counts.values())} differ, the largest absolute difference is {largest:.3g}"]
    if found.evaluations:
        lines.append(f"  the first differing evaluation is at step {found.evaluations[0]}")
    if found.state:
        lines.append(f"  differing training state: {', '.join(found.state)}")
    if verdict.reasons:
        lines += ["  likely because:", *(f"    {clean(reason)}" for reason in verdict.reasons)]
    else:
        lines.append("  device, threads and versions equal the job's: these steps do not lead to its checkpoint")
    return lines
