"""What an evaluation costs beside the model: scores against seqeval's, decoding, calibration. CPU time, median of 7.

    python bench/evaluation.py ../shared/data/sroie/dev.jsonl

Tags are the file's with 3 % of the words changed at random; scores of words are random, so that hardly any page's
argmax is valid, which is decoding's worst case: the argmax alone costs next to nothing.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from receipt_layoutlm.data.labels import CORE_LABELS, LabelMap
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.training.tasks.word_labels.scoring.calibration import calibration, fit_temperature
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import viterbi
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import score_entities
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_fields

RUNS = 7
PAGES, WORDS = 200, 120


def cpu_seconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU time of each, in turn."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(RUNS):
        for name, run in runs.items():
            began = time.process_time()
            run()
            samples[name].append(time.process_time() - began)
    return {name: statistics.median(rows) for name, rows in samples.items()}


def by_seqeval(true: list[list[str]], predicted: list[list[str]]) -> None:
    for average in ("micro", None):
        precision_recall_fscore_support(true, predicted, average=average, scheme=IOB2, zero_division=0)


def main() -> None:
    pages = read_jsonl(Path(sys.argv[1]))
    draw, generator = random.Random(0), np.random.default_rng(0)
    words, true = [page.words for page in pages], [list(page.tags) for page in pages]
    tags = sorted({tag for page in true for tag in page})
    predicted = [[tag if draw.random() > 0.03 else draw.choice(tags) for tag in page] for page in true]
    labels = sorted({tag[2:] for tag in tags if tag != "O"})
    names = list(LabelMap({}, tuple(sorted(CORE_LABELS))).label2id)
    scores = list(generator.normal(0, 2, (PAGES, WORDS, len(names))).astype(np.float32))
    flat, truth = np.concatenate(scores), generator.integers(0, len(names), PAGES * WORDS)
    seconds = cpu_seconds(
        {
            "seqeval, micro and per label": lambda: by_seqeval(true, predicted),
            "score_entities(), with confusion": lambda: score_entities(true, predicted, labels),
            "score_fields()": lambda: score_fields(words, true, predicted, labels),
            f"viterbi(), {PAGES} pages": lambda: viterbi(scores, names),
            "viterbi(), 1 page": lambda: viterbi(scores[:1], names),
            f"fit_temperature(), {len(flat)} words": lambda: fit_temperature(flat, truth),
            "calibration()": lambda: calibration(flat, truth),
        }
    )
    print(f"{len(pages)} pages, {sum(map(len, true))} words; decoding: {WORDS} words a page, {len(names)} classes")
    for name, each in seconds.items():
        print(f"{name:36}  {each * 1000:8.2f} ms")
    ratio = seconds["seqeval, micro and per label"] / seconds["score_entities(), with confusion"]
    print(f"score_entities() takes 1/{ratio:.1f} of seqeval's time")
    print(json.dumps({"cpu_seconds": seconds, "ratio": ratio}))


if __name__ == "__main__":
    main()
