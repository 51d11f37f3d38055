"""Pages on which a model is perfect, partly right or wrong, by label, and what to do with it: the model in use beside a
candidate, as a person who looks at pages would count."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.tags import label_of, labelled
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import values

Answer = Literal["perfect", "partial", "wrong"]
ANSWERS: Final[tuple[Answer, ...]] = ("perfect", "partial", "wrong")
DEPLOY_ABOVE, HYBRID_FROM = 0.40, 0.20
"""Shares of perfect answers: above the first a model is deployed, from the second on it is used beside a heuristic."""


class Answers(BaseModel):
    """Pages by label and answer; a page counts for a label that it has or that the model found on it."""

    model_config = ConfigDict(frozen=True)

    per_label: dict[str, dict[Answer, int]]

    @property
    def total(self) -> Counter[Answer]:
        """Answers of all labels together."""
        return sum((Counter(each) for each in self.per_label.values()), Counter())

    @property
    def perfect_share(self) -> float:
        total = self.total
        return total["perfect"] / max(1, total.total())

    @property
    def verdict(self) -> Literal["deploy", "hybrid", "keep"]:
        if self.perfect_share > DEPLOY_ABOVE:
            return "deploy"
        return "hybrid" if self.perfect_share >= HYBRID_FROM else "keep"


def answers(predictor: Predictor, pages: Sequence[Page]) -> Answers:
    """Count a model's answers on labelled pages. Raises LabelError if the pages have none of its labels."""
    found = predictor.score(pages)
    counted: dict[str, Counter[Answer]] = {}
    for page, tags in zip(found.pages.pages, found.tags, strict=True):
        for label, answer in judge(page.words, page.tags, labelled(page.tags, tags), found.labels).items():
            counted.setdefault(label, Counter())[answer] += 1
    return Answers(per_label={label: {each: counted[label][each] for each in ANSWERS} for label in sorted(counted)})


def judge(
    words: Sequence[str], true: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, Answer]:
    """One page: for each label that it has, or that was found on it, how well its values were found.

    perfect: all values and no other, by text, as the field scores compare them. partial: at least one word of the label
    was found. wrong: none was, or the page has no such label.
    """
    wanted, got = values(words, true, labels), values(words, predicted, labels)
    hit = {label_of(tag) for tag, other in zip(true, predicted, strict=True) if label_of(tag) == label_of(other)}
    judged: dict[str, Answer] = {}
    for label in {label for label, _ in wanted | got}:
        if {each for each in wanted if each[0] == label} == {each for each in got if each[0] == label}:
            judged[label] = "perfect"
        else:
            judged[label] = "partial" if label in hit else "wrong"
    return judged
