"""Divides pages into training, validation and test set: by group, at random, in folds, or as a frozen split says.

A split depends on the set of pages and the seed, not on the order of the pages. Sizes come first, then labels: among
all choices of the nearest possible size, one is taken whose labels occur in every set in about the same proportions.

A resumed job recomputes its split, so for given pages, options and seed the result must never change
(tests/data/test_splits.py compares digests of earlier divisions).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Self

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.frozen_split import FrozenSplit, shortened
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import seeded_rank

_CANDIDATES = 12  # units of the other side that one unit may be exchanged for
_MIN_TRIES = 60  # exchanges tried for one label


@dataclass(frozen=True, slots=True)
class DatasetSplit:
    """The pages of each set, sorted by page id; `left_out` are those that a frozen split does not name."""

    train: list[Page]
    validation: list[Page]
    test: list[Page]
    left_out: list[Page]

    @classmethod
    def from_frozen(cls, pages: Sequence[Page], frozen: FrozenSplit) -> Self:
        """The division that a frozen split describes. Raises DataError where it does not fit the pages."""
        key_of = {page.page_id: page.page_id if frozen.by == "page" else page.group for page in pages}
        named = {"train": frozen.train or (), "validation": frozen.validation, "test": frozen.test}
        missing = {name: keys for name in named if (keys := sorted(set(named[name]) - set(key_of.values())))}
        if missing:
            raise DataError(
                f"the frozen split names {sum(map(len, missing.values()))} {frozen.by}(s) that are not in the data "
                f"({'; '.join(f'{name}: {shortened(keys)}' for name, keys in missing.items())}): "
                f"import them, or remove them from the file"
            )
        set_of = {key: name for name, keys in named.items() for key in keys}
        unnamed = "train" if frozen.train is None else "left_out"
        sets: dict[str, list[Page]] = {"train": [], "validation": [], "test": [], "left_out": []}
        for page in sorted(pages, key=lambda page: page.page_id):
            sets[set_of.get(key_of[page.page_id], unnamed)].append(page)
        if not sets["train"]:
            raise DataError("the frozen split leaves no page to train on: name fewer pages in validation and test")
        return cls(**sets)


def folds_of(split: str) -> tuple[int, int] | None:
    """(k, i) of kfold:k/i, None for every other split."""
    match = re.fullmatch(r"kfold:([0-9]+)/([0-9]+)", split)
    return (int(match[1]), int(match[2])) if match else None


def has_test_set(config: TrainConfig) -> bool:
    """Whether a run may have a test set; of a frozen split only its content tells."""
    return config.eval_dataset is None and (config.test_ratio > 0 or config.split.startswith("frozen:"))


def divide(pages: Sequence[Page], config: TrainConfig, frozen: FrozenSplit | None) -> DatasetSplit:
    """The sets of a run; `frozen` is the content of a frozen split. Raises DataError."""
    if frozen is not None:
        return DatasetSplit.from_frozen(pages, frozen)
    members: dict[str, list[Page]] = {}
    for page in pages:
        members.setdefault(page.page_id if config.split == "random" else page.group, []).append(page)
    rest = [
        Unit(name, tuple(group), Counter(tag[2:] for page in group for tag in page.tags if tag[:1] == "B"))
        for name, group in sorted(members.items())
    ]
    test: list[Unit] = []
    if config.test_ratio > 0:
        test, rest = _carve(rest, config.test_ratio * len(pages), config.split_seed, "test")
    folds = folds_of(config.split)
    if folds is None:
        validation, train = _carve(rest, config.val_ratio * len(pages), config.split_seed, "split")
    else:
        validation, train = _fold(rest, *folds, config.split_seed)
    return DatasetSplit(_pages(train), _pages(validation), _pages(test), [])


@dataclass(frozen=True, slots=True)
class Unit:
    """Pages that stay together, and the number of their entities by label."""

    name: str
    pages: tuple[Page, ...]
    labels: Counter[str]

    @property
    def size(self) -> int:
        return len(self.pages)


def _pages(units: Iterable[Unit]) -> list[Page]:
    return sorted((page for unit in units for page in unit.pages), key=lambda page: page.page_id)


def _without(units: Iterable[Unit], taken: Iterable[Unit]) -> list[Unit]:
    names = {unit.name for unit in taken}
    return [unit for unit in units if unit.name not in names]


def _fold(units: Sequence[Unit], k: int, i: int, seed: int) -> tuple[list[Unit], list[Unit]]:
    """Fold i of k folds of about the same size, and the other units. All folds of one seed are disjoint."""
    if len(units) < k:
        raise DataError(
            f"{len(units)} group(s) cannot be divided into {k} folds: import more groups, or use fewer folds"
        )
    sizes: list[Counter[int]] = [Counter() for _ in range(k)]  # of the units in each fold
    for size in sorted((unit.size for unit in units), reverse=True):
        min(sizes, key=lambda fold: (sum(size * count for size, count in fold.items()), fold.total()))[size] += 1
    rest = sorted(units, key=lambda unit: seeded_rank("folds", seed, unit.name))
    for free in sizes[:i]:
        fold = []
        for unit in rest:
            if free[unit.size] > 0:
                free[unit.size] -= 1
                fold.append(unit)
        if len(fold) < len(rest):
            fold = _balanced(fold, _without(rest, fold))
        rest = _without(rest, fold)
    return fold, _without(units, fold)


def _carve(units: Sequence[Unit], target: float, seed: int, purpose: str) -> tuple[list[Unit], list[Unit]]:
    """Units with together as close to `target` pages as whole units allow, balanced by label, and the others.

    Neither side is empty; DataError where that is impossible.
    """
    total = sum(unit.size for unit in units)
    if len(units) < 2:
        fix = "import pages of other groups, or use --split random" if total > 1 else "import more pages"
        raise DataError(f"{total} page(s) of {len(units)} group(s) cannot be divided into two sets: {fix}")
    order = sorted(units, key=lambda unit: seeded_rank(purpose, seed, unit.name))
    chosen = _nearest_sum([unit.size for unit in order], min(max(round(target), 1), total - 1))
    inside = [unit for index, unit in enumerate(order) if index in chosen]
    carved = _balanced(inside, _without(order, inside))
    return carved, _without(units, carved)


def _nearest_sum(sizes: Sequence[int], target: int) -> set[int]:
    """Indices, some but not all, of sizes with a sum as close to `target` as possible; early indices preferred.

    Subset sum: bit s of `sums[k]` is set if some of the first k sizes add up to s.
    """
    sums = [1]
    for size in sizes:
        if sums[-1] >> target & 1:
            break
        sums.append(sums[-1] | sums[-1] << size)
    rest = min((s for s in range(1, sum(sizes)) if sums[-1] >> s & 1), key=lambda s: abs(s - target))
    chosen = set()
    for index in reversed(range(len(sums) - 1)):
        if not sums[index] >> rest & 1:
            chosen.add(index)
            rest -= sizes[index]
    return chosen


def _balanced(inside: Sequence[Unit], outside: Sequence[Unit]) -> list[Unit]:
    """`inside` after exchanges with units of the same size outside, which even out the labels, the rarest first.

    An exchange is made if it lowers the sum over all labels of (entities inside - proportional share)^2 / total.
    """
    held = sum((unit.labels for unit in inside), Counter[str]())
    total = sum((unit.labels for unit in outside), held)
    pages = sum(unit.size for unit in inside)
    share = pages / (pages + sum(unit.size for unit in outside))

    def excess(label: str) -> float:
        return held[label] - share * total[label]

    def gain(leaving: Unit, entering: Unit) -> float:
        labels = leaving.labels.keys() | entering.labels.keys()
        changes = {label: entering.labels[label] - leaving.labels[label] for label in labels}
        # fsum: the order of a set of strings, and with it a plain sum's rounding, differs from process to process
        return -fsum(change * (change + 2 * excess(label)) / total[label] for label, change in changes.items())

    sides = (_by_size(inside), _by_size(outside))
    for label in sorted(total, key=lambda name: (total[name], name)):
        from_inside = excess(label) > 0
        surplus, deficit = sides if from_inside else sides[::-1]
        tries = _MIN_TRIES + round(4 * abs(excess(label)))
        for size, units in surplus.items():
            others = deficit.get(size, [])
            for place, unit in enumerate(units):
                if abs(excess(label)) <= 0.5 or not others or tries == 0:
                    break
                if unit.labels[label] == 0:
                    continue
                tries -= 1
                candidates = sorted({(tries * _CANDIDATES + step) % len(others) for step in range(_CANDIDATES)})
                pairs = [(unit, others[i]) if from_inside else (others[i], unit) for i in candidates]
                gains = [gain(*pair) for pair in pairs]
                best = max(range(len(pairs)), key=gains.__getitem__)
                if gains[best] > 1e-9:  # above rounding errors, so that exchanges end
                    leaving, entering = pairs[best]
                    held.subtract(leaving.labels)
                    held.update(entering.labels)
                    units[place], others[candidates[best]] = others[candidates[best]], unit
    return [unit for units in sides[0].values() for unit in units]


def _by_size(units: Iterable[Unit]) -> dict[int, list[Unit]]:
    groups: dict[int, list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.size, []).append(unit)
    return groups
