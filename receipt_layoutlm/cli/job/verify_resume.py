"""layoutlm-cli job verify-resume: replay training between two checkpoints and compare them bit by bit."""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.completion import job_argument
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.paths import prepare_local_work_dir

if TYPE_CHECKING:
    from receipt_layoutlm.jobs.verify_resume import Verdict


@click.command("verify-resume")
@job_argument
@click.option(
    "--from", "from_step", type=int, metavar="STEP", help="Checkpoint to start from [default: the one before --to]."
)
@click.option("--to", "to_step", type=int, metavar="STEP", help="Checkpoint to compare with [default: the last one].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def verify_resume_command(
    connection: Connection, reference: str, from_step: int | None, to_step: int | None, as_json: bool
) -> None:
    """Verify that training resumes bit-identically.

    Replays the steps between two stored checkpoints on this machine and compares the result bit by bit. Exit code 0
    if weights, optimizer state, random states and evaluations are equal, otherwise 1. Writes nothing to the table
    or the bucket. The work folder (LAYOUTLM_WORK_DIR, else in the state folder) must hold three checkpoints.
    """
    require("train")
    from receipt_layoutlm.cli.progress import ProgressView
    from receipt_layoutlm.jobs.verify_resume import choose_span, verify_resume
    from receipt_layoutlm.run.events import Event, Progress

    client = connection.client()
    job = find_named_job(client, reference)
    span = choose_span(client, connection.open_bucket, job, from_step, to_step)
    work_dir = prepare_local_work_dir(os.environ)
    with tempfile.TemporaryDirectory(prefix="verify-resume-", dir=work_dir) as folder, ProgressView() as view:

        def observe(event: Event) -> None:
            if isinstance(event, Progress) and event.phase != "encode":  # counts the steps of the replay, not the job's
                done = max(0, event.global_step - span.start.global_step)
                event = event.model_copy(update={"global_step": done, "total_steps": span.steps})
            view.observe(job, event)

        verdict = verify_resume(span, connection.open_bucket, Path(folder), observe)
    if as_json:
        say_json(verdict.model_dump_json(indent=1))
    else:
        say(verdict_text(verdict))
    sys.exit(0 if verdict.is_identical else 1)


def verdict_text(verdict: "Verdict") -> str:
    """One line if everything is equal; otherwise the differences and the likely reasons."""
    span = f"{verdict.to_step - verdict.from_step} steps replayed from {verdict.from_step} to {verdict.to_step}"
    left_out = verdict.comparison.left_out
    if verdict.is_identical:
        earlier = "" if left_out is None else "earlier "
        lines = [f"identical: {span}, every weight, moment and {earlier}evaluation equal"]
    else:
        compared = verdict.comparison
        counts = [f"{count.differing} of {count.tensors} {kind}" for kind, count in compared.tensors.items()]
        largest = max(count.largest_difference for count in compared.tensors.values())
        lines = [f"different: {span}"]
        lines += [f"  {', '.join(counts)} differ, the largest absolute difference is {largest:.3g}"]
        if compared.evaluations:
            lines.append(f"  the first differing evaluation is at step {compared.evaluations[0]}")
        if compared.state:
            lines.append(f"  differing training state: {', '.join(compared.state)}")
        if verdict.reasons:
            lines += ["  likely because:", *(f"    {clean(reason)}" for reason in verdict.reasons)]
        else:
            lines.append("  device, threads and versions equal the job's: these steps do not lead to its checkpoint")
    if left_out is not None:
        lines.append(f"the evaluation at step {left_out} was still due in the stored checkpoint: it is not compared")
    return "\n".join(lines)
