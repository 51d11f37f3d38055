"""Makes the report of a run from its history. Pure functions."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.reports.advice import Rerun, advise
from receipt_layoutlm.reports.charts import thinned
from receipt_layoutlm.reports.history import JudgedPredictions, RunEvaluation, RunHistory
from receipt_layoutlm.reports.judged_pages import JudgedPage, cells_by_page, judged_pages, reliability_of, slices_of
from receipt_layoutlm.reports.overlay import ERRORS, Overlay
from receipt_layoutlm.reports.report import (
    BestScores,
    CellPage,
    Confusion,
    ConfusionCell,
    HistogramRow,
    LabelHistory,
    Reliability,
    Report,
    WorstPage,
)

WORST_PAGES: Final = 20
MAX_LABELS: Final = 100
"""Rows of the table of labels: the rarest."""

MAX_CLASSES: Final = 30
"""Rows of the confusion matrix: O, and the classes that are most often confused."""

CELL_PAGES: Final = 10
"""Pages that a cell of the confusion matrix lists: those with most words in it."""

MAX_HISTORY: Final = 60
"""Evaluations in the history of a label."""


@dataclass(frozen=True, slots=True)
class MadeReport:
    """A report, and the drawing of each of its worst pages, in the same order; None where the page is not known."""

    report: Report
    overlays: tuple[Overlay | None, ...]


def build_report(history: RunHistory, rerun: Rerun, made_at: datetime, made_by: str) -> MadeReport:
    """Commands in the advice lack the program's name."""
    visible = [each for each in history.evaluations if each.point.is_visible]
    best = best_of(visible)
    predictions = history.predictions
    judged = [] if predictions is None else judged_pages(predictions.predicted, predictions.pages)
    is_of_best = best is None or predictions is None or predictions.global_step == best.point.global_step
    worst = sorted(judged, key=lambda each: each.trouble)[:WORST_PAGES]
    overlays = tuple(each.overlay() for each in worst)
    labels = sorted((best.per_label if best else {}).items(), key=lambda row: (row[1].support, row[0]))
    report = Report(
        made_at=made_at,
        made_by=made_by,
        is_redacted=False,
        job=history.job,
        data=history.data,
        machine=history.machine,
        comparability=history.comparability,
        best=None if best is None else _best_scores(best),
        test=history.test,
        totals=history.totals,
        attempts=tuple(history.attempts),
        evaluations=tuple(each.point for each in history.evaluations),
        labels=tuple(
            LabelHistory(
                label=label,
                **row.model_dump(),
                train_entities=history.data.entities.get("training", {}).get(label),
                history=tuple(_f1_of(each, label) for each in thinned(visible, MAX_HISTORY)),
            )
            for label, row in labels[:MAX_LABELS]
        ),
        labels_left_out=max(0, len(labels) - MAX_LABELS),
        confusion=_confusion(best, judged if is_of_best else []),
        histogram=_histogram(best),
        reliability=_reliability(best, judged),
        slices={} if predictions is None else slices_of(judged, predictions.trained_on),
        worst_pages=tuple(_worst_page(*pair) for pair in zip(worst, overlays, strict=True)),
        judged_pages=len(judged),
        options=tuple(history.options),
        artifacts=tuple(history.artifacts),
        advice=(),
        notes=(*history.notes, *_notes(predictions, judged, is_of_best)),
    )
    return MadeReport(report.model_copy(update={"advice": tuple(advise(report, history.findings, rerun))}), overlays)


def best_of(visible: Sequence[RunEvaluation]) -> RunEvaluation | None:
    """The evaluation whose weights were kept, else the one with the highest headline; the earlier one wins a tie."""
    kept = [each for each in visible if each.point.is_best]
    if kept:
        return kept[-1]
    return max(reversed(visible), key=lambda each: each.point.metric_value, default=None)


def _f1_of(evaluation: RunEvaluation, label: str) -> float | None:
    row = evaluation.per_label.get(label)
    return None if row is None else row.f1


def _best_scores(best: RunEvaluation) -> BestScores:
    point = best.point
    return BestScores(
        metric_name=point.metric_name,
        metric_value=point.metric_value,
        global_step=point.global_step,
        epoch=point.epoch,
        scores=point.scores,
        breakdowns={name: dict(table) for name, table in best.breakdowns.items()},
    )


def _confusion(best: RunEvaluation | None, judged: Sequence[JudgedPage]) -> Confusion | None:
    """The stored matrix, with the pages behind its cells where their predictions are of the same evaluation."""
    by_page = cells_by_page(judged)
    stored = {} if best is None else best.confusion
    counts = {(true, predicted): count for true, row in stored.items() for predicted, count in row.items() if count}
    if not counts:
        counts = {cell: pages.total() for cell, pages in by_page.items()}
    if not counts:
        return None
    errors, sizes = Counter[str](), Counter[str]()
    for (true, predicted), count in counts.items():
        sizes.update({true: count})
        if true != predicted:
            errors.update({true: count, predicted: count})
    names = {name for pair in counts for name in pair}
    ranked = sorted(names, key=lambda name: (name != OUTSIDE, -errors[name], -sizes[name], name))
    classes = tuple(sorted(ranked[:MAX_CLASSES], key=lambda name: (name != OUTSIDE, name)))
    cells = [_cell(pair, count, by_page.get(pair, Counter())) for pair, count in counts.items()]
    shown = [cell for cell in cells if cell.true in classes and cell.predicted in classes]
    return Confusion(
        classes=classes,
        cells=tuple(sorted(shown, key=lambda cell: (cell.true, cell.predicted))),
        left_out=len(ranked) - len(classes),
        unit="words" if by_page or best is None or best.per_label else "examples",
    )


def _cell(pair: tuple[str, str], count: int, pages: Counter[str]) -> ConfusionCell:
    most = sorted(pages.items(), key=lambda page: (-page[1], page[0]))[:CELL_PAGES]
    return ConfusionCell(
        true=pair[0],
        predicted=pair[1],
        count=count,
        pages=tuple(CellPage(page_id=page_id, words=words) for page_id, words in most),
        page_count=len(pages),
    )


def _histogram(best: RunEvaluation | None) -> tuple[HistogramRow, ...]:
    """Predictions of each class, the frequent ones first."""
    if best is None:
        return ()
    true = {name: sum(row.values()) for name, row in best.confusion.items()}
    predicted = Counter(best.predicted_labels)
    if not predicted:
        for row in best.confusion.values():
            predicted.update(row)
    names = sorted(predicted.keys() | true.keys(), key=lambda name: (-predicted[name], -true.get(name, 0), name))
    return tuple(
        HistogramRow(label=name, predicted=predicted[name], true=true.get(name, 0) if true else None)
        for name in names[:MAX_LABELS]
    )


def _reliability(best: RunEvaluation | None, judged: Sequence[JudgedPage]) -> Reliability | None:
    scores = {} if best is None else best.point.scores
    bins, source = (() if best is None else tuple(best.reliability)), "stored by the evaluation"
    if not bins:
        bins, source = reliability_of(judged), "counted from the stored predictions, labels without B- and I-"
    total = sum(each.words for each in bins)
    if not total:
        return None
    return Reliability(
        ece=scores.get("ece", sum(each.words * abs(each.accuracy - each.confidence) for each in bins) / total),
        ece_calibrated=scores.get("ece_calibrated"),
        temperature=scores.get("temperature"),
        bins=bins,
        source=source,
    )


def _worst_page(judged: JudgedPage, overlay: Overlay | None) -> WorstPage:
    true, predicted = judged.entities
    errors = {"wrong": len(true ^ predicted)}
    if overlay is not None:
        errors = {kind.value: overlay.count(kind) for kind in ERRORS if overlay.count(kind)}
    return WorstPage(
        page_id=judged.page_id,
        group=None if judged.page is None else judged.page.group,
        errors={kind: count for kind, count in errors.items() if count},
        right=len(true & predicted),
        lowest_confidence=None if overlay is None else overlay.lowest_confidence,
    )


def _notes(predictions: JudgedPredictions | None, judged: Iterable[JudgedPage], is_of_best: bool) -> Iterable[str]:
    if predictions is not None and not is_of_best:
        yield (
            f"the stored predictions are those of step {predictions.global_step}, not of the best evaluation: slices "
            "and pages are of that step, and the confusion matrix has no pages"
        )
    if unknown := sum(each.page is None for each in judged):
        yield f"{unknown} pages cannot be drawn: the snapshot does not have them, or has another version of them"


def without_texts(made: MadeReport) -> MadeReport:
    """The report without texts of pages: pages are named by a digest of their id, and nothing is drawn."""
    report = made.report
    confusion = report.confusion
    if confusion is not None:
        cells = [
            cell.model_copy(
                update={
                    "pages": tuple(page.model_copy(update={"page_id": _digest(page.page_id)}) for page in cell.pages)
                }
            )
            for cell in confusion.cells
        ]
        confusion = confusion.model_copy(update={"cells": tuple(cells)})
    job = report.job.model_copy(update={"error": None, "description": "", "status_text": report.job.status})
    advice = [
        each if each.rule != "failed" else each.model_copy(update={"evidence": each.evidence[bool(report.job.error) :]})
        for each in report.advice
    ]
    pages = [page.model_copy(update={"page_id": _digest(page.page_id), "group": None}) for page in report.worst_pages]
    changes: Mapping[str, object] = {
        "is_redacted": True,
        "job": job,
        "advice": tuple(advice),
        "confusion": confusion,
        "worst_pages": tuple(pages),
    }
    return MadeReport(report.model_copy(update=changes), (None,) * len(pages))


def _digest(page_id: str) -> str:
    """The first digits of a SHA-256, by which those who have the page can tell it."""
    return hashlib.sha256(page_id.encode()).hexdigest()[:12]
