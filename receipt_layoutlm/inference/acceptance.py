"""Accept or ask: the certainty from which a field may be accepted with at most a given share of errors.

Selective prediction with risk control (Geifman and El-Yaniv 2017; Angelopoulos et al. 2022, "Conformal Risk Control"):
the threshold is the lowest certainty for which the exact upper bound of Clopper and Pearson (1934) for the share of
errors among the calibration's fields from there up is within the wish. The bound is the finite-sample term: no error
among 100 fields shows at most 3 % errors, not none. Fields of one merchant repeat each other's errors, so the bound is
that of fewer fields, by the design effect of the errors (Kish 1965).

Assumed: pages to come are drawn like those of the calibration, their merchants too. A bound holds at CONFIDENCE; the
choice among thresholds, and a merchant unlike all others, are left (docs/findings/acceptance.md has the figures). A
cross-fitted calibration (Vovk 2015, "Cross-conformal predictors") also assumes that from a certainty up the model,
trained on all pages, is wrong no more often than the models of the folds, trained on fewer.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from receipt_layoutlm.data.page import validation_reason
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.certainty import Certainty

ACCEPTANCE: Final = "acceptance.json"
CONFIDENCE: Final = 0.95
LEAST_CERTAINTY: Final = 0.5
"""Fields below are more likely wrong than right by the model itself. Few of them cost a bound little, but they are the
ones of which a merchant to come may have many: three of 218 accepted dates, of one merchant, without this floor."""
_BISECTIONS: Final = 30
SINGLE_SHARE: Final = 0.95
"""A label is single-valued if at least this share of the pages that have it have one value of it."""


class CalibrationError(UserError):
    """The calibration of a model is missing or damaged, or cannot be made; the text says how to mend it."""


class CheckedField(BaseModel):
    """A predicted field of a calibration page."""

    model_config = ConfigDict(frozen=True)

    certainty: float = Field(ge=0, le=1)
    right: bool
    group: int = Field(ge=0)
    """Number of its merchant or document family."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Acceptance of a label. certainty: None if nothing may be accepted. fields, errors, bound: of the calibration's
    fields above it. labels: that share the promise, since there are too few fields of each."""

    certainty: float | None
    fields: int
    errors: int
    bound: float
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AcceptanceRule:
    """Accepts fields with at most a share of errors. single: labels of which a page has one value."""

    max_error: float
    single: frozenset[str]
    thresholds: Mapping[str, Threshold]

    def certainty(self, label: str, certainty: Certainty) -> float:
        """The certainty that the thresholds are compared with."""
        return certainty.value(label in self.single)

    def doubt(self, label: str, certainty: Certainty, words: Sequence[str]) -> str | None:
        """The reason to ask about a field; None if it may be accepted. words: of the page in reading order."""
        limit = self.thresholds.get(label)
        if limit is None or limit.certainty is None:
            return f"the calibration has too few fields that are right to promise at most {self.max_error:.1%} errors"
        if self.certainty(label, certainty) >= limit.certainty:
            return None
        if (
            label in self.single
            and certainty.rival_word is not None
            and certainty.rival > max(1 - certainty.words, 1 - certainty.ends)
        ):
            return f"another candidate: {words[certainty.rival_word]}"
        return "low confidence" if certainty.words <= certainty.ends else "its first or last word is uncertain"


class Acceptance(BaseModel):
    """acceptance.json: the fields that a model predicted for pages of its calibration, most certain first."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    model: str
    """SHA-256 of the weights."""
    pages: int = Field(ge=1)
    groups: int = Field(ge=1)
    folds: int = 0
    """Models that each judged a part of the pages that it was trained without; 0 if the model itself judged all."""
    single: tuple[str, ...]
    """Labels of which a page has one value."""
    fields: dict[str, tuple[CheckedField, ...]]

    @classmethod
    def read(cls, folder: Path, digest: str) -> "Acceptance":
        """Read the calibration of a model's folder. Raises CalibrationError."""
        path = folder / ACCEPTANCE
        try:
            found = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise CalibrationError(
                f"the model is not calibrated for --max-error ({path} is missing): run `layoutlm-cli calibrate` with "
                "labelled pages that it was not trained on"
            ) from error
        except ValidationError as error:
            raise CalibrationError(f"{path} is damaged ({validation_reason(error)}): calibrate again") from error
        if found.model != digest:
            raise CalibrationError(f"{path} is of other weights: calibrate this model")
        return found

    def rule(self, max_error: float) -> AcceptanceRule:
        """The rule for a wished share of errors."""
        return AcceptanceRule(max_error, frozenset(self.single), self.thresholds(max_error))

    def thresholds(self, max_error: float) -> dict[str, Threshold]:
        """The threshold of each label for a wished share of errors.

        A label with fields enough for a promise of its own has one; the others are promised together.
        """
        enough = 2 * fields_needed(max_error)
        alone = [label for label, fields in self.fields.items() if len(fields) >= enough]
        together = tuple(label for label in self.fields if label not in alone)
        parts = [(label,) for label in alone] + ([together] if together else [])
        return {
            label: threshold([field for each in part for field in self.fields[each]], max_error, part)
            for part in parts
            for label in part
        }


def fields_needed(max_error: float) -> int:
    """Fields without an error from which a bound can be within the wish."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-max_error))


def upper_bound(errors: int, fields: int) -> float:
    """Upper Clopper-Pearson bound of the share of errors at CONFIDENCE: the share that makes so few improbable."""
    if errors >= fields:
        return 1.0
    ways = [math.log(math.comb(fields, count)) for count in range(errors + 1)]

    def probability(share: float) -> float:
        """Of at most `errors` errors."""
        right, wrong = math.log1p(-share), math.log(share)
        return math.fsum(math.exp(way + count * wrong + (fields - count) * right) for count, way in enumerate(ways))

    low, high = errors / fields, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) > 1 - CONFIDENCE else (low, middle)
    return high


def threshold(fields: Sequence[CheckedField], max_error: float, labels: tuple[str, ...]) -> Threshold:
    """The lowest certainty for which the bound of all fields from there up is within the wish."""
    ordered = sorted(fields, key=lambda field: -field.certainty)
    clusters, found = ErrorClusters(), Threshold(None, 0, 0, 1.0, labels)
    for count, field in enumerate(ordered, start=1):
        clusters.add(field)
        if count < len(ordered) and ordered[count].certainty == field.certainty:
            continue  # equal certainties are accepted together
        if clusters.errors > max_error * count or field.certainty < LEAST_CERTAINTY:
            continue  # the bound is above the share itself
        effect = clusters.design_effect
        bound = upper_bound(math.ceil(clusters.errors / effect), math.floor(count / effect))
        if bound <= max_error:
            found = Threshold(field.certainty, count, clusters.errors, bound, labels)
    return found


class ErrorClusters:
    """Fields and errors by group, with the sums of which the variance of their share is made."""

    def __init__(self) -> None:
        self.errors = 0
        self._sizes, self._wrong = Counter[int](), Counter[int]()
        self._fields = self._sizes_squared = self._wrong_squared = self._products = 0

    def add(self, field: CheckedField) -> None:
        is_wrong, size, wrong = int(not field.right), self._sizes[field.group], self._wrong[field.group]
        self._fields += 1
        self.errors += is_wrong
        self._sizes_squared += 2 * size + 1
        self._wrong_squared += is_wrong * (2 * wrong + 1)
        self._products += (size + 1) * (wrong + is_wrong) - size * wrong
        self._sizes[field.group] = size + 1
        self._wrong[field.group] = wrong + is_wrong

    @property
    def design_effect(self) -> Fraction:
        """Variance of the share of errors with fields in groups, relative to independent fields; at least 1."""
        fields, errors, groups = self._fields, self.errors, len(self._sizes)
        if errors in (0, fields) or groups < 2:
            return Fraction(1)
        # squares of each group's errors less the share of its fields, times fields**2
        squares = (
            self._wrong_squared * fields**2 - 2 * self._products * fields * errors + self._sizes_squared * errors**2
        )
        return max(Fraction(1), Fraction(groups * squares, (groups - 1) * fields * errors * (fields - errors)))


def single_labels(values: Iterable[Mapping[str, int]]) -> tuple[str, ...]:
    """Labels with one value a page; `values` are each page's numbers of distinct true values by label."""
    pages, single = Counter[str](), Counter[str]()
    for page in values:
        pages.update(page.keys())
        single.update(label for label, count in page.items() if count == 1)
    return tuple(sorted(label for label, count in pages.items() if single[label] >= SINGLE_SHARE * count))
