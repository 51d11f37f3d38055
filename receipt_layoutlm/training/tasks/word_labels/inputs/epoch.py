"""What an epoch trains on: which windows in which step, and which of their words are supervised.

Which pages an epoch shows: generated ones first, if any, then the training part, augmented if that is asked for.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from receipt_layoutlm.config import Augmentation, TrainConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.training.tasks.word_labels.augmentation.augment import augmented
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import Donors
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import BoolArray, EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import PackedBatch, cut_by_tokens, pack
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import (
    PageTags,
    achieved_ratio,
    as_many,
    draw,
    epoch_order,
    repeat_factors,
    supervised_masks,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A window as an epoch shows it; supervised: (words,), None for all of them."""

    window: int
    supervised: BoolArray | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """The same in every attempt: it follows from seed, number and pages."""

    number: int  # from 0
    part: EncodedPart
    steps: list[list[Shown]]  # one list for each optimizer step
    o_entity_ratio: float | None  # achieved
    seen: dict[str, int]  # entities shown of each label, repeats counted


def plan_epoch(config: TrainConfig, part: EncodedPart, number: int, count: int) -> Epoch:
    """Draw an epoch of `count` windows.

    What is drawn depends on the windows, not on how they are cut into micro-batches.
    """
    windows = as_many(_shown(config, part, number), count, config.seed, number)
    tagged = _tagged(part, windows)
    if config.o_entity_ratio is None:
        masks = None
        ratio = achieved_ratio(tagged, [[True] * len(tags) for _, tags in tagged])
    else:
        masks = supervised_masks(tagged, config.o_entity_ratio, config.seed, number)
        ratio = achieved_ratio(tagged, masks)
    shown = [Shown(window, None if masks is None else np.array(masks[place])) for place, window in enumerate(windows)]
    order = _order(config, part, windows, number)
    seen = Counter(tag[2:] for _, tags in tagged for tag in tags if tag[0] == "B")
    return Epoch(
        number, part, [[shown[place] for place in places] for places in order], ratio, dict(sorted(seen.items()))
    )


def windows_per_epoch(config: TrainConfig, part: EncodedPart) -> int:
    """By the training part as it is; every epoch has as many."""
    return len(_shown(config, part, 0))


def _shown(config: TrainConfig, part: EncodedPart, number: int) -> list[int]:
    """The windows of an epoch: each once, or those with rare labels more often."""
    if not config.balanced_sampling:
        return list(range(len(part.windows)))
    labels = [{tag[2:] for tag in part.window_tags(window) if tag[0] == "B"} for window in range(len(part.windows))]
    return draw(repeat_factors(labels), config.seed, number)


def _tagged(part: EncodedPart, windows: Sequence[int]) -> list[PageTags]:
    """What is supervised as one piece, with an id that is its own: the k-th time a window is shown."""
    times: dict[int, count[int]] = {}
    return [
        (f"{part.window_id(window)} {next(times.setdefault(window, count()))}", part.window_tags(window))
        for window in windows
    ]


def _order(config: TrainConfig, part: EncodedPart, windows: Sequence[int], number: int) -> list[list[int]]:
    lengths = part.window_lengths[list(windows)].tolist()
    return epoch_order(lengths, config.batch_size * config.gradient_accumulation_steps, config.seed, number)


def fair_shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Places of the lengths in that many shares, of about as many tokens each: the longest first, to who has least."""
    shares: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        poorest = min(range(count), key=tokens.__getitem__)
        shares[poorest].append(place)
        tokens[poorest] += lengths[place]
    return [sorted(share) for share in shares]


def micro_batches(config: TrainConfig, part: EncodedPart, shown: Sequence[Shown]) -> list[PackedBatch]:
    """The windows of one optimizer step, packed: by `tokens_per_batch` where it is given, else by `batch_size`."""
    windows = [part.windows[each.window] for each in shown]
    if config.tokens_per_batch is not None:
        cuts = cut_by_tokens([len(window.input_ids) for window in windows], config.tokens_per_batch)
    else:
        size = config.batch_size
        cuts = [list(range(start, min(start + size, len(shown)))) for start in range(0, len(shown), size)]
    return [pack([windows[i] for i in cut], [shown[i].supervised for i in cut]) for cut in cuts]


@dataclass(frozen=True)
class Augmenter:
    """Makes the training part of an epoch anew; `encode` knows the run's tokenizer and labels."""

    pages: Sequence[Page]
    names: tuple[Augmentation, ...]
    donors: Donors
    seed: int
    encode: Callable[[Sequence[Page], Callable[[], None]], EncodedPart]

    def part(self, epoch: int, on_page: Callable[[], None]) -> EncodedPart:
        pages = []
        for page in self.pages:
            on_page()
            pages.append(augmented(page, self.names, self.donors, self.seed, epoch))
        return self.encode(pages, on_page)


@dataclass(frozen=True)
class Showing:
    """What the epochs of a run show. A part may have more windows than an epoch, or fewer: see sampling.as_many."""

    clean: EncodedPart
    windows: int  # of each epoch
    augmenter: Augmenter | None = None  # None: the pages as they are
    generated: EncodedPart | None = None  # of the first phase

    @property
    def first_phase(self) -> int:
        """Epochs until each window of the generated pages was shown."""
        return 0 if self.generated is None else math.ceil(len(self.generated.windows) / self.windows)

    def part(self, epoch: int, on_page: Callable[[], None]) -> EncodedPart:
        """The pages of an epoch (from 0), the same in every attempt.

        `on_page` is called before each page that is made anew and may raise to stop.
        """
        if self.generated is not None and epoch < self.first_phase:
            return self.generated
        return self.clean if self.augmenter is None else self.augmenter.part(epoch, on_page)
