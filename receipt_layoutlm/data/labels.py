"""Which entity labels a run learns: merges first, then the whitelist, and the numbers of the BIO classes."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.metric_names import label_in, parse_guard

IGNORE_INDEX = -100
"""The label of a position that is not supervised; the value that torch and transformers use."""
CORE_LABELS: tuple[str, ...] = (
    "MERCHANT_NAME",
    "STORE_HOURS",
    "PHONE_NUMBER",
    "WEBSITE",
    "LOYALTY_ID",
    "ADDRESS_LINE",
    "DATE",
    "TIME",
    "PAYMENT_METHOD",
    "COUPON",
    "DISCOUNT",
    "PRODUCT_NAME",
    "QUANTITY",
    "UNIT_PRICE",
    "LINE_TOTAL",
    "SUBTOTAL",
    "TAX",
    "GRAND_TOTAL",
    "TIP",
    "CHANGE",
    "CASH_BACK",
    "REFUND",
)
"""Labels a receipt may carry; they are known even where the data has no example of them."""

ALIASES: dict[str, str] = {
    "ADDRESS": "ADDRESS_LINE",
    "BUSINESS_NAME": "MERCHANT_NAME",
    "CARD_NUMBER": "PAYMENT_METHOD",
    "PAYMENT_TYPE": "PAYMENT_METHOD",
}
"""Other names of core labels that stored receipts carry, alias -> label."""

OUTSIDE = "O"

MERGE_PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "amounts": {"AMOUNT": ("LINE_TOTAL", "SUBTOTAL", "TAX", "GRAND_TOTAL")},
    "dates": {"DATETIME": ("DATE", "TIME")},
    "address": {"ADDRESS": ("ADDRESS_LINE", "PHONE_NUMBER")},
}
"""Named merges, target -> sources. `address` is the block that is printed under a merchant's name."""


class LabelError(UserError, ValueError):
    """Labels or merges that contradict each other or do not exist; the text names the nearest known name."""


@dataclass(frozen=True)
class LabelMap:
    """Merges (source -> target, target "O" drops) and the entity labels kept, in alphabetical order.

    The order decides the class numbers, so it does not depend on the order of the whitelist or of the data.
    """

    merges: dict[str, str]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if sources := set(self.labels) & set(self.merges):
            raise LabelError(f"{sorted(sources)[0]} is merged into another label and cannot be kept too")

    @property
    def label2id(self) -> dict[str, int]:
        """Class numbers: O is 0, then B- and I- of each label."""
        classes = (OUTSIDE, *(f"{prefix}-{label}" for label in self.labels for prefix in "BI"))
        return {name: number for number, name in enumerate(classes)}

    @property
    def id2label(self) -> dict[int, str]:
        """Class names by number."""
        return {number: name for name, number in self.label2id.items()}

    def apply(self, tags: Sequence[str]) -> tuple[str, ...]:
        """Merge and filter IOB2 tags; each kept entity stays one, also where two of one label now touch.

        What nobody has decided stays undecided.
        """
        return tuple(self._apply_one(tag) for tag in tags)

    def _apply_one(self, tag: str) -> str:
        if tag == UNSUPERVISED:
            return tag
        label = self.merged(tag[2:])
        return f"{tag[:2]}{label}" if label in self.labels else OUTSIDE

    def merged(self, label: str) -> str:
        """The label as it is called after the merges."""
        return self.merges.get(label, label)

    def to_json(self) -> str:
        """The content of label_map.json."""
        return json.dumps({"merges": self.merges, "labels": self.labels}, sort_keys=True, indent=1)


def resolve_merges(config: WordLabelsConfig) -> dict[str, str]:
    """All merges of a config as source -> target; LabelError when they contradict each other."""
    merges: dict[str, str] = {}
    for target, sources in _merge_groups(config):
        for source in sources:
            if merges.setdefault(source, target) != target:
                raise LabelError(f"{source} is merged into {merges[source]} and into {target}: give it one target")
    merges = {source: target for source, target in sorted(merges.items()) if source != target}
    for source, target in merges.items():
        if target in merges:
            raise LabelError(
                f"{source} is merged into {target}, which is itself merged into {merges[target]}: "
                f"merge {source} into {merges[target]}"
            )
    return merges


def _merge_groups(config: WordLabelsConfig) -> Iterable[tuple[str, tuple[str, ...]]]:
    if config.merge_amounts:
        yield from MERGE_PRESETS["amounts"].items()
    if config.merge_preset is not None:
        if config.merge_preset not in MERGE_PRESETS:
            raise LabelError(_unknown("merge preset", config.merge_preset, MERGE_PRESETS))
        yield from MERGE_PRESETS[config.merge_preset].items()
    yield from config.label_merges.items()


def build_label_map(config: WordLabelsConfig, known_labels: Iterable[str]) -> LabelMap:
    """The labels of a run; `known_labels` are those that occur in the data (before merging).

    Without a whitelist every label of the data is kept. LabelError when a label is neither a core label nor
    in the data nor a merge target; when a whitelisted label is merged away; when nothing is left to learn.
    """
    in_data = set(known_labels)
    merges = resolve_merges(config)
    known = (set(CORE_LABELS) | in_data | set(merges.values())) - {OUTSIDE}
    check_known((*merges, *config.allowed_labels), known)
    for label in config.allowed_labels:
        if label in merges:
            raise LabelError(_merged_away(label, merges[label]))
    kept = set(config.allowed_labels) or {merges.get(label, label) for label in in_data} - {OUTSIDE}
    if not kept:
        raise LabelError("no label is left to learn: the data has none, or the merges drop them all")
    return LabelMap(merges=merges, labels=tuple(sorted(kept)))


def check_named(config: WordLabelsConfig, learned: Collection[str]) -> None:
    """Raises LabelError unless the run learns each label that its options name; O may be weighted too."""
    guarded = None if config.guard is None else parse_guard(config.guard).metric
    of_metrics = [label_in(name) for name in (config.metric_for_best, guarded) if name is not None]
    weighted = [label for label in config.label_weight if label != OUTSIDE]
    for label in (*config.single_valued_labels, *weighted, *(label for label in of_metrics if label is not None)):
        if label not in learned:
            raise LabelError(f"this run learns no label {label}: name one of {', '.join(sorted(learned))}")


def check_known(labels: Iterable[str], known: Collection[str]) -> None:
    """Raises LabelError for the first label that is not known, with the nearest that is."""
    for label in labels:
        if label not in known:
            raise LabelError(_unknown("label", label, known))


def _merged_away(label: str, target: str) -> str:
    if target == OUTSIDE:
        return f"label {label} cannot be kept: a merge into {OUTSIDE} drops it"
    return f"label {label} cannot be kept: it is merged into {target}; did you mean {target}?"


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence with the nearest known name, or with all of them when none is near."""
    spelling = {candidate.casefold(): candidate for candidate in sorted(known)}
    near = get_close_matches(name.casefold(), spelling, n=1)
    hint = f"did you mean {spelling[near[0]]}?" if near else f"known are {', '.join(spelling.values())}"
    return f"unknown {what} {name}; {hint}"


def missing_labels(label_map: LabelMap, counts: Mapping[str, int]) -> list[str]:
    """Labels kept that have no example; `counts` are entities per label, before or after merging."""
    present = {label_map.merged(label) for label, count in counts.items() if count > 0}
    return [label for label in label_map.labels if label not in present]
