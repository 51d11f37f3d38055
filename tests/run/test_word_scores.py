"""Scores over words agree with scikit-learn's, and never pass for entity scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, precision_recall_fscore_support

from receipt_layoutlm.run.word_scores import word_report, word_report_lines
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import score_entities

CLASSES = ["DATE", "O", "TAX", "TIP"]
words = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60)


def confusion_of(pairs: list[tuple[str, str]]) -> dict[str, dict[str, int]]:
    tags = [[label if label == "O" else f"B-{label}" for label in column] for column in zip(*pairs, strict=True)]
    return score_entities([tags[0]], [tags[1]], []).confusion


@given(words)
def test_it_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    report = word_report(confusion_of(pairs))
    columns = precision_recall_fscore_support(true, predicted, labels=list(report.rows), zero_division=0)
    for row, theirs in zip(report.rows.values(), zip(*columns, strict=True), strict=True):
        assert (row.word_precision, row.word_recall, row.word_f1, row.words) == pytest.approx(theirs)
    weighted = precision_recall_fscore_support(true, predicted, average="weighted", zero_division=0)
    ours = report.weighted
    assert [ours.word_precision, ours.word_recall, ours.word_f1] == pytest.approx(weighted[:3])
    assert ours.words == len(pairs)
    assert report.word_accuracy == pytest.approx(accuracy_score(true, predicted))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(words)
def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur(pairs: list[tuple[str, str]]) -> None:
    report = word_report(confusion_of(pairs))
    assert report.balanced_accuracy == pytest.approx(balanced_accuracy_score(*zip(*pairs, strict=True)))


def test_a_model_that_says_o_looks_good_by_accuracy_alone() -> None:
    report = word_report({"O": {"O": 90}, "TAX": {"O": 10}})
    assert (report.word_accuracy, report.balanced_accuracy) == (0.9, 0.5)


def test_without_words_all_is_zero() -> None:
    report = word_report({})
    assert (report.rows, report.weighted.words, report.word_accuracy, report.balanced_accuracy) == ({}, 0, 0, 0)


def test_its_text_says_that_it_is_about_words() -> None:
    lines = word_report_lines(word_report({"O": {"O": 90}, "TAX": {"O": 5, "TAX": 5}}))
    assert lines[0] == "word level (single words, no entity F1)"
    assert lines[3].split() == ["TAX", "1.000", "0.500", "0.667", "10"]
    assert lines[-1] == "word accuracy 0.950, balanced 0.750"
    assert len({len(line) for line in lines[1:-1]}) == 1
