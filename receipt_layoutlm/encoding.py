"""Pages -> windows of model inputs, and windows -> padded batches. numpy only; the tokenizer is passed in.

A page is put into reading order and cut into windows by sub-tokens. Windows overlap and never cut a word, so
every word stands whole in at least one; it is scored once, in the window that shows most of its surroundings.
Only a word's first sub-token carries a label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from receipt_layoutlm.labels import LabelMap
from receipt_layoutlm.losses import IGNORE_INDEX
from receipt_layoutlm.page import PAGE_EXTENT, UNSUPERVISED, Page
from receipt_layoutlm.reading_order import order_of_words, rearranged

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SPECIAL_TOKENS = 2  # [CLS] and [SEP], one of each per window
OVERLAP = 0.25  # of a window's sub-tokens, at most, are seen again in the next window

FIRST_BOX = (0, 0, 0, 0)  # of [CLS] and of padding, as LayoutLM was pretrained
LAST_BOX = (PAGE_EXTENT,) * 4  # of [SEP]


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A page in reading order under a run's labels.

    label_ids: (words,), IGNORE_INDEX where nobody has decided. order: (words,), where each word stood in the page.
    """

    page_id: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    label_ids: IntArray
    order: IntArray


@dataclass(frozen=True, slots=True)
class Window:
    """Model inputs of consecutive words of one page, special tokens included.

    input_ids: (length,). bbox: (length, 4), thousandths. word_index: (words,), their places in the page.
    first: (words,), where each word's first sub-token stands. scored: (words,), whether evaluation takes the
    word from this window.
    """

    page: int  # index into EncodedPart.pages
    input_ids: IntArray
    bbox: IntArray
    word_index: IntArray
    first: IntArray
    scored: BoolArray


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """A part of a dataset, ready for a model."""

    pages: list[EncodedPage]
    windows: list[Window]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to the longest: input_ids, attention_mask, labels (batch, length); bbox (batch, length, 4)."""

    input_ids: IntArray
    attention_mask: IntArray
    bbox: IntArray
    labels: IntArray

    @property
    def supervised(self) -> int:
        """Positions that carry a label."""
        return int((self.labels != IGNORE_INDEX).sum())


def encode_pages(
    pages: Sequence[Page],
    tokenizer: PreTrainedTokenizerFast,
    label_map: LabelMap,
    max_length: int,
    on_page: Callable[[], None],
) -> EncodedPart:
    """Encode pages; `on_page` is called before each one and may raise to stop. Each distinct word is tokenised once."""
    budget = max_length - SPECIAL_TOKENS
    sub_tokens = _sub_tokens({word for page in pages for word in page.words}, tokenizer, budget)
    label2id = {**label_map.label2id, UNSUPERVISED: IGNORE_INDEX}
    encoded: list[EncodedPage] = []
    windows: list[Window] = []
    for index, page in enumerate(pages):
        on_page()
        order = order_of_words(page)
        page = rearranged(page, order)
        tags = label_map.apply(page.tags)
        ids = np.array([label2id[tag] for tag in tags], np.int64)
        encoded.append(EncodedPage(page.page_id, page.words, tags, ids, np.array(order)))
        pieces = [sub_tokens[word] for word in page.words]
        windows.extend(_windows_of(index, page, pieces, tokenizer, budget))
    return EncodedPart(encoded, windows)


def _sub_tokens(words: set[str], tokenizer: PreTrainedTokenizerFast, budget: int) -> dict[str, list[int]]:
    """Sub-token ids of each word, cut to the budget; a word that the tokenizer drops becomes one unknown token."""
    distinct = sorted(words)
    rows = tokenizer(distinct, add_special_tokens=False)["input_ids"] if distinct else []
    return {word: row[:budget] or [tokenizer.unk_token_id] for word, row in zip(distinct, rows, strict=True)}


def _windows_of(
    index: int, page: Page, pieces: list[list[int]], tokenizer: PreTrainedTokenizerFast, budget: int
) -> list[Window]:
    lengths = [len(piece) for piece in pieces]
    spans = cut(lengths, budget)
    scorer = most_central(lengths, spans)
    return [
        _window(index, page, pieces, span, scorer[span[0] : span[1]] == number, tokenizer)
        for number, span in enumerate(spans)
    ]


def _window(
    index: int,
    page: Page,
    pieces: list[list[int]],
    span: tuple[int, int],
    scored: BoolArray,
    tokenizer: PreTrainedTokenizerFast,
) -> Window:
    start, end = span
    lengths = [len(piece) for piece in pieces[start:end]]
    ids = [tokenizer.cls_token_id, *(id_ for piece in pieces[start:end] for id_ in piece), tokenizer.sep_token_id]
    boxes = np.array((FIRST_BOX, *page.boxes[start:end], LAST_BOX), np.int64)
    return Window(
        page=index,
        input_ids=np.array(ids, np.int64),
        bbox=np.repeat(boxes, [1, *lengths, 1], axis=0),
        word_index=np.arange(start, end),
        first=1 + np.cumsum([0, *lengths[:-1]]),
        scored=scored,
    )


def cut(lengths: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Spans (start, end) of words whose sub-tokens fit the budget, in order; each span ends beyond the one before.

    `lengths` are sub-tokens per word, each at most the budget. A span begins up to OVERLAP of the budget
    before the end of the one before, as far as its first new word still fits.
    """
    upto = [0, *accumulate(lengths)]  # sub-tokens before each word
    spans: list[tuple[int, int]] = []
    start = end = 0
    while end < len(lengths):
        while end < len(lengths) and upto[end + 1] - upto[start] <= budget:
            end += 1
        spans.append((start, end))
        if end < len(lengths):
            start = next(
                word
                for word in range(start + 1, end + 1)
                if upto[end] - upto[word] <= OVERLAP * budget and upto[end + 1] - upto[word] <= budget
            )
    return spans


def most_central(lengths: Sequence[int], spans: Sequence[tuple[int, int]]) -> IntArray:
    """For each word the number of the span that shows most sub-tokens on its poorer side; the earlier on a tie.

    A page's own first and last word cut nothing off, so that side counts as whole.
    """
    upto = np.array([0, *accumulate(lengths)])
    words = len(lengths)
    best = np.zeros(words, np.int64)
    room = np.full(words, -1.0)
    for number, (start, end) in enumerate(spans):
        before = upto[start:end] - upto[start] if start > 0 else np.full(end - start, np.inf)
        after = upto[end] - upto[start + 1 : end + 1] if end < words else np.full(end - start, np.inf)
        shown = np.minimum(before, after)
        better = shown > room[start:end]
        best[start:end][better] = number
        room[start:end][better] = shown[better]
    return best


def collate(windows: Sequence[Window], word_labels: Sequence[IntArray], pad_token_id: int) -> Batch:
    """Pad windows to the longest of them; word_labels holds one label id (or IGNORE_INDEX) per word of each."""
    longest = max(len(window.input_ids) for window in windows)
    shape = (len(windows), longest)
    batch = Batch(
        input_ids=np.full(shape, pad_token_id, np.int64),
        attention_mask=np.zeros(shape, np.int64),
        bbox=np.zeros((*shape, 4), np.int64),
        labels=np.full(shape, IGNORE_INDEX, np.int64),
    )
    for row, (window, labels) in enumerate(zip(windows, word_labels, strict=True)):
        length = len(window.input_ids)
        batch.input_ids[row, :length] = window.input_ids
        batch.attention_mask[row, :length] = 1
        batch.bbox[row, :length] = window.bbox
        batch.labels[row, window.first] = labels
    return batch
