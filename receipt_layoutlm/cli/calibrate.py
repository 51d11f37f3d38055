"""layoutlm-cli calibrate: certainty from which fields may be accepted without a look."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.labelled_pages import NoPages, Subject, open_subject, subject_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.sources import threads_option
from receipt_layoutlm.cli.tables import score, table
from receipt_layoutlm.config_documents import from_document

if TYPE_CHECKING:
    from receipt_layoutlm.data.page import Page
    from receipt_layoutlm.inference.acceptance import Acceptance

SHOWN_ERRORS: Final = (0.01, 0.02, 0.05, 0.1)
"""Shares of errors that the summary has."""


@click.command("calibrate")
@click.option("--date-order", type=click.Choice(["dmy", "mdy"]), help="How to read 01/02/2018, as for predict.")
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="JOB",
    shell_complete=job_names,
    help="Calibrate on the pages that this job held out, by its own model; repeatable, for all folds of a dataset.",
)
@threads_option
@subject_options
def calibrate_command(
    connection: Connection,
    subject: Subject,
    pages: "list[Page] | None",
    folds: tuple[str, ...],
    date_order: Literal["dmy", "mdy"] | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Fit from which certainty a field may be accepted without a look.

    MODEL is a job (id, name, @last, @best), a folder that `job pull` wrote, or s3://BUCKET/PREFIX. The pages must be
    labelled and new to the model: the test set of the job (train with --test-ratio), or --dataset or --data, of which
    pages of merchants that the job was trained on are left out. The result is kept beside the weights, for
    `predict --max-error`.

    \b
    layoutlm-cli calibrate @best
    layoutlm-cli predict scans/ --max-error 0.02

    With --fold no labelled page is kept from training: jobs of the same options, each trained without a part of the
    pages, judge that part, and the thresholds go with MODEL, which was trained on all of them. This assumes that MODEL
    is at least as reliable as they are.

    \b
    layoutlm-cli train --dataset NAME --split kfold:3/1 --eval-every 100000 --job-name fold-1   # and 2, 3
    layoutlm-cli calibrate @best --fold fold-1 --fold fold-2 --fold fold-3

    It promises at most so many errors among accepted fields, if pages to come are like these: of the same kinds of
    merchants, read in the same way. The fewer pages, the fewer fields can be accepted; some hundred are a good number.
    """
    from receipt_layoutlm.inference.acceptance import ACCEPTANCE
    from receipt_layoutlm.inference.calibrate import Unseen, calibrate
    from receipt_layoutlm.inference.predictor import Predictor
    from receipt_layoutlm.jobs.models import add_to_model

    held_out = pages_of_folds(connection, folds) if folds else []
    if folds and pages is not None:
        raise click.UsageError("--fold names jobs that have pages of their own: leave out --dataset and --data")
    own = [] if folds else unseen_pages(subject, pages)
    predictor = Predictor.load(subject.folder, "auto", threads)
    with counting_bar("calibrate", None) as on_batch:
        unseen = (Unseen(Predictor.load(folder, "auto", threads), of_fold) for folder, of_fold in held_out)
        acceptance = calibrate(predictor, unseen if folds else [Unseen(predictor, own)], date_order, on_batch)
    place = add_to_model(connection.open_bucket, subject.place, ACCEPTANCE, acceptance.model_dump_json().encode())
    if as_json:
        click.echo(acceptance.model_dump_json(indent=1))
        return
    say(acceptance_text(acceptance))
    say(f"kept as {place}, where predict --max-error finds it")


def pages_of_folds(connection: Connection, references: Sequence[str]) -> "list[tuple[Path, list[Page]]]":
    """The model of each job and the pages that it was trained without. Raises NoPages if these are none, or shared."""
    from receipt_layoutlm.jobs.held_out import Seen, split_of_job

    held_out, held_by = [], dict[str, str]()
    for reference in references:
        fold = open_subject(connection, reference)
        if fold.job is None:
            raise click.UsageError(f"--fold {reference}: name a job, whose pages are known")
        split = split_of_job(connection.open_bucket, fold.job)
        pages = Seen.of(replace(split, validation=[])).unseen([*split.validation, *split.test])
        if not pages:
            raise NoPages(f"--fold {reference}: it held out no page of a merchant that it was not trained on")
        for page in pages:
            if (other := held_by.setdefault(page.page_id, fold.name)) != fold.name:
                raise NoPages(
                    f"--fold: page {page.page_id!r} was held out by {other} and by {fold.name}: give each fold of one "
                    "`--split kfold:K/I` once"
                )
        if from_document(fold.job.job_config).eval_every == "epoch":
            say(
                f"note: {fold.name} selected its weights by these pages; with --eval-every 100000 it does not", err=True
            )
        held_out.append((fold.folder, pages))
    return held_out


def unseen_pages(subject: Subject, pages: "list[Page] | None") -> "list[Page]":
    """The pages to calibrate on. Raises NoPages if the model has seen all of them."""
    from receipt_layoutlm.jobs.held_out import Seen

    if pages is None and subject.split is None:
        raise click.UsageError(f"{subject.name} is no job: name labelled pages with --dataset or --data")
    if subject.split is None:
        assert pages is not None
        return pages
    if pages is None:
        if not subject.split.test:
            raise NoPages(
                f"{subject.name} has no test set, and the model has seen its other pages: name labelled pages of other "
                "merchants with --dataset or --data, or train with --test-ratio 0.2"
            )
        return subject.split.test
    unseen = Seen.of(subject.split).unseen(pages)
    if not unseen:
        raise NoPages(f"the {len(pages)} pages are all of merchants that {subject.name} was trained on: name others")
    if len(unseen) < len(pages):
        say(f"note: {len(pages) - len(unseen)} pages of merchants that it was trained on are left out", err=True)
    return unseen


def acceptance_text(acceptance: "Acceptance") -> str:
    """Thresholds and coverage for some shares of errors."""
    rows = []
    for max_error in SHOWN_ERRORS:
        for label, limit in acceptance.thresholds(max_error).items():
            fields = acceptance.fields[label]
            accepted = [] if limit.certainty is None else [each for each in fields if each.certainty >= limit.certainty]
            errors = sum(not each.right for each in accepted)
            rows.append(
                (
                    f"{max_error:.0%}",
                    label,
                    "none" if limit.certainty is None else score(limit.certainty),
                    f"{len(accepted)} of {len(fields)}",
                    errors,
                )
            )
    header = ("at most", "label", "accept from", "accepted", "wrong")
    judges = f", judged by {acceptance.folds} models that were trained without them" if acceptance.folds else ""
    title = f"{acceptance.pages} pages of {acceptance.groups} merchants{judges}"
    return f"{title}\n{table(header, rows)}"
