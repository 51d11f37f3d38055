"""Which pages of a dataset are good enough for a first stage: by rules, relaxed as far as enough pages need it.

The rules are relaxed one step at a time, only until enough pages pass, and in this order:

1. confidence, down to 0: it says how sure the OCR was of the letters, nothing of whether a label is right.
2. validated share, down to 0: a word that nobody has decided is neither learned nor scored, so it does no harm; there
   is only less to learn, and a page that was reviewed in part is more likely to hold a mistake.
3. labels, down to 1: a page with few entities is mostly words O, of which every dataset has too many anyway.

Each step takes the first rule that alone keeps some page out. Where every page that is left fails several, it takes
the first of the fewest rules that keep one out together. A rule that keeps nobody out stays as it was.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.errors import UserError

FEWEST_LABELS: Final = 1

RuleName = Literal["confidence", "validated_share", "labels"]
_STEPS: Final[dict[RuleName, float]] = {"confidence": 0.05, "validated_share": 0.05, "labels": 1}
_SELECTED: Final = "; selected from "  # in the source of a subset, after the source of what it is a part of
RELAXED_IN_ORDER: Final[tuple[RuleName, ...]] = ("confidence", "validated_share", "labels")


class Rules(BaseModel):
    """What a page has to have. Frozen; an unknown rule is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_validated_share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Share of a page's labelled and undecided words that are decided. 1: no undecided word at all.",
    )
    min_labels: int = Field(1, ge=0, description="Entities that a page has to have at least.")
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Mean OCR confidence of a page's labelled words, 0..1. Known for pages of the table only.",
    )

    def in_words(self) -> str:
        """The rules in one line."""
        told = [f"validated share >= {self.min_validated_share:g}", f"labels >= {self.min_labels}"]
        if self.min_confidence is not None:
            told.append(f"confidence >= {self.min_confidence:g}")
        return ", ".join(told)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules go by. `confidence` is None where nobody knows: no rule on it holds then, but one of 0."""

    validated_share: float
    labels: int
    confidence: float | None


class Step(BaseModel):
    """One rule, relaxed by one step: how many pages it let in, and how many there were then."""

    model_config = ConfigDict(frozen=True)

    rule: RuleName
    before: float
    after: float
    admitted: int
    pages: int


class Selection(BaseModel):
    """What was asked for, what it came to, and how."""

    model_config = ConfigDict(frozen=True)

    asked: Rules
    rules: Rules  # as they were in the end
    min_pages: int
    of: int  # pages of the dataset
    passed: int  # pages that passed the rules that were asked for
    failed: dict[RuleName, int]  # pages that each rule kept out as it was asked for; a page may fail several
    without_confidence: int
    steps: tuple[Step, ...]
    chosen: tuple[int, ...]  # by their place in the dataset


class UnknownConfidence(UserError):
    """The rule on confidence was given, and nobody knows it of any page."""


class TooFewPages(UserError):
    """Not even the loosest rules give as many pages as are wanted; the text says how many they give."""


def facts_of(page: Page, confidence: float | None) -> Facts:
    """A page without any labelled or undecided word has nothing left to decide."""
    undecided = page.tags.count(UNSUPERVISED)
    labelled = sum(tag[0] in "BI" for tag in page.tags)
    share = labelled / (labelled + undecided) if undecided else 1.0
    return Facts(share, sum(tag[0] == "B" for tag in page.tags), confidence)


def select(facts: Sequence[Facts], asked: Rules, min_pages: int) -> Selection:
    """The pages that pass, after relaxing the rules as far as `min_pages` needs it. Raises TooFewPages.

    Raises UnknownConfidence for a rule that no page could keep.
    """
    if asked.min_confidence and facts and all(each.confidence is None for each in facts):
        raise UnknownConfidence(
            "--min-confidence: no page says how sure the OCR was of its words; only snapshots of the table know "
            "('layoutlm-cli dataset import dynamo'), and of words that carry a confidence there: leave it out"
        )
    rules, steps = asked, list[Step]()
    passed = count = _count(facts, rules)
    while count < min_pages and (name := _rule_to_relax(facts, rules)) is not None:
        looser = _relaxed(rules, name)
        now = _count(facts, looser)
        before, after = _least(rules, name), _least(looser, name)
        steps.append(Step(rule=name, before=before, after=after, admitted=now - count, pages=now))
        rules, count = looser, now
    if count < max(min_pages, 1):
        raise TooFewPages(_too_few(facts, rules, count, min_pages))
    return Selection(
        asked=asked,
        rules=rules,
        min_pages=min_pages,
        of=len(facts),
        passed=passed,
        failed={name: sum(not holds(each, asked) for each in facts) for name, holds in _HOLDS.items()},
        without_confidence=sum(each.confidence is None for each in facts),
        steps=tuple(steps),
        chosen=tuple(place for place, each in enumerate(facts) if passes(each, rules)),
    )


def _too_few(facts: Sequence[Facts], rules: Rules, count: int, min_pages: int) -> str:
    if min_pages == 0:
        most = _count(facts, _at_floor(rules, RELAXED_IN_ORDER))
        return (
            f"no page passes {rules.in_words()}; give --min-pages N to relax the rules until N pages pass "
            f"(at the loosest {most} of {len(facts)} do)"
        )
    loosest = _at_floor(rules, RELAXED_IN_ORDER).in_words()
    return (
        f"even at the loosest, {loosest}, {count} of {len(facts)} pages pass, not {min_pages}: "
        f"ask for {count} at most" + (", or give --min-labels 0" if rules.min_labels else "")
    )


def source_of_subset(source: str, whole: str, selection: Selection) -> str:
    """How a subset says where it comes from: `whole` is NAME@FINGERPRINT, and `source` that one's own source."""
    relaxed = f" (relaxed from {selection.asked.in_words()})" if selection.steps else ""
    return f"{source}{_SELECTED}{whole} by {selection.rules.in_words()}{relaxed}"


def first_source(source: str) -> str:
    """Where the pages of a subset, or of a subset of one, were first taken from."""
    return source.partition(_SELECTED)[0]


def passes(page: Facts, rules: Rules) -> bool:
    """Whether a page keeps every rule."""
    return all(holds(page, rules) for holds in _HOLDS.values())


def _is_confident(page: Facts, rules: Rules) -> bool:
    return not rules.min_confidence or (page.confidence is not None and page.confidence >= rules.min_confidence)


_HOLDS: Final[dict[RuleName, Callable[[Facts, Rules], bool]]] = {
    "confidence": _is_confident,
    "validated_share": lambda page, rules: page.validated_share >= rules.min_validated_share,
    "labels": lambda page, rules: page.labels >= rules.min_labels,
}


def _count(facts: Sequence[Facts], rules: Rules) -> int:
    return sum(passes(each, rules) for each in facts)


_TOGETHER: Final = [names for size in (1, 2, 3) for names in combinations(RELAXED_IN_ORDER, size)]


def _rule_to_relax(facts: Sequence[Facts], rules: Rules) -> RuleName | None:
    """The first of the fewest rules that keep out a page which would pass without them; None where no rule does."""
    waiting = [each for each in facts if not passes(each, rules)]
    for names in _TOGETHER:
        loosest = _at_floor(rules, names)
        if any(passes(each, loosest) for each in waiting):
            return names[0]
    return None


def _relaxed(rules: Rules, name: RuleName) -> Rules:
    """One step down, not below the floor."""
    less = _least(rules, name) - _STEPS[name]
    return rules.model_copy(update={f"min_{name}": max(round(less, 9), _floor(rules, name))})


def _at_floor(rules: Rules, names: Iterable[RuleName]) -> Rules:
    """As loose as relaxing makes these rules."""
    return rules.model_copy(update={f"min_{name}": _floor(rules, name) for name in names if _least(rules, name)})


def _floor(rules: Rules, name: RuleName) -> float:
    """0 labels are asked for by nobody but who gives them."""
    return min(rules.min_labels, FEWEST_LABELS) if name == "labels" else 0.0


def _least(rules: Rules, name: RuleName) -> float:
    """What a rule asks for; 0 is no rule."""
    return getattr(rules, f"min_{name}") or 0
