"""An epoch follows from seed and number alone, for any micro-batches; masks and repeats are applied."""

import numpy as np
import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Epoch, micro_batches, plan_epoch, windows_per_epoch
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from tests.support.runs import tiny_model
from tests.support.tiny import tiny_pages

LABELS = LabelMap(merges={}, labels=("DATE", "GRAND_TOTAL"))


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> EncodedPages:
    folder = tiny_model(tmp_path_factory.mktemp("layoutlm"))
    pages = tiny_pages(30)
    features = encode_pages(pages, load_fast_tokenizer(WordLabelsConfig(pretrained=str(folder))), 16, lambda: None)
    return select(features, [page.page_id for page in pages], LABELS)


def config(**options: object) -> WordLabelsConfig:
    return WordLabelsConfig.model_validate({"batch_size": 4, **options})


def planned(options: WordLabelsConfig, part: EncodedPages, number: int) -> Epoch:
    return plan_epoch(options, part, number, windows_per_epoch(options, part))


def shape(epoch: Epoch) -> list[list[tuple[int, list[bool] | None]]]:
    return [
        [(each.window, None if each.supervised is None else each.supervised.tolist()) for each in step]
        for step in epoch.steps
    ]


@pytest.mark.parametrize("options", [{}, {"o_entity_ratio": 1.0}, {"balanced_sampling": True}])
def test_an_epoch_is_the_same_each_time_and_another_one_is_not(part: EncodedPages, options: dict[str, object]) -> None:
    assert shape(planned(config(**options), part, 3)) == shape(planned(config(**options), part, 3))
    assert shape(planned(config(**options), part, 3)) != shape(planned(config(**options), part, 4))


def test_every_window_is_shown_once_and_whole(part: EncodedPages) -> None:
    epoch = planned(config(), part, 0)
    shown = [each for step in epoch.steps for each in step]
    assert sorted(each.window for each in shown) == list(range(len(part.windows)))
    assert all(each.supervised is None for each in shown)


def test_micro_batches_cut_a_step_in_any_way_and_hold_the_same(part: EncodedPages) -> None:
    shown = planned(config(gradient_accumulation_steps=2), part, 0).steps[0]
    whole = micro_batches(config(batch_size=8), part, shown)
    pieces = micro_batches(config(batch_size=2), part, shown)
    by_tokens = micro_batches(config(tokens_per_batch=32), part, shown)
    assert (len(whole), len(pieces)) == (1, 4)
    assert all(sum(batch.lengths) <= 32 for batch in by_tokens) and len(by_tokens) > 1
    for batches in (pieces, by_tokens):
        ids = np.concatenate([batch.input_ids for batch in batches])
        assert ids.tolist() == whole[0].input_ids.tolist()


def test_the_ratio_is_drawn_over_what_is_shown_and_recorded(part: EncodedPages) -> None:
    epoch = planned(config(o_entity_ratio=0.5), part, 0)
    batches = [batch for step in epoch.steps for batch in micro_batches(config(), part, step)]
    labels = np.concatenate([batch.labels for batch in batches])
    assert epoch.o_entity_ratio == pytest.approx((labels == 0).sum() / (labels != 0).sum())
    assert epoch.o_entity_ratio == pytest.approx(0.5, rel=0.1)


def test_without_a_ratio_that_of_the_data_is_recorded(part: EncodedPages) -> None:
    epoch = planned(config(), part, 0)
    tags = [tag for place in range(len(part.windows)) for tag in part.window_tags(place)]
    assert epoch.o_entity_ratio == pytest.approx(tags.count("O") / (len(tags) - tags.count("O")))


def test_balanced_sampling_shows_rare_labels_more_often_and_every_epoch_is_as_long(part: EncodedPages) -> None:
    rare = select(part.features, part.features.page_ids[:1] * 1 + part.features.page_ids[1:], LABELS)
    plain, balanced = (planned(config(balanced_sampling=on), rare, 0) for on in (False, True))
    assert sum(balanced.seen.values()) >= sum(plain.seen.values())
    sizes = {sum(map(len, planned(config(balanced_sampling=True), rare, number).steps)) for number in range(5)}
    assert len(sizes) == 1
    assert windows_per_epoch(config(balanced_sampling=True), rare) == sum(len(step) for step in balanced.steps)


def test_entities_that_an_epoch_shows_are_counted(part: EncodedPages) -> None:
    seen = planned(config(), part, 0).seen
    expected = {
        label: sum(part.window_tags(place).count(f"B-{label}") for place in range(len(part.windows)))
        for label in LABELS.labels
    }
    assert seen == {label: count for label, count in expected.items() if count}
