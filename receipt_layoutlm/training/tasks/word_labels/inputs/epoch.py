"""Epochs of a run: their pages, the windows of each optimizer step, the supervised words."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np

from receipt_layoutlm.configs.word_labels import Augmentation, WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import as_read
from receipt_layoutlm.training.distributed import ProcessGroup
from receipt_layoutlm.training.tasks.word_labels.augmentation.augment import augmented
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import Donors
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import BoolArray, EncodedPages
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
from receipt_layoutlm.training.throughput import EncoderSize, StepWorkload, step_flops


@dataclass(frozen=True, slots=True)
class SampledWindow:
    """A window of an epoch. supervised: (words,), None for all of them."""

    window: int
    supervised: BoolArray | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """Windows of an epoch; the same in every attempt, since seed, number and pages determine them."""

    number: int  # from 0
    pages: EncodedPages
    steps: list[list[SampledWindow]]  # one list for each optimizer step
    o_entity_ratio: float | None  # achieved
    seen: dict[str, int]  # entities of each label, repeats counted


def plan_epoch(config: WordLabelsConfig, pages: EncodedPages, number: int, size: int) -> Epoch:
    """Sample an epoch of `size` windows.

    The sample depends on the windows, not on their division into micro-batches.
    """
    windows = as_many(_sampled(config, pages, number), size, config.seed, number)
    times: dict[int, count[int]] = {}
    # every occurrence of a window has its own id, and so its own supervised words
    tagged: list[PageTags] = [
        (f"{pages.window_id(window)} {next(times.setdefault(window, count()))}", pages.window_tags(window))
        for window in windows
    ]
    if config.o_entity_ratio is None:
        masks = None
        ratio = achieved_ratio(tagged, [[True] * len(tags) for _, tags in tagged])
    else:
        masks = supervised_masks(tagged, config.o_entity_ratio, config.seed, number)
        ratio = achieved_ratio(tagged, masks)
    sampled = [
        SampledWindow(window, None if masks is None else np.array(masks[place])) for place, window in enumerate(windows)
    ]
    lengths = pages.window_lengths[list(windows)].tolist()
    order = epoch_order(lengths, config.batch_size * config.gradient_accumulation_steps, config.seed, number)
    seen = Counter(tag[2:] for _, tags in tagged for tag in tags if tag[0] == "B")
    steps = [[sampled[place] for place in places] for places in order]
    return Epoch(number, pages, steps, ratio, dict(sorted(seen.items())))


def windows_per_epoch(config: WordLabelsConfig, train: EncodedPages) -> int:
    """Windows of the training set without augmentation, which is the size of every epoch."""
    return len(_sampled(config, train, 0))


def _sampled(config: WordLabelsConfig, pages: EncodedPages, number: int) -> list[int]:
    """The windows of an epoch: each once, or those with rare labels more often."""
    if not config.balanced_sampling:
        return list(range(len(pages.windows)))
    labels = [{tag[2:] for tag in pages.window_tags(window) if tag[0] == "B"} for window in range(len(pages.windows))]
    return draw(repeat_factors(labels), config.seed, number)


def workload_of(sampled: Sequence[SampledWindow], pages: EncodedPages, size: EncoderSize) -> StepWorkload:
    """Work of the forward and backward pass over these windows."""
    windows = [sample.window for sample in sampled]
    lengths = pages.window_lengths[windows].tolist()
    spans = pages.features.spans[pages.window_numbers[windows]]
    words = (spans[:, 1] - spans[:, 0]).tolist()
    chosen = sum(
        count if sample.supervised is None else int(sample.supervised.sum())
        for sample, count in zip(sampled, words, strict=True)
    )
    return StepWorkload(len(windows), sum(lengths), step_flops(size, lengths, chosen))


def shard(group: ProcessGroup, pages: EncodedPages, sampled: Sequence[SampledWindow]) -> list[SampledWindow]:
    """This process's share of an optimizer step; never empty, since all processes must take part.

    If there are fewer windows than processes, the share may be a window without supervised words.
    """
    if group.size == 1:
        return list(sampled)
    lengths = pages.window_lengths[[sample.window for sample in sampled]].tolist()
    share = fair_shares(lengths, group.size)[group.rank]
    if share:
        return [sampled[place] for place in share]
    window = sampled[0].window
    return [SampledWindow(window, np.zeros(len(pages.windows[window].first), np.bool_))]


def fair_shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Distribute indices over `count` shares of similar total length: longest first, to the smallest share."""
    shares: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        smallest = min(range(count), key=tokens.__getitem__)
        shares[smallest].append(place)
        tokens[smallest] += lengths[place]
    return [sorted(share) for share in shares]


def micro_batches(config: WordLabelsConfig, pages: EncodedPages, sampled: Sequence[SampledWindow]) -> list[PackedBatch]:
    """Pack the windows of an optimizer step: by `tokens_per_batch` if it is set, else by `batch_size`."""
    windows = [pages.windows[sample.window] for sample in sampled]
    if config.tokens_per_batch is not None:
        cuts = cut_by_tokens([len(window.input_ids) for window in windows], config.tokens_per_batch)
    else:
        size = config.batch_size
        cuts = [list(range(start, min(start + size, len(sampled)))) for start in range(0, len(sampled), size)]
    return [pack([windows[i] for i in cut], [sampled[i].supervised for i in cut]) for cut in cuts]


@dataclass(frozen=True)
class Augmenter:
    """Makes the pages of an epoch by augmentation; `encode` knows the run's tokenizer and labels."""

    pages: Sequence[Page]
    names: tuple[Augmentation, ...]
    donors: Donors
    seed: int
    encode: Callable[[Sequence[Page], Callable[[], None]], EncodedPages]

    @cached_property
    def _as_read(self) -> list[Page]:
        """The pages in an order that moved boxes cannot tear."""
        return list(map(as_read, self.pages))

    def of_epoch(self, epoch: int, on_page: Callable[[], None]) -> EncodedPages:
        pages = []
        for page in self._as_read:
            on_page()
            pages.append(augmented(page, self.names, self.donors, self.seed, epoch))
        return self.encode(pages, on_page)


@dataclass(frozen=True)
class EpochSource:
    """Pages of each epoch of a run; as_many makes the number of windows equal for all epochs."""

    train: EncodedPages
    windows: int  # of each epoch
    augmenter: Augmenter | None = None  # None: unchanged pages
    generated: EncodedPages | None = None  # of the pre-training phase

    @property
    def pretraining_epochs(self) -> int:
        """Epochs in which each window of the generated pages occurs once."""
        return 0 if self.generated is None else math.ceil(len(self.generated.windows) / self.windows)

    def pages(self, epoch: int, on_page: Callable[[], None]) -> EncodedPages:
        """Pages of an epoch (from 0), the same in every attempt.

        `on_page` is called before each page that is augmented and may raise to stop.
        """
        if self.generated is not None and epoch < self.pretraining_epochs:
            return self.generated
        return self.train if self.augmenter is None else self.augmenter.of_epoch(epoch, on_page)
