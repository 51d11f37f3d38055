"""F1 by the number of labelled pages: pages chosen by `dataset next` beside pages drawn at random.

    python bench/labelling_curve.py SROIE [--budgets 20 40 80 140] [--seeds 3] [--json curve.json]

Labels of SROIE/train.jsonl are hidden but for the pages chosen so far; scored is SROIE/dev.jsonl, whose merchants are
others. Each seed draws the first pages of both ways. Then one draws further ones, and the other lets the model that it
has so far choose them, as `dataset next` does. All trainings are alike: at least 50 steps and three epochs from the
same weights, three layers of minilm that have learned the labels from generated receipts. Rows in the JSON file are
not run again.
"""

import argparse
import json
import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from short_training import RECEIPTS, epochs, train

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import read_jsonl, sample_pages
from receipt_layoutlm.datasets.next_pages import Doubt, choose_pages
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_fields

GENERATED = 1500
LABELS = ["ADDRESS_LINE", "DATE", "GRAND_TOTAL", "MERCHANT_NAME"]
WITHIN = 0.02
Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[20, 40, 80, 140])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50, help="least optimizer steps of a training (default 50)")
    parser.add_argument("--json", type=Path, default=Path("curve.json"), help="rows, read and written (curve.json)")
    parser.add_argument("--start", type=Path, default=Path("curve-start"), help="weights that all trainings begin from")
    given = parser.parse_args()
    pages, scored = (read_jsonl(given.data / name) for name in ("train.jsonl", "dev.jsonl"))
    bench = Curve(scored, given.steps, given.start, given.json)
    if not given.start.exists():
        small = {"pretrained": "minilm", "layers": 3, "epochs": 2, "allowed_labels": LABELS, **RECEIPTS}
        train(generate_pages(GENERATED, 0), small, 0, given.start)
    for seed in range(1, given.seeds + 1):
        for way in ("random", "next"):
            bench.grow(way, seed, pages, given.budgets)
        bench.grow("all", seed, pages, [len(pages)])
    print(table(bench.rows, len(pages)))


class Curve:
    """Scores by way, seed and number of pages, kept in a file."""

    def __init__(self, scored: Sequence[Page], steps: int, start: Path, path: Path) -> None:
        self.rows: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}
        self._scored, self._steps, self._start, self._path = scored, steps, start, path

    def grow(self, way: str, seed: int, pages: Sequence[Page], budgets: Sequence[int]) -> None:
        """Train at each budget, on the pages of the one before and further ones."""
        labelled = sample_pages(pages, budgets[0], seed)
        for place, budget in enumerate(budgets):
            shared = place == 0 and way == "next"  # the first pages are those of the other way
            name, model = f"{way} {seed} {budget}", self._path.parent / f"curve-model-{way}-{seed}-{budget}"
            if shared:
                self.rows[name] = self.rows[f"random {seed} {budget}"]
                model = self._path.parent / f"curve-model-random-{seed}-{budget}"
            chosen = model / "chosen.json"
            if not chosen.exists():
                shutil.rmtree(model, ignore_errors=True)
                options = {"pretrained": str(self._start), "epochs": epochs(self._steps, labelled), **RECEIPTS}
                minutes = train(labelled, options, seed, model)
                page_ids = [page.page_id for page in labelled]
                chosen.write_text(json.dumps({"page_ids": page_ids, "cpu_minutes": minutes}))
            if name not in self.rows:
                minutes = json.loads(chosen.read_text())["cpu_minutes"]
                self.rows[name] = {**self._score(model), "cpu_minutes": minutes, "merchants": merchants(labelled)}
                self._path.write_text(json.dumps(self.rows, indent=1))
                print(name, self.rows[name], flush=True)
            if budget != budgets[-1]:
                wanted = budgets[place + 1] - len(labelled)
                labelled = [*labelled, *self._further(way, seed, pages, labelled, wanted, model)]

    def _score(self, model: Path) -> Row:
        found = Predictor.load(model, "cpu", 1).score(self._scored)
        words, true = ([getattr(page, name) for page in found.pages.pages] for name in ("words", "tags"))
        return {"f1": found.entities.f1, "field_f1": score_fields(words, true, found.tags, found.labels).f1}

    def _further(
        self, way: str, seed: int, pages: Sequence[Page], labelled: Sequence[Page], count: int, model: Path
    ) -> list[Page]:
        have = {page.page_id for page in labelled}
        waiting = [page for page in pages if page.page_id not in have]
        if way == "random":
            return random.Random(f"{seed} {len(labelled)}").sample(waiting, count)
        doubts = {}
        for page, read in zip(waiting, Predictor.load(model, "cpu", 1).predict(waiting), strict=True):
            place = min(range(len(read.order)), key=read.confidences.__getitem__)
            doubts[page.page_id] = Doubt(page.words[read.order[place]], read.tags[place], read.confidences[place])
        by_id = {page.page_id: page for page in waiting}
        return [by_id[each.page_id] for each in choose_pages(waiting, labelled, doubts, count)]


def merchants(pages: Sequence[Page]) -> int:
    return len({page.group for page in pages})


def table(rows: dict[str, Row], all_pages: int) -> str:
    """Mean scores over seeds by way and budget, and from where a way is within two points of all pages."""
    means: dict[tuple[str, int], dict[str, float]] = {}
    for way, budget in {(name.split()[0], int(name.split()[2])) for name in rows}:
        found = [row for name, row in rows.items() if name.split()[::2] == [way, str(budget)]]
        means[way, budget] = {score: fmean(row[score] for row in found) for score in found[0]}
    lines = ["way     pages  merchants  f1     field f1"]
    for (way, budget), row in sorted(means.items()):
        lines.append(f"{way:<7} {budget:<6} {row['merchants']:<10.0f} {row['f1']:.3f}  {row['field_f1']:.3f}")
    for score in ("f1", "field_f1"):
        goal = means["all", all_pages][score] - WITHIN
        for way in ("random", "next"):
            points = sorted((budget, row[score]) for (name, budget), row in means.items() if name in (way, "all"))
            lines.append(f"{way}: {score} {goal:.3f} with {crossing(points, goal):.0f} pages")
    return "\n".join(lines)


def crossing(points: Sequence[tuple[int, float]], goal: float) -> float:
    """Pages at which the line through the points first reaches the goal."""
    before = points[0]
    if before[1] >= goal:
        return before[0]
    for point in points[1:]:
        if point[1] >= goal:
            return before[0] + (goal - before[1]) / (point[1] - before[1]) * (point[0] - before[0])
        before = point
    return math.nan


if __name__ == "__main__":
    main()
