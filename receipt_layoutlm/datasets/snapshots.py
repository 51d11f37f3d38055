"""Snapshots in the store: pages in the bucket under their fingerprint, and the Dataset item that names them."""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from receipt_dynamo import Dataset, DynamoClient
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import fingerprint, label_counts, write_snapshot
from receipt_layoutlm.datasets.exclusions import check_none_forgotten
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import dataset_key


def describe_dataset(name: str, pages: Sequence[Page], source: str, now: datetime, forgotten: int = 0) -> Dataset:
    """The Dataset record of some pages, not stored anywhere yet. `forgotten` counts those that were left out."""
    counts = {
        "pages": len(pages),
        "words": sum(len(page.words) for page in pages),
        "groups": len({page.group for page in pages}),
        **({"forgotten": forgotten} if forgotten else {}),
    }
    return Dataset(
        name=name,
        created_at=now,
        fingerprint=fingerprint(pages),
        source=source,
        counts=counts,
        labels=label_counts(pages),
    )


def add_snapshot(client: DynamoClient, bucket: Bucket, dataset: Dataset, pages: Sequence[Page]) -> Dataset:
    """Upload the pages, then write the item. What the newest snapshot of the name holds already adds nothing.

    Raises ForgottenMeanwhile for a page that is to be left out of new snapshots.
    """
    check_none_forgotten(client, pages)
    newest = next((known for known in client.list_datasets() if known.name == dataset.name), None)
    if newest is not None and newest.fingerprint == dataset.fingerprint:
        return newest.model_copy(update={"counts": dataset.counts})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        write_snapshot(pages, path)
        bucket.put_file(path, dataset_key(dataset.fingerprint))
    client.add_dataset(dataset)
    return dataset


def pinned(dataset: Dataset) -> str:
    """NAME@FINGERPRINT, as a job's config names it."""
    return f"{dataset.name}@{dataset.fingerprint}"


def find_dataset(client: DynamoClient, spec: str) -> Dataset:
    """NAME or NAME@FINGERPRINT (or its beginning). Raises NotFound."""
    name, _, beginning = spec.partition("@")
    return client.get_dataset(name, beginning or None)


def ensure_snapshot_at(
    source: Bucket, source_prefix: str, target: Bucket, target_prefix: str, dataset: Dataset
) -> None:
    """Copy a snapshot to where the job keeps its files, so that a worker needs one place only."""
    key = dataset_key(dataset.fingerprint, target_prefix)
    if (source.name, source_prefix) == (target.name, target_prefix) or target.exists(key):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        source.get_file(dataset_key(dataset.fingerprint, source_prefix), path)
        target.put_file(path, key)
