"""How often `job compare` calls two equal models different, and how often it finds a true gain.

    .venv/bin/python bench/paired.py --pairs 200

Made predictions: pages of merchants, whose difficulty differs, with entities of five labels. Two models make their
errors independently of each other, with the same chance at the same merchant (A/A), or the second with a smaller one.
"""

import argparse
import json

from receipt_layoutlm.run.paired import compare_runs
from tests.support.paired_runs import paired_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--merchants", type=int, nargs="+", default=[20, 60, 200])
    parser.add_argument("--gain", type=float, default=0.02)
    options = parser.parse_args()
    for merchants in options.merchants:
        for gain in (0.0, options.gain):
            shown = gained = 0.0
            for seed in range(options.pairs):
                first, other, group_of = paired_runs(seed, options.pages, merchants, gain)
                f1 = compare_runs([first], [other], group_of).f1
                shown += f1.is_shown
                gained += f1.difference
            row = {"pages": options.pages, "merchants": merchants, "pairs": options.pairs, "true_gain": gain}
            row |= {"mean_difference": round(gained / options.pairs, 4), "called_different": shown / options.pairs}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
