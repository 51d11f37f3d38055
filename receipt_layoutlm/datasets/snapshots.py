"""Stored snapshots: pages in the bucket by fingerprint, and Dataset items in the table."""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from receipt_dynamo import Dataset, DynamoClient, NotFound, StateConflict
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import fingerprint, label_counts, write_snapshot
from receipt_layoutlm.datasets.exclusions import check_none_excluded
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.references import dataset_name
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import dataset_key
from receipt_layoutlm.suggestions import nearest_name


def describe_dataset(name: str, pages: Sequence[Page], source: str, now: datetime, forgotten: int = 0) -> Dataset:
    """The Dataset record of pages, which is not stored yet. `forgotten` is the number of excluded pages.

    Raises ConfigError for a name that is none.
    """
    counts = {
        "pages": len(pages),
        "words": sum(len(page.words) for page in pages),
        "groups": len({page.group for page in pages}),
        **({"forgotten": forgotten} if forgotten else {}),
    }
    return Dataset(
        name=dataset_name(name),
        created_at=now,
        fingerprint=fingerprint(pages),
        source=source,
        counts=counts,
        labels=label_counts(pages),
    )


def add_snapshot(client: DynamoClient, bucket: Bucket, dataset: Dataset, pages: Sequence[Page]) -> Dataset:
    """Uploads the pages, then writes the item; does nothing if the newest snapshot of the name has the same pages.

    Raises ExcludedMeanwhile for an excluded page.
    """
    exclusions = client.count_exclusions()
    check_none_excluded(client, pages)
    newest = next((known for known in client.list_datasets() if known.name == dataset.name), None)
    if newest is not None and newest.fingerprint == dataset.fingerprint:
        return newest.model_copy(update={"counts": dataset.counts})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        write_snapshot(pages, path)
        bucket.put_file(path, dataset_key(dataset.fingerprint))
    while True:
        try:
            client.add_dataset(dataset, exclusions)
            return dataset
        except StateConflict:  # other pages, perhaps
            exclusions = client.count_exclusions()
            check_none_excluded(client, pages)


def pinned(dataset: Dataset) -> str:
    """NAME@FINGERPRINT, the form in a job's config."""
    return f"{dataset.name}@{dataset.fingerprint}"


def find_dataset(client: DynamoClient, spec: str, option: str | None = None) -> Dataset:
    """The dataset NAME or NAME@FINGERPRINT, which may be shortened. Raises NotFound, which names the option."""
    name, _, prefix = spec.partition("@")
    try:
        return client.get_dataset(name, prefix or None)
    except NotFound as error:
        names = {dataset.name for dataset in client.list_datasets()}
        near = None if name in names else nearest_name(name, names)
        named = f"{flag_of(option)}: " if option else ""
        raise NotFound(f"{named}{error}" + (f"; did you mean {near}?" if near else "")) from None


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
