"""Splits: whole groups, sizes as asked, labels in proportion, frozen splits, folds, test sets."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import parse_config
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.frozen_split import FrozenSplit, frozen_sha256, parse_frozen, pinned_frozen, read_frozen
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import label_counts, read_jsonl
from receipt_layoutlm.data.splits import DatasetSplit, divide, has_test_set
from tests.support.paths import SHARED

SROIE = SHARED / "sroie"


def page(page_id: str, group: str = "g", *labels: str) -> Page:
    tags = tuple(f"B-{label}" for label in labels or ("DATE",))
    return Page(page_id, group, ("x",) * len(tags), ((0, 0, 10, 10),) * len(tags), tags, 100, 200)


def sets_of(pages: list[Page], frozen: FrozenSplit | None = None, **options: object) -> DatasetSplit:
    return divide(pages, WordLabelsConfig.model_validate(options), frozen)


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
    sets = sets_of(pages, split=split, val_ratio=fraction, seed=seed)

    assert sets.train and sets.validation
    assert Counter(sets.train + sets.validation) == Counter(pages)
    assert sets_of(generator.sample(pages, len(pages)), split=split, val_ratio=fraction, seed=seed) == sets


@given(page_sets, fractions, seeds)
def test_a_group_split_keeps_groups_whole_and_comes_as_near_as_they_allow(
    pages: list[Page], fraction: float, seed: int
) -> None:
    sets = sets_of(pages, val_ratio=fraction, seed=seed)

    assert not groups_of(sets.train) & groups_of(sets.validation)
    sums = {0}
    for size in Counter(page.group for page in pages).values():
        sums |= {total + size for total in sums}
    target = min(max(round(len(pages) * fraction), 1), len(pages) - 1)
    nearest = min(abs(total - target) for total in sums - {0, len(pages)})
    assert abs(len(sets.validation) - target) == nearest


def test_a_random_split_holds_out_the_share_asked_for_and_another_seed_others() -> None:
    pages = [page(f"{i}") for i in range(100)]

    sets = sets_of(pages, split="random", split_seed=1)

    assert (len(sets.train), len(sets.validation), sets.test) == (80, 20, [])
    assert sets_of(pages, split="random", split_seed=2).validation != sets.validation
    assert sets_of(pages, split="random", split_seed=1, seed=2).validation == sets.validation


@pytest.mark.parametrize("split", ["group", "random", "kfold:4/2"])
def test_the_test_set_shares_no_group_and_stays_the_same_when_the_rest_is_divided_otherwise(
    split: str,
) -> None:
    pages = [page(f"{i}", f"g{i if split == 'random' else i // 2}") for i in range(100)]

    sets = sets_of(pages, split=split, test_ratio=0.2)

    assert len(sets.test) == 20
    assert Counter(sets.train + sets.validation + sets.test) == Counter(pages)
    assert not groups_of(sets.test) & (groups_of(sets.train) | groups_of(sets.validation))
    if split != "kfold:4/2":
        assert sets_of(pages, split=split, test_ratio=0.2, val_ratio=0.5).test == sets.test


def test_each_page_is_in_one_fold_and_the_folds_are_of_one_size() -> None:
    pages = [page(f"{i}", f"g{i // 2}") for i in range(50)]

    folds = [sets_of(pages, split=f"kfold:5/{number}") for number in range(1, 6)]

    assert [len(fold.validation) for fold in folds] == [10] * 5
    assert Counter(page for fold in folds for page in fold.validation) == Counter(pages)
    assert all(Counter(fold.train + fold.validation) == Counter(pages) for fold in folds)


def test_pages_that_cannot_be_divided_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="--split random"):
        sets_of([page("a"), page("b")])
    with pytest.raises(DataError, match="import more pages"):
        sets_of([page("a")], split="random")


def test_a_split_is_the_same_in_every_process_and_version() -> None:
    """A resumed job recomputes it. Among these are divisions with exchanges of exactly equal gain."""
    divisions = []
    for seed in range(150):
        draw = random.Random(seed)
        pages = [
            page(
                f"{group}-{i}", f"g{group}", *(label for label in "ABCDEFGHIJ" for _ in range(3) if draw.random() < 0.1)
            )
            for group in range(30)
            for i in range(draw.randint(1, 4))
        ]
        split = draw.choice(["group", "random", "kfold:4/3"])
        sets = sets_of(pages, split=split, split_seed=seed, test_ratio=draw.choice([0.0, 0.2]))
        divisions.append([[page.page_id for page in pages] for pages in (sets.train, sets.validation, sets.test)])

    digest = hashlib.sha256(json.dumps(divisions).encode()).hexdigest()
    assert digest == "5f5e453dca5bc0b1bc30417ea5b56dc1c5ad98f746a26e1deceb15289ba7ae0e"


# labels


@pytest.mark.parametrize("split", ["group", "random"])
@pytest.mark.parametrize("seed", range(5))
def test_rare_labels_occur_in_every_set_in_proportion_to_its_pages(split: str, seed: int) -> None:
    draw = random.Random(seed)
    rare = {"TIP": 0.05, "REFUND": 0.025, "COUPON": 0.1}
    pages = [
        page(f"{i}", f"g{i // 2}", "DATE", *(label for label, share in rare.items() if draw.random() < share))
        for i in range(400)
    ]

    sets = sets_of(pages, split=split, test_ratio=0.2, seed=seed)

    total = label_counts(pages)
    for pages_of_set in (sets.validation, sets.test):
        counts = label_counts(pages_of_set)
        assert all(abs(counts.get(label, 0) - 0.2 * total[label]) < 2 for label in rare)


@pytest.mark.skipif(not SROIE.exists(), reason=f"no real receipts in {SROIE}")
def test_real_receipts_are_divided_by_merchant_with_their_labels_in_proportion() -> None:
    pages = read_jsonl(SROIE / "train.jsonl") + read_jsonl(SROIE / "dev.jsonl")

    sets = sets_of(pages)

    assert (len(sets.train), len(sets.validation)) == (439, 110)
    assert not groups_of(sets.train) & groups_of(sets.validation)
    total, held = label_counts(pages), label_counts(sets.validation)
    assert all(abs(held[label] - 110 / 549 * total[label]) < 3 for label in total)


# frozen splits

PAGES = [page(f"{i}", f"g{i // 2}") for i in range(10)]


def test_without_a_training_set_in_the_frozen_split_all_other_pages_train() -> None:
    sets = sets_of(PAGES, FrozenSplit(validation=("7", "1"), test=("3",)))

    assert [page.page_id for page in sets.validation + sets.test] == ["1", "7", "3"]
    assert len(sets.train) == 7 and sets.left_out == []


def test_pages_that_a_frozen_split_with_a_training_set_does_not_name_are_left_out() -> None:
    sets = sets_of(PAGES, FrozenSplit(by="group", train=("g0", "g1"), validation=("g2",)))

    assert [page.page_id for page in sets.train] == ["0", "1", "2", "3"]
    assert [page.page_id for page in sets.validation] == ["4", "5"]
    assert len(sets.left_out) == 4


def test_keys_that_are_not_in_the_data_are_listed_by_set() -> None:
    frozen = FrozenSplit(train=("0", "nowhere"), validation=("1", "gone"))

    with pytest.raises(DataError, match=r"2 page\(s\).*train: nowhere; validation: gone"):
        sets_of(PAGES, frozen)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"validation": ["1"], "test": ["1"]}, "1 is named more than once"),
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
    assert WordLabelsConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train_ratio": 0.8, "val_ratio": 0.2, "test_ratio": 0.2}, "0.8 . 0.2 . 0.2, do not add up to 1"),
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


def test_only_a_ratio_or_a_frozen_split_may_bring_a_test_set() -> None:
    assert [
        has_test_set(WordLabelsConfig.model_validate(options))
        for options in ({}, {"test_ratio": 0.1}, {"split": "frozen:a"}, {"eval_dataset": "dev"})
    ] == [False, True, True, False]
