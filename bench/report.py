"""Time and size of a report: a simulated run with interruptions, from its history to one file.

Pages are generated receipts, predictions are their labels with errors; nothing is trained and nothing is stored.

    python -m bench.report --epochs 50 --pages 200 --attempts 3 --html report.html
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import order_of_words, rearranged
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.reports.history import Findings, JudgedPredictions, RunEvaluation, RunHistory
from receipt_layoutlm.reports.judged_pages import cells_by_page, judged_pages
from receipt_layoutlm.reports.report import (
    Artifact,
    AttemptEnding,
    Comparability,
    DataFacts,
    EvaluationPoint,
    JobFacts,
    MachineFacts,
    OptionRow,
    ReportedAttempt,
    RunTotals,
)
from receipt_layoutlm.reports.report_build import build_report
from receipt_layoutlm.reports.report_html import report_html
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.run.scores import LabelScore

STEPS: Final = 40  # of an epoch
NOON: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
ERRORS: Final = 0.06  # share of words with another label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--html", type=Path)
    given = parser.parse_args()
    history = simulated(given.epochs, given.pages, given.attempts)
    began = time.perf_counter()
    made = build_report(history, lambda _changes: "train", NOON + timedelta(hours=2), "bench")
    text = report_html(made)
    seconds = time.perf_counter() - began
    if given.html:
        given.html.write_text(text, encoding="utf-8")
    drawn = sum(overlay is not None for overlay in made.overlays)
    sizes = {"html_bytes": len(text.encode()), "json_bytes": len(made.report.model_dump_json())}
    print(json.dumps({"seconds": round(seconds, 2), **sizes, "pages_drawn": drawn}))


def simulated(epochs: int, count: int, attempts: int) -> RunHistory:
    """A run whose attempts but the last were interrupted within an epoch; half of the merchants were trained on."""
    rng, pages = random.Random(7), generate_pages(count, seed=7)
    labels = label_counts(pages)
    predicted = [predicted_page(page, sorted(labels), rng) for page in pages]
    judged = judged_pages(predicted, {page.page_id: page for page in pages})
    confusion: dict[str, dict[str, int]] = {}
    for (true, other), found in cells_by_page(judged).items():
        confusion.setdefault(true, {})[other] = found.total()
    last = epochs * STEPS
    cuts = [last * (number + 1) // attempts + STEPS // 2 for number in range(attempts - 1)]
    evaluations = [
        evaluation(epoch, attempt_of(epoch * STEPS, cuts), epochs, labels, rng) for epoch in range(1, epochs + 1)
    ]
    best = evaluations[-1]
    evaluations[-1] = RunEvaluation(
        best.point,
        best.per_label,
        best.breakdowns,
        confusion,
        {name: sum(row.values()) for name, row in confusion.items()},
    )
    rows = attempt_rows(cuts, last)
    groups = sorted({page.group for page in pages})
    return RunHistory(
        job=JobFacts(
            job_id="00000000-0000-4000-8000-000000000000",
            name="simulated",
            status="succeeded",
            status_text="succeeded",
            task="layoutlm",
            pretrained="minilm",
            description="a simulated run",
            created_at=NOON,
            created_by="bench",
            started_at=rows[0].started_at,
            ended_at=rows[-1].ended_at,
            tags={"team": "bench"},
            stop_reason="all epochs were trained",
            error=None,
        ),
        data=DataFacts(
            dataset="sample@0123456789ab",
            fingerprint="0123456789ab",
            eval_dataset=None,
            split="group",
            pages={"training": 4 * count, "validation": count, "test": 0},
            entities={"training": labels, "validation": labels},
        ),
        machine=MachineFacts(hardware="cpu, fp32, 2 threads", versions={"torch": "2.9"}, git_sha=None),
        comparability=Comparability(text="simulated: with nothing", sha256=None, fields={}),
        attempts=rows,
        totals=RunTotals(
            wall_seconds=3600,
            running_seconds=3000,
            waiting_seconds=600,
            lost_steps=60,
            cost=sum(r.cost or 0 for r in rows),
        ),
        evaluations=evaluations,
        test=None,
        findings=Findings(["plateau: the score has stayed at 0.941 for 4 evaluations: try --lr 4e-4"], {"lr": 4e-4}),
        predictions=JudgedPredictions(last, predicted, {page.page_id: page for page in pages}, set(groups[::2])),
        options=[OptionRow(option="--epochs", value=epochs, default=10, source="flag")],
        artifacts=[Artifact(name="best model", uri="s3://bucket/runs/x/best/", size=None, sha256="0" * 64)],
        notes=[],
    )


def predicted_page(page: Page, labels: Sequence[str], rng: random.Random) -> PredictedPage:
    """The labels of a page in reading order, some of them exchanged."""
    order = order_of_words(page)
    view = rearranged(page, order)
    wrong = [rng.random() < ERRORS for _ in view.words]
    predicted = tuple(
        rng.choice(["O", f"B-{rng.choice(labels)}"]) if is_wrong else tag
        for tag, is_wrong in zip(view.tags, wrong, strict=True)
    )
    confidence = tuple(round(rng.uniform(0.3, 0.8) if is_wrong else rng.uniform(0.7, 1), 4) for is_wrong in wrong)
    return PredictedPage(page.page_id, tuple(order), view.words, view.tags, predicted, confidence, confidence)


def attempt_of(step: int, cuts: Sequence[int]) -> int:
    return 1 + sum(step > cut for cut in cuts)


def evaluation(epoch: int, attempt: int, epochs: int, labels: dict[str, int], rng: random.Random) -> RunEvaluation:
    share = epoch / epochs
    f1 = min(0.95 * (1 - 2.7 ** (-6 * share)) + rng.uniform(-0.01, 0.01), 1.0)
    point = EvaluationPoint(
        global_step=epoch * STEPS,
        attempt=attempt,
        is_visible=True,
        epoch=float(epoch),
        metric_name="eval_f1",
        metric_value=f1,
        train_loss=2.5 * 2.7 ** (-4 * share),
        eval_loss=1.4 * 2.7 ** (-4 * share) + 0.2 * share,
        lr=4e-4 * (1 - share),
        is_best=True,
        scores={"f1": f1, "precision": f1 - 0.01, "recall": f1 + 0.01, "temperature": 1.2 - 0.5 * share, "ece": 0.07},
    )
    rows = {
        label: LabelScore(precision=f1, recall=f1, f1=max(0.0, f1 - 0.02 * number), support=count)
        for number, (label, count) in enumerate(sorted(labels.items()))
    }
    return RunEvaluation(point, rows)


def attempt_rows(cuts: Sequence[int], last: int) -> list[ReportedAttempt]:
    """Each attempt resumes at the epoch before the step at which the last one broke off."""
    rows, resume, began = list[ReportedAttempt](), 0, NOON + timedelta(minutes=5)
    for number, end in enumerate([*cuts, last], start=1):
        is_last = number > len(cuts)
        ending: AttemptEnding = "succeeded" if is_last else "interrupted"
        lost = 0 if is_last else end % STEPS
        ended = began + timedelta(seconds=end - resume)
        rows.append(
            ReportedAttempt(
                attempt=number,
                worker_id=f"worker-{number}",
                machine="g5.xlarge spot",
                started_at=began,
                ended_at=ended,
                ending=ending,
                outcome="succeeded" if is_last else "interrupted: its worker was asked to stop",
                resume_step=resume,
                last_step=end,
                lost_steps=lost,
                is_at_least=False,
                wait_seconds=300,
                running_seconds=float(end - resume),
                phase_seconds={"train": float(end - resume)},
                cost=0.0001 * (end - resume),
            )
        )
        resume, began = end - lost, ended + timedelta(minutes=5)
    return rows


if __name__ == "__main__":
    main()
