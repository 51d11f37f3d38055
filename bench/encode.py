"""How long pages take to become features of a model, how fast kept ones are opened, and how much memory both take.

    python bench/encode.py

Generated receipts, two or three to a page, cut to 120 words. For each size one process reads the snapshot, encodes it
with the tokenizer of MiniLM and keeps the result; another one opens what was kept, as a second attempt does: hash of
every file, comparison of some pages, choice of the parts, first batch. 50,000 pages are by the straight line through
the two sizes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers at its import

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import build_label_map
from receipt_layoutlm.data.page import PAGE_EXTENT, Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import fingerprint, label_counts, read_snapshot, write_snapshot
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import select
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded_files import encoded_key, open_encoded, write_encoded
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import pack
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages

SIZES = (5_000, 10_000)
WANTED = 50_000
WORDS = 120
TURNS = 3  # of opening, the best of which counts
PROMISED = {"encode_seconds": 60.0, "open_seconds": 0.5, "encode_peak_mb": 1500.0, "open_peak_mb": 1500.0}  # of 10,000
CONFIG = WordLabelsConfig(pretrained="minilm")
T = TypeVar("T")


def pages_of(count: int) -> list[Page]:
    pool = generate_pages(2 * count + 1, seed=0)
    pages = [stacked(pool[place : place + 3]) for place in range(0, 2 * count, 2)]
    assert all(len(page.words) == WORDS for page in pages)
    return pages


def stacked(receipts: list[Page]) -> Page:
    """Receipts one below the other, without the last words, as one page of the usual height."""
    boxes = [
        (x0, top * PAGE_EXTENT + y0, x1, top * PAGE_EXTENT + y1)
        for top, each in enumerate(receipts)
        for x0, y0, x1, y1 in each.boxes
    ][:WORDS]
    height = max(y1 for _, _, _, y1 in boxes)
    return replace(
        receipts[0],
        words=tuple(word for each in receipts for word in each.words)[:WORDS],
        boxes=tuple((x0, y0 * PAGE_EXTENT // height, x1, y1 * PAGE_EXTENT // height) for x0, y0, x1, y1 in boxes),
        tags=tuple(tag for each in receipts for tag in each.tags)[:WORDS],
    )


class Figures:
    """Seconds by the wall and of the processor for each step, and the peak of the memory."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def timed(self, name: str, call: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.found[f"{name}_seconds"] = time.perf_counter() - wall
        self.found[f"{name}_cpu_seconds"] = time.process_time() - cpu
        return result

    def tell(self, name: str) -> None:
        print(json.dumps({**self.found, f"{name}_peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Of this process alone: getrusage would count the one that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024  # stands there in KiB


def nothing() -> None:
    pass


def encode_once(snapshot: Path, kept: Path) -> None:
    figures, tokenizer = Figures(), load_fast_tokenizer(CONFIG)
    pages = figures.timed("read", lambda: read_snapshot(snapshot))
    key = figures.timed("key", lambda: encoded_key(CONFIG.task, fingerprint(pages), tokenizer, CONFIG.max_length))
    features = figures.timed("encode", lambda: encode_pages(pages, tokenizer, CONFIG.max_length, nothing))
    figures.timed("write", lambda: write_encoded(features, kept, key))
    figures.found["distinct_words"] = len({word for page in pages for word in page.words})
    figures.found["sub_tokens"] = len(features.pieces)
    figures.found["kept_mb"] = sum(path.stat().st_size for path in kept.iterdir()) / 1e6
    figures.tell("encode")


def open_once(snapshot: Path, kept: Path) -> None:
    figures, tokenizer, pages = Figures(), load_fast_tokenizer(CONFIG), read_snapshot(snapshot)
    labels, digest = build_label_map(CONFIG, label_counts(pages)), fingerprint(pages)
    middle = len(pages) * 4 // 5

    def opened() -> None:
        key = encoded_key(CONFIG.task, digest, tokenizer, CONFIG.max_length)
        again = partial(encode_pages, tokenizer=tokenizer, max_length=CONFIG.max_length, on_page=nothing)
        features = open_encoded(kept, key, pages, again)
        for part in (pages[:middle], pages[middle:]):
            ready = select(features, [page.page_id for page in part], labels)
            pack(ready.windows[:8], [None] * 8)

    figures.timed("open", opened)
    figures.tell("open")


def child(what: str, snapshot: Path, kept: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, str(snapshot), str(kept)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return told


def measured(sizes: tuple[int, int], folder: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    pages = pages_of(sizes[-1])
    for size in sizes:
        write_snapshot(pages[:size], folder / f"{size}.jsonl.gz")
    del pages
    for size in sizes:
        snapshot, kept = folder / f"{size}.jsonl.gz", folder / str(size)
        found[size] = child("encode", snapshot, kept)
        openings = [child("open", snapshot, kept) for _ in range(TURNS)]
        found[size] |= {name: min(row[name] for row in openings) for name in openings[0]}
        print(f"{size:,} pages done", file=sys.stderr)
    return found


def line(found: dict[int, dict[str, float]], name: str) -> float:
    """What WANTED pages would take, by the straight line through the two sizes."""
    (small, low), (large, high) = ((size, row[name]) for size, row in found.items())
    return high + (high - low) / (large - small) * (WANTED - large)


def tell(found: dict[int, dict[str, float]]) -> None:
    print(f"{'':24}" + "".join(f"{size:>14,}" for size in found) + f"{WANTED:>14,} (by the line)")
    for name in next(iter(found.values())):
        cells = [row[name] for row in found.values()] + [line(found, name)]
        print(f"{name:24}" + "".join(f"{cell:>14,.2f}" for cell in cells))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    wanted = ", ".join(f"{name} {value:g}" for name, value in PROMISED.items())
    print(f"promised for 10,000 pages, at most: {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar="N", help="pages (default 5000 10000)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, snapshot, kept = options.child
        (encode_once if what == "encode" else open_once)(Path(snapshot), Path(kept))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measured(tuple(sorted(options.sizes)), Path(folder))
    tell(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
