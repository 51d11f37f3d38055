"""Which pages an epoch shows: generated ones first, if any, then the training part, augmented if that is asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from receipt_layoutlm.augment import augmented
from receipt_layoutlm.augment_entities import Donors
from receipt_layoutlm.config import Augmentation
from receipt_layoutlm.encoded_part import EncodedPart
from receipt_layoutlm.page import Page


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
