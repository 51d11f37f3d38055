"""Accept or ask on pages of other merchants: the share of errors among accepted fields against the wish, and coverage.

    python bench/acceptance.py MODEL PAGES.jsonl [--date-order dmy] [--resamples 200]

MODEL is a folder that `calibrate` has written to. PAGES are labelled pages that neither training nor calibration has
seen; their merchants are drawn again with replacement, --resamples times. The last line has the coverage of the best
threshold in hindsight, which no calibration can know: as much as the certainty could give.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.inference.acceptance import Acceptance, CheckedField
from receipt_layoutlm.inference.calibrate import Unseen, calibrate
from receipt_layoutlm.inference.predictor import Predictor, nothing

WISHES = (0.01, 0.02, 0.05, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("pages", type=Path)
    parser.add_argument("--date-order", choices=("dmy", "mdy"))
    parser.add_argument("--resamples", type=int, default=200)
    given = parser.parse_args()
    predictor = Predictor.load(given.model, "cpu", 1)
    calibration = Acceptance.read(given.model, predictor.digest)
    tested = calibrate(predictor, [Unseen(predictor, read_jsonl(given.pages))], given.date_order, nothing)
    rows = [(label, field) for label, fields in tested.fields.items() for field in fields]
    print(
        f"calibrated on {calibration.pages} pages of {calibration.groups} merchants, tested on {tested.pages} pages of "
    )
    print(f"{tested.groups} merchants, {len(rows)} fields, {sum(field.right for _, field in rows)} right")
    print("wish   coverage  accepted  wrong  share   kept in resamples  labels accepted")
    for wish in WISHES:
        limits = {label: limit.certainty for label, limit in calibration.thresholds(wish).items()}
        accepted = [
            (label, field)
            for label, field in rows
            if (limit := limits.get(label)) is not None and field.certainty >= limit
        ]
        wrong = sum(not field.right for _, field in accepted)
        kept = resampled(rows, accepted, wish, given.resamples)
        labels = ", ".join(sorted({label for label, _ in accepted})) or "none"
        share = wrong / max(1, len(accepted))
        numbers = f"{wish:<6} {len(accepted) / len(rows):<9.3f} {len(accepted):<9} {wrong:<6}"
        print(f"{numbers} {share:<7.4f} {kept:<18.3f} {labels}")
    fields = sorted((field for _, field in rows), key=lambda field: -field.certainty)
    print("in hindsight: " + ", ".join(f"{wish}: {coverage(fields, wish):.3f}" for wish in WISHES))


def resampled(
    rows: Sequence[tuple[str, CheckedField]], accepted: Sequence[tuple[str, CheckedField]], wish: float, count: int
) -> float:
    """Share of resamples of the merchants in which the errors among accepted fields are within the wish."""
    source = random.Random(1)
    merchants = sorted({field.group for _, field in rows})
    taken, wrong = defaultdict[int, int](int), defaultdict[int, int](int)
    for _, field in accepted:
        taken[field.group] += 1
        wrong[field.group] += not field.right
    kept = 0
    for _ in range(count):
        drawn = source.choices(merchants, k=len(merchants))
        kept += sum(wrong[each] for each in drawn) <= wish * sum(taken[each] for each in drawn)
    return kept / count


def coverage(fields: Sequence[CheckedField], wish: float) -> float:
    """Largest share of fields, most certain first, with at most this share of errors."""
    best = wrong = 0
    for count, field in enumerate(fields, start=1):
        wrong += not field.right
        if wrong <= wish * count and field.certainty > 0:
            best = count
    return best / len(fields)


if __name__ == "__main__":
    main()
