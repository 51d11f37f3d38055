"""Snapshots in the store: pages in the bucket under their fingerprint, and the Dataset item that names them."""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from receipt_dynamo import Dataset, DynamoClient
from receipt_layoutlm.data import Page, label_counts, write_snapshot
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.s3 import Bucket, dataset_key


class DatasetChoice(UserError):
    """No dataset was named, and the store does not have exactly one."""


def add_snapshot(
    client: DynamoClient, bucket: Bucket, name: str, pages: Sequence[Page], source: str, now: datetime
) -> Dataset:
    """Upload the pages, then write the item. Pages that the newest snapshot of the name holds already add nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        fingerprint = write_snapshot(pages, path)
        for known in client.list_datasets():
            if known.name == name:
                if known.fingerprint == fingerprint:
                    return known
                break
        bucket.put_file(path, dataset_key(fingerprint))
        counts = {
            "pages": len(pages),
            "words": sum(len(page.words) for page in pages),
            "groups": len({page.group for page in pages}),
            "size": path.stat().st_size,
        }
    dataset = Dataset(
        name=name, created_at=now, fingerprint=fingerprint, source=source, counts=counts, labels=label_counts(pages)
    )
    client.add_dataset(dataset)
    return dataset


def pinned(dataset: Dataset) -> str:
    """NAME@FINGERPRINT, as a job's config names it."""
    return f"{dataset.name}@{dataset.fingerprint}"


def find_dataset(client: DynamoClient, spec: str) -> Dataset:
    """NAME or NAME@FINGERPRINT (or its beginning). Raises NotFound."""
    name, _, fingerprint = spec.partition("@")
    return client.get_dataset(name, fingerprint or None)


def only_dataset(client: DynamoClient) -> Dataset:
    """The newest snapshot of the only dataset in the store; DatasetChoice when there is none, or several."""
    newest: dict[str, Dataset] = {}
    for dataset in client.list_datasets():
        newest.setdefault(dataset.name, dataset)
    if len(newest) == 1:
        return next(iter(newest.values()))
    if not newest:
        raise DatasetChoice(
            "the store has no dataset: import one with 'layoutlm-cli dataset import jsonl FILE' "
            "(or 'dataset import sample'), or give --data PATH"
        )
    raise DatasetChoice(f"the store has several datasets: give --dataset with one of {', '.join(sorted(newest))}")


def ensure_snapshot_at(source: Bucket, target: Bucket, prefix: str, fingerprint: str) -> None:
    """Bring a snapshot to where the job keeps its files, so that a worker needs one place only."""
    key = dataset_key(fingerprint, prefix)
    if (source.name, "") == (target.name, prefix) or target.exists(key):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        source.get_file(dataset_key(fingerprint), path)
        target.put_file(path, key)
