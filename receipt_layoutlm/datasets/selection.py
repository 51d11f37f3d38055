"""Selects the pages of a dataset that meet quality thresholds, and counts the pages at other thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.errors import UserError

RuleName = Literal["confidence", "validated_share", "labels"]
THRESHOLDS: Final[dict[RuleName, tuple[float, ...]]] = {
    "confidence": (0, 0.5, 0.7, 0.8, 0.9, 0.95),
    "validated_share": (0, 0.5, 0.75, 0.9, 1),
    "labels": (0, 1, 2, 3, 5, 10),
}
"""Minimum values of each rule at which pages are counted."""

_SELECTED: Final = "; selected from "  # in the source of a subset, after the source of the whole dataset


class SelectionRules(BaseModel):
    """Minimum quality of a page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_validated_share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Minimum share of labelled words among a page's labelled and unlabelled words; 1 allows no "
        "unlabelled word.",
    )
    min_labels: int = Field(1, ge=0, description="Minimum number of entities on a page.")
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum of the mean OCR confidence of a page's labelled words, 0..1. Known for pages of the table "
        "only.",
    )

    def in_words(self) -> str:
        """The rules in one line."""
        texts = [f"validated share >= {self.min_validated_share:g}", f"labels >= {self.min_labels}"]
        if self.min_confidence is not None:
            texts.append(f"confidence >= {self.min_confidence:g}")
        return ", ".join(texts)


@dataclass(frozen=True, slots=True)
class PageQuality:
    """The values that rules test. `confidence` is None where it is unknown."""

    validated_share: float
    labels: int
    confidence: float | None


class ThresholdCount(BaseModel):
    """The number of pages that pass with one rule at another threshold and the other rules unchanged."""

    model_config = ConfigDict(frozen=True)

    rule: RuleName
    threshold: float
    pages: int


class Selection(BaseModel):
    """The pages that meet the rules."""

    model_config = ConfigDict(frozen=True)

    rules: SelectionRules
    of: int  # pages of the dataset
    passed: int
    failed: dict[RuleName, int]  # pages that do not meet each rule; a page may fail several
    without_confidence: int
    thresholds: tuple[ThresholdCount, ...]
    chosen: tuple[int, ...]  # positions in the dataset


class UnknownConfidence(UserError):
    """A minimum confidence was given for pages none of which has a confidence."""


class TooFewPages(UserError):
    """Fewer pages than required meet the rules."""


def quality_of(page: Page, confidence: float | None) -> PageQuality:
    """The quality of a page. Without any labelled or unlabelled word its validated share is 1."""
    unlabelled = page.tags.count(UNSUPERVISED)
    labelled = sum(tag[0] in "BI" for tag in page.tags)
    share = labelled / (labelled + unlabelled) if unlabelled else 1.0
    return PageQuality(share, sum(tag[0] == "B" for tag in page.tags), confidence)


def unmet_rules(page: PageQuality, rules: SelectionRules) -> list[RuleName]:
    """The rules that a page does not meet. An unknown confidence only meets a minimum of 0."""
    is_met: dict[RuleName, bool] = {
        "confidence": (page.confidence or 0) >= (rules.min_confidence or 0),
        "validated_share": page.validated_share >= rules.min_validated_share,
        "labels": page.labels >= rules.min_labels,
    }
    return [rule for rule, met in is_met.items() if not met]


def select_pages(qualities: Sequence[PageQuality], rules: SelectionRules) -> Selection:
    """The pages that meet every rule. Raises UnknownConfidence for a minimum confidence that no page can meet."""
    without_confidence = sum(page.confidence is None for page in qualities)
    has_confidence = without_confidence < len(qualities)
    if rules.min_confidence and qualities and not has_confidence:
        raise UnknownConfidence(
            "--min-confidence: no page of the dataset has an OCR confidence; only snapshots of the table "
            "(`layoutlm-cli dataset import dynamo`) may have one: omit the option"
        )
    unmet = [unmet_rules(page, rules) for page in qualities]
    chosen = tuple(place for place, failed in enumerate(unmet) if not failed)
    counts = []
    for rule, thresholds in THRESHOLDS.items():
        for threshold in thresholds if rule != "confidence" or has_confidence else ():
            other_rules = rules.model_copy(update={f"min_{rule}": threshold})
            pages = sum(not unmet_rules(page, other_rules) for page in qualities)
            counts.append(ThresholdCount(rule=rule, threshold=threshold, pages=pages))
    return Selection(
        rules=rules,
        of=len(qualities),
        passed=len(chosen),
        failed={rule: sum(rule in failed for failed in unmet) for rule in THRESHOLDS},
        without_confidence=without_confidence,
        thresholds=tuple(counts),
        chosen=chosen,
    )


def source_of_subset(source: str, whole: str, rules: SelectionRules) -> str:
    """The source of a subset; `whole` is NAME@FINGERPRINT of the dataset it is taken from, `source` that one's own."""
    return f"{source}{_SELECTED}{whole} by {rules.in_words()}"


def first_source(source: str) -> str:
    """The original source of the pages of a subset, or of a subset of a subset."""
    return source.partition(_SELECTED)[0]
