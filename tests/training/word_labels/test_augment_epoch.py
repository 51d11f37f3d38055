"""Pages of an epoch: generated ones first, then the training set, augmented differently each time."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from receipt_layoutlm.configs.word_labels import Augmentation
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.run.state import StopRequested
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import donors_of
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Augmenter, EpochSource
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from tests.support.tiny import tiny_layoutlm

LABELS = LabelMap(merges={}, labels=("DATE", "MERCHANT_NAME"))
PAGES = generate_pages(8, seed=1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_layoutlm(tmp_path_factory.mktemp("tiny"), PAGES))


def nothing() -> None:
    pass


def showing(
    tokenizer: PreTrainedTokenizerFast,
    *names: Augmentation,
    generated: int = 0,
    max_length: int = 512,
    train: Sequence[Page] = PAGES,
) -> EpochSource:
    def encode(pages: Sequence[Page], on_page: Callable[[], None]) -> EncodedPages:
        features = encode_pages(pages, tokenizer, max_length, on_page)
        return select(features, [page.page_id for page in pages], LABELS)

    augmenter = Augmenter(train, names, donors_of(PAGES, []), 1, encode) if names else None
    first = encode(generate_pages(generated, seed=2), nothing) if generated else None
    clean = encode(train, nothing)
    return EpochSource(clean, len(clean.windows), augmenter, first)


def content(part: EncodedPages) -> list[tuple[object, ...]]:
    windows = [(w.page, w.input_ids.tolist(), w.bbox.tolist(), w.label_ids.tolist()) for w in part.windows]
    return [*windows, *((page.page_id, page.words, page.tags) for page in part.pages)]


def test_without_options_every_epoch_shows_the_pages_as_they_are(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = showing(tokenizer)
    assert all(plain.pages(epoch, nothing) is plain.train for epoch in range(3))


def test_an_epoch_is_the_same_again_and_another_one_is_another(tokenizer: PreTrainedTokenizerFast) -> None:
    first = content(showing(tokenizer, "entities", "boxes").pages(0, nothing))
    again = showing(tokenizer, "entities", "boxes")
    again.pages(3, nothing)  # an attempt that resumes has drawn other epochs, or none
    assert content(again.pages(0, nothing)) == first
    assert content(again.pages(1, nothing)) != first != content(again.train)


@pytest.mark.parametrize("max_length", [60, 512])
def test_an_augmented_epoch_has_the_pages_of_the_training_set_and_whole_windows(
    tokenizer: PreTrainedTokenizerFast, max_length: int
) -> None:
    source = showing(tokenizer, "entities", "drop", "ocr", "boxes", max_length=max_length)
    part = source.pages(0, nothing)
    assert [page.page_id for page in part.pages] == [page.page_id for page in source.train.pages]
    for window in part.windows:
        assert len(window.input_ids) <= max_length
        assert len(window.first) == len(window.label_ids) == len(window.word_index)


def test_generated_pages_come_first_and_only_then_augmented_ones(tokenizer: PreTrainedTokenizerFast) -> None:
    source = showing(tokenizer, "boxes", generated=len(PAGES) + 1)
    assert source.pretraining_epochs == 2
    assert source.pages(0, nothing) is source.pages(1, nothing) is source.generated
    assert {page.page_id for page in source.pages(2, nothing).pages} == {page.page_id for page in PAGES}
    assert content(source.pages(2, nothing)) != content(source.train)


def test_what_stays_clean_is_not_touched(tokenizer: PreTrainedTokenizerFast) -> None:
    source = showing(tokenizer, "boxes", "entities", "ocr", "drop")
    before = [window.bbox.copy() for window in source.train.windows]
    source.pages(0, nothing)
    assert all(np.array_equal(window.bbox, old) for window, old in zip(source.train.windows, before, strict=True))


def test_augmentation_reports_each_page_and_can_be_stopped_between_pages(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    asked = []

    def on_page() -> None:
        asked.append(1)
        if len(asked) == len(PAGES) // 2:
            raise StopRequested

    with pytest.raises(StopRequested):
        showing(tokenizer, "ocr").pages(0, on_page)
    assert len(asked) == len(PAGES) // 2
    showing(tokenizer).pages(0, on_page)
    assert len(asked) == len(PAGES) // 2


def test_moved_boxes_never_change_the_order_nor_tear_an_entity(tokenizer: PreTrainedTokenizerFast) -> None:
    """Boxes of a line that differ by a few thousandths, which jitter of each moves past each other."""
    words = ("Joe's", "Corner", "Shop", "Date", "1.2.2021")
    boxes = ((100, 50, 107, 60), (103, 54, 110, 64), (99, 57, 106, 67), (100, 90, 300, 110), (310, 90, 400, 110))
    page = Page("p", "g", words, boxes, ("B-MERCHANT_NAME", *("I-MERCHANT_NAME",) * 2, "O", "B-DATE"), 100, 200)
    source = showing(tokenizer, "boxes", train=[page])
    for epoch in range(20):
        (seen,) = source.pages(epoch, nothing).pages
        assert (seen.words, seen.tags) == (words, page.tags)
