"""layoutlm-cli job evaluate-checkpoints: scores of a job's kept checkpoints on labelled pages."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.evaluate import chosen_pages, set_option
from receipt_layoutlm.cli.labelled_pages import NoPages, Subject, subject_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, clean, score, table

if TYPE_CHECKING:
    from receipt_layoutlm.data.page import Page
    from receipt_layoutlm.inference.evaluation import ModelScores


@click.command("evaluate-checkpoints")
@set_option
@subject_options
def evaluate_checkpoints_command(
    connection: Connection, subject: Subject, pages: "list[Page] | None", set_name: str | None, as_json: bool
) -> None:
    """Score every kept checkpoint of a job on labelled pages, by step.

    MODEL is a job. Train with --keep-checkpoints all to keep one at each evaluation; after a job has succeeded they
    stay for some days (`layoutlm-cli storage usage` shows them).

    \b
    layoutlm-cli job evaluate-checkpoints @last --dataset other-receipts
    """
    from receipt_layoutlm.inference.evaluation import evaluate
    from receipt_layoutlm.inference.predictor import Predictor
    from receipt_layoutlm.jobs.held_out import Seen
    from receipt_layoutlm.jobs.models import run_folder
    from receipt_layoutlm.storage.retention import history

    if subject.job is None or subject.split is None:
        raise click.UsageError(f"{subject.name} is no job, so it has no checkpoints")
    title, chosen = chosen_pages(subject, pages, set_name)
    bucket, keys = run_folder(connection.open_bucket, subject.job)
    kept = history(bucket, keys, connection.client().get_lease(subject.job.job_id))
    if not kept:
        raise NoPages(
            f"{subject.name} has no checkpoint left in the bucket: `layoutlm-cli evaluate` scores its best model"
        )
    curve: dict[int, ModelScores] = {}
    with counting_bar("checkpoints", len(kept)) as on_checkpoint:
        for checkpoint in kept:
            with tempfile.TemporaryDirectory() as folder:
                bucket.get_folder(keys.checkpoint_at(checkpoint.attempt, checkpoint.global_step), Path(folder))
                predictor = Predictor.load(Path(folder))
                seen = Seen.of(subject.split).groups
                curve[checkpoint.global_step] = evaluate(predictor, chosen, seen, lambda: None)
            on_checkpoint()
    if as_json:
        click.echo(json.dumps({step: scores.model_dump(mode="json") for step, scores in curve.items()}, indent=1))
        return
    header = ("step", "f1", "field f1", "exact f1", Column("f1 by label", wraps=True))
    rows = [
        (
            step,
            *(score(scores.scores[name]) for name in ("f1", "field_f1", "exact_f1")),
            ", ".join(f"{clean(label)} {row.f1:.3f}" for label, row in scores.per_label.items()),
        )
        for step, scores in sorted(curve.items())
    ]
    say(f"{subject.name} on {title}, {len(chosen)} pages\n{table(header, rows)}")
