"""Choice of the dataset that a job trains on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from receipt_dynamo import Dataset, DynamoClient, ReceiptClient, Storage, ValidationStatus
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.page import DEFAULT_ORDER, Page, WordOrder
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.datasets.exclusions import without_excluded
from receipt_layoutlm.datasets.receipt_snapshot import Mark, SnapshotProgress
from receipt_layoutlm.datasets.selection import first_source
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, find_dataset
from receipt_layoutlm.datasets.table_snapshots import (
    DEFAULT_NAME,
    last_snapshot,
    no_labels,
    put_marks,
    read_table,
    source_of,
)
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.references import as_dataset_name
from receipt_layoutlm.storage.bucket import Bucket


class NoDatasetChosen(UserError):
    """No dataset was named, and the store has none or more than one."""


@dataclass(frozen=True)
class ChosenDataset:
    """A dataset, with its pages where they are not stored yet."""

    dataset: Dataset
    pages: Sequence[Page] | None = None
    marks: Sequence[Mark] | None = None  # of pages that were read from the table

    def store(self, client: DynamoClient, bucket: Bucket) -> Dataset:
        """Store new pages; returns the dataset as it is stored. Raises ExcludedMeanwhile."""
        if self.pages is None:
            return self.dataset
        if self.marks is not None:
            put_marks(bucket, self.dataset, self.marks)
        return add_snapshot(client, bucket, self.dataset, self.pages)


def choose_dataset(
    client: DynamoClient | None,
    bucket: Bucket | None,
    config: TrainConfig,
    file: Path | None,
    now: datetime,
    on_progress: Callable[[SnapshotProgress], None],
    order: WordOrder = DEFAULT_ORDER,
) -> ChosenDataset | None:
    """The dataset of a JSONL file, else the named one, else the table's labels as they are now, else the only dataset.

    `order` is that of the words in the file. Writes nothing. None when there is no table, or nothing in it to train on.
    Without a bucket, the table is read in full instead of from its last snapshot on. Raises NotFound, NoDatasetChosen,
    NoLabels, ConfigError, DataError.
    """
    if file is not None:
        pages, forgotten = read_jsonl(file, order), 0
        if client is not None:
            kept = without_excluded(client, pages)
            pages, forgotten = kept.pages, len(kept.forgotten)
        name = as_dataset_name(file.stem)
        return ChosenDataset(describe_dataset(name, pages, f"jsonl {file.name}", now, forgotten), pages)
    if client is None:
        return None
    if config.dataset:
        return ChosenDataset(find_dataset(client, config.dataset, "dataset"))
    datasets, table = client.list_datasets(), source_of(client)
    # a dataset from elsewhere may be the one that is meant
    is_from_table = all(first_source(dataset.source) == table for dataset in datasets)
    if is_from_table and ReceiptClient(client).has_labels(ValidationStatus.VALID):
        seen = {} if bucket is None else last_snapshot(client, bucket, DEFAULT_NAME)
        taken = read_table(client, seen, on_progress, config.over_lines)
        dataset = describe_dataset(DEFAULT_NAME, taken.pages, table, now, taken.report.forgotten)
        return ChosenDataset(dataset, taken.pages, taken.marks)
    if config.over_lines:
        raise ConfigError(
            "--over-lines applies to pages that are taken from the table, and here they come from a dataset: leave it "
            f"out, or name a snapshot of `layoutlm-cli dataset import dynamo --over-lines {config.over_lines[0]}`"
        )
    newest = {dataset.name: dataset for dataset in reversed(datasets)}
    if len(newest) > 1:
        raise NoDatasetChosen(f"the store has several datasets: give --dataset with one of {', '.join(sorted(newest))}")
    return next(map(ChosenDataset, newest.values()), None)


def check_worker_can_snapshot(client: DynamoClient, home: Storage | None, storage: Storage | None) -> None:
    """Check at submit that a worker will be able to snapshot the table. Raises ConfigError, NoLabels."""
    if storage != home:
        raise ConfigError(
            "--snapshot-on-worker: the worker stores the snapshot and the job's files at the top of the training "
            "bucket: leave --output-s3-path out"
        )
    if not ReceiptClient(client).has_labels(ValidationStatus.VALID):
        raise no_labels(client)
