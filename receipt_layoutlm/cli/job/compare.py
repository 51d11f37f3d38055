"""layoutlm-cli job compare: rank runs whose scores are comparable, and tell differences from noise."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import JsonValue

from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, clean, dollars, score, table
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.wording import count, duration

if TYPE_CHECKING:  # numpy takes a tenth of a second
    from receipt_dynamo import Job
    from receipt_layoutlm.datasets.predictions import EvaluatedJobs
    from receipt_layoutlm.jobs.compare import ComparedRun, PairedDifference, RunComparison
    from receipt_layoutlm.run.paired import Difference, PairedScores

SHOWN_PAGES = 5  # ids of pages that flipped


@click.command()
@click.argument("references", metavar="JOB JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option("--force", is_flag=True, help="Show runs that are not comparable too, marked with !.")
@click.option(
    "--group-by",
    metavar="TAG|recipe",
    help="Compare the jobs of each value of a tag (e.g. experiment) as one, by the mean of their scores, or those that "
    "differ in their seed alone (recipe).",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Of two jobs: write a page with their differences, and the pages that became right or wrong.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def compare(
    connection: Connection,
    references: tuple[str, ...],
    force: bool,
    group_by: str | None,
    html_file: Path | None,
    as_json: bool,
) -> None:
    """Rank jobs that have succeeded, and show whether the others differ from the first by more than noise.

    Prints score, score of each label, steps, cost and time, the options that differ, and for each job its difference
    from the first one on the pages of the validation set, with 95 % intervals that resample whole merchants. Where an
    interval holds zero, no difference is shown. Two single jobs differ as models; to compare recipes, train each with
    several seeds and give --group-by.

    Scores are comparable if pages, split, label map, windows, scorer and validation set are equal. Every run carries a
    stamp of them; if a stamp differs from the first job's, the differences are printed and nothing is ranked. Test
    scores are shown but not used for ranking.
    """
    from receipt_layoutlm.cli.progress import counting_bar
    from receipt_layoutlm.datasets.predictions import EvaluatedJobs
    from receipt_layoutlm.jobs.compare import NotComparable, compare_jobs
    from receipt_layoutlm.storage.tables import with_tables

    client = connection.client()
    found = (find_job(client, reference) for reference in references)
    jobs = list({job.job_id: with_tables(job, connection.open_bucket) for job in found}.values())
    if len(jobs) < 2:
        raise click.UsageError("give at least two jobs")
    if html_file is not None:
        require("reports")
        if len(jobs) > 2 or group_by is not None:
            raise click.UsageError("--html shows two jobs: name these two, without --group-by")
    evaluated = EvaluatedJobs(connection.open_bucket)
    with counting_bar("predictions", len(jobs)) as on_job:
        comparison = compare_jobs(client, jobs, evaluated, group_by, on_job)
    marked = [run for run in comparison.runs if run.not_comparable]
    if marked and not force:
        texts = [
            clean(f"{run.name} ({run.job_id[:8]}) against {jobs[0].name}: {'; '.join(run.not_comparable)}")
            for run in marked
        ]
        raise NotComparable(f"these runs cannot be ranked. {'. '.join(texts)}. --force shows them all, marked")
    if as_json:
        click.echo(comparison.model_dump_json(indent=1))
    else:
        say("\n\n".join(_parts(comparison)))
    if html_file is not None:
        _write_html(evaluated, jobs, comparison, html_file)


def _write_html(evaluated: "EvaluatedJobs", jobs: "Sequence[Job]", comparison: "RunComparison", file: Path) -> None:
    """The page of two jobs. Raises NotComparable where there are no predictions of both."""
    from receipt_layoutlm.jobs.compare import NotComparable
    from receipt_layoutlm.reports.comparison_html import FlippedPage, comparison_html
    from receipt_layoutlm.reports.judged_pages import judged_pages

    pair = next(iter(comparison.against_first), None)
    if pair is None or pair.scores is None:
        reason = "their scores are not comparable" if pair is None else pair.missing
        raise NotComparable(f"{file} is not written: {reason}")
    pages = evaluated.pages(jobs[0])
    first, other = (
        {page.page_id: page.overlay() for page in judged_pages(evaluated.predicted(job).values(), pages)}
        for job in jobs
    )

    def flipped(page_ids: Sequence[str]) -> list[FlippedPage]:
        both = ((first[page_id], other[page_id]) for page_id in page_ids)
        return [FlippedPage(one, two) for one, two in both if one is not None and two is not None]

    names = [job.job_id for job in jobs]
    options = {flag_of(name): (values[names[0]], values[names[1]]) for name, values in comparison.options.items()}
    wrong, right = flipped(pair.scores.became_wrong), flipped(pair.scores.became_right)
    document = comparison_html(pair.first, pair.other, pair.scores, options, wrong, right)
    try:
        file.write_text(document, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error
    say(f"{file}: {count(len(wrong), 'page')} that became wrong, {len(right)} that became right", err=True)


def _parts(comparison: "RunComparison") -> Iterator[str]:
    """The tables and texts for people."""
    yield _runs_text(comparison.runs, comparison.metric or "score")
    if comparison.groups:
        rows = [
            (group.rank, group.name, len(group.job_ids), score(group.mean), score(group.deviation) or "-")
            for group in comparison.groups
        ]
        yield table(("rank", "group", "runs", f"mean {comparison.metric}", "deviation"), rows)
    if comparison.options:
        yield _options_text(comparison.options, {run.job_id: run.name for run in comparison.runs})
    is_alone = len(comparison.against_first) == 1
    for each in comparison.against_first:
        yield _difference_text(each, with_labels=is_alone)


def _options_text(options: Mapping[str, Mapping[str, JsonValue]], names: Mapping[str, str]) -> str:
    header = (Column("differs"), *(Column(name, rank=place) for place, name in enumerate(names.values())))
    rows = [(option, *(_value(values.get(job_id)) for job_id in names)) for option, values in options.items()]
    return table(header, rows)


def _value(value: JsonValue) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _difference_text(pair: "PairedDifference", with_labels: bool) -> str:
    """One sentence of the whole, rows of the labels (else only of those that differ), and the pages that flipped."""
    title = f"{clean(pair.other)} against {clean(pair.first)}"
    if (scores := pair.scores) is None:
        return f"{title}: not compared page by page: {clean(pair.missing)}"
    lines = [f"{title}, on {count(scores.pages, 'page')} of {count(scores.groups, 'merchant')}: {_sentence(scores.f1)}"]
    rows = [
        (label, each.support, score(each.first), score(each.other), f"{each.difference:+.4f}", _interval_text(each))
        for label, each in scores.per_label.items()
        if with_labels or each.is_shown
    ]
    if rows:
        first, other = clean(pair.first), clean(pair.other)
        interval = Column("95 % interval")
        header = (Column("label"), Column("support", rank=3), Column(first, rank=1), Column(other, rank=1))
        lines.append(table((*header, Column("difference", rank=2), interval), rows))
    lines += [text for text in (_flipped(scores, "right"), _flipped(scores, "wrong")) if text]
    return "\n".join(lines)


def _sentence(f1: "Difference") -> str:
    found = f"F1 {f1.first:.4f} -> {f1.other:.4f}, {f1.difference:+.4f}"
    if f1.low is None:
        return f"{found}; too few merchants for an interval"
    verdict = "a difference is shown" if f1.is_shown else "no difference shown"
    return f"{found} {_interval_text(f1)}: {verdict}"


def _interval_text(each: "Difference") -> str:
    if each.low is None or each.high is None:
        return "-"
    return f"[{each.low:+.4f}, {each.high:+.4f}]" + (" *" if each.is_shown else "")


def _flipped(scores: "PairedScores", verdict: str) -> str:
    pages = scores.became_right if verdict == "right" else scores.became_wrong
    if not pages:
        return ""
    shown = ", ".join(clean(page) for page in pages[:SHOWN_PAGES])
    return f"{count(len(pages), 'page')} became {verdict}: {shown}{', ...' if len(pages) > SHOWN_PAGES else ''}"


def _runs_text(rows: Sequence["ComparedRun"], metric: str) -> str:
    """A table of the runs, then the reasons for the marked ones."""
    labels = sorted({label for row in rows for label in row.per_label})
    has_test = ["test"] if any(row.test_value is not None for row in rows) else []
    header = (
        *(Column(title) for title in ("rank", "id", "name", metric)),
        *(Column(title, rank=2) for title in ("macro F1", "field F1")),
        *(Column(title, rank=1) for title in has_test),
        *(Column(label, rank=5) for label in labels),
        *(Column(title, rank=3) for title in ("steps", "cost USD", "time")),
    )
    cells = [
        (
            row.rank or "!",
            row.job_id[:8],
            row.name,
            score(row.metric_value),
            score(row.macro_f1) or "-",
            score(row.field_f1) or "-",
            *(score(row.test_value) for _ in has_test),
            *(score(row.per_label.get(label)) for label in labels),
            "" if row.global_step is None else row.global_step,
            dollars(row.cost),
            "" if row.wall_seconds is None else duration(row.wall_seconds),
        )
        for row in rows
    ]
    notes = [
        f"! {clean(row.name)} ({row.job_id[:8]}): {'; '.join(row.not_comparable)}" for row in rows if row.not_comparable
    ]
    return "\n".join([table(header, cells), *notes])
