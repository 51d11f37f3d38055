"""Rows of bench/accuracy.py: one a run, kept in a JSON file, shown as means with their spread over seeds."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev

Options = dict[str, object]


@dataclass(frozen=True)
class Row:
    """One run. Scores are of the last step's weights; the part that was scored is the held-out one if `final`."""

    protocol: str
    final: bool
    variant: str
    seed: int
    pages: int | None  # at most, of the training part; None: all
    options: Options
    f1: float = 0.0
    precision: float = 0.0
    recall: float = 0.0
    labels: dict[str, float] = field(default_factory=dict)  # F1
    f1_by_decoding: dict[str, float] = field(default_factory=dict)
    field_f1: float = 0.0
    field_labels: dict[str, float] = field(default_factory=dict)
    best_epoch: float = 0.0
    best_f1: float = 0.0
    epoch_f1: list[float] = field(default_factory=list)
    train_pages: int = 0
    scored_pages: int = 0
    cpu_minutes: float = 0.0
    wall_minutes: float = 0.0

    @property
    def key(self) -> str:
        return json.dumps([self.protocol, self.final, self.variant, self.seed, self.pages, self.options])


def read_rows(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    rows = [Row(**row) for row in json.loads(path.read_text())["rows"]]
    return {row.key: row for row in rows}


def write_rows(path: Path, rows: Sequence[Row], missing: dict[str, str]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps({"rows": [asdict(row) for row in rows], "not_available": missing}, indent=1) + "\n")
    partial.replace(path)


def table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over the seeds, in percent; one line a variant."""
    groups: dict[tuple[str, bool, str, int | None, str], list[Row]] = {}
    for row in rows:
        key = (row.protocol, row.final, row.variant, row.pages, json.dumps(row.options))
        groups.setdefault(key, []).append(row)
    labels = sorted({label for row in rows for label in row.labels})
    lines = ["| protocol | variant | seeds | F1 | P | R | " + " | ".join(labels) + " | field F1 | CPU min |"]
    lines.append("|---" * (8 + len(labels)) + "|")
    for (protocol, final, variant, _, _), found in groups.items():
        cells = [[row.f1 for row in found], [row.precision for row in found], [row.recall for row in found]]
        cells += [[row.labels.get(label, 0.0) for row in found] for label in labels]
        cells.append([row.field_f1 for row in found])
        shown = " | ".join(spread(values) for values in cells)
        part = "held out" if final else "selection"
        minutes = fmean(row.cpu_minutes for row in found)
        lines.append(f"| {protocol}, {part} | {variant} | {len(found)} | {shown} | {minutes:.1f} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{deviation}"
