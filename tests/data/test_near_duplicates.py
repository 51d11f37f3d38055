"""Near duplicates across sets: the same as by comparing all pairs, each page once, in seconds."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.near_duplicates import near_duplicates, shingles_of
from receipt_layoutlm.data.page import Page


def page(page_id: str, *words: str) -> Page:
    return Page(page_id, "g", words, ((0, 0, 9, 9),) * len(words), ("O",) * len(words), 100, 200)


def receipt(page_id: str, generator: random.Random, words: int = 40) -> Page:
    return page(page_id, *(str(generator.randrange(1000)) for _ in range(words)))


def changed(original: Page, page_id: str, index: int) -> Page:
    words = list(original.words)
    words[index] = "CHANGED"
    return page(page_id, *words)


def test_a_second_scan_of_a_training_receipt_is_found_in_the_validation_set() -> None:
    generator = random.Random(0)
    train = [receipt(f"t{i}", generator) for i in range(20)]
    again = changed(train[7], "e0", index=39)

    (found,) = near_duplicates({"train": train, "evaluation": [receipt("e1", generator), again]})

    assert (found.page_id, found.set_name, found.other_id, found.other_set) == ("e0", "evaluation", "t7", "train")
    assert found.similarity == pytest.approx(37 / 39, abs=0.001)


def test_case_is_ignored_and_equal_pages_of_one_set_are_no_finding() -> None:
    train = [page("a", "ONE", "TWO", "THREE"), page("b", "one", "two", "three")]

    assert near_duplicates({"train": train, "evaluation": []}) == []
    (found,) = near_duplicates({"train": train, "evaluation": [page("c", "One", "Two", "Three")]})
    assert (found.page_id, found.similarity) == ("c", 1.0)


def test_a_page_is_reported_once_with_the_most_similar_page() -> None:
    original = receipt("e", random.Random(1))
    far, near = changed(original, "far", 20), changed(original, "near", 39)

    found = near_duplicates({"train": [far, near], "evaluation": [original]})

    assert [(each.page_id, each.other_id) for each in found] == [("e", "near")]


def test_a_page_of_the_test_set_is_compared_with_training_and_validation_set() -> None:
    original = receipt("t", random.Random(2))

    found = near_duplicates({"train": [], "evaluation": [original], "test": [changed(original, "x", 39)]})

    assert [(each.page_id, each.other_set) for each in found] == [("x", "evaluation")]


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=8)
page_sets = st.lists(words, max_size=6)


@given(page_sets, page_sets, st.sampled_from([0.5, 0.8, 1.0]))
def test_the_pages_found_are_those_that_comparing_every_pair_finds(
    train: list[list[str]], evaluation: list[list[str]], threshold: float
) -> None:
    first = [page(f"t{i}", *texts) for i, texts in enumerate(train)]
    second = [page(f"e{i}", *texts) for i, texts in enumerate(evaluation)]
    expected = {}
    for one in second:
        for other in first:
            a, b = shingles_of(one), shingles_of(other)
            if (similarity := len(a & b) / len(a | b)) >= threshold:
                expected[one.page_id] = max(expected.get(one.page_id, 0.0), round(similarity, 3))

    found = near_duplicates({"train": first, "evaluation": second}, threshold)

    assert {each.page_id: each.similarity for each in found} == expected


def test_pages_of_a_few_thousand_are_compared_without_comparing_all_pairs() -> None:
    generator = random.Random(3)
    header = [f"H{i}" for i in range(20)]  # the same on every page, as that of a merchant
    pages = [page(f"p{i}", *header, *(str(generator.randrange(500)) for _ in range(60))) for i in range(2000)]
    began = time.process_time()

    assert near_duplicates({"train": pages[:1600], "evaluation": pages[1600:]}) == []
    assert time.process_time() - began < 5
