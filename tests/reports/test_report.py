"""The report of a run as data: what it counts, which pages it names, what it advises and on which evidence."""

from dataclasses import replace
from typing import Any

import pytest

from receipt_layoutlm.reports.history import Findings, RunEvaluation
from receipt_layoutlm.reports.report import DataFacts, EvaluationPoint, HeldOutScores, Report, RunTotals
from receipt_layoutlm.reports.report_build import CELL_PAGES, MAX_CLASSES, MAX_LABELS, WORST_PAGES, without_texts
from receipt_layoutlm.run.scores import Bin, LabelScore
from tests.support.reports import (
    RIGHT,
    TRUE,
    WRONG,
    attempt,
    evaluation,
    history,
    job,
    judged,
    made,
    predictions,
    report,
)


def test_the_best_evaluation_is_the_last_new_best_that_no_later_attempt_repeated() -> None:
    found = report()
    assert found.best is not None and (found.best.global_step, found.best.metric_value) == (30, 0.8)
    assert [point.global_step for point in found.evaluations if not point.is_visible] == [25]


def test_labels_come_rarest_first_with_their_history_and_their_training_entities() -> None:
    rows = report().labels
    assert [(row.label, row.support, row.train_entities) for row in rows] == [("TOTAL", 2, 20), ("SHOP", 40, 300)]
    assert rows[1].history == (0.4, 0.6, 0.8)


def test_a_cell_of_the_confusion_matrix_names_the_pages_behind_it() -> None:
    matrix = report().confusion
    assert matrix is not None
    cells = {(cell.true, cell.predicted): cell for cell in matrix.cells}
    assert cells["SHOP", "TOTAL"].count == 2
    assert [(page.page_id, page.words) for page in cells["SHOP", "TOTAL"].pages] == [("page-wrong", 2)]
    assert cells["O", "O"].page_count == 2


def test_stored_counts_are_shown_even_where_predictions_are_of_another_step() -> None:
    last = replace(evaluation(30, 0.8), confusion={"A": {"A": 9, "B": 1}})
    stale = replace(predictions(RIGHT, WRONG), global_step=20)
    found = report(evaluations=[last], predictions=stale)
    assert found.confusion is not None
    assert [(cell.count, cell.page_count) for cell in found.confusion.cells] == [(9, 0), (1, 0)]
    assert any("step 20" in note for note in found.notes)


def test_the_worst_page_is_first_and_its_errors_have_the_names_of_overlays() -> None:
    worst = report().worst_pages
    assert [page.page_id for page in worst] == ["page-wrong", "page-right"]
    assert (worst[0].errors, worst[0].right) == ({"missed": 1, "wrong label": 1}, 0)
    assert len(report(predictions=predictions(*(judged(f"p{n}", TRUE) for n in range(30)))).worst_pages) == WORST_PAGES


def test_a_page_of_another_version_is_counted_but_not_drawn() -> None:
    view, page = RIGHT
    other = made(predictions=predictions((view, replace(page, words=("OTHER", *page.words[1:]))), WRONG))
    assert [overlay is None for overlay in other.overlays] == [False, True]
    assert any("1 pages cannot be drawn" in note for note in other.report.notes)


def test_slices_tell_known_merchants_from_new_ones_and_name_lengths_and_items() -> None:
    many = judged("many", ("B-X",) * 6, ("x",) * 6, "new", ((0, 0, 9, 9),) * 6, ("B-X",) * 6)
    found = report(predictions=predictions(RIGHT, WRONG, many, trained_on=frozenset({"acme"}))).slices
    rows = {row.name: (row.pages, row.f1) for row in found["merchant"]}
    assert rows == {"seen in training": (1, 1.0), "new": (2, pytest.approx(0.8))}
    assert [row.name for row in found["items on the page"]] == ["1", "6 to 10"]
    assert "merchant" not in report(predictions=predictions(RIGHT, WRONG, trained_on=None)).slices


def test_bins_come_from_the_evaluation_and_else_from_the_predictions() -> None:
    stored = (Bin(low=0.8, high=0.9, words=4, confidence=0.9, accuracy=0.5),)
    found = report(evaluations=[replace(evaluation(30, 0.8), reliability=stored)]).reliability
    assert found is not None and (found.bins, found.ece) == (stored, pytest.approx(0.4))
    counted = report().reliability
    assert counted is not None
    assert [(each.words, each.accuracy) for each in counted.bins] == [(8, 0.625)]
    assert counted.ece == pytest.approx(0.275)


def test_tables_of_very_many_labels_are_bounded_and_say_what_they_leave_out() -> None:
    names = [f"L{number:04d}" for number in range(500)]
    rows = {name: LabelScore(precision=0, recall=0, f1=0, support=number) for number, name in enumerate(names)}
    confusion = {name: {name: 5, names[number - 1]: 1 + number % 7} for number, name in enumerate(names)}
    pages = [judged(f"p{number}", ("B-L0001", "O", "O", "O")) for number in range(50)]
    big = replace(evaluation(30, 0.8), per_label=rows, confusion=confusion)
    found = report(evaluations=[big], predictions=predictions(*pages))
    assert (len(found.labels), found.labels_left_out) == (MAX_LABELS, 400)
    assert found.labels[0].label == "L0000"
    assert found.confusion is not None and len(found.confusion.classes) == MAX_CLASSES
    assert found.confusion.left_out == 470
    assert max(len(cell.pages) for cell in found.confusion.cells) <= CELL_PAGES


def test_a_job_that_nothing_ran_of_has_a_report() -> None:
    empty = report(
        job=job(status="pending", status_text="pending", started_at=None, ended_at=None),
        attempts=[],
        evaluations=[],
        predictions=None,
        totals=RunTotals(wall_seconds=0, running_seconds=0, waiting_seconds=0, lost_steps=0, cost=None),
    )
    assert (empty.best, empty.confusion, empty.reliability, empty.worst_pages) == (None, None, None, ())
    assert Report.model_validate_json(empty.model_dump_json()) == empty


def test_report_json_reads_back_as_it_was() -> None:
    assert Report.model_validate_json(report().model_dump_json()) == report()


def test_a_quality_task_brings_its_own_numbers_and_no_labels() -> None:
    point = EvaluationPoint.model_validate(
        evaluation(30, -0.2).point.model_dump() | {"metric_name": "negative_mae", "scores": {"mae": 0.2}}
    )
    bins = (Bin(low=0.5, high=1.0, words=12, confidence=0.7, accuracy=0.6),)
    quality = RunEvaluation(point, breakdowns={"mae_by_source": {"scan": 0.1, "photo": 0.3}}, reliability=bins)
    found = report(job=job(task="document_quality"), evaluations=[quality], predictions=None)
    assert found.best is not None and found.best.scores == {"mae": 0.2}
    assert found.best.breakdowns == {"mae_by_source": {"scan": 0.1, "photo": 0.3}}
    assert found.reliability is not None and found.reliability.bins == bins
    assert (found.labels, found.confusion, found.slices) == ((), None, {})


# --- what to try next ---


def rules(**changes: Any) -> dict[str, tuple[str, str | None]]:
    """First evidence and command by rule."""
    return {each.rule: (each.evidence[0], each.command) for each in report(**changes).advice}


def test_the_runs_own_finding_comes_first_with_the_command_that_follows_it() -> None:
    advice = report(findings=Findings(["plateau: the score stays at 0.4: try --lr 4e-4"], {"lr": 4e-4})).advice
    assert (advice[0].rule, advice[0].evidence, advice[0].command) == (
        "plateau",
        ("the score stays at 0.4",),
        "train lr",
    )
    assert advice[0].advice == "try --lr 4e-4"


def test_a_failed_job_is_told_why_before_anything_else() -> None:
    ended = attempt(1, 0, 25, ending="failed", outcome="failed: it ran out of memory")
    found = report(
        job=job(status="failed", error="no memory"), attempts=[ended], findings=Findings(["x: y: z"])
    ).advice[0]
    assert (found.rule, found.evidence[0]) == ("failed", "no memory")
    assert found.command == f"job why {job().job_id}"


def test_a_poor_label_with_few_entities_is_to_be_labelled_more() -> None:
    evidence, command = rules()["few_entities"]
    assert evidence == "TOTAL: F1 0.500 on 2 entities, 20 in the training set"
    assert command == f"dataset next receipts --job {job().job_id}"
    plenty = DataFacts.model_validate(
        history().data.model_dump() | {"entities": {"training": {"SHOP": 300, "TOTAL": 200}}}
    )
    assert "few_entities" not in rules(data=plenty)


def test_labels_that_are_taken_for_each_other_are_named_with_their_counts() -> None:
    mixed = replace(evaluation(30, 0.8), confusion={"A": {"A": 30, "B": 20}, "B": {"B": 50}, "O": {"A": 40}})
    assert rules(evaluations=[mixed])["mixed_labels"][0] == "20 of 50 words of A are taken for B"
    few = replace(evaluation(30, 0.8), confusion={"A": {"A": 30, "B": 2}})
    assert "mixed_labels" not in rules(evaluations=[few])


def test_merchants_of_the_training_set_that_score_higher_are_evidence_for_more_merchants() -> None:
    evidence, command = rules()["new_merchants"]
    assert evidence.startswith("F1 is 1.000 on 1 pages of merchants in the training set and 0.000 on 1 pages")
    assert command == "train augment"


@pytest.mark.parametrize(
    ("rule", "with_it", "without"),
    [
        ("few_pages", 12, 80),
        ("lost_steps", 12, 1),
        ("test_below_validation", 0.6, 0.79),
        ("confidences", 0.2, 0.01),
    ],
)
def test_a_rule_speaks_only_beyond_its_bound(rule: str, with_it: float, without: float) -> None:
    def found(value: float) -> set[str]:
        data = history().data.model_copy(update={"pages": {"validation": value if rule == "few_pages" else 80}})
        lost = int(value) if rule == "lost_steps" else 0
        totals = history().totals.model_copy(update={"lost_steps": lost})
        score = value if rule == "test_below_validation" else 0.8
        last = evaluation(30, 0.8, scores={"ece": value if rule == "confidences" else 0.0})
        test = HeldOutScores(metric_name="test_f1", metric_value=score, pages=9, scores={})
        return set(rules(data=data, totals=totals, test=test, evaluations=[last]))

    assert rule in found(with_it) and rule not in found(without)


# --- without texts ---


def test_a_redacted_report_has_no_text_of_a_page_and_draws_none() -> None:
    secret = judged("file-of-Mr-Smith", ("O",) * 4, ("Zaphod", "Beeblebrox", "TOTAL", "77.31"), "Smith and Sons")
    whole = made(
        predictions=predictions(secret, WRONG),
        job=job(status="failed", error="page file-of-Mr-Smith: Zaphod", description="for Zaphod"),
    )
    shown = without_texts(whole)
    assert shown.overlays == (None, None)
    text = shown.report.model_dump_json()
    assert shown.report.is_redacted
    assert all(word in whole.report.model_dump_json() for word in ("Smith and Sons", "file-of-Mr-Smith", "Zaphod"))
    assert not [word for word in ("Zaphod", "Beeblebrox", "77.31", "Smith", "page-wrong") if word in text]
    assert shown.report.confusion is not None and shown.report.confusion.cells[0].pages[0].words > 0
