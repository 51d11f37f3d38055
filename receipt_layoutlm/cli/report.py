"""layoutlm-cli report: what happened in a run, as one page that works offline."""

import functools
import shlex
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.completion import job_argument
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import PROGRAM, pasteable, say, say_json
from receipt_layoutlm.cli.tables import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from receipt_dynamo import Job, JobQueue
    from receipt_layoutlm.reports.report import Report
    from receipt_layoutlm.reports.report_build import MadeReport
    from receipt_layoutlm.storage.bucket import Bucket


@click.command("report")
@job_argument
@click.option(
    "--html",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, replaced if it exists (default: report-ID.html in this folder).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; a file is written only with --html.")
@click.option(
    "--md", "as_markdown", is_flag=True, help="Print the report as Markdown; a file is written only with --html."
)
@click.option(
    "--redact",
    is_flag=True,
    help="Leave out texts and pictures of pages, and texts that may quote them; pages are named by a digest.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the pages' pictures, named by SHA-256, file name or page id.",
)
@click.option(
    "--store",
    is_flag=True,
    help="Put report.html, report.json and report.md beside the newest attempt in the bucket, as a worker does at the "
    "end of each attempt; no file is written here unless --html names one.",
)
@click.option("--attempt", type=click.IntRange(min=1), hidden=True, help="Attempt beside which --store puts the files.")
@click.option("--open", "opens", is_flag=True, help="Open the file in the browser.")
@store_options
def report_command(
    connection: Connection,
    reference: str,
    path: Path | None,
    as_json: bool,
    as_markdown: bool,
    redact: bool,
    images: Path | None,
    store: bool,
    attempt: int | None,
    opens: bool,
) -> None:
    """Show what happened in a run: one HTML file that needs no network.

    It has curves with the attempts under their axis, scores by label, the confusion matrix with the pages behind its
    cells, calibration, slices, the 20 worst pages drawn, changed options, time and cost, artifacts with digests, and
    what to try next, each with its evidence. Works for a job in any state, with what there is of it.

    \b
    layoutlm-cli report @last --open
    layoutlm-cli report NAME --redact --html for-the-vendor.html
    layoutlm-cli report NAME --md
    """
    if as_json and as_markdown:
        raise click.UsageError("--json and --md both print: give one of the two")
    prints = as_json or as_markdown
    if opens and (prints or store) and path is None:
        raise click.UsageError("--open opens a file, and --json, --md and --store write none: name one with --html")
    if redact and images:
        raise click.UsageError("--redact leaves pictures out: leave out --images")
    require("reports", None if images else ("jinja2",))
    from receipt_layoutlm.reports.report_build import without_texts
    from receipt_layoutlm.reports.report_html import report_html
    from receipt_layoutlm.reports.report_markdown import report_markdown

    queue = connection.queue()
    job = find_named_job(queue.client, reference)
    if store and not job.attempt:
        raise click.UsageError(f"job {clean(job.name)} has no attempt yet, beside which --store would put the report")
    open_bucket = functools.cache(connection.open_bucket)  # a client takes half a second to make
    made = made_report(queue, job, open_bucket)
    if images is not None:
        made = with_pictures(made, images)
    if redact:
        made = without_texts(made)
    if store:
        say(f"stored {stored_report(open_bucket, job, attempt or job.attempt, made)}", err=prints)
    if as_json:
        say_json(made.report.model_dump_json(indent=1))
    if as_markdown:
        click.echo(report_markdown(made.report))
    if path is not None or not (prints or store):
        path = path or Path(f"report-{job.job_id[:8]}.html")
        path.write_text(report_html(made), encoding="utf-8")
        say(written_text(made.report, path), err=prints)
        if opens:
            webbrowser.open(path.absolute().as_uri())


def made_report(queue: "JobQueue", job: "Job", open_bucket: "Callable[[str], Bucket]") -> "MadeReport":
    """The report of a job, made anew from table and bucket; its commands are complete."""
    from importlib.metadata import version

    from receipt_layoutlm.cli.report_history import run_history
    from receipt_layoutlm.jobs.rerun import rerun_command
    from receipt_layoutlm.jobs.run_files import read_run_files
    from receipt_layoutlm.jobs.timeline import timeline
    from receipt_layoutlm.jobs.why_facts import lease_or_none, state_text
    from receipt_layoutlm.reports.report_build import MadeReport, build_report
    from receipt_layoutlm.storage.tables import with_tables

    job = with_tables(job, open_bucket)
    lease, attempts, now = lease_or_none(queue, job.job_id), queue.client.list_attempts(job.job_id), queue.now()
    history = run_history(
        job,
        state_text(job, lease, queue.timing, now),
        attempts,
        timeline(job, lease, attempts, now),
        queue.client.list_all_job_metrics(job.job_id),
        read_run_files(open_bucket, job, lease),
    )
    made = build_report(history, functools.partial(rerun_command, job), now, version("receipt-layoutlm"))
    advice = tuple(
        each.model_copy(update={"command": each.command and pasteable(f"{PROGRAM} {each.command}")})
        for each in made.report.advice
    )
    return MadeReport(made.report.model_copy(update={"advice": advice}), made.overlays)


def with_pictures(made: "MadeReport", folder: Path) -> "MadeReport":
    """The report with the pictures of its drawn pages; one that cannot be read is told, and its page has none."""
    from dataclasses import replace

    from receipt_layoutlm.cli.overlay_pages import Picture
    from receipt_layoutlm.data.images import find_image, images_by_name
    from receipt_layoutlm.errors import UserError

    files, overlays = images_by_name(folder), []
    for overlay in made.overlays:
        if overlay is not None and (place := find_image(overlay.page, files)) is not None:
            try:
                overlay = replace(overlay, image=Picture(place, 1, 0).open())
            except UserError as error:
                say(f"warning: {clean(error)}", err=True)
        overlays.append(overlay)
    return replace(made, overlays=tuple(overlays))


def stored_report(open_bucket: "Callable[[str], Bucket]", job: "Job", attempt: int, made: "MadeReport") -> str:
    """Put the three files beside an attempt in the bucket; returns the place of report.html."""
    from receipt_layoutlm.jobs.models import run_folder
    from receipt_layoutlm.jobs.run_files import REPORT
    from receipt_layoutlm.reports.report_html import report_html
    from receipt_layoutlm.reports.report_markdown import report_markdown

    bucket, keys = run_folder(open_bucket, job)
    place = keys.attempt(attempt)
    bucket.put_bytes(made.report.model_dump_json(indent=1).encode(), f"{place}report.json")
    bucket.put_bytes(report_markdown(made.report).encode(), f"{place}report.md")
    bucket.put_bytes(report_html(made).encode(), place + REPORT)
    return keys.uri(place + REPORT)


def written_text(report: "Report", path: Path) -> str:
    """Where the report is, what it says first, and the next command."""
    best = report.best
    score = "no evaluation yet" if best is None else f"{clean(best.metric_name)} {best.metric_value:.4f}"
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    lines = [f"{clean(path)}: {report.job.status}, {score}, {len(report.worst_pages)} pages drawn, {size}"]
    first = next((each for each in report.advice if each.command), None)
    if first is not None:
        lines += [f"{clean(first.advice)}: {clean(first.evidence[0])}", "next:", f"  {first.command}"]
    else:
        lines += ["next:", f"  {PROGRAM} job show {shlex.quote(report.job.job_id[:8])}"]
    return "\n".join(lines)
