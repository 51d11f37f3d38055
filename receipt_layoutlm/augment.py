"""Augmentation: training pages as they might also have been printed and scanned, another version in each epoch.

Pure functions of (seed, epoch, page id), like sampling.py, so an attempt that resumes sees what the one before
would have seen. For the training part alone, evaluation takes the pages as they are.
"""

import random
from collections.abc import Callable, Collection

from receipt_layoutlm.augment_amounts import other_amounts
from receipt_layoutlm.augment_boxes import moved_boxes
from receipt_layoutlm.augment_entities import Donors, other_entities
from receipt_layoutlm.augment_words import misread, without_some
from receipt_layoutlm.config import Augmentation
from receipt_layoutlm.page import Page
from receipt_layoutlm.sampling import generator


def _entities(page: Page, donors: Donors, draw: random.Random) -> Page:
    return other_amounts(other_entities(page, donors, draw), draw)


_STEPS: dict[Augmentation, Callable[[Page, Donors, random.Random], Page]] = {
    "entities": _entities,
    "drop": lambda page, donors, draw: without_some(page, draw),
    "ocr": lambda page, donors, draw: misread(page, draw),
    "boxes": lambda page, donors, draw: moved_boxes(page, draw),
}
"""In the order in which they are done, whatever the order in which they are asked for."""


def augmented(page: Page, names: Collection[Augmentation], donors: Donors, seed: int, epoch: int) -> Page:
    """The page as an epoch shows it; each augmentation draws the same whether the others are on or not."""
    for name, step in _STEPS.items():
        if name in names:
            page = step(page, donors, generator(seed, epoch, f"augment {name} {page.page_id}"))
    return page
