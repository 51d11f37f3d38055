"""The history of a small run: two attempts, three evaluations, two judged pages."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.reports.history import Findings, JudgedPredictions, RunEvaluation, RunHistory
from receipt_layoutlm.reports.report import (
    Artifact,
    Comparability,
    DataFacts,
    EvaluationPoint,
    JobFacts,
    MachineFacts,
    OptionRow,
    Report,
    ReportedAttempt,
    RunTotals,
)
from receipt_layoutlm.reports.report_build import MadeReport, build_report
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.run.scores import LabelScore

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BOXES = ((100, 100, 300, 140), (320, 100, 500, 140), (100, 300, 200, 340), (600, 300, 700, 340))
WORDS = ("ACME", "STORES", "TOTAL", "10.70")
TRUE = ("B-SHOP", "I-SHOP", "O", "B-TOTAL")


def job(**changes: Any) -> JobFacts:
    facts = JobFacts(
        job_id="11111111-2222-4333-8444-555555555555",
        name="a-run",
        status="succeeded",
        status_text="succeeded",
        task="layoutlm",
        pretrained="minilm",
        description="",
        created_at=NOON,
        created_by="me",
        started_at=NOON + timedelta(minutes=1),
        ended_at=NOON + timedelta(minutes=10),
        tags={},
        stop_reason="all epochs were trained",
        error=None,
    )
    return facts.model_copy(update=changes)


def attempt(number: int, first: int, last: int, **changes: Any) -> ReportedAttempt:
    row = ReportedAttempt(
        attempt=number,
        worker_id=f"worker-{number}",
        machine="g5.xlarge spot",
        started_at=NOON + timedelta(minutes=4 * number - 3),
        ended_at=NOON + timedelta(minutes=4 * number),
        ending="succeeded",
        outcome="succeeded",
        resume_step=first,
        last_step=last,
        lost_steps=0,
        is_at_least=False,
        wait_seconds=60,
        running_seconds=180,
        phase_seconds={"train": 120.0},
        cost=0.05,
    )
    return row.model_copy(update=changes)


def evaluation(step: int, f1: float, **changes: Any) -> RunEvaluation:
    point = EvaluationPoint(
        global_step=step,
        attempt=1,
        is_visible=True,
        epoch=step / 10,
        metric_name="eval_f1",
        metric_value=f1,
        train_loss=1 / step,
        eval_loss=2 / step,
        lr=1e-4,
        is_best=True,
        scores={"f1": f1, "precision": f1},
    )
    rows = {
        "SHOP": LabelScore(precision=f1, recall=f1, f1=f1, support=40),
        "TOTAL": LabelScore(precision=0.5, recall=0.5, f1=0.5, support=2),
    }
    return RunEvaluation(point.model_copy(update=changes), rows)


def judged(
    page_id: str,
    predicted: Sequence[str],
    words: tuple[str, ...] = WORDS,
    group: str = "acme",
    boxes: tuple[tuple[int, int, int, int], ...] = BOXES,
    true: tuple[str, ...] = TRUE,
) -> tuple[PredictedPage, Page]:
    """A page and its predictions, with the words in reading order."""
    view = PredictedPage(
        page_id, tuple(range(len(words))), words, true, tuple(predicted), (0.9,) * len(words), (0.9,) * len(words)
    )
    return view, Page(page_id, group, words, boxes, true, 400, 800)


def predictions(
    *pages: tuple[PredictedPage, Page], trained_on: frozenset[str] | None = frozenset()
) -> JudgedPredictions:
    return JudgedPredictions(30, [view for view, _ in pages], {page.page_id: page for _, page in pages}, trained_on)


RIGHT = judged("page-right", TRUE)
WRONG = judged("page-wrong", ("B-TOTAL", "I-TOTAL", "O", "O"), group="bolt")


def history(**changes: Any) -> RunHistory:
    """The run as it ended; `changes` replace fields."""
    whole: dict[str, Any] = {
        "job": job(),
        "data": DataFacts(
            dataset="receipts@0123456789ab",
            fingerprint="0123456789ab",
            eval_dataset=None,
            split="group",
            pages={"training": 200, "validation": 100, "test": 0},
            entities={"training": {"SHOP": 300, "TOTAL": 20}},
        ),
        "machine": MachineFacts(hardware="cuda (NVIDIA L4), bf16", versions={"torch": "2.9"}, git_sha="abc123"),
        "comparability": Comparability(text="with runs of the stamp 99", sha256="99", fields={"split": "group"}),
        "attempts": [
            attempt(1, 0, 25, ending="interrupted", outcome="interrupted: asked to stop", lost_steps=5),
            attempt(2, 20, 30),
        ],
        "totals": RunTotals(wall_seconds=600, running_seconds=360, waiting_seconds=240, lost_steps=5, cost=0.1),
        "evaluations": [
            evaluation(10, 0.4),
            evaluation(20, 0.6),
            evaluation(25, 0.99, is_visible=False),
            evaluation(30, 0.8, attempt=2),
        ],
        "test": None,
        "findings": Findings(),
        "predictions": predictions(RIGHT, WRONG, trained_on=frozenset({"acme"})),
        "options": [OptionRow(option="--lr", value=0.0001, default=5e-05, source="flag")],
        "artifacts": [Artifact(name="best model", uri="s3://b/best/", size=10, sha256="c" * 64)],
        "notes": [],
    }
    return RunHistory(**{**whole, **changes})


def rerun(changes: Mapping[str, object]) -> str:
    return f"train {sorted(changes)[0]}"


def made(**changes: Any) -> MadeReport:
    return build_report(history(**changes), rerun, NOON + timedelta(hours=1), "9.9")


def report(**changes: Any) -> Report:
    return made(**changes).report
