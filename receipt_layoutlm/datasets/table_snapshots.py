"""Stored snapshots of the table: pages, and the marks that the next snapshot and `dataset select` read."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from receipt_dynamo import Dataset, DynamoClient, NotFound, ReceiptClient
from receipt_layoutlm.data.labels import CORE_LABELS, check_known
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.snapshot import label_counts, read_snapshot
from receipt_layoutlm.datasets.exclusions import excluded_ids
from receipt_layoutlm.datasets.receipt_pages import CONTINUES_OVER_LINES
from receipt_layoutlm.datasets.receipt_snapshot import (
    KnownReceipt,
    Mark,
    SnapshotProgress,
    TableSnapshot,
    read_labelled_receipts,
)
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import dataset_key

DEFAULT_NAME: Final = "receipts"


class NoLabels(UserError):
    """The table has no VALID label."""


def source_of(client: DynamoClient) -> str:
    """The source of a Dataset that was taken from the table."""
    return f"dynamo {client.table_name}"


def read_table(
    client: DynamoClient,
    known: Mapping[str, KnownReceipt],
    on_progress: Callable[[SnapshotProgress], None],
    also_over_lines: Sequence[str] = (),
) -> TableSnapshot:
    """The table's receipts with a VALID label; entities of `also_over_lines` continue over a line break too.

    Raises NoLabels if there are none, LabelError for a label that is neither a core label nor in the table.
    """
    taken = read_labelled_receipts(
        ReceiptClient(client),
        known,
        on_progress,
        excluded=excluded_ids(client),
        over_lines=CONTINUES_OVER_LINES.union(also_over_lines),
    )
    if not taken.pages and taken.report.forgotten:
        raise NoLabels(
            f"every labelled receipt of table {client.table_name!r} is forgotten: `layoutlm-cli dataset forget --list` "
            "shows them, and --undo includes one again"
        )
    if not taken.pages:
        raise no_labels(client)
    check_known("over_lines", also_over_lines, {*CORE_LABELS, *label_counts(taken.pages)})
    return taken


def no_labels(client: DynamoClient) -> NoLabels:
    """The error for a table without VALID labels."""
    return NoLabels(
        f"table {client.table_name!r} has no receipt with a VALID label (`layoutlm-cli dataset count` shows the "
        "labels): validate some, or load pages (`layoutlm-cli dataset load --help` shows how)"
    )


def keep_snapshot(client: DynamoClient, bucket: Bucket, name: str, taken: TableSnapshot, now: datetime) -> Dataset:
    """Stores the pages, the marks for the next snapshot, and the Dataset item."""
    dataset = describe_dataset(name, taken.pages, source_of(client), now, taken.report.forgotten)
    put_marks(bucket, dataset, taken.marks)
    return add_snapshot(client, bucket, dataset, taken.pages)


def put_marks(bucket: Bucket, dataset: Dataset, marks: Iterable[Mark]) -> None:
    """Stores the marks of receipts beside the snapshot of their pages."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marks.jsonl"
        path.write_text("".join(f"{mark.model_dump_json()}\n" for mark in marks), encoding="utf-8")
        bucket.put_file(path, _marks_key(dataset.fingerprint))


def marks_of(bucket: Bucket, dataset: Dataset) -> list[Mark]:
    """The marks of a snapshot's receipts; none if it was not taken from a table."""
    try:
        lines = bucket.get_bytes(_marks_key(dataset.fingerprint)).splitlines()
    except NotStored:
        return []
    try:
        return [Mark.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise DataError(
            "the marks of its receipts are damaged: make a new snapshot of the table", file=pinned(dataset)
        ) from error


def _marks_key(fingerprint: str) -> str:
    return f"{dataset_key(fingerprint)}.marks"


def last_snapshot(client: DynamoClient, bucket: Bucket, name: str) -> dict[str, KnownReceipt]:
    """The newest snapshot of a name by page id; empty if it has another source or cannot be read completely."""
    try:
        dataset = client.get_dataset(name)
        if dataset.source != source_of(client):
            return {}
        marks = marks_of(bucket, dataset)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pages.jsonl.gz"
            bucket.get_file(dataset_key(dataset.fingerprint), path)
            pages = {page.page_id: page for page in read_snapshot(path, dataset.fingerprint)}
        return {mark.page_id: KnownReceipt(pages[mark.page_id], mark) for mark in marks}
    except (NotFound, NotStored, DataError, KeyError):
        return {}
