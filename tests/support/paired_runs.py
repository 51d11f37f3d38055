"""Made predictions of two models on the same pages, with errors of known frequency."""

import random

from receipt_layoutlm.run.predictions import PredictedPage

LABELS = ("ADDRESS", "COMPANY", "DATE", "PRODUCT", "TOTAL")
ERROR_RATE = 0.1  # mean over merchants, of entities; F1 is one minus it
HARD = 0.8  # share of the errors that are made at hard entities, which are the same for both models
AT_HARD = 0.75  # error rate at a hard entity


def paired_runs(
    seed: int, pages: int, merchants: int, gain: float, entities: int = 10
) -> tuple[dict[str, PredictedPage], dict[str, PredictedPage], dict[str, str]]:
    """The pages of two models, and the merchant of each page. The second's F1 is greater by `gain` in expectation."""
    rng = random.Random(seed)
    difficulty = [rng.betavariate(2, 2 / ERROR_RATE - 2) for _ in range(merchants)]
    first, other, group_of = {}, {}, {}
    for number in range(pages):
        page_id, merchant = f"page-{number}", number % merchants
        group_of[page_id] = f"merchant-{merchant}"
        hard_share = difficulty[merchant] * HARD / AT_HARD
        at_easy = difficulty[merchant] * (1 - HARD) / max(1 - hard_share, 0.01)
        rates = [AT_HARD if rng.random() < hard_share else at_easy for _ in range(entities)]
        labels = [rng.choice(LABELS) for _ in range(entities)]
        first[page_id] = _predicted(rng, page_id, labels, rates)
        other[page_id] = _predicted(rng, page_id, labels, [rate * (1 - gain / ERROR_RATE) for rate in rates])
    return first, other, group_of


def _predicted(rng: random.Random, page_id: str, labels: list[str], error_rates: list[float]) -> PredictedPage:
    true, predicted = [], []
    for label, rate in zip(labels, error_rates, strict=True):
        found = label if rng.random() >= rate else rng.choice([each for each in LABELS if each != label])
        true += [f"B-{label}", "O"]
        predicted += [f"B-{found}", "O"]
    words = tuple(f"w{place}" for place in range(len(true)))
    sure = (0.9,) * len(words)
    return PredictedPage(page_id, tuple(range(len(words))), words, tuple(true), tuple(predicted), sure, sure)
