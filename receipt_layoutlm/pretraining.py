"""A first phase on generated receipts (--pretrain-on sample:N): its pages.

The phase is whole epochs in front of the others, each of as many windows as an epoch of the training part, so a
place in the run stays one number of steps. The N receipts are gone through once; sampling.as_many fills the last
epoch up from the beginning.
"""

from receipt_layoutlm.data import label_counts, seeded_rank
from receipt_layoutlm.labels import LabelError, LabelMap
from receipt_layoutlm.page import Page
from receipt_layoutlm.sample import generate_pages


def pretraining_pages(count: int, seed: int, label_map: LabelMap) -> list[Page]:
    """The pages of a run's first phase. Labels that the run does not learn are O once they are encoded.

    LabelError when the run learns no label that generated receipts carry.
    """
    pages = pages_apart(count, seed)
    known = label_counts(pages)
    if not {label_map.merged(label) for label in known} & set(label_map.labels):
        raise LabelError(
            f"pretrain_on: generated receipts carry {', '.join(known)}, and none of these is learned here: "
            "leave pretrain_on out, or rename labels with label_merges"
        )
    return pages


def pages_apart(count: int, seed: int) -> list[Page]:
    """Generated receipts of a seed that nobody gives to `dataset import sample`, whose pages may be evaluated on."""
    return generate_pages(count, int.from_bytes(seeded_rank("pretraining", seed, "")[:8]))
