"""Predictions as proposed labels of the table's receipts: `predict --write-labels`."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from receipt_dynamo import DynamoClient, ReceiptClient, ValidationStatus
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.datasets.exclusions import excluded_ids
from receipt_layoutlm.datasets.label_proposals import (
    ProposalReport,
    ProposedLabel,
    ProposedPage,
    labelled_page_ids,
)
from receipt_layoutlm.errors import UserError

if TYPE_CHECKING:
    from receipt_layoutlm.inference.extraction import Extraction


def table_receipts(connection: Connection, named: Iterable[str]) -> list[str]:
    """The named receipts and those with a label, each once; forgotten ones only if named. Raises UserError if none."""
    client = connection.client()
    excluded = excluded_ids(client)
    found = [page_id for page_id in labelled_page_ids(ReceiptClient(client)) if page_id not in excluded]
    page_ids = list(dict.fromkeys([*named, *found]))
    if not page_ids:
        raise UserError(
            f"table {client.table_name!r} has no receipt with a label, by which they are found: name receipts without "
            "labels with --receipt"
        )
    return page_ids


def propose_labels(
    client: DynamoClient,
    pages: Iterable["Extraction"],
    job_id: str | None,
    write: Callable[[ReceiptClient, ProposedPage, datetime], ProposalReport],
    failed: dict[str, str],
) -> ProposalReport:
    """Write (or plan) the fields of each page as it is predicted; job_id: proposes them, None for the model's digest.

    A page that cannot be written is added to `failed`.
    """
    receipts, report = ReceiptClient(client), ProposalReport()
    for extraction in pages:
        try:
            report += write(receipts, proposed_page(extraction, job_id or extraction.model), client.now())
        except UserError as error:
            failed[extraction.page_id] = str(error)
    return report


def proposed_page(extraction: "Extraction", proposed_by: str) -> ProposedPage:
    """The labels of an extraction, each with the decision on its field."""
    labels = {
        index: ProposedLabel(
            label=entity.label,
            begins=position == 0,
            confidence=extraction.words[index].confidence,
            status=ValidationStatus.NEEDS_REVIEW if entity.decision == "ask" else ValidationStatus.PENDING,
            doubts="; ".join(entity.doubts) or None,
        )
        for entity in extraction.entities
        for position, index in enumerate(entity.words)
    }
    words = [(word.text, word.box) for word in extraction.words]
    return ProposedPage(extraction.page_id, words, labels, proposed_by)


def proposals_text(report: ProposalReport, verb: str) -> str:
    """Text of what was, or would be, written."""
    lines = [
        f"{report.receipts} receipts: {report.written} labels {verb}, {report.written - report.asked} PENDING and "
        f"{report.asked} NEEDS_REVIEW",
        *([f"{report.unchanged} were proposed before and are the same"] if report.unchanged else []),
        *([f"{report.withdrawn} earlier proposals are withdrawn"] if report.withdrawn else []),
        *([f"{report.kept} words are labelled already and stay as they are"] if report.kept else []),
    ]
    return "\n".join(lines)
