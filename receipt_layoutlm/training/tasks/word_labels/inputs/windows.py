"""Encoding of pages as overlapping windows of sub-tokens.

A page is put into reading order and cut into windows by sub-tokens. A window never cuts a word, so every word is whole
in at least one; it is scored once, in the window with most of its context. Only a word's first sub-token carries a
label. A change of the encoding needs a new configs.word_labels.ENCODING_VERSION.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import order_of_words, rearranged
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import (
    DTYPES,
    SPECIAL_TOKENS,
    Features,
    FlatArray,
    IntArray,
)

OVERLAP = 0.25  # maximum fraction of a window's sub-tokens that the next window repeats
PAGES_AT_A_TIME = 1000  # tokenised together; an encoding takes a kilobyte per distinct word


class WordTokenizer(Protocol):
    """What an encoding needs of a tokenizer: transformers' fast ones have it, and that of an exported model."""

    @property
    def backend_tokenizer(self) -> Tokenizer: ...
    @property
    def cls_token_id(self) -> int: ...
    @property
    def sep_token_id(self) -> int: ...
    @property
    def unk_token_id(self) -> int: ...


def encode_pages(
    pages: Sequence[Page],
    tokenizer: WordTokenizer,
    max_length: int,
    on_page: Callable[[], None],
    max_sub_tokens: int | None = None,
) -> Features:
    """Encode pages; `on_page` is called before each one and may raise to stop. Each distinct word is tokenised once.

    Of a word the first `max_sub_tokens` are kept, and never more than a window holds.
    """
    budget = max_length - SPECIAL_TOKENS
    cap = budget if max_sub_tokens is None else min(budget, max_sub_tokens)
    sub_tokens: dict[str, list[int]] = {}
    flat = _Flat()
    for start in range(0, len(pages), PAGES_AT_A_TIME):
        block = pages[start : start + PAGES_AT_A_TIME]
        fresh = {word for page in block for word in page.words} - sub_tokens.keys()
        sub_tokens.update(_sub_tokens(fresh, tokenizer, cap))
        for page in block:
            on_page()
            flat.add(page, sub_tokens, budget)
    return flat.features(tokenizer)


def _sub_tokens(words: set[str], tokenizer: WordTokenizer, cap: int) -> dict[str, list[int]]:
    """The first `cap` sub-token ids of each word; a word that the tokenizer drops becomes one unknown token."""
    backend = tokenizer.backend_tokenizer  # three times as fast as the tokenizer itself, which copies all ids
    backend.no_truncation()
    backend.no_padding()
    distinct = sorted(words)
    rows = [encoding.ids for encoding in backend.encode_batch_fast(distinct, add_special_tokens=False)]
    return {word: row[:cap] or [tokenizer.unk_token_id] for word, row in zip(distinct, rows, strict=True)}


@dataclass
class _Flat:
    """The arrays of Features while pages are added; lengths instead of starts."""

    page_ids: list[str] = field(default_factory=list)
    tag_numbers: dict[str, int] = field(default_factory=dict)
    page_words: "array[int]" = field(default_factory=lambda: array("q"))
    page_windows: "array[int]" = field(default_factory=lambda: array("q"))
    text: bytearray = field(default_factory=bytearray)
    text_lengths: "array[int]" = field(default_factory=lambda: array("q"))
    boxes: "array[int]" = field(default_factory=lambda: array("h"))
    tags: "array[int]" = field(default_factory=lambda: array("i"))
    order: "array[int]" = field(default_factory=lambda: array("i"))
    pieces: "array[int]" = field(default_factory=lambda: array("i"))
    piece_lengths: "array[int]" = field(default_factory=lambda: array("q"))
    spans: "array[int]" = field(default_factory=lambda: array("q"))
    scorer: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, page: Page, sub_tokens: dict[str, list[int]], budget: int) -> None:
        order = order_of_words(page)
        page = rearranged(page, order)
        self.page_ids.append(page.page_id)
        self.order.extend(order)
        self.boxes.extend(chain.from_iterable(page.boxes))
        self.tags.extend(self.tag_numbers.setdefault(tag, len(self.tag_numbers)) for tag in page.tags)
        texts = [word.encode() for word in page.words]
        self.text += b"".join(texts)
        self.text_lengths.extend(map(len, texts))
        pieces = [sub_tokens[word] for word in page.words]
        self.pieces.extend(chain.from_iterable(pieces))
        self._add_windows([len(piece) for piece in pieces], budget)

    def _add_windows(self, lengths: list[int], budget: int) -> None:
        words_before, windows_before = len(self.piece_lengths), len(self.spans) // 2
        spans = cut_windows(lengths, budget)
        self.piece_lengths.extend(lengths)
        self.page_words.append(len(lengths))
        self.page_windows.append(len(spans))
        self.spans.extend(words_before + word for span in spans for word in span)
        self.scorer.extend((windows_before + most_central(lengths, spans)).tolist())

    def features(self, tokenizer: WordTokenizer) -> Features:
        arrays: dict[str, Iterable[int] | FlatArray] = {
            "page_words": _starts(self.page_words),
            "page_windows": _starts(self.page_windows),
            "text": np.frombuffer(bytes(self.text), np.uint8),
            "text_starts": _starts(self.text_lengths),
            "boxes": np.array(self.boxes).reshape(-1, 4),
            "tags": self.tags,
            "order": self.order,
            "pieces": self.pieces,
            "piece_starts": _starts(self.piece_lengths),
            "spans": np.array(self.spans).reshape(-1, 2),
            "scorer": self.scorer,
        }
        return Features(
            page_ids=tuple(self.page_ids),
            tag_names=tuple(self.tag_numbers),
            special_ids=(tokenizer.cls_token_id, tokenizer.sep_token_id),
            **{name: np.asarray(values, DTYPES[name]) for name, values in arrays.items()},
        )


def _starts(lengths: Sequence[int]) -> IntArray:
    """Start of each piece, and the end of the last one."""
    return np.concatenate(([0], np.cumsum(np.asarray(lengths, np.int64))))


def cut_windows(lengths: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Spans (start, end) of words whose sub-tokens fit the budget, in order; each span ends beyond the one before.

    `lengths` are sub-tokens per word, each at most the budget. A span begins up to OVERLAP of the budget before the
    end of the previous one, provided that at least one new word fits.
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
    """For each word the span with the most context, measured in sub-tokens on its shorter side; the first on a tie.

    The context counts as unlimited at the start and end of the page, where nothing is cut off.
    """
    upto = np.array([0, *accumulate(lengths)])
    words = len(lengths)
    best = np.zeros(words, np.int64)
    best_context = np.full(words, -1.0)
    for number, (start, end) in enumerate(spans):
        before = upto[start:end] - upto[start] if start > 0 else np.full(end - start, np.inf)
        after = upto[end] - upto[start + 1 : end + 1] if end < words else np.full(end - start, np.inf)
        context = np.minimum(before, after)
        better = context > best_context[start:end]
        best[start:end][better] = number
        best_context[start:end][better] = context[better]
    return best
