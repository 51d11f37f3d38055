"""Decoded tags are valid and most probable; a single-valued label keeps its most confident entity."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import (
    FloatArray,
    decode,
    is_valid,
    keep_best_entities,
    viterbi,
)


def names_of(*labels: str) -> list[str]:
    return list(LabelMap({}, labels).label2id)


def is_iob2(tags: list[str]) -> bool:
    """Whether every I-X follows B-X or I-X, by the definition."""
    return all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in itertools.pairwise(["O", *tags]))


NAMES = names_of("DATE", "TAX")
C = len(NAMES)
log_probabilities = st.one_of(
    st.floats(-20, 0, width=32),
    st.sampled_from([0.0, -1.0, -2.0]),  # so that ties happen
    st.just(float("-inf")),
)


def scores_of(words: int) -> st.SearchStrategy[FloatArray]:
    return arrays(np.float32, (words, C), elements=log_probabilities)


small_pages = st.lists(st.integers(1, 4).flatmap(scores_of), min_size=1, max_size=4)
pages = st.lists(st.integers(0, 30).flatmap(scores_of), min_size=1, max_size=70)


def total(page: FloatArray, path: tuple[int, ...]) -> float:
    return float(np.maximum(page, -1e6).astype(np.float64)[range(len(path)), path].sum())


def best_by_trying_all(page: FloatArray) -> float:
    paths = itertools.product(range(C), repeat=len(page))
    return max(total(page, path) for path in paths if is_iob2([NAMES[number] for number in path]))


@given(small_pages)
def test_no_valid_sequence_is_more_probable(some: list[FloatArray]) -> None:
    for page, path in zip(some, viterbi(some, NAMES), strict=True):
        assert total(page, tuple(path)) == pytest.approx(best_by_trying_all(page), abs=1e-6)


@given(pages)
def test_it_is_always_valid_and_the_argmax_where_that_is(some: list[FloatArray]) -> None:
    for page, tags in zip(some, decode(some, NAMES, "viterbi"), strict=True):
        assert is_iob2(tags)
        argmax = [NAMES[number] for number in page.argmax(-1)]
        if is_iob2(argmax):
            assert tags == argmax


@given(pages)
def test_a_page_is_decoded_the_same_among_others_and_alone(some: list[FloatArray]) -> None:
    assert decode(some, NAMES, "viterbi") == [decode([page], NAMES, "viterbi")[0] for page in some]


@given(st.lists(st.sampled_from(range(C)), max_size=12))
def test_a_sequence_is_called_valid_when_a_page_would_take_it(path: list[int]) -> None:
    assert is_valid(np.array(path, np.int64)) == is_iob2([NAMES[number] for number in path])


def page_of(*likely: dict[str, float]) -> FloatArray:
    """Log-probabilities of words: of the classes named, and -9 of all others."""
    return np.array([[word.get(name, -9.0) for name in NAMES] for word in likely], np.float32)


def test_an_entity_without_a_beginning_gets_one_or_goes() -> None:
    weak = page_of({"O": -0.1, "B-TAX": -4}, {"I-TAX": -0.5, "O": -1})
    assert decode([weak], NAMES, "argmax") == [["O", "I-TAX"]]
    assert decode([weak], NAMES, "viterbi") == [["O", "O"]]
    strong = page_of({"O": -0.6, "B-TAX": -0.9}, {"I-TAX": -0.1, "O": -3})
    assert decode([strong], NAMES, "viterbi") == [["B-TAX", "I-TAX"]]


def test_an_entity_does_not_continue_under_another_label() -> None:
    page = page_of({"B-DATE": -0.1}, {"I-TAX": -0.4, "I-DATE": -0.9})
    assert decode([page], NAMES, "viterbi") == [["B-DATE", "I-DATE"]]


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        viterbi([page_of({"O": float("nan")})], NAMES)


@pytest.mark.parametrize(
    "names", [["B-TAX", "I-TAX", "O"], ["O", "I-TAX", "B-TAX"], ["O", "B-TAX", "I-TIP"], ["O", "B-TAX"]]
)
def test_classes_in_another_order_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="classes must be"):
        viterbi([np.zeros((1, len(names)), np.float32)], names)


def sure(*tags_and_scores: tuple[str, float]) -> tuple[list[str], FloatArray]:
    return [tag for tag, _ in tags_and_scores], page_of(*({tag: score} for tag, score in tags_and_scores))


SPANS = [
    # the more confident of two
    ([("B-TAX", -2), ("O", 0), ("B-TAX", -1)], ["O", "O", "B-TAX"]),
    ([("B-TAX", -1), ("O", 0), ("B-TAX", -2)], ["B-TAX", "O", "O"]),
    # by the mean of its words, not by their sum or the first
    ([("B-TAX", -1), ("I-TAX", -1), ("I-TAX", -1), ("B-TAX", -2)], ["B-TAX", "I-TAX", "I-TAX", "O"]),
    ([("B-TAX", -1), ("I-TAX", -6), ("O", 0), ("B-TAX", -3)], ["O", "O", "O", "B-TAX"]),
    # the first of equals
    ([("B-TAX", -1), ("B-TAX", -1)], ["B-TAX", "O"]),
    # one is kept however unlikely, none is made
    ([("O", 0), ("B-TAX", -8)], ["O", "B-TAX"]),
    ([("O", 0), ("O", 0)], ["O", "O"]),
    # other labels stay
    ([("B-DATE", -1), ("B-DATE", -2), ("B-TAX", -1)], ["B-DATE", "B-DATE", "B-TAX"]),
]


@pytest.mark.parametrize(("words", "kept"), SPANS)
def test_a_single_valued_label_keeps_its_most_confident_entity(words: list[tuple[str, float]], kept: list[str]) -> None:
    tags, scores = sure(*words)
    assert keep_best_entities(tags, scores, NAMES, {"TAX"}) == kept


@pytest.mark.parametrize("decoding", ["argmax", "viterbi"])
def test_decoding_keeps_one_entity_of_single_valued_labels_only(decoding: str) -> None:
    tags, scores = sure(("B-TAX", -2), ("B-DATE", -1), ("B-TAX", -1), ("B-DATE", -2))
    assert decode([scores], NAMES, decoding) == [tags]
    assert decode([scores], NAMES, decoding, ["TAX"]) == [["O", "B-DATE", "B-TAX", "B-DATE"]]
    assert decode([scores], NAMES, decoding, ["TAX", "DATE"]) == [["O", "B-DATE", "B-TAX", "O"]]


@given(pages)
def test_one_entity_of_each_single_valued_label_is_left_and_tags_stay_valid(some: list[FloatArray]) -> None:
    for tags, all_of_them in zip(decode(some, NAMES, "viterbi", ["TAX"]), decode(some, NAMES, "viterbi"), strict=True):
        assert is_iob2(tags)
        assert tags.count("B-TAX") == min(1, all_of_them.count("B-TAX"))
        assert [tag for tag in tags if "DATE" in tag] == [tag for tag in all_of_them if "DATE" in tag]
