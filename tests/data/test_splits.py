"""Splits: whole groups, sizes as asked, labels in the same shares, files that say it all, folds, a test part."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.config import ConfigError, TrainConfig, parse_config
from receipt_layoutlm.data.frozen_split import FrozenSplit, frozen_sha256, parse_frozen, pinned_frozen, read_frozen
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import label_counts, read_jsonl
from receipt_layoutlm.data.splits import Division, divide, has_test_part
from tests.support.paths import SHARED

SROIE = SHARED / "sroie"


def page(page_id: str, group: str = "g", *labels: str) -> Page:
    tags = tuple(f"B-{label}" for label in labels or ("DATE",))
    return Page(page_id, group, ("x",) * len(tags), ((0, 0, 10, 10),) * len(tags), tags, 100, 200)


def parts_of(pages: list[Page], frozen: FrozenSplit | None = None, **options: object) -> Division:
    return divide(pages, TrainConfig.model_validate(options), frozen)


def groups_of(pages: list[Page]) -> set[str]:
    return {page.group for page in pages}


page_sets = st.lists(st.integers(1, 9), min_size=3, max_size=12).map(
    lambda sizes: [page(f"{g}-{i}", f"g{g}") for g, size in enumerate(sizes) for i in range(size)]
)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)


# sizes and wholeness


@given(page_sets, fractions, seeds, st.sampled_from(["group", "random", "kfold:3/1", "kfold:3/3"]), st.randoms())
def test_a_split_holds_every_page_once_whatever_their_order(
    pages: list[Page], fraction: float, seed: int, split: str, generator: random.Random
) -> None:
    parts = parts_of(pages, split=split, val_ratio=fraction, seed=seed)

    assert parts.train and parts.evaluation
    assert Counter(parts.train + parts.evaluation) == Counter(pages)
    assert parts_of(generator.sample(pages, len(pages)), split=split, val_ratio=fraction, seed=seed) == parts


@given(page_sets, fractions, seeds)
def test_a_group_split_keeps_groups_whole_and_comes_as_near_as_they_allow(
    pages: list[Page], fraction: float, seed: int
) -> None:
    parts = parts_of(pages, val_ratio=fraction, seed=seed)

    assert not groups_of(parts.train) & groups_of(parts.evaluation)
    sums = {0}
    for size in Counter(page.group for page in pages).values():
        sums |= {total + size for total in sums}
    target = min(max(round(len(pages) * fraction), 1), len(pages) - 1)
    nearest = min(abs(total - target) for total in sums - {0, len(pages)})
    assert abs(len(parts.evaluation) - target) == nearest


def test_a_random_split_holds_out_the_share_asked_for_and_another_seed_others() -> None:
    pages = [page(f"{i}") for i in range(100)]

    parts = parts_of(pages, split="random", seed=1)

    assert (len(parts.train), len(parts.evaluation), parts.test) == (80, 20, [])
    assert parts_of(pages, split="random", seed=2).evaluation != parts.evaluation


@pytest.mark.parametrize("split", ["group", "random", "kfold:4/2"])
def test_the_test_part_has_no_group_of_the_others_and_stays_the_same_when_the_rest_is_divided_otherwise(
    split: str,
) -> None:
    pages = [page(f"{i}", f"g{i if split == 'random' else i // 2}") for i in range(100)]

    parts = parts_of(pages, split=split, test_ratio=0.2)

    assert len(parts.test) == 20
    assert Counter(parts.train + parts.evaluation + parts.test) == Counter(pages)
    assert not groups_of(parts.test) & (groups_of(parts.train) | groups_of(parts.evaluation))
    if split != "kfold:4/2":
        assert parts_of(pages, split=split, test_ratio=0.2, val_ratio=0.5).test == parts.test


def test_each_page_is_in_one_fold_and_the_folds_are_of_one_size() -> None:
    pages = [page(f"{i}", f"g{i // 2}") for i in range(50)]

    folds = [parts_of(pages, split=f"kfold:5/{number}") for number in range(1, 6)]

    assert [len(fold.evaluation) for fold in folds] == [10] * 5
    assert Counter(page for fold in folds for page in fold.evaluation) == Counter(pages)
    assert all(Counter(fold.train + fold.evaluation) == Counter(pages) for fold in folds)


def test_pages_that_cannot_be_divided_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="split at random"):
        parts_of([page("a"), page("b")])
    with pytest.raises(DataError, match="import more pages"):
        parts_of([page("a")], split="random")


# labels


@pytest.mark.parametrize("split", ["group", "random"])
@pytest.mark.parametrize("seed", range(5))
def test_rare_labels_stand_in_every_part_in_the_share_of_its_pages(split: str, seed: int) -> None:
    draw = random.Random(seed)
    rare = {"TIP": 0.05, "REFUND": 0.025, "COUPON": 0.1}
    pages = [
        page(f"{i}", f"g{i // 2}", "DATE", *(label for label, share in rare.items() if draw.random() < share))
        for i in range(400)
    ]

    parts = parts_of(pages, split=split, test_ratio=0.2, seed=seed)

    total = label_counts(pages)
    for part in (parts.evaluation, parts.test):
        found = label_counts(part)
        assert all(abs(found.get(label, 0) - 0.2 * total[label]) < 2 for label in rare)


@pytest.mark.skipif(not SROIE.exists(), reason=f"no real receipts in {SROIE}")
def test_real_receipts_are_divided_by_merchant_with_their_labels_in_proportion() -> None:
    pages = read_jsonl(SROIE / "train.jsonl") + read_jsonl(SROIE / "dev.jsonl")

    parts = parts_of(pages)

    assert (len(parts.train), len(parts.evaluation)) == (439, 110)
    assert not groups_of(parts.train) & groups_of(parts.evaluation)
    total, held = label_counts(pages), label_counts(parts.evaluation)
    assert all(abs(held[label] - 110 / 549 * total[label]) < 3 for label in total)


# frozen splits

PAGES = [page(f"{i}", f"g{i // 2}") for i in range(10)]


def test_a_frozen_split_is_the_files_and_what_it_does_not_name_trains() -> None:
    parts = parts_of(PAGES, FrozenSplit(validation=("7", "1"), test=("3",)))

    assert [page.page_id for page in parts.evaluation + parts.test] == ["1", "7", "3"]
    assert len(parts.train) == 7 and parts.left_out == []


def test_with_a_training_part_in_the_file_what_it_does_not_name_is_left_out() -> None:
    parts = parts_of(PAGES, FrozenSplit(by="group", train=("g0", "g1"), validation=("g2",)))

    assert [page.page_id for page in parts.train] == ["0", "1", "2", "3"]
    assert [page.page_id for page in parts.evaluation] == ["4", "5"]
    assert len(parts.left_out) == 4


def test_keys_that_the_data_does_not_have_are_listed_by_part() -> None:
    frozen = FrozenSplit(train=("0", "nowhere"), validation=("1", "gone"))

    with pytest.raises(DataError, match=r"2 page\(s\).*train: nowhere; validation: gone"):
        parts_of(PAGES, frozen)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"validation": ["1"], "test": ["1"]}, "1 stands in it more than once"),
        ({"validation": []}, "validation names nothing"),
        ({"test": ["1"]}, "validation: Field required"),
        ({"validation": ["1"], "dev": ["2"]}, "dev: Extra inputs"),
    ],
)
def test_a_file_that_is_no_split_says_why_and_what_one_looks_like(
    tmp_path: Path, document: dict[str, object], words: str
) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(document))

    with pytest.raises(DataError, match=words) as refusal:
        read_frozen(path)
    assert "split.json" in str(refusal.value) and "by page or by group" in str(refusal.value)


def test_the_same_split_has_the_same_name_in_whatever_order_it_was_written() -> None:
    one, other = FrozenSplit(validation=("1", "2")), FrozenSplit(validation=("2", "1"))

    assert one.canonical() == other.canonical()
    assert parse_frozen(one.canonical()) == one
    assert frozen_sha256(pinned_frozen("my split@home.json", one)) == one.sha256 == other.sha256


@pytest.mark.parametrize("split", ["frozen:/etc/passwd", "frozen:x@abc", f"frozen:{'a' * 64}"])
def test_a_split_that_is_not_pinned_is_no_split_of_a_submitted_job(split: str) -> None:
    with pytest.raises(ConfigError, match="SHA256"):
        frozen_sha256(split)


# options


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ({}, (0.8, 0.2, 0.0)),
        ({"val_ratio": 0.3}, (0.7, 0.3, 0.0)),
        ({"train_ratio": 0.7}, (0.7, 0.3, 0.0)),
        ({"test_ratio": 0.1}, (0.7, 0.2, 0.1)),
        ({"train_ratio": 0.6, "val_ratio": 0.3}, (0.6, 0.3, 0.1)),
        ({"train_ratio": 0.6, "test_ratio": 0.1}, (0.6, 0.3, 0.1)),
        ({"val_ratio": 0.3, "test_ratio": 0.1}, (0.6, 0.3, 0.1)),
        ({"train_ratio": 0.5, "val_ratio": 0.25, "test_ratio": 0.25}, (0.5, 0.25, 0.25)),
        ({"split": "kfold:4/1"}, (0.75, 0.25, 0.0)),
        ({"split": "kfold:4/1", "test_ratio": 0.2}, (0.6, 0.2, 0.2)),
    ],
)
def test_the_shares_that_were_not_given_follow_from_those_that_were(
    given: dict[str, object], whole: tuple[float, float, float]
) -> None:
    config = parse_config(given)

    assert (config.train_ratio, config.val_ratio, config.test_ratio) == pytest.approx(whole)
    assert TrainConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train_ratio": 0.8, "val_ratio": 0.2, "test_ratio": 0.2}, "is 0.8 . 0.2 . 0.2, not 1"),
        ({"train_ratio": 0.8, "val_ratio": 0.3}, "test_ratio"),
        ({"split": "kfold:5/6"}, "I from 1 to K"),
        ({"split": "kfold:1/1"}, "K at least 2"),
        ({"split": "merchants"}, "write group, random, frozen:FILE"),
        ({"split": "frozen:"}, "write group, random, frozen:FILE"),
        ({"eval_fraction": 0.3}, "called 'val_ratio' now"),
    ],
)
def test_shares_and_splits_that_cannot_be_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(given)


def test_only_a_share_or_a_file_may_bring_a_test_part() -> None:
    assert [
        has_test_part(TrainConfig.model_validate(options))
        for options in ({}, {"test_ratio": 0.1}, {"split": "frozen:a"}, {"eval_dataset": "dev"})
    ] == [False, True, True, False]
