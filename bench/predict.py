"""Predictions by runtime: pages a second on one core, cost beside the raw model, agreement, cold start and memory.

    python bench/predict.py MODEL EXPORT... --pages PAGES.jsonl [--rounds 3]

MODEL is a folder with torch weights, EXPORT one of `model export`. All are measured in turn, round by round, in CPU
seconds of one thread, of which the least counts. "raw model" is the forward pass alone, on inputs prepared before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.inference.onnx_runtime import INPUTS, OUTPUT, OnnxRuntime
from receipt_layoutlm.inference.predictor import Predictor, nothing
from receipt_layoutlm.inference.torch_runtime import TorchRuntime
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import cut_by_tokens, on_device, pack
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.layoutlm import word_logits
from tests.support.scans import text_of, write_pdf

LONG_PAGE = 5000  # words
PDF_PAGES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="the first is torch's")
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    pages = read_jsonl(given.pages)
    predictors = {folder: Predictor.load(folder, "cpu", 1) for folder in given.models}
    raw = {folder: raw_model(predictor, pages) for folder, predictor in predictors.items()}
    whole: dict[Path, list[float]] = {folder: [] for folder in given.models}
    alone: dict[Path, list[float]] = {folder: [] for folder in given.models}
    for _ in range(given.rounds):
        for folder, predictor in predictors.items():
            alone[folder].append(cpu_seconds(raw[folder]))
            whole[folder].append(cpu_seconds(lambda used=predictor: used.predict(pages)))
    tags = [tag for each in predictors[given.models[0]].predict(pages) for tag in each.tags]
    print(f"{len(pages)} pages, {len(tags)} words; per CPU second of one thread, the best of {given.rounds} rounds")
    for folder, predictor in predictors.items():
        found = [tag for each in predictor.predict(pages) for tag in each.tags]
        same = sum(a == b for a, b in zip(tags, found, strict=True)) / len(tags)
        size = sum(each.stat().st_size for each in folder.iterdir()) / 1e6
        print(
            f"{folder.name:16} {len(pages) / min(whole[folder]):6.1f} pages/s  "
            f"{min(whole[folder]) / min(alone[folder]):.3f} of the raw model  labels {same:.3%}  {size:.1f} MB",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as scratch:
        for name, source in sources(pages[0], Path(scratch)).items():
            for folder in given.models:
                seconds, wall, peak = command(folder, source)
                print(f"{folder.name:16} {name}: {seconds:.2f} CPU s, {wall:.2f} s, {peak:.0f} MB", flush=True)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def raw_model(predictor: Predictor, pages: Sequence[Page]) -> Callable[[], None]:
    """The forward passes of these pages on prepared inputs."""
    config, runtime = predictor.config, predictor.runtime
    numbered = [replace(page, page_id=str(number)) for number, page in enumerate(pages)]
    features = encode_pages(numbered, runtime.tokenizer, config.max_length, nothing, config.max_sub_tokens)
    encoded = select(features, [page.page_id for page in numbered], predictor.label_map)
    if isinstance(runtime, TorchRuntime):
        return raw_torch(runtime, encoded)
    assert isinstance(runtime, OnnxRuntime)
    rows = [
        dict(
            zip(INPUTS, (np.asarray(each, np.int64) for each in (w.input_ids, w.bbox, w.first[w.scored])), strict=True)
        )
        for w in encoded.windows
    ]

    def run() -> None:
        for row in rows:
            runtime.session.run([OUTPUT], row)

    return run


def raw_torch(runtime: TorchRuntime, encoded: EncodedPages) -> Callable[[], None]:
    order = np.argsort(encoded.window_lengths, stable=True).tolist()
    cuts = cut_by_tokens(encoded.window_lengths[order].tolist(), runtime.config.tokens_per_batch or 1)
    groups = [[encoded.windows[order[place]] for place in cut] for cut in cuts]
    batches = [on_device(pack(each, [w.scored for w in each]), runtime.compute.device) for each in groups]

    @torch.no_grad()
    def run() -> None:
        for batch in batches:
            with runtime.compute.autocast():
                word_logits(runtime.model.model, batch)

    return run


def sources(page: Page, folder: Path) -> dict[str, Path]:
    """One receipt, a page of many words, and a PDF of many pages with text."""
    times = -(-LONG_PAGE // len(page.words))
    words, boxes = (page.words * times)[:LONG_PAGE], (page.boxes * times)[:LONG_PAGE]
    one, long = folder / "one.json", folder / "long.json"
    one.write_text(json.dumps({"words": page.words, "boxes": page.boxes}))
    long.write_text(json.dumps({"words": words, "boxes": boxes}))
    lines = "".join(text_of(f"line {number} item {number}.50 total", 20, 380 - 12 * number) for number in range(30))
    pdf = write_pdf(folder / "long.pdf", [lines] * PDF_PAGES)
    return {"one page": one, f"{LONG_PAGE} words": long, f"PDF of {PDF_PAGES} pages": pdf}


PROGRAM = """
import sys
from receipt_layoutlm.cli import main
try:
    main()
finally:  # rusage would have the memory of the process that started it
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def command(folder: Path, source: Path) -> tuple[float, float, float]:
    """CPU seconds, seconds, and peak memory in MB of `predict` in a process of its own; the least of two."""
    arguments = ["predict", "--model", str(folder), str(source), "--threads", "1", "--json"]
    found = []
    for _ in range(2):
        before, start = os.times(), time.perf_counter()
        child = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
        wall, after = time.perf_counter() - start, os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        found.append((seconds, wall, int(child.stderr.split("VmHWM:")[1].split()[0]) / 1024))
    return min(found)


if __name__ == "__main__":
    main()
