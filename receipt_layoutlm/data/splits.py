"""How pages become a training, an evaluation and a test part: by group, at random, from a file, or in folds.

A split depends on the set of pages and the seed, not on the order of the pages. Sizes come first, then labels: of
all choices of the nearest size one is taken whose labels stand in every part in about the same proportions.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.frozen_split import FrozenSplit, listed
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import seeded_rank

_PARTNERS = 12  # units of the other side among which the best exchange is looked for
_TRIES = 60  # at least, of units for one label, before it is left as it is


@dataclass(frozen=True, slots=True)
class Division:
    """Pages by part, each sorted by page id; left_out are those that a frozen split names nowhere."""

    train: list[Page]
    evaluation: list[Page]
    test: list[Page]
    left_out: list[Page]


def folds_of(split: str) -> tuple[int, int] | None:
    """(k, i) of kfold:k/i, None for every other split."""
    match = re.fullmatch(r"kfold:([0-9]+)/([0-9]+)", split)
    return (int(match[1]), int(match[2])) if match else None


def divide(pages: Sequence[Page], config: TrainConfig, frozen: FrozenSplit | None) -> Division:
    """The parts of a run; `frozen` is the content of a frozen split. Raises DataError."""
    if frozen is not None:
        return _as_frozen(pages, frozen)
    units = _units(pages, attrgetter("page_id" if config.split == "random" else "group"))
    test, rest = [], units
    if config.test_ratio > 0:
        test = carve(units, config.test_ratio * len(pages), config.seed, "test")
        rest = _without(units, test)
    folds = folds_of(config.split)
    if folds is None:
        evaluation = carve(rest, config.val_ratio * len(pages), config.seed, "split")
    else:
        evaluation = _fold(rest, *folds, config.seed)
    return Division(_pages(_without(rest, evaluation)), _pages(evaluation), _pages(test), [])


@dataclass(frozen=True, slots=True)
class Unit:
    """Pages that stay together. labels: entities of each label."""

    name: str
    pages: tuple[Page, ...]
    labels: Counter[str]

    @property
    def size(self) -> int:
        return len(self.pages)


def _units(pages: Iterable[Page], key: Callable[[Page], str]) -> list[Unit]:
    members: dict[str, list[Page]] = {}
    for page in pages:
        members.setdefault(key(page), []).append(page)
    return [
        Unit(name, tuple(group), Counter(tag[2:] for page in group for tag in page.tags if tag[:1] == "B"))
        for name, group in sorted(members.items())
    ]


def _without(units: Sequence[Unit], taken: Sequence[Unit]) -> list[Unit]:
    names = {unit.name for unit in taken}
    return [unit for unit in units if unit.name not in names]


def _pages(units: Iterable[Unit]) -> list[Page]:
    return sorted((page for unit in units for page in unit.pages), key=lambda page: page.page_id)


def _fold(units: Sequence[Unit], k: int, i: int, seed: int) -> list[Unit]:
    """The i-th of k parts of about the same size; every fold of one seed comes from the same division."""
    if len(units) < k:
        raise DataError(
            f"{len(units)} group(s) cannot be divided into {k} folds: import other groups, or ask for fewer"
        )
    rest = sorted(units, key=lambda unit: seeded_rank("folds", seed, unit.name))
    for sizes in _fold_sizes([unit.size for unit in units], k)[:i]:
        taken = _first_of_sizes(rest, sizes)
        fold = _balanced(taken, _without(rest, taken)) if len(taken) < len(rest) else taken
        rest = _without(rest, fold)
    return fold


def _fold_sizes(sizes: Sequence[int], k: int) -> list[Counter[int]]:
    """Sizes of the units in each fold: each unit, the largest first, goes to the fold with the fewest pages."""
    folds: list[Counter[int]] = [Counter() for _ in range(k)]
    for size in sorted(sizes, reverse=True):
        min(folds, key=lambda fold: (sum(size * count for size, count in fold.items()), fold.total()))[size] += 1
    return folds


def _first_of_sizes(units: Sequence[Unit], sizes: Counter[int]) -> list[Unit]:
    wanted, taken = sizes.copy(), []
    for unit in units:
        if wanted[unit.size] > 0:
            wanted[unit.size] -= 1
            taken.append(unit)
    return taken


def carve(units: Sequence[Unit], target: float, seed: int, purpose: str) -> list[Unit]:
    """Some of the units, but not all, as near to `target` pages as whole units allow, balanced by label.

    DataError when nothing would be left or taken.
    """
    total = sum(unit.size for unit in units)
    if len(units) < 2:
        fix = "import pages of other groups, or split at random" if total > 1 else "import more pages"
        raise DataError(f"{total} page(s) of {len(units)} group(s) cannot be divided into two parts: {fix}")
    order = sorted(units, key=lambda unit: seeded_rank(purpose, seed, unit.name))
    wanted = min(max(round(target), 1), total - 1)
    held = _choose_sizes([unit.size for unit in order], wanted)
    inside = [unit for index, unit in enumerate(order) if index in held]
    outside = [unit for index, unit in enumerate(order) if index not in held]
    return _balanced(inside, outside)


def _choose_sizes(sizes: Sequence[int], target: int) -> set[int]:
    """Some of the indices, but not all, whose sizes add up as closely to target as can be; early ones first.

    Subset sum: bit s of `sums[k]` says that some of the first k sizes add up to s.
    """
    sums = [1]
    for size in sizes:
        if sums[-1] >> target & 1:
            break
        sums.append(sums[-1] | sums[-1] << size)
    total = sum(sizes)
    possible = (s for s in range(1, total) if sums[-1] >> s & 1)
    rest = min(possible, key=lambda s: abs(s - target))
    chosen = set()
    for index in reversed(range(len(sums) - 1)):
        if not sums[index] >> rest & 1:
            chosen.add(index)
            rest -= sizes[index]
    return chosen


def _balanced(inside: list[Unit], outside: list[Unit]) -> list[Unit]:
    """Exchange units of one size until each label stands inside in the share that it should, the rarest first."""
    held, out = _labels(inside), _labels(outside)
    total = held + out
    size = sum(unit.size for unit in inside)
    share = size / (size + sum(unit.size for unit in outside))
    by_size: tuple[dict[int, list[Unit]], dict[int, list[Unit]]] = (_by_size(inside), _by_size(outside))
    balance = _Balance(held, total, share)
    for label in sorted(total, key=lambda name: (total[name], name)):
        _exchange(label, balance, by_size)
    return [unit for units in by_size[0].values() for unit in units]


def _labels(units: Iterable[Unit]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for unit in units:
        counts.update(unit.labels)
    return counts


def _by_size(units: Iterable[Unit]) -> dict[int, list[Unit]]:
    groups: dict[int, list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.size, []).append(unit)
    return groups


@dataclass(slots=True)
class _Balance:
    """Entities held inside by label, against those that should be: their share of the total."""

    held: Counter[str]
    total: Counter[str]
    share: float

    def excess(self, label: str) -> float:
        return self.held[label] - self.share * self.total[label]

    def gain(self, leaves: Unit, enters: Unit) -> float:
        """By how much an exchange lowers the sum of squared excesses, each over the label's total."""
        gain = 0.0
        for label in leaves.labels.keys() | enters.labels.keys():
            change = enters.labels[label] - leaves.labels[label]
            gain -= change * (change + 2 * self.excess(label)) / self.total[label]
        return gain

    def exchange(self, leaves: Unit, enters: Unit) -> None:
        self.held.subtract(leaves.labels)
        self.held.update(enters.labels)


def _exchange(label: str, balance: _Balance, by_size: tuple[dict[int, list[Unit]], dict[int, list[Unit]]]) -> None:
    """Exchange units for the sake of one label as long as that makes the whole better."""
    surplus = 0 if balance.excess(label) > 0 else 1  # the side that has too many
    tries = _TRIES + round(4 * abs(balance.excess(label)))
    for size, units in by_size[surplus].items():
        others = by_size[1 - surplus].get(size, [])
        for place, unit in enumerate(units):
            if abs(balance.excess(label)) <= 0.5 or not others or tries == 0:
                break
            if unit.labels[label] > 0:
                tries -= 1
                _exchange_one(units, place, others, tries * _PARTNERS, balance, surplus)


def _exchange_one(
    units: list[Unit], place: int, others: list[Unit], begin: int, balance: _Balance, surplus: int
) -> None:
    """Exchange one unit for the best of some on the other side, if there is one that makes the whole better."""
    near = {(begin + step) % len(others) for step in range(_PARTNERS)}
    pairs = {index: _leaves_and_enters(surplus, units[place], others[index]) for index in sorted(near)}
    gains = {index: balance.gain(*pair) for index, pair in pairs.items()}
    best = max(gains, key=gains.__getitem__)
    if gains[best] > 1e-9:  # above what rounding makes, so that this ends
        balance.exchange(*pairs[best])
        units[place], others[best] = others[best], units[place]


def _leaves_and_enters(surplus: int, unit: Unit, other: Unit) -> tuple[Unit, Unit]:
    return (unit, other) if surplus == 0 else (other, unit)


def _as_frozen(pages: Sequence[Page], frozen: FrozenSplit) -> Division:
    key_of = {page.page_id: page.page_id if frozen.by == "page" else page.group for page in pages}
    _check_present(frozen, set(key_of.values()))
    part_of = dict.fromkeys(frozen.train or (), "train")
    part_of |= dict.fromkeys(frozen.evaluation, "evaluation") | dict.fromkeys(frozen.test, "test")
    elsewhere = "train" if frozen.train is None else "left_out"
    parts: dict[str, list[Page]] = {"train": [], "evaluation": [], "test": [], "left_out": []}
    for page in sorted(pages, key=lambda page: page.page_id):
        parts[part_of.get(key_of[page.page_id], elsewhere)].append(page)
    if not parts["train"]:
        raise DataError("the frozen split leaves no page to train on")
    return Division(**parts)


def _check_present(frozen: FrozenSplit, known: set[str]) -> None:
    named = {"train": frozen.train or (), "validation": frozen.evaluation, "test": frozen.test}
    missing = {part: sorted(set(keys) - known) for part, keys in named.items()}
    if any(missing.values()):
        count = sum(map(len, missing.values()))
        lists = "; ".join(f"{part}: {listed(keys)}" for part, keys in missing.items() if keys)
        raise DataError(
            f"the frozen split names {count} {frozen.by}(s) that the data does not have ({lists}): "
            f"import them, or take them out of the file"
        )


def has_test_part(config: TrainConfig) -> bool:
    """Whether a run may have one; a frozen split tells only when it is read."""
    return config.eval_dataset is None and (config.test_ratio > 0 or config.split.startswith("frozen:"))
