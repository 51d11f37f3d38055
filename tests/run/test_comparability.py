"""The stamp: equal where scores mean the same, and where they do not, in which field and how."""

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.run.comparability import (
    FIELDS,
    Stamp,
    differences,
    evaluation_text,
    make_stamp,
    split_text,
    stamp_of,
)

BASE = {name: f"some {name}" for name in FIELDS} | {"dataset": "a" * 64}


def test_equal_fields_give_equal_stamps_and_no_difference() -> None:
    assert make_stamp(BASE) == make_stamp(dict(BASE))
    assert differences(make_stamp(BASE), make_stamp(BASE)) == []


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_makes_another_stamp_and_is_named(field: str) -> None:
    other = make_stamp({**BASE, field: "another"})

    assert other.sha256 != make_stamp(BASE).sha256
    (reason,) = differences(make_stamp(BASE), other)
    assert reason.endswith("against another")


def test_a_fingerprint_is_shown_by_its_beginning() -> None:
    other = make_stamp({**BASE, "dataset": "b" * 64})

    assert differences(make_stamp(BASE), other) == [f"dataset: {'a' * 12} against {'b' * 12}"]


def test_the_seed_counts_only_where_it_decides_the_split() -> None:
    def text(**options: object) -> str:
        return split_text(WordLabelsConfig.model_validate(options))

    frozen = f"frozen:mine@{'a' * 64}"
    assert text(seed=1) == text(seed=2)
    assert text(split_seed=1) != text(split_seed=2)
    assert text(split="kfold:5/1") != text(split="kfold:5/2")
    assert text(split=frozen, split_seed=1) == text(split=frozen.replace("mine", "yours"), split_seed=2)
    assert text(eval_dataset="dev", split_seed=1) == text(eval_dataset="dev", split_seed=2)


def test_a_changed_truth_changes_the_evaluation_part_and_the_order_of_its_pages_does_not() -> None:
    truth = [("a", ("O", "B-DATE")), ("b", ("O",))]

    assert evaluation_text("evaluation", truth) == evaluation_text("evaluation", truth[::-1])
    assert evaluation_text("evaluation", truth) != evaluation_text("evaluation", [("a", ("O", "O")), truth[1]])


def test_results_of_earlier_versions_have_no_stamp() -> None:
    stamp = make_stamp(BASE)

    assert stamp_of({"comparability": stamp.model_dump(mode="json")}) == stamp
    assert [stamp_of(results) for results in (None, {}, {"comparability": "x"}, {"comparability": {}})] == [None] * 4
    assert set(Stamp.model_fields) == {*FIELDS, "sha256"}


@pytest.mark.parametrize("headline", ["eval_f1", "negative_eval_loss", "eval_f1_GRAND.TOTAL-2"])
def test_stamps_of_earlier_versions_are_read_without_the_metric_that_selected_the_weights(headline: str) -> None:
    now = make_stamp({**BASE, "scorer": "seqeval, viterbi"})
    earlier = {**now.model_dump(), "scorer": f"{headline}, seqeval, viterbi", "sha256": "0" * 64}

    assert stamp_of({"comparability": earlier}) == now
