"""Trains the same run at two checkouts by turns and compares the receipts per second of their training steps.

    python bench/step_speed.py BEFORE AFTER
    python bench/step_speed.py BEFORE AFTER --rounds 8 --layers 6

Each round trains MiniLM on generated receipts once at each checkout, one after the other and in changing order, on one
thread. The rate is that of the trainer's own progress events: windows over the seconds of training steps alone. A pair
gives a ratio; the median of the ratios is the figure, since the machine's speed drifts.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from same_weights import Checkout, Document, finish, new_run_dir, receipts, start, write_dataset

PAGES = 120
OPTIONS: Document = {
    "pretrained": "minilm",
    "epochs": 2,
    "batch_size": 8,
    "max_length": 512,
    "logging_steps": 1,
    "split": "random",
}


def rate(run_dir: Path) -> float:
    """Windows per second in training steps, over the whole run but its first event, which includes warm-up."""
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    rates = [event["pages_per_second"] for event in events if event.get("pages_per_second")]
    return statistics.harmonic_mean(rates[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=3)
    asked = parser.parse_args()
    checkouts = [Checkout(path.resolve(), path.resolve() / ".venv/bin/python") for path in (asked.before, asked.after)]
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(list(receipts(PAGES)), folder / "pages.jsonl.gz")
        for number in range(asked.rounds):
            rates = [0.0, 0.0]
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                options = {**OPTIONS, "layers": asked.layers}
                run_dir = new_run_dir(folder / f"{number}-{side}", folder / "pages.jsonl.gz", options)
                finish(start(checkouts[side], run_dir), run_dir)
                rates[side] = rate(run_dir)
            pairs.append(rates)
            print(f"round {number + 1}: {rates[0]:.2f} and {rates[1]:.2f} receipts/s", flush=True)
    before, after = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratios = sorted(after / before for before, after in pairs)
    print(f"median {before:.2f} and {after:.2f} receipts/s; after/before {statistics.median(ratios):.3f}", end=" ")
    print(f"({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
