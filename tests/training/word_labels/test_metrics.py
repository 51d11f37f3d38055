"""Entities count with exact words and label; every label has a row; a collapsed model is recognised."""

from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import score_entities

TRUE = [["B-DATE", "O", "B-TOTAL", "I-TOTAL"], ["O", "B-DATE", "O", "O"]]


def test_a_perfect_tagging_scores_one() -> None:
    scores = score_entities(TRUE, TRUE, ["DATE", "TOTAL"])
    assert (scores.precision, scores.recall, scores.f1) == (1.0, 1.0, 1.0)
    assert {label: row.support for label, row in scores.per_label.items()} == {"DATE": 2, "TOTAL": 1}


def test_an_entity_with_a_missing_word_is_wrong() -> None:
    cut = [["B-DATE", "O", "B-TOTAL", "O"], ["O", "B-DATE", "O", "O"]]
    scores = score_entities(TRUE, cut, ["DATE", "TOTAL"])
    assert scores.f1 == 2 / 3
    assert scores.per_label["TOTAL"] == LabelScore(precision=0, recall=0, f1=0, support=1)


def test_an_inside_tag_that_continues_nothing_is_no_entity() -> None:
    """The lenient reading would count it."""
    scores = score_entities([["O", "B-DATE"]], [["O", "I-DATE"]], ["DATE"])
    assert (scores.f1, scores.recall) == (0.0, 0.0)


def test_every_label_has_a_row_also_without_a_true_entity() -> None:
    predicted = [["B-TAX", "O", "O", "O"], ["O", "O", "O", "O"]]
    scores = score_entities(TRUE, predicted, ["DATE", "TAX", "TIME", "TOTAL"])
    assert scores.per_label["TAX"] == LabelScore(precision=0, recall=0, f1=0, support=0)
    assert scores.per_label["TIME"] == LabelScore(precision=0, recall=0, f1=0, support=0)
    assert scores.per_label["DATE"].support == 2


def test_nothing_true_and_nothing_predicted_scores_zero() -> None:
    scores = score_entities([["O", "O"]], [["O", "O"]], ["DATE"])
    assert scores.f1 == 0.0
    assert scores.per_label["DATE"].support == 0
    assert not scores.collapsed


def test_the_micro_average_weighs_entities_not_labels() -> None:
    true = [["B-DATE", "B-DATE", "B-DATE", "B-TAX"]]
    predicted = [["B-DATE", "B-DATE", "B-DATE", "O"]]
    scores = score_entities(true, predicted, ["DATE", "TAX"])
    assert (scores.precision, scores.recall) == (1.0, 0.75)


def test_confusion_counts_words_by_label() -> None:
    predicted = [["B-TOTAL", "O", "B-TOTAL", "B-DATE"], ["O", "B-DATE", "O", "O"]]
    scores = score_entities(TRUE, predicted, ["DATE", "TOTAL"])
    assert scores.confusion == {
        "DATE": {"DATE": 1, "TOTAL": 1},
        "O": {"O": 4},
        "TOTAL": {"DATE": 1, "TOTAL": 1},
    }
    assert scores.predicted_labels == {"DATE": 2, "O": 4, "TOTAL": 2}


def test_one_class_for_every_word_is_a_collapse() -> None:
    assert score_entities(TRUE, [["O"] * 4, ["O"] * 4], ["DATE", "TOTAL"]).collapsed
    assert score_entities(TRUE, [["B-DATE"] * 4, ["I-DATE"] * 4], ["DATE", "TOTAL"]).collapsed
    assert not score_entities(TRUE, [["O", "O", "O", "B-DATE"], ["O"] * 4], ["DATE", "TOTAL"]).collapsed


def test_an_unlabelled_word_is_neither_right_nor_wrong() -> None:
    true = [["B-DATE", "-", "O", "-"]]
    scores = score_entities(true, [["B-DATE", "B-DATE", "O", "B-TAX"]], ["DATE", "TAX"])
    assert (scores.precision, scores.recall) == (1.0, 1.0)
    assert scores.per_label["TAX"].support == 0
    assert scores.confusion == {"DATE": {"DATE": 1}, "O": {"O": 1}}
    assert scores.predicted_labels == {"DATE": 1, "O": 1}


def test_an_entity_that_runs_into_an_unlabelled_word_is_cut_before_it() -> None:
    assert score_entities([["B-DATE", "-"]], [["B-DATE", "I-DATE"]], ["DATE"]).f1 == 1.0
