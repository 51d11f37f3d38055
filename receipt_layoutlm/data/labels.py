"""Entity labels of a run: merges, whitelist and the numbers of the BIO classes."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import TypeAdapter

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.metric_names import label_in, parse_guard
from receipt_layoutlm.suggestions import nearest_name

IGNORE_INDEX = -100
"""The class of an unsupervised position, as in torch and transformers."""

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
"""Labels of receipts; known even without an example in the data."""

ALIASES: dict[str, str] = {
    "ADDRESS": "ADDRESS_LINE",
    "BUSINESS_NAME": "MERCHANT_NAME",
    "CARD_NUMBER": "PAYMENT_METHOD",
    "PAYMENT_TYPE": "PAYMENT_METHOD",
}
"""Other names of core labels in stored receipts, alias -> label."""

OUTSIDE = "O"

LABEL_MAP = "label_map.json"
"""File of a LabelMap beside the weights that were trained with it."""

ValueKind = Literal["date", "amount", "text"]
_AMOUNT_LABEL = re.compile(r"TOTAL|AMOUNT|PRICE|TAX|DISCOUNT|CHANGE|CASH|TIP|REFUND|COUPON|FEE")

MERGE_PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "amounts": {"AMOUNT": ("LINE_TOTAL", "SUBTOTAL", "TAX", "GRAND_TOTAL")},
    "dates": {"DATETIME": ("DATE", "TIME")},
    "address": {"ADDRESS": ("ADDRESS_LINE", "PHONE_NUMBER")},
}
"""Named merges, target -> sources. `address` is the block printed below a merchant's name."""


def value_kind(label: str) -> ValueKind:
    """Kind of a label's values by its name: with DATE in it dates; totals, prices, taxes and the like have amounts."""
    name = label.upper()
    return "date" if "DATE" in name else "amount" if _AMOUNT_LABEL.search(name) else "text"


class LabelError(UserError, ValueError):
    """Contradictory or unknown labels or merges; the text suggests the most similar known name."""


@dataclass(frozen=True)
class LabelMap:
    """Merges (source -> target, target "O" drops) and the entity labels kept, in alphabetical order.

    The class numbers follow this order, so they do not depend on the order of the whitelist or the data.
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
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return tuple(self.label2id)

    @property
    def id2label(self) -> dict[int, str]:
        """Class names by number."""
        return {number: name for name, number in self.label2id.items()}

    def apply(self, tags: Sequence[str]) -> tuple[str, ...]:
        """The tags after merges and whitelist. Each kept entity stays one; unlabelled words stay unlabelled."""
        merged = []
        for tag in tags:
            label = self.merged(tag[2:])
            kept = f"{tag[:2]}{label}" if label in self.labels else OUTSIDE
            merged.append(tag if tag == UNSUPERVISED else kept)
        return tuple(merged)

    def merged(self, label: str) -> str:
        """The name of the label after the merges."""
        return self.merges.get(label, label)

    def to_json(self) -> str:
        """The content of label_map.json."""
        return json.dumps({"merges": self.merges, "labels": self.labels}, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The map in a label_map.json. Raises ValueError."""
        return TypeAdapter(cls).validate_json(content)


def resolve_merges(config: WordLabelsConfig) -> dict[str, str]:
    """All merges of a config as source -> target. Raises LabelError if they contradict each other."""
    groups = [*config.label_merges.items()]
    if config.merge_preset is not None:
        if config.merge_preset not in MERGE_PRESETS:
            raise LabelError(
                f"{flag_of('merge_preset')}: {unknown_name('merge preset', config.merge_preset, MERGE_PRESETS)}"
            )
        groups = [*MERGE_PRESETS[config.merge_preset].items(), *groups]
    if config.merge_amounts:
        groups = [*MERGE_PRESETS["amounts"].items(), *groups]
    merges: dict[str, str] = {}
    for target, sources in groups:
        for source in sources:
            if merges.setdefault(source, target) != target:
                raise LabelError(f"{source} is merged into {merges[source]} and into {target}: use one target")
    merges = {source: target for source, target in sorted(merges.items()) if source != target}
    for source, target in merges.items():
        if target in merges:
            raise LabelError(
                f"{source} is merged into {target}, which is itself merged into {merges[target]}: "
                f"merge {source} into {merges[target]}"
            )
    return merges


def build_label_map(config: WordLabelsConfig, known_labels: Iterable[str]) -> LabelMap:
    """The labels of a run; `known_labels` are those in the data, before merging.

    Without a whitelist every label of the data is kept. Raises LabelError for a label that is neither a core label nor
    in the data nor a merge target, for a whitelisted label that is merged into another, and if no label is left.
    """
    in_data = set(known_labels)
    merges = resolve_merges(config)
    known = (set(CORE_LABELS) | in_data | set(merges.values())) - {OUTSIDE}
    check_known("label_merges", merges, known)
    check_known("allowed_labels", config.allowed_labels, known)
    for label in config.allowed_labels:
        if label in merges:
            target = merges[label]
            if target == OUTSIDE:
                raise LabelError(f"label {label} cannot be kept: a merge into {OUTSIDE} drops it")
            raise LabelError(f"label {label} cannot be kept: it is merged into {target}; did you mean {target}?")
    kept = set(config.allowed_labels) or {merges.get(label, label) for label in in_data} - {OUTSIDE}
    if not kept:
        raise LabelError("no label is left to learn: the data has none, or merges drop all of them")
    return LabelMap(merges=merges, labels=tuple(sorted(kept)))


def check_named(config: WordLabelsConfig, learned: Collection[str]) -> None:
    """Raises LabelError for a label in the options that the run does not learn; O may have a weight."""
    guarded = None if config.guard is None else parse_guard(config.guard).metric
    named = [("single_valued_labels", label) for label in config.single_valued_labels]
    named += [("label_weight", label) for label in config.label_weight if label != OUTSIDE]
    for option, metric in (("metric_for_best", config.metric_for_best), ("guard", guarded)):
        if metric is not None and (label := label_in(metric)) is not None:
            named.append((option, label))
    for option, label in named:
        if label not in learned:
            near = nearest_name(label, learned)
            hint = f"did you mean {near}?" if near else f"use one of {', '.join(sorted(learned))}"
            raise LabelError(f"{flag_of(option)}: the run does not learn label {label}: {hint}")


def check_known(option: str, labels: Iterable[str], known: Collection[str]) -> None:
    """Raises LabelError for the first label of an option that is unknown, with the most similar known one."""
    for label in labels:
        if label not in known:
            raise LabelError(f"{flag_of(option)}: {unknown_name('label', label, known)}")


def unknown_name(kind: str, name: str, known: Collection[str]) -> str:
    """A sentence with the most similar known name, or all of them if none is similar."""
    near = nearest_name(name, known)
    hint = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}"
    return f"unknown {kind} {name}; {hint}"


def missing_labels(label_map: LabelMap, counts: Mapping[str, int]) -> list[str]:
    """Kept labels without an example; `counts` are entities by label, before or after merging."""
    present = {label_map.merged(label) for label, count in counts.items() if count > 0}
    return [label for label in label_map.labels if label not in present]
