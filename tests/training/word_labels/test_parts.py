"""Pre-training on generated receipts: pages apart from all evaluations, each shown once, the run's labels."""

import math
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelError, LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import select
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import as_many
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.pages import generate_apart, generated_pages
from tests.support.tiny import tiny_layoutlm

LABELS = LabelMap(merges={"SUBTOTAL": "AMOUNT", "GRAND_TOTAL": "AMOUNT"}, labels=("AMOUNT", "DATE"))


def test_the_pages_follow_from_the_seed_and_are_others_than_a_sample_of_that_seed() -> None:
    pages = generate_apart(20, 42)
    assert pages == pretraining_pages(20, 42, LABELS)
    assert {page.words for page in pages}.isdisjoint(page.words for page in generate_apart(20, 43))
    for sample in (generate_pages(20, 42), generate_pages(20, 0)):
        assert {page.page_id for page in pages}.isdisjoint(page.page_id for page in sample)
        assert {page.words for page in pages}.isdisjoint(page.words for page in sample)


def test_labels_that_the_run_does_not_learn_are_o_once_encoded(tmp_path_factory: pytest.TempPathFactory) -> None:
    pages = pretraining_pages(6, 1, LABELS)
    tokenizer = AutoTokenizer.from_pretrained(tiny_layoutlm(tmp_path_factory.mktemp("tiny"), pages))
    features = encode_pages(pages, tokenizer, 512, on_page=lambda: None)
    part = select(features, [page.page_id for page in pages], LABELS)
    assert {tag[2:] for page in part.pages for tag in page.tags} == {"", "AMOUNT", "DATE"}
    assert {int(number) for page in part.pages for number in page.label_ids} <= set(LABELS.id2label)


def test_a_run_without_any_label_of_generated_receipts_is_refused() -> None:
    with pytest.raises(LabelError, match="this run learns none of them"):
        pretraining_pages(6, 1, LabelMap(merges={}, labels=("TOTAL_DUE",)))


def test_a_label_may_be_learned_under_the_name_that_it_is_merged_into() -> None:
    assert pretraining_pages(3, 1, LabelMap(merges={"TAX": "AMOUNT"}, labels=("AMOUNT",)))


def pretraining_pages(count: int, seed: int, labels: LabelMap) -> list[Page]:
    config = WordLabelsConfig(pretrain_on=f"sample:{count}", seed=seed)
    return generated_pages(config, labels)["pretraining"]


sizes = st.integers(1, 60)


@given(sizes, sizes, st.integers(0, 5))
def test_the_phase_shows_each_window_before_any_is_shown_again(windows: int, per_epoch: int, seed: int) -> None:
    epochs = [as_many(range(windows), per_epoch, seed, epoch) for epoch in range(math.ceil(windows / per_epoch))]
    shown = list(chain(*epochs))
    assert sorted(shown[:windows]) == list(range(windows))
    assert len(shown) - windows < per_epoch
