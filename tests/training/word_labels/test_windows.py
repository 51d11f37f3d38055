"""Windows: no word is lost or cut, each is scored once, only first sub-tokens carry labels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from receipt_layoutlm.data.labels import IGNORE_INDEX, LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import OVERLAP, cut_windows, encode_pages, most_central
from tests.support.tiny import tiny_layoutlm, tiny_pages

LABELS = LabelMap(merges={}, labels=("DATE", "GRAND_TOTAL"))
BUDGETS = st.integers(4, 40)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """One sub-token per character."""
    folder = tiny_layoutlm(tmp_path_factory.mktemp("tiny"), tiny_pages(20))
    return AutoTokenizer.from_pretrained(folder)


def encode(
    pages: list[Page], tokenizer: PreTrainedTokenizerFast, max_length: int = 512, labels: LabelMap = LABELS
) -> EncodedPages:
    features = encode_pages(pages, tokenizer, max_length, on_page=lambda: None)
    return select(features, [page.page_id for page in pages], labels)


def long_page(words: int) -> Page:
    """A page of many lines with three words each; word lengths differ, and every third word is a DATE."""
    boxes = tuple((300 * (i % 3), 20 * (i // 3), 300 * (i % 3) + 200, 20 * (i // 3) + 15) for i in range(words))
    texts = tuple("1234/567"[: 1 + (i * 5) % 8] for i in range(words))
    tags = tuple("B-DATE" if i % 3 == 0 else "O" for i in range(words))
    return Page("long", "g", texts, boxes, tags, 100, 100)


@st.composite
def lengths_and_budget(draw: st.DrawFn) -> tuple[list[int], int]:
    budget = draw(BUDGETS)
    return draw(st.lists(st.integers(1, budget), min_size=1, max_size=120)), budget


@given(lengths_and_budget())
def test_spans_fit_the_budget_and_lose_no_word(case: tuple[list[int], int]) -> None:
    lengths, budget = case
    spans = cut_windows(lengths, budget)
    assert all(start < end and sum(lengths[start:end]) <= budget for start, end in spans)
    assert {word for start, end in spans for word in range(start, end)} == set(range(len(lengths)))
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start < next_start <= end < next_end
        assert sum(lengths[next_start:end]) <= OVERLAP * budget


@given(lengths_and_budget())
def test_each_word_is_scored_once_where_most_of_its_surroundings_are_seen(case: tuple[list[int], int]) -> None:
    lengths, budget = case
    spans = cut_windows(lengths, budget)
    scorer = most_central(lengths, spans)

    def room(word: int, number: int) -> float:
        start, end = spans[number]
        before = sum(lengths[start:word]) if start > 0 else float("inf")
        after = sum(lengths[word + 1 : end]) if end < len(lengths) else float("inf")
        return min(before, after)

    for word, number in enumerate(scorer):
        holders = [n for n, (start, end) in enumerate(spans) if start <= word < end]
        assert number == max(holders, key=lambda n: (room(word, n), -n))


def test_neighbouring_windows_overlap() -> None:
    spans = cut_windows([1] * 100, budget=40)
    assert spans == [(0, 40), (30, 70), (60, 100)]


@settings(max_examples=20, deadline=None)
@given(words=st.integers(1, 90), max_length=st.integers(16, 60))
def test_every_word_of_a_page_is_scored_in_exactly_one_window(
    tokenizer: PreTrainedTokenizerFast, words: int, max_length: int
) -> None:
    part = encode([long_page(words)], tokenizer, max_length)
    assert all(len(window.input_ids) <= max_length for window in part.windows)
    scored = np.concatenate([window.word_index[window.scored] for window in part.windows])
    assert sorted(scored) == list(range(words))


word_sizes = st.lists(st.one_of(st.integers(1, 9), st.integers(10, 100)), min_size=1, max_size=60)


def page_of_sizes(page_id: str, sizes: list[int]) -> Page:
    """A page whose words have these many sub-tokens."""
    boxes = tuple((0, 10 * i, 900, 10 * i + 9) for i in range(len(sizes)))
    return Page(page_id, "g", tuple("1" * size for size in sizes), boxes, ("O",) * len(sizes), 100, 100)


@settings(max_examples=30, deadline=None)
@given(sizes_of_each=st.lists(word_sizes, min_size=1, max_size=3), max_length=st.sampled_from([16, 64, 512]))
def test_every_word_of_every_page_is_in_a_window_and_scored_once_however_long_pages_and_words_are(
    tokenizer: PreTrainedTokenizerFast, sizes_of_each: list[list[int]], max_length: int
) -> None:
    pages = [page_of_sizes(f"p{number}", sizes) for number, sizes in enumerate(sizes_of_each)]
    part = encode(pages, tokenizer, max_length)
    assert all(len(window.input_ids) <= max_length for window in part.windows)
    for number, sizes in enumerate(sizes_of_each):
        windows = [window for window in part.windows if window.page == number]
        assert {word for window in windows for word in window.word_index.tolist()} == set(range(len(sizes)))
        scored = [word for window in windows for word in window.word_index[window.scored].tolist()]
        assert sorted(scored) == list(range(len(sizes)))
        assert (len(windows) > 1) == (sum(min(size, max_length - 2) for size in sizes) > max_length - 2)


@pytest.mark.parametrize("cap", [1, 3])
def test_of_a_word_only_its_first_sub_tokens_are_read_where_they_are_capped(
    tokenizer: PreTrainedTokenizerFast, cap: int
) -> None:
    pages = [page_of_sizes("p", [1, 3, 9])]
    whole, capped = (encode_pages(pages, tokenizer, 512, lambda: None, most) for most in (None, cap))
    assert np.diff(whole.piece_starts).tolist() == [1, 3, 9]
    assert np.diff(capped.piece_starts).tolist() == [min(size, cap) for size in (1, 3, 9)]
    for word in range(3):
        begin, end = capped.piece_starts[word : word + 2]
        of_whole = whole.pieces[whole.piece_starts[word] :]
        assert capped.pieces[begin:end].tolist() == of_whole[: end - begin].tolist()


def test_a_window_holds_whole_words_between_the_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    page = long_page(40)
    for window in encode([page], tokenizer, 32).windows:
        ids = window.input_ids
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert window.bbox[0].tolist() == [0] * 4
        assert window.bbox[-1].tolist() == [1000] * 4
        texts = [page.words[word] for word in window.word_index]
        assert ids[1:-1].tolist() == [i for row in tokenizer(texts, add_special_tokens=False)["input_ids"] for i in row]
        for word, first in zip(window.word_index, window.first, strict=True):
            rows = window.bbox[first : first + len(page.words[word])]
            assert (rows == page.boxes[word]).all()


def test_a_word_longer_than_a_window_is_cut_and_still_scored(tokenizer: PreTrainedTokenizerFast) -> None:
    page = Page("p", "g", ("1" * 90, "2"), ((0, 0, 100, 10), (200, 0, 300, 10)), ("B-DATE", "O"), 10, 10)
    first, second = encode([page], tokenizer, 16).windows
    assert (len(first.input_ids), first.word_index.tolist(), first.scored.tolist()) == (16, [0], [True])
    assert (second.word_index.tolist(), second.scored.tolist()) == ([1], [True])


def test_a_word_the_tokenizer_drops_is_an_unknown_token(tokenizer: PreTrainedTokenizerFast) -> None:
    page = Page("p", "g", ("1", "\u200b\x01"), ((0, 0, 100, 10), (200, 0, 300, 10)), ("O", "B-DATE"), 10, 10)
    assert tokenizer("\x01", add_special_tokens=False)["input_ids"] == []
    (window,) = encode([page], tokenizer).windows
    assert window.input_ids[window.first[1]] == tokenizer.unk_token_id


def test_words_are_encoded_in_reading_order_with_their_tags(tokenizer: PreTrainedTokenizerFast) -> None:
    boxes = ((500, 100, 800, 160), (100, 100, 400, 160), (100, 0, 400, 60))
    page = Page("p", "g", ("1/2", "date", "shop"), boxes, ("B-DATE", "O", "O"), 10, 10)
    (encoded,) = encode([page], tokenizer).pages
    assert encoded.words == ("shop", "date", "1/2")
    assert encoded.tags == ("O", "O", "B-DATE")
    assert encoded.label_ids.tolist() == [0, 0, LABELS.label2id["B-DATE"]]


def test_labels_outside_the_map_become_o(tokenizer: PreTrainedTokenizerFast) -> None:
    part = encode(tiny_pages(3), tokenizer, labels=LabelMap({}, ("DATE",)))
    assert {tag for page in part.pages for tag in page.tags} == {"O", "B-DATE"}


def test_encoding_can_be_stopped_at_any_page(tokenizer: PreTrainedTokenizerFast) -> None:
    def stop_at_the_third() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedError

    asked: list[int] = []
    with pytest.raises(InterruptedError):
        encode_pages(tiny_pages(9), tokenizer, 512, stop_at_the_third)
    assert len(asked) == 3


def test_an_unlabelled_word_is_an_input_but_not_supervised(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    page = Page("p", "g", ("1", "2", "3"), ((0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9)), ("O", "-", "B-DATE"), 10, 10)
    part = encode([page], tokenizer)
    assert part.pages[0].tags == ("O", "-", "B-DATE")
    assert list(part.pages[0].label_ids) == [0, IGNORE_INDEX, LABELS.label2id["B-DATE"]]
    assert len(part.windows[0].first) == 3
