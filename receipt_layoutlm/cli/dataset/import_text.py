"""What an import tells: the snapshot it made, what became of the source's labels and values, what was left out."""

import dataclasses
import json
from collections.abc import Sequence

from receipt_dynamo import Dataset
from receipt_layoutlm.cli.tables import clean, table
from receipt_layoutlm.data.importers import ImportReport
from receipt_layoutlm.data.importers.label_table import LabelTable
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.datasets.snapshots import pinned

_SHOWN = 20  # lines of what was skipped; --json has all of them


def described_text(found: Dataset) -> str:
    """A snapshot for people."""
    counts = ", ".join(f"{value} {name}" for name, value in found.counts.items())
    labels = sorted(found.labels.items(), key=lambda pair: -pair[1])
    return f"{pinned(found)}\n{counts}\nfrom {found.source}\n\n{table(('label', 'entities'), labels)}"


def json_text(described: Dataset, report: ImportReport) -> str:
    """The snapshot and what became of the source, for programs."""
    matches = {name: {"rate": found.rate, **dataclasses.asdict(found)} for name, found in report.matches.items()}
    told = {**dataclasses.asdict(report), "matches": matches}
    return json.dumps({**described.model_dump(mode="json"), "report": told}, indent=1)


def report_text(described: Dataset, report: ImportReport, renames: LabelTable) -> str:
    """The snapshot, what became of the source's labels and values, and what was left out."""
    rows = [
        (theirs, renames(theirs), count, "dropped" if theirs in report.dropped else "")
        for ours, names in sorted(report.renamed.items(), key=lambda pair: pair[0] == OUTSIDE)
        for theirs, count in names.items()
    ]
    parts = [described_text(described), "", table(("label of the source", "becomes", "entities", ""), rows)]
    if report.matches:
        parts.append(_matches_text(report))
    lines = [
        (report.blank_texts, "texts are blank and make no words"),
        (report.cut_words, "words stick out of the page and were cut at its edge"),
        (report.guessed_sizes, "pages have no image that can be read: their size is that of their boxes"),
        (len(report.skipped), "files or lines were skipped (--skip-bad):"),
    ]
    parts.extend(f"{count} {text}" for count, text in lines if count)
    parts.extend(_first_lines(report.skipped))
    return "\n".join(parts)


def _matches_text(report: ImportReport) -> str:
    header = ("value", "given", "found exactly", "approximately", "rate", "not found on")
    rows = [
        (name, found.given, found.exact, found.approximate, f"{found.rate:.1%}", _some(found.missing_on))
        for name, found in report.matches.items()
    ]
    return "\n" + table(header, rows)


def _some(page_ids: Sequence[str]) -> str:
    shown = ", ".join(page_ids[:5])
    return f"{shown} and {len(page_ids) - 5} more" if len(page_ids) > 5 else shown


def _first_lines(texts: Sequence[str]) -> list[str]:
    more = [f"  and {len(texts) - _SHOWN} more (--json lists all)"] if len(texts) > _SHOWN else []
    return [*(f"  {clean(text)}" for text in texts[:_SHOWN]), *more]
