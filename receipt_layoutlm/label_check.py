"""What the check of a dataset says about labels: unknown ones, and what whitelist and merges leave in each part."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from receipt_layoutlm.check_report import Finding, LabelRow, error, warning
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data import label_counts
from receipt_layoutlm.labels import CORE_LABELS, OUTSIDE, LabelError, LabelMap, build_label_map, resolve_merges
from receipt_layoutlm.page import Page

FEW_EXAMPLES = 50  # entities of a label in the training part
IMBALANCE = 10  # times as many entities of one label as of another

Parts = Mapping[str, Sequence[Page]]


def label_map_or_error(
    config: TrainConfig, pages: Sequence[Page], parts: Parts
) -> tuple[LabelMap | None, list[Finding]]:
    """As a run makes it: without a whitelist what is learned comes from the training part alone."""
    known = label_counts(pages if config.allowed_labels or not parts else parts["train"])
    try:
        return build_label_map(config, known), []
    except LabelError as wrong:
        return None, [error("labels", str(wrong))]


def unknown_labels(config: TrainConfig, pages: Sequence[Page]) -> list[Finding]:
    """Labels that are no core labels, but look like one or stand among others that are."""
    try:
        merges = resolve_merges(config)
    except LabelError:
        return []  # told by the label map
    counts = label_counts(pages)
    unknown = [label for label in counts if label not in CORE_LABELS and label not in merges.values()]
    is_own_set = len(unknown) == len(counts)
    found = []
    for label in unknown:
        near = get_close_matches(label.upper(), CORE_LABELS, n=1, cutoff=0.8)
        if near:
            text = f"label {label} ({counts[label]} entities) is no core label; did you mean {near[0]}?"
            found.append(warning("unknown_label", text, [label]))
        elif not is_own_set and label not in merges:
            text = f"label {label} ({counts[label]} entities) is no core label, and none is spelt like it"
            found.append(warning("unknown_label", text, [label]))
    return found


def kept_entities(label_map: LabelMap, parts: Parts) -> dict[str, dict[str, int]]:
    """Entities of each label that is learned, by part."""
    kept = {label: dict.fromkeys(parts, 0) for label in label_map.labels}
    for part, pages in parts.items():
        for label, count in label_counts(pages).items():
            if (merged := label_map.merged(label)) in kept:
                kept[merged][part] += count
    return kept


def support(kept: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """What whitelist and merges leave to learn and to be measured by."""
    train = {label: counts["train"] for label, counts in kept.items()}
    held = {label: counts["evaluation"] for label, counts in kept.items()}
    found = []
    if not any(train.values()):
        found.append(error("nothing_to_learn", f"no entity of {', '.join(train)} is left to train on"))
    if not any(held.values()):
        found.append(error("nothing_to_evaluate", f"the evaluation part has no entity of {', '.join(held)}"))
    if len(kept) == 1:
        found.append(warning("one_label", f"only one label is left to learn: {next(iter(kept))}"))
    for part, counts in (("train on", train), ("be evaluated by", held)):
        if empty := [label for label, count in counts.items() if count == 0]:
            found.append(warning("no_examples", f"no example to {part}: {', '.join(empty)}", empty))
    few = {label: count for label, count in train.items() if 0 < count < FEW_EXAMPLES}
    if few:
        text = ", ".join(f"{label} {count}" for label, count in few.items())
        found.append(warning("few_examples", f"fewer than {FEW_EXAMPLES} examples to train on: {text}", few))
    return found + _imbalance(train)


def _imbalance(train: Mapping[str, int]) -> list[Finding]:
    present = {label: count for label, count in train.items() if count}
    if not present:
        return []
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    if present[most] <= IMBALANCE * present[least]:
        return []
    text = f"{most} has {present[most]} examples, {least} {present[least]}: more than {IMBALANCE} to 1"
    return [warning("imbalance", text, [most, least])]


def label_rows(label_map: LabelMap | None, pages: Sequence[Page], parts: Parts) -> tuple[LabelRow, ...]:
    """Each label of the data, what becomes of it, and how often it stands in each part."""
    total = label_counts(pages)
    by_part = {part: label_counts(members) for part, members in parts.items()}
    return tuple(
        LabelRow(
            label=label,
            becomes=_becomes(label_map, label),
            entities=count,
            parts={part: counts.get(label, 0) for part, counts in by_part.items()},
        )
        for label, count in total.items()
    )


def _becomes(label_map: LabelMap | None, label: str) -> str | None:
    if label_map is None:
        return label
    merged = label_map.merged(label)
    return merged if merged in label_map.labels and merged != OUTSIDE else None
