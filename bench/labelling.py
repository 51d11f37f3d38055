"""Planted wrong labels among the first that `dataset suspects` shows, by the predictions of a model.

    python bench/labelling.py MODEL PAGES.jsonl [--share 0.04] [--shown 0.08] [--seeds 3]
    python bench/labelling.py WEIGHTS PAGES.jsonl --folds 3 [--steps 50]

PAGES are labelled pages that the model was not trained on. --share of their words get another label or none, each of
the others as probable; words are shown in the order of the suspects, contradicted and missing labels in one list, until
--shown of all words are. With --folds the pages are a training set of its own: for each fold a model is trained on the
others, wrong labels included, from WEIGHTS such as those that bench/labelling_curve.py leaves, and judges the fold.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from short_training import RECEIPTS, epochs, train

from receipt_layoutlm.config_documents import parse_config
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.data.tags import iob2
from receipt_layoutlm.datasets.suspects import find_suspects
from receipt_layoutlm.inference.extraction import PagePrediction
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.run.predictions import PredictedPage

Word = tuple[str, int]
"""Page id and index."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("pages", type=Path)
    parser.add_argument("--share", type=float, default=0.04)
    parser.add_argument("--shown", type=float, default=0.08)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, help="train so many models, each on the planted labels of the other folds")
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps of each of them (default 50)")
    given = parser.parse_args()
    pages = read_jsonl(given.pages)
    predictor = Predictor.load(given.model, "cpu", 1)
    predictions = [] if given.folds else predictor.predict(pages)
    count = sum(len(page.words) for page in pages)
    print(f"{len(pages)} pages, {count} words, of which {given.shown:.0%} are shown")
    for seed in range(given.seeds):
        planted, wrong = plant(pages, predictor.label_map.labels, given.share, random.Random(seed))
        if given.folds:
            planted, predictions = by_folds(planted, given.folds, given.model, given.steps, seed)
        ranked = suspect_words(planted, predictions)
        shown = set(ranked[: round(given.shown * count)])
        found = [tag for word, tag in wrong if word in shown]
        fields = [[tag for tag in tags if tag != OUTSIDE] for tags in (found, [tag for _, tag in wrong])]
        print(
            f"seed {seed}: {len(wrong)} planted, {len(found)} shown ({len(found) / len(wrong):.3f}), "
            f"of words of a field {len(fields[0])} of {len(fields[1])}; {len(ranked)} words are suspect"
        )


def by_folds(
    pages: Sequence[Page], folds: int, weights: Path, steps: int, seed: int
) -> tuple[list[Page], list[PagePrediction]]:
    """The pages of all folds, and the prediction of each by a model that was trained on the other folds."""
    judged: list[Page] = []
    predictions: list[PagePrediction] = []
    for fold in range(1, folds + 1):
        split = divide(pages, parse_config({"split": f"kfold:{folds}/{fold}", "seed": seed}), None)
        with tempfile.TemporaryDirectory() as folder:
            options = {"pretrained": str(weights), "epochs": epochs(steps, split.train), **RECEIPTS}
            minutes = train(split.train, options, seed, model := Path(folder) / "model")
            predictions += Predictor.load(model, "cpu", 1).predict(split.validation)
        judged += split.validation
        print(f"fold {fold}: {len(split.train)} pages train, {len(split.validation)} are judged, {minutes:.1f} CPU min")
    return judged, predictions


def plant(
    pages: Sequence[Page], labels: Sequence[str], share: float, draw: random.Random
) -> tuple[list[Page], list[tuple[Word, str]]]:
    """Pages with wrong labels, and the words with the tags that they had."""
    words = [(number, index) for number, page in enumerate(pages) for index in range(len(page.words))]
    rows: list[list[tuple[int, str] | str]] = [
        [tag if tag[0] not in "BI" else (page.tags[: index + 1].count(f"B-{tag[2:]}"), tag[2:]) for index, tag in of]
        for page, of in ((page, enumerate(page.tags)) for page in pages)
    ]
    wrong = []
    for number, index in draw.sample(words, round(share * len(words))):
        true = pages[number].tags[index]
        label = draw.choice([each for each in (OUTSIDE, *labels) if each not in (true, true[2:])])
        rows[number][index] = label if label == OUTSIDE else (-1 - index, label)
        wrong.append(((pages[number].page_id, index), true))
    return [replace(page, tags=iob2(row)) for page, row in zip(pages, rows, strict=True)], wrong


def suspect_words(pages: Sequence[Page], predictions: Sequence[PagePrediction]) -> list[Word]:
    """Words whose label the predictions contradict, in the order of `dataset suspects`."""
    predicted = [
        PredictedPage(
            page_id=page.page_id,
            index=prediction.order,
            words=tuple(page.words[index] for index in prediction.order),
            true=tuple(page.tags[index] for index in prediction.order),
            predicted=prediction.tags,
            confidence=prediction.confidences,
            true_confidence=(None,) * len(prediction.order),
        )
        for page, prediction in zip(pages, predictions, strict=True)
    ]
    suspects = find_suspects({page.page_id: page for page in pages}, predicted, 0.0)
    return [(suspect.page_id, word.index) for suspect in suspects for word in suspect.words]


if __name__ == "__main__":
    main()
