"""`model promote --before-after`: answers of the model in use and of a candidate, page by page, and what follows."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from receipt_dynamo import NotFound
from receipt_layoutlm.cli.connection import Connection, require
from receipt_layoutlm.cli.labelled_pages import NoPages, Subject, named_pages, open_subject
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, clean, table

if TYPE_CHECKING:
    from receipt_layoutlm.data.page import Page
    from receipt_layoutlm.inference.before_after import Answers

WHAT_NEXT: Final = {
    "deploy": 'deploy it: `layoutlm-cli model promote {job} --reason "more perfect answers"`',
    "hybrid": "use it beside a heuristic, whose answers `layoutlm-cli predict` takes with --fallback",
    "keep": "keep what there is",
}


def labelled_source(connection: Connection, source: str) -> "list[Page]":
    """Labelled pages of a dataset, a file of JSON lines, or all such files of a folder. Raises NoPages."""
    from receipt_layoutlm.data.snapshot import read_jsonl

    place = Path(source)
    if place.is_file():
        return read_jsonl(place)
    if place.is_dir():
        files = sorted([*place.glob("*.jsonl"), *place.glob("*.jsonl.gz")])
        if not files:
            raise NoPages(
                f"{source} holds no *.jsonl file: `layoutlm-cli dataset import` makes a dataset of other formats"
            )
        return [page for file in files for page in read_jsonl(file)]
    return named_pages(connection, source, None) or []


def show_before_after(
    connection: Connection, reference: str, stage: str, pages: "list[Page]", count: int, as_json: bool
) -> None:
    """Print the answers of both models on a seeded sample of the pages, and the verdict on the candidate."""
    require("train")
    from receipt_layoutlm.data.snapshot import sample_pages
    from receipt_layoutlm.inference.before_after import answers
    from receipt_layoutlm.inference.predictor import Predictor

    sample = sample_pages(pages, count, 0)
    candidate, in_use = open_subject(connection, reference), None
    try:
        in_use = open_subject(connection, f"@{stage}")
    except NotFound:
        if not as_json:
            say(f"no model is in use as @{stage} yet: the candidate is shown alone", err=True)
    counted: dict[str, Answers] = {}
    with counting_bar("models", 1 + (in_use is not None)) as on_model:
        for key, subject in (("in_use", in_use), ("candidate", candidate)):
            if subject is not None:
                counted[key] = answers(Predictor.load(subject.folder), sample)
                on_model()
    verdict = counted["candidate"].verdict
    if known := _decided_by(connection, candidate, sample):
        text = f"{clean(candidate.name)} was trained or selected by {known} of these {len(sample)} pages"
        say(f"warning: {text}: name others", err=True)
    if as_json:
        documents = {key: {**each.model_dump(), "perfect_share": each.perfect_share} for key, each in counted.items()}
        click.echo(json.dumps({"pages": len(sample), "verdict": verdict, "in_use": None, **documents}, indent=1))
        return
    say(f"{len(sample)} of {len(pages)} pages; perfect, partial and wrong answers by label")
    say(_table(counted))
    job = candidate.job.job_id[:8] if candidate.job else reference
    share = f"{100 * counted['candidate'].perfect_share:.0f} % of the answers of {clean(candidate.name)} are perfect"
    if (before := counted.get("in_use")) is not None:
        share += f", {100 * before.perfect_share:.0f} % of those of the model in use"
    say(f"\n{share}: {WHAT_NEXT[verdict].format(job=job)}")
    if before is not None and before.perfect_share > counted["candidate"].perfect_share:
        say("warning: the model in use is perfect more often", err=True)


def _decided_by(connection: Connection, subject: Subject, sample: "list[Page]") -> int:
    """Pages that a job's model was trained on, or that selected its weights; 0 where its pages are not known."""
    from receipt_layoutlm.jobs.held_out import Seen, split_of_job

    if subject.job is None or subject.job.job_config.get("dataset") is None:
        return 0
    seen = Seen.of(split_of_job(connection.open_bucket, subject.job)).page_ids
    return sum(page.page_id in seen for page in sample)


def _table(counted: "dict[str, Answers]") -> str:
    from receipt_layoutlm.inference.before_after import ANSWERS

    titles = {"in_use": "in use", "candidate": "candidate"}
    labels = sorted({label for each in counted.values() for label in each.per_label})
    rows = [
        [label, *(each.per_label.get(label, {}).get(kind, 0) for each in counted.values() for kind in ANSWERS)]
        for label in labels
    ]
    total = ["all", *(each.total[kind] for each in counted.values() for kind in ANSWERS)]
    header = [Column(f"{titles[key]}: {kind}", wraps=True) for key in counted for kind in ANSWERS]
    return table([Column("label"), *header], [*rows, total])
