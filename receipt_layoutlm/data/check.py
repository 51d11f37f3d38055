"""Checks pages under the options of a run: labels, sets, leaks, sizes and images.

An error means that the run would fail or that its metrics would be meaningless; a warning needs a person's judgement.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import SET_TITLES, CheckReport, Finding, LabelRow, error, warning
from receipt_layoutlm.data.frozen_split import FrozenSplit, shortened
from receipt_layoutlm.data.images import ImageCheck
from receipt_layoutlm.data.labels import CORE_LABELS, OUTSIDE, LabelError, build_label_map, resolve_merges
from receipt_layoutlm.data.near_duplicates import near_duplicates
from receipt_layoutlm.data.order_check import check_order
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.scripts import check_scripts
from receipt_layoutlm.data.snapshot import label_counts, sample_pages
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.suggestions import nearest_name

FEW_EXAMPLES = 50  # entities of a label in the training set
FEW_PAGES = 500  # in the training set
IMBALANCE = 10  # ratio of the most to the least frequent label

KEEP_ORDER = "import the pages again with --order given"

Sets = Mapping[str, Sequence[Page]]
"""Pages of "train", "evaluation" (the validation set) and "test", the training set first."""


@dataclass(frozen=True, slots=True)
class CheckInput:
    """The pages to check. `validation`: pages of a separate dataset; `unreadable`: lines of a file that are no page.

    `keep_order` is the command that imports the pages with the order of their words as given.
    """

    pages: Sequence[Page]
    validation: Sequence[Page] | None = None
    frozen: FrozenSplit | None = None
    unreadable: Sequence[DataError] = ()
    images: ImageCheck | None = None
    keep_order: str = KEEP_ORDER

    def sets(self, config: WordLabelsConfig) -> tuple[dict[str, Sequence[Page]], list[Finding]]:
        """The sets of the run; none where the pages cannot be divided."""
        findings: list[Finding] = []
        if not self.pages:
            return {}, [error("empty", "there are no pages: import some")]
        if self.validation is not None:
            sets: dict[str, Sequence[Page]] = {"train": self.pages, "evaluation": self.validation}
        else:
            try:
                split = divide(self.pages, config, self.frozen)
            except DataError as refusal:
                return {}, [error("split", str(refusal))]
            sets = {"train": split.train, "evaluation": split.validation}
            if split.test:
                sets["test"] = split.test
            if split.left_out:
                text = f"{len(split.left_out)} page(s) are in no set of the frozen split"
                findings.append(warning("left_out", text, [page.page_id for page in split.left_out]))
        if config.sample_size is not None:
            sets["train"] = sample_pages(sets["train"], config.sample_size, config.seed)
        return sets, findings


def check_dataset(given: CheckInput, config: TrainConfig) -> CheckReport:
    """Check pages as a run with these options would see them. Problems are reported, never raised."""
    if not isinstance(config, WordLabelsConfig):  # other tasks check their examples when they prepare a run
        return CheckReport(pages={"all": len(given.pages)}, labels=(), kept={}, findings=())
    sets, findings = given.sets(config)
    findings = check_unreadable(given.unreadable) + findings
    label_map = None
    # without a whitelist a run learns the labels of its training set only
    known_labels = label_counts(given.pages if config.allowed_labels or not sets else sets["train"])
    try:
        label_map = build_label_map(config, known_labels)
    except LabelError as refusal:
        findings.append(error("labels", str(refusal)))
    all_pages = [*given.pages, *(given.validation or ())]
    findings += check_label_names(config, all_pages)
    by_set = {name: label_counts(pages) for name, pages in sets.items()}
    kept: dict[str, dict[str, int]] = {}
    if label_map is not None and sets:
        kept = {label: dict.fromkeys(sets, 0) for label in label_map.labels}
        for name, counts in by_set.items():
            for label, count in counts.items():
                if (merged := label_map.merged(label)) in kept:
                    kept[merged][name] += count
        findings += check_support(kept)
    findings += check_leaks(sets)
    findings += check_sizes(config, sets, given.pages)
    findings += check_order(all_pages, given.keep_order)
    findings += check_scripts(all_pages, config.pretrained)
    if given.images is not None:
        findings += check_image_problems(given.images)
    labels = []
    for label, count in label_counts(all_pages).items():
        becomes: str | None = label
        if label_map is not None:
            merged = label_map.merged(label)
            becomes = merged if merged in label_map.labels and merged != OUTSIDE else None
        parts = {name: counts.get(label, 0) for name, counts in by_set.items()}
        labels.append(LabelRow(label=label, becomes=becomes, entities=count, parts=parts))
    return CheckReport(
        pages={name: len(pages) for name, pages in sets.items()} or {"all": len(given.pages)},
        labels=tuple(labels),
        kept=kept,
        findings=tuple(sorted(findings, key=lambda finding: finding.severity)),
    )


_UNREADABLE = (
    ("boxes", "have boxes out of range, inverted, or not of four numbers", r"\b(b?boxe?s?|values?)\b"),
    ("tags", "have tags that are not BIO", r"\b(tags?|labels|ner_tags)\b"),
    ("empty_pages", "have no words, or blank ones", r"no words|is empty"),
    ("lines", "are not pages", ""),
)
"""Kind, text and pattern of the reason, the first that matches."""

_MISSING_FIELD = re.compile(
    r"its fields are|no JSON object|need one each"
)  # the field named is missing or too short, not malformed


def check_unreadable(unreadable: Sequence[DataError]) -> list[Finding]:
    """Lines of a file that are no page, grouped by reason."""
    groups: dict[str, list[DataError]] = {}
    for line in unreadable:
        is_malformed = not _MISSING_FIELD.search(line.reason)
        kind = next(
            kind
            for kind, _, pattern in _UNREADABLE
            if not pattern or (is_malformed and re.search(pattern, line.reason))
        )
        groups.setdefault(kind, []).append(line)
    return [
        error(kind, f"{len(lines)} line(s) {text}: {lines[0]}", map(str, lines))
        for kind, text, _ in _UNREADABLE
        if (lines := groups.get(kind))
    ]


def check_label_names(config: WordLabelsConfig, pages: Sequence[Page]) -> list[Finding]:
    """Labels that are spelt like a core label, or are unknown in a dataset that has core labels."""
    try:
        merges = resolve_merges(config)
    except LabelError:
        return []  # reported with the label map
    counts = label_counts(pages)
    unknown = [label for label in counts if label not in CORE_LABELS and label not in merges.values()]
    has_own_labels = len(unknown) == len(counts)
    findings = []
    for label in unknown:
        near = nearest_name(label, CORE_LABELS, cutoff=0.8)
        if near:
            text = f"label {label} ({counts[label]} entities) is not a core label; did you mean {near}?"
            findings.append(warning("unknown_label", text, [label]))
        elif not has_own_labels and label not in merges:
            text = f"label {label} ({counts[label]} entities) is not a core label, and no core label is similar"
            findings.append(warning("unknown_label", text, [label]))
    return findings


def check_support(kept: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Entities that whitelist and merges leave for training and validation."""
    train = {label: counts["train"] for label, counts in kept.items()}
    validation = {label: counts["evaluation"] for label, counts in kept.items()}
    findings = []
    if not any(train.values()):
        findings.append(error("nothing_to_learn", f"the training set has no entity of {shortened(list(train))}"))
    if not any(validation.values()):
        findings.append(
            error("nothing_to_evaluate", f"the validation set has no entity of {shortened(list(validation))}")
        )
    if len(kept) == 1:
        findings.append(warning("one_label", f"only one label is left to learn: {next(iter(kept))}"))
    for title, counts in (("training set", train), ("validation set", validation)):
        if empty := [label for label, count in counts.items() if count == 0]:
            findings.append(warning("no_examples", f"the {title} has no example of {shortened(empty)}", empty))
    rarest = sorted(train.items(), key=lambda item: item[1])
    if few := {label: count for label, count in rarest if 0 < count < FEW_EXAMPLES}:
        text = shortened([f"{label} {count}" for label, count in few.items()])
        findings.append(warning("few_examples", f"fewer than {FEW_EXAMPLES} examples in the training set: {text}", few))
    if present := {label: count for label, count in train.items() if count}:
        maximum, minimum = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[maximum] > IMBALANCE * present[minimum]:
            text = f"{maximum} has {present[maximum]} examples, {minimum} {present[minimum]}: over {IMBALANCE} to 1"
            findings.append(warning("imbalance", text, [maximum, minimum]))
    return findings


def check_leaks(sets: Sets) -> list[Finding]:
    """Groups and near duplicates in two sets, which make the score partly one of memorisation."""
    findings = []
    groups = {name: {page.group for page in pages} for name, pages in sets.items()}
    for one, other in (("train", "evaluation"), ("train", "test"), ("evaluation", "test")):
        if shared := sorted(groups.get(one, set()) & groups.get(other, set())):
            text = f"{len(shared)} group(s) are in {SET_TITLES[one]} and {SET_TITLES[other]} set"
            text += f": {shortened(shared[:3])}; --split group keeps them apart"
            findings.append(warning("group_leak", text, shared))
    if pairs := near_duplicates(sets):
        first = pairs[0]
        text = (
            f"{len(pairs)} page(s) of validation or test set have a near duplicate in another set: {first.page_id} "
            f"({SET_TITLES[first.set_name]}) and {first.other_id} ({SET_TITLES[first.other_set]}) are "
            f"{first.similarity:.0%} alike"
        )
        findings.append(warning("near_duplicates", text, (f"{pair.page_id} ~ {pair.other_id}" for pair in pairs)))
    return findings


def check_sizes(config: WordLabelsConfig, sets: Sets, pages: Sequence[Page]) -> list[Finding]:
    """A small training set, groups of one page, and pages longer than a window."""
    findings = []
    if sets and len(sets["train"]) < FEW_PAGES:
        findings.append(warning("few_pages", f"the training set has {len(sets['train'])} pages, under {FEW_PAGES}"))
    counts = Counter(page.group for page in pages)
    single = sorted(group for group, count in counts.items() if count == 1)
    if len(single) == len(pages) > 1:
        text = "every page is a group of its own: without merchants a group split is a random split"
        findings.append(warning("single_groups", text))
    elif single:
        findings.append(warning("single_groups", f"{len(single)} of {len(counts)} groups have one page", single))
    budget = config.max_length - 2  # [CLS] and [SEP]
    if long := [page.page_id for page in pages if estimated_sub_tokens(page, config.max_sub_tokens) > budget]:
        text = (
            f"{len(long)} of {len(pages)} pages are longer than one window of {config.max_length} sub-tokens "
            "(estimated): they are read in overlapping windows, no word is lost"
        )
        findings.append(warning("long_pages", text, long))
    return findings


_PIECE = re.compile(r"[0-9]+|[^\W\d_]+|[\W_]")


def estimated_sub_tokens(page: Page, cap: int | None = None) -> float:
    """The approximate number of a BERT tokenizer's sub-tokens on a page, at most `cap` a word, without a tokenizer.

    A sign counts 1; a run of five or more digits 1 for two digits; a run of letters 1, and 0.22 for each letter after
    the third. On 549 scanned receipts the estimate is 0.90 to 1.12 times the number of sub-tokens of
    bert-base-uncased, in the median 1.00.
    """
    total = 0.0
    for word in page.words:
        of_word = 0.0
        for piece in _PIECE.findall(word):
            if not piece[0].isdigit():
                of_word += 1 + 0.22 * max(0, len(piece) - 3)
            elif len(piece) > 4:
                of_word += (len(piece) + 1) // 2
            else:
                of_word += 1.5 if len(piece) > 2 else 1.0
        total += min(of_word, cap or math.inf)
    return total


def check_image_problems(images: ImageCheck) -> list[Finding]:
    """Images that are missing, unreadable, truncated or blank."""
    if not images.checked:
        text = "no image of the folder belongs to a page: name images by SHA-256, file name or page id"
        return [warning("images", text)]
    if not images.problems:
        return []
    examples = [f"{page_id}: {problem}" for page_id, problem in images.problems.items()]
    return [warning("images", f"{len(examples)} page(s) have an unusable image: {examples[0]}", examples)]
