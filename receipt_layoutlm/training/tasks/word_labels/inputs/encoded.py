"""Encoded pages as flat memory-mappable arrays, and a run's views of them.

A snapshot is encoded as a whole and independent of labels: a set is a selection of its pages, a label map a table of
its tags. So one encoding serves every split, sample, whitelist and merge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from receipt_layoutlm.data.labels import IGNORE_INDEX, LabelMap
from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FlatArray = npt.NDArray[Any]  # of one of the types in DTYPES
T = TypeVar("T")

SPECIAL_TOKENS = 2  # [CLS] and [SEP], one of each per window
FIRST_BOX = (0, 0, 0, 0)  # of [CLS] and of padding, as LayoutLM was pretrained
LAST_BOX = (PAGE_EXTENT,) * 4  # of [SEP]

DTYPES = {
    "page_words": "<i8",  # (pages + 1,) first word of each page
    "page_windows": "<i8",  # (pages + 1,) first window of each page
    "text": "|u1",  # UTF-8 of all words
    "text_starts": "<i8",  # (words + 1,)
    "boxes": "<i2",  # (words, 4) thousandths
    "tags": "<i4",  # (words,) indices into tag_names
    "order": "<i4",  # (words,) index of each word in its page before reading order
    "pieces": "<i4",  # sub-token ids of all words
    "piece_starts": "<i8",  # (words + 1,)
    "spans": "<i8",  # (windows, 2) start and end word of each window
    "scorer": "<i8",  # (words,) the window that scores each word
}
"""Stored types of the arrays of Features. Words, windows and sub-tokens are numbered across all pages."""


@dataclass(frozen=True)
class Features:
    """Pages in reading order, cut into windows of a tokenizer's sub-tokens. See DTYPES for the arrays."""

    page_ids: tuple[str, ...]
    tag_names: tuple[str, ...]
    special_ids: tuple[int, int]  # [CLS], [SEP]
    page_words: FlatArray
    page_windows: FlatArray
    text: FlatArray
    text_starts: FlatArray
    boxes: FlatArray
    tags: FlatArray
    order: FlatArray
    pieces: FlatArray
    piece_starts: FlatArray
    spans: FlatArray
    scorer: FlatArray

    def words_of(self, number: int) -> slice:
        """Words of a page."""
        return slice(int(self.page_words[number]), int(self.page_words[number + 1]))

    def texts_of(self, words: slice) -> tuple[str, ...]:
        starts = self.text_starts[words.start : words.stop + 1].tolist()
        text = self.text[starts[0] : starts[-1]].tobytes()
        return tuple(text[begin - starts[0] : end - starts[0]].decode() for begin, end in pairwise(starts))

    @cached_property
    def window_lengths(self) -> IntArray:
        """Sub-tokens of each window, special tokens included."""
        lengths: IntArray = np.diff(self.piece_starts[self.spans], axis=1)[:, 0] + SPECIAL_TOKENS
        return lengths


@dataclass(frozen=True, slots=True)
class Window:
    """Model inputs of consecutive words of one page, special tokens included.

    input_ids: (length,). bbox: (length, 4), thousandths. word_index: (words,), indices in the page.
    first: (words,), position of each word's first sub-token. scored: (words,), whether this window scores the
    word. label_ids: (words,), IGNORE_INDEX for an unlabelled word.
    """

    page: int  # index into EncodedPages.pages
    input_ids: IntArray
    bbox: IntArray
    word_index: IntArray
    first: IntArray
    scored: BoolArray
    label_ids: IntArray


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A page in reading order under a run's labels."""

    source: "EncodedPages"
    number: int  # among all pages of the snapshot

    @property
    def page_id(self) -> str:
        return self.source.features.page_ids[self.number]

    @property
    def words(self) -> tuple[str, ...]:
        return self.source.features.texts_of(self.source.features.words_of(self.number))

    @property
    def tags(self) -> tuple[str, ...]:
        names = self.source.tag_names
        return tuple(names[tag] for tag in self._flat("tags").tolist())

    @property
    def label_ids(self) -> IntArray:
        """(words,), IGNORE_INDEX for an unlabelled word."""
        ids: IntArray = self.source.label_of_tag[self._flat("tags")]
        return ids

    @property
    def order(self) -> IntArray:
        """(words,), index of each word in the original page."""
        return self._flat("order").astype(np.int64)

    def _flat(self, name: str) -> FlatArray:
        array: FlatArray = getattr(self.source.features, name)
        return array[self.source.features.words_of(self.number)]


class Lazily(Sequence[T], Generic[T]):
    """A sequence that computes its items on access, without caching."""

    def __init__(self, make: Callable[[int], T], count: int) -> None:
        self._make, self._places = make, range(count)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(place) for place in self._places[index]]
        return self._make(self._places[index])


@dataclass(frozen=True)
class EncodedPages:
    """Pages of a snapshot under a run's labels, ready for a model: a view without copies."""

    features: Features
    tag_names: tuple[str, ...]  # features.tag_names after merges and whitelist
    label_of_tag: IntArray
    page_numbers: IntArray  # of these pages, in their order
    window_numbers: IntArray
    window_pages: IntArray  # index of each window's page among these

    @property
    def pages(self) -> Sequence[EncodedPage]:
        return Lazily(lambda place: EncodedPage(self, int(self.page_numbers[place])), len(self.page_numbers))

    @property
    def windows(self) -> Sequence[Window]:
        return Lazily(self._window, len(self.window_numbers))

    @property
    def window_lengths(self) -> IntArray:
        """Sub-tokens of each window, special tokens included."""
        lengths: IntArray = self.features.window_lengths[self.window_numbers]
        return lengths

    def window_tags(self, place: int) -> tuple[str, ...]:
        """Tags of a window's words."""
        start, end = self.features.spans[self.window_numbers[place]].tolist()
        return tuple(self.tag_names[tag] for tag in self.features.tags[start:end].tolist())

    def window_id(self, place: int) -> str:
        """Page id and index of the window in the page, independent of the set."""
        page = self.page_numbers[self.window_pages[place]]
        return f"{self.features.page_ids[page]} {self.window_numbers[place] - self.features.page_windows[page]}"

    def _window(self, place: int) -> Window:
        flat, number, page = self.features, int(self.window_numbers[place]), int(self.window_pages[place])
        start, end = flat.spans[number].tolist()
        starts = flat.piece_starts[start : end + 1] - flat.piece_starts[start]
        first_id, last_id = flat.special_ids
        pieces = flat.pieces[flat.piece_starts[start] : flat.piece_starts[end]]
        boxes = np.concatenate(([FIRST_BOX], flat.boxes[start:end], [LAST_BOX]))
        return Window(
            page=page,
            input_ids=np.concatenate(([first_id], pieces, [last_id])),
            bbox=np.repeat(boxes, [1, *np.diff(starts).tolist(), 1], axis=0),
            word_index=np.arange(start, end) - int(flat.page_words[self.page_numbers[page]]),
            first=1 + starts[:-1],
            scored=flat.scorer[start:end] == number,
            label_ids=self.label_of_tag[flat.tags[start:end]],
        )


def select(features: Features, page_ids: Sequence[str], label_map: LabelMap) -> EncodedPages:
    """Select pages, in this order, under a label map."""
    number_of = {page_id: number for number, page_id in enumerate(features.page_ids)}
    pages = np.array([number_of[page_id] for page_id in page_ids], np.int64)
    begin, counts = features.page_windows[pages], np.diff(features.page_windows)[pages]
    before = np.cumsum(counts) - counts  # windows of the pages before
    names = label_map.apply(features.tag_names)
    label2id = {**label_map.label2id, UNSUPERVISED: IGNORE_INDEX}
    return EncodedPages(
        features=features,
        tag_names=names,
        label_of_tag=np.array([label2id[name] for name in names], np.int64),
        page_numbers=pages,
        window_numbers=np.repeat(begin - before, counts) + np.arange(counts.sum()),
        window_pages=np.repeat(np.arange(len(pages)), counts),
    )
