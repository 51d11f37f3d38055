"""What augmentation costs an epoch: CPU seconds to change the pages and to encode them anew, by augmentation.

    OMP_NUM_THREADS=1 python bench/augment_cost.py SROIE/train.jsonl SROIE/dev.jsonl

Least of several epochs on one thread, because other work on the machine only ever adds to it.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import get_args

os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers at its import
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from receipt_layoutlm.configs.word_labels import Augmentation, WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.augmentation.augment import augmented
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import Donors, donors_of
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.pages import generate_apart

NAMES: tuple[Augmentation, ...] = get_args(Augmentation)


def changed(pages: list[Page], names: tuple[Augmentation, ...], donors: Donors, epochs: int) -> float:
    """Least seconds of an epoch."""
    seconds = []
    for epoch in range(epochs):
        began = time.process_time()
        for page in pages:
            augmented(page, names, donors, 1, epoch)
        seconds.append(time.process_time() - began)
    return min(seconds)


def encoded(pages: list[Page], donors: Donors, pretrained: str, epochs: int) -> float:
    tokenizer = load_fast_tokenizer(WordLabelsConfig.model_validate({"pretrained": pretrained}))
    seconds = []
    for epoch in range(epochs):
        version = [augmented(page, NAMES, donors, 1, epoch) for page in pages]
        began = time.process_time()
        encode_pages(version, tokenizer, 512, on_page=lambda: None)
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="JSONL", help="labelled pages")
    parser.add_argument("--epochs", type=int, default=5, help="of which the quickest counts (default 5)")
    parser.add_argument("--pretrained", default="minilm", help="whose tokenizer is used (default minilm)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    options = parser.parse_args()
    pages = [page for path in options.data for page in read_jsonl(path)]
    donors = donors_of(pages, generate_apart(60, 1))
    found = {name: changed(pages, (name,), donors, options.epochs) for name in NAMES}
    found["all of them"] = changed(pages, NAMES, donors, options.epochs)
    found["encoding anew"] = encoded(pages, donors, options.pretrained, options.epochs)
    for name, seconds in found.items():
        print(
            f"{name:14} {seconds:6.2f} s of CPU time for {len(pages)} pages, {1000 * seconds / len(pages):5.2f} ms each"
        )
    if options.json:
        options.json.write_text(json.dumps({"pages": len(pages), "seconds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
