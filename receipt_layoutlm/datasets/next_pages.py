"""Chooses the pages most worth a person's time: wrong-looking labels first, then unsure and unfamiliar pages.

A page without labels scores by the mean of two shares, or by the second alone where no model read it:

* doubt: 1 minus the model's confidence in the word that it is least sure of;
* novelty: share of the page's letter triples that are in no labelled page. Triples of a chosen page count as labelled
  for the next choice, so that ten receipts of one new shop are not all chosen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.datasets.suspects import Suspect

_LETTERS = 3


@dataclass(frozen=True, slots=True)
class Doubt:
    """The word of a page that a model is least sure of."""

    text: str
    label: str
    confidence: float


class NextPage(BaseModel):
    """A page to look at; score: 0..1, comparable among pages of one kind."""

    model_config = ConfigDict(frozen=True)

    page_id: str
    score: float
    reasons: tuple[str, ...]


def is_labelled(page: Page) -> bool:
    """Whether the page has a label, and no word that waits for one."""
    return UNSUPERVISED not in page.tags and any(tag[0] == "B" for tag in page.tags)


def suspect_pages(suspects: Sequence[Suspect]) -> list[NextPage]:
    """The pages of suspect labels, in the order of the suspects; the score is the confidence of the first."""
    by_page: dict[str, list[Suspect]] = {}
    for suspect in suspects:
        by_page.setdefault(suspect.page_id, []).append(suspect)
    return [
        NextPage(
            page_id=page_id,
            score=of_page[0].confidence,
            reasons=tuple(
                f"{each.text!r} is labelled {each.label}, a model says {each.says} ({each.confidence:.2f})"
                for each in of_page
            ),
        )
        for page_id, of_page in by_page.items()
    ]


def choose_pages(
    pages: Iterable[Page], labelled: Iterable[Page], doubts: Mapping[str, Doubt], count: int
) -> list[NextPage]:
    """At most `count` of the pages, one after another the one with the highest score. doubts: by page id."""
    remaining = {page.page_id: (page, triples(page)) for page in pages}
    familiar, groups = set[str](), set[str]()
    for page in labelled:
        familiar |= triples(page)
        groups.add(page.group)
    chosen: list[NextPage] = []
    while remaining and len(chosen) < count:
        scored = (_scored(page, own, familiar, groups, doubts) for page, own in remaining.values())
        best = min(scored, key=lambda each: (-each.score, each.page_id))
        page, own = remaining.pop(best.page_id)
        familiar |= own
        groups.add(page.group)
        chosen.append(best)
    return chosen


def triples(page: Page) -> frozenset[str]:
    """Runs of three characters in the page's words, in lower case; digits are all alike."""
    text = "".join("0" if letter.isdigit() else letter for letter in " ".join(page.words).lower())
    return frozenset(text[start : start + _LETTERS] for start in range(len(text) - _LETTERS + 1))


def _scored(
    page: Page, own: frozenset[str], familiar: set[str], groups: set[str], doubts: Mapping[str, Doubt]
) -> NextPage:
    novelty = len(own - familiar) / len(own) if own else 0.0
    reasons = [f"{novelty:.0%} of its letter triples are new"]
    if page.group not in groups:
        reasons.append(f"no labelled page of group {page.group!r}")
    doubt = doubts.get(page.page_id)
    score = novelty
    if doubt is not None:
        score = (novelty + 1 - doubt.confidence) / 2
        reasons.insert(0, f"least sure of {doubt.text!r} as {doubt.label} ({doubt.confidence:.2f})")
    return NextPage(page_id=page.page_id, score=round(score, 4), reasons=tuple(reasons))
