"""Snapshots of a table in the store: pages, and beside them the marks that the next one and `select` go by."""

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
from receipt_layoutlm.datasets.exclusions import forgotten_ids
from receipt_layoutlm.datasets.receipt_pages import CONTINUES_OVER_LINES
from receipt_layoutlm.datasets.receipt_snapshot import Mark, Seen, SnapshotProgress, Taken, take_snapshot
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import dataset_key

DEFAULT_NAME: Final = "receipts"


class NoLabels(UserError):
    """The table has no label that somebody found valid."""


def source_of(client: DynamoClient) -> str:
    """How a Dataset names the table that it was taken from."""
    return f"dynamo {client.table_name}"


def read_table(
    client: DynamoClient,
    seen: Mapping[str, Seen],
    on_progress: Callable[[SnapshotProgress], None],
    also_over_lines: Sequence[str] = (),
) -> Taken:
    """The table's receipts with a VALID label; `also_over_lines` adds to the labels that go on over a line break.

    Raises NoLabels when there are none, LabelError for a label that is none of ours and none of the table's. Writes
    nothing.
    """
    taken = take_snapshot(
        ReceiptClient(client),
        seen,
        on_progress,
        forgotten=forgotten_ids(client),
        over_lines=CONTINUES_OVER_LINES.union(also_over_lines),
    )
    if not taken.pages and taken.report.forgotten:
        raise NoLabels(
            f"every labelled receipt of table {client.table_name!r} is forgotten: 'layoutlm-cli dataset forget --undo "
            "PAGE' takes one back"
        )
    if not taken.pages:
        raise no_labels(client)
    check_known(also_over_lines, {*CORE_LABELS, *label_counts(taken.pages)})
    return taken


def no_labels(client: DynamoClient) -> NoLabels:
    """The error for a table that nobody has validated anything in."""
    return NoLabels(
        f"table {client.table_name!r} has no receipt with a VALID label ('layoutlm-cli dataset count' shows the "
        "labels): validate some, or load pages with 'layoutlm-cli dataset load FILE'"
    )


def keep_snapshot(client: DynamoClient, bucket: Bucket, name: str, taken: Taken, now: datetime) -> Dataset:
    """Store the pages, what the next snapshot needs to know of them, and the Dataset that names them."""
    dataset = describe_dataset(name, taken.pages, source_of(client), now, taken.report.forgotten)
    put_marks(bucket, dataset, taken.marks)
    return add_snapshot(client, bucket, dataset, taken.pages)


def put_marks(bucket: Bucket, dataset: Dataset, marks: Iterable[Mark]) -> None:
    """Lay what is known of the receipts beside the snapshot of their pages."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marks.jsonl"
        path.write_text("".join(f"{mark.model_dump_json()}\n" for mark in marks), encoding="utf-8")
        bucket.put_file(path, _marks_key(dataset.fingerprint))


def marks_of(bucket: Bucket, dataset: Dataset) -> list[Mark]:
    """What is known of the receipts of a snapshot; nothing when it was not taken from a table."""
    try:
        lines = bucket.get_bytes(_marks_key(dataset.fingerprint)).splitlines()
    except NotStored:
        return []
    try:
        return [Mark.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise DataError(
            "what is known of its receipts is damaged: snapshot the table anew", file=pinned(dataset)
        ) from error


def _marks_key(fingerprint: str) -> str:
    return f"{dataset_key(fingerprint)}.marks"


def last_snapshot(client: DynamoClient, bucket: Bucket, name: str) -> dict[str, Seen]:
    """The newest snapshot of a name by page id; nothing when it is of another source or cannot be read whole."""
    try:
        dataset = client.get_dataset(name)
        if dataset.source != source_of(client):
            return {}
        marks = marks_of(bucket, dataset)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pages.jsonl.gz"
            bucket.get_file(dataset_key(dataset.fingerprint), path)
            pages = {page.page_id: page for page in read_snapshot(path, dataset.fingerprint)}
        return {mark.page_id: Seen(pages[mark.page_id], mark) for mark in marks}
    except (NotFound, NotStored, DataError, KeyError):
        return {}
