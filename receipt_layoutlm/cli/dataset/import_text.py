"""Texts of an import: the snapshot, the labels and values of the source, and skipped pages."""

import dataclasses
import json

from receipt_dynamo import Dataset
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.data.frozen_split import shortened
from receipt_layoutlm.data.importers import ImportReport
from receipt_layoutlm.data.importers.label_table import LabelTable
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.datasets.snapshots import pinned

_SHOWN = 20  # skipped files and lines; --json has all of them


def described_text(dataset: Dataset) -> str:
    """Text of a snapshot."""
    counts = ", ".join(f"{value} {name}" for name, value in dataset.counts.items())
    labels = sorted(dataset.labels.items(), key=lambda pair: -pair[1])
    return f"{pinned(dataset)}\n{counts}\nfrom {dataset.source}\n\n{table(('label', 'entities'), labels)}"


def json_text(described: Dataset, report: ImportReport) -> str:
    """The snapshot and the import report as JSON."""
    matches = {name: {"rate": match.rate, **dataclasses.asdict(match)} for name, match in report.matches.items()}
    document = {**dataclasses.asdict(report), "matches": matches}
    return json.dumps({**described.model_dump(mode="json"), "report": document}, indent=1)


def import_report_text(described: Dataset, report: ImportReport, renames: LabelTable) -> str:
    """Text of the snapshot, the labels and values of the source, and skipped pages."""
    rows = [
        (label, renames(label), count, "dropped" if label in report.dropped else "")
        for _, labels in sorted(report.renamed.items(), key=lambda pair: pair[0] == OUTSIDE)
        for label, count in labels.items()
    ]
    parts = [described_text(described), "", table(("label of the source", "becomes", "entities", ""), rows)]
    if report.matches:
        header = ("value", "given", "found exactly", "approximately", "rate", "not found on")
        values = [
            (name, match.given, match.exact, match.approximate, f"{match.rate:.1%}", shortened(match.missing_on))
            for name, match in report.matches.items()
        ]
        parts += ["", table(header, values)]
    lines = [
        (report.blank_texts, "texts are blank and give no words"),
        (report.cut_words, "words extended over the edge of the page and were cut there"),
        (report.guessed_sizes, "pages have no readable image: their size is the extent of their boxes"),
        (len(report.skipped), "files or lines were skipped (--skip-bad):"),
    ]
    parts.extend(map(clean, report.notes))
    parts.extend(f"{count} {text}" for count, text in lines if count)
    parts.extend(f"  {clean(text)}" for text in report.skipped[:_SHOWN])
    if (more := len(report.skipped) - _SHOWN) > 0:
        parts.append(f"  and {more} more (--json lists all)")
    return "\n".join(parts)
