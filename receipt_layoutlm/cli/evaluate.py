"""layoutlm-cli evaluate: scores of a model on labelled pages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.labelled_pages import NoPages, Subject, subject_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.sources import DeviceName, RuntimeChoice, device_option, runtime_option, threads_option
from receipt_layoutlm.cli.tables import clean, per_label_table, score, table
from receipt_layoutlm.errors import UserError

if TYPE_CHECKING:
    from receipt_layoutlm.data.page import Page
    from receipt_layoutlm.inference.evaluation import ModelScores

set_option = click.option(
    "--set",
    "set_name",
    type=click.Choice(["train", "validation", "test"]),
    help="Set of the job's own pages (default: test, else validation).",
)


@click.command("evaluate")
@set_option
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read the pages' pictures in this folder by OCR, and score the values instead of the words.",
)
@device_option
@runtime_option
@threads_option
@subject_options
def evaluate_command(
    connection: Connection,
    subject: Subject,
    pages: "list[Page] | None",
    set_name: str | None,
    images: Path | None,
    device: DeviceName,
    runtime: RuntimeChoice,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score a model on labelled pages as its training does.

    MODEL is a job (id, name, @last, @best), a folder that `job pull` wrote, or s3://BUCKET/PREFIX.

    \b
    layoutlm-cli evaluate @best
    layoutlm-cli evaluate @best --dataset other-receipts
    layoutlm-cli evaluate model/ --data pages.jsonl --images scans/

    Shows entities, values (fields), SROIE's exact texts, words and calibration, by label, by the length of pages, and
    for a job by merchants that it was trained on and new ones. With --images the words come from OCR, as in predict.
    """
    from receipt_layoutlm.inference.evaluation import evaluate_pages, evaluate_scans
    from receipt_layoutlm.inference.predictor import Predictor
    from receipt_layoutlm.jobs.held_out import Seen

    title, chosen = chosen_pages(subject, pages, set_name)
    predictor = Predictor.load(subject.folder, device, threads, runtime)
    notes = list(predictor.notes)
    trained_on = None if subject.split is None else Seen.of(subject.split).groups
    if trained_on is None:
        notes.append("the merchants that the model was trained on are unknown: name its job to score new ones apart")
    failed: dict[str, str] = {}
    if images is None:
        with counting_bar("score", None) as on_batch:
            scores = evaluate_pages(predictor, chosen, trained_on, on_batch)
    else:
        chosen, scans, failed = read_images(chosen, images, threads)
        with counting_bar("score", None) as on_batch:
            scores = evaluate_scans(predictor, chosen, scans, trained_on, on_batch)
    for note in notes:
        say(f"note: {note}", err=True)
    if as_json:
        click.echo(scores.model_dump_json(indent=1))
    else:
        say(f"{subject.name} on {title}\n{scores_text(scores)}")
    for page_id, reason in failed.items():
        say(f"error: {clean(page_id)}: {clean(reason)}", err=True)
    if failed:
        sys.exit(1)


def chosen_pages(subject: Subject, pages: "list[Page] | None", set_name: str | None) -> "tuple[str, list[Page]]":
    """The pages that were named, or a set of the job's own, and their title. Raises NoPages."""
    if pages is not None:
        if set_name is not None:
            raise click.UsageError("--set is of the job's own pages: leave it out with --dataset or --data")
        return "the pages named", pages
    if subject.split is None:
        raise click.UsageError(
            f"{subject.name} is no job, so it has no pages: name labelled ones with --dataset or --data"
        )
    chosen = set_name or ("test" if subject.split.test else "validation")
    own: list[Page] = getattr(subject.split, chosen)
    if not own:
        raise NoPages(f"{subject.name} has no {chosen} set: name another --set, or pages with --dataset or --data")
    title = {"train": "its training set", "validation": "its validation set, which chose the weights"}
    return title.get(chosen, "its test set"), own


def read_images(
    pages: "list[Page]", folder: Path, threads: int | None
) -> "tuple[list[Page], list[Page], dict[str, str]]":
    """Pages, the same as OCR reads them, and the reason for each that is left out. Raises NoPages if all are."""
    from receipt_layoutlm.data.images import find_image, images_by_name
    from receipt_layoutlm.inference.scans import ScanOptions
    from receipt_layoutlm.inference.sources import read_pages

    images = images_by_name(folder)
    kept, scans, failed = [], [], {}
    with counting_bar("read", len(pages)) as on_page:
        for page in pages:
            picture = find_image(page, images)
            if picture is None:
                failed[page.page_id] = f"no picture of that name is in {folder}"
            else:
                try:
                    read = next(iter(read_pages(picture, ScanOptions(threads=threads), lambda *_: None)))
                    kept.append(page)
                    scans.append(read.page)
                except UserError as error:
                    failed[page.page_id] = str(error)
            on_page()
    if not kept:
        raise NoPages(f"none of the {len(pages)} pages has a picture in {folder}: name them like the pages' ids")
    return kept, scans, failed


TITLES = {
    "f1": "entities",
    "field_f1": "fields",
    "exact_f1": "exact texts",
}


def scores_text(scores: "ModelScores") -> str:
    """The scores for people."""
    named = scores.scores
    rows = [
        (title, *(score(named.get(name.replace("f1", kind))) for kind in ("precision", "recall")), score(named[name]))
        for name, title in TITLES.items()
        if name in named
    ]
    parts = [
        f"{scores.pages} pages, {scores.groups} merchants, {scores.words} words"
        + (" by OCR" if scores.words_from == "ocr" else ""),
        table(("", "precision", "recall", "f1"), rows),
    ]
    if scores.per_label:
        parts += [f"entities\n{per_label_table({name: row.model_dump() for name, row in scores.per_label.items()})}"]
    parts += [f"fields\n{per_label_table({name: row.model_dump() for name, row in scores.fields.items()})}"]
    of_slices = [
        (f"{name}: {part}", each.pages, score(each.f1), score(each.field_f1))
        for name, slices in scores.slices.items()
        for part, each in slices.items()
    ]
    parts += [table(("slice", "pages", "f1", "field f1"), of_slices)]
    if "ece" in named:
        parts += [
            f"words right {named['word_accuracy']:.4f}, balanced {named['balanced_accuracy']:.4f}; calibration error "
            f"{named['ece']:.4f}, {named['ece_calibrated']:.4f} at the model's temperature"
        ]
    return "\n\n".join(parts)
