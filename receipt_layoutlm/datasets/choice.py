"""Which dataset a job trains on when it names none: the table's own labels as they are now, else the only one."""

from collections.abc import Callable
from datetime import datetime

from receipt_dynamo import Dataset, DynamoClient, ReceiptClient, Storage, ValidationStatus
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_snapshot import SnapshotProgress
from receipt_layoutlm.datasets.selection import first_source
from receipt_layoutlm.datasets.snapshots import describe_dataset, find_dataset, only_dataset
from receipt_layoutlm.datasets.table_snapshots import (
    DEFAULT_NAME,
    keep_snapshot,
    last_snapshot,
    no_labels,
    read_table,
    source_of,
)
from receipt_layoutlm.storage.bucket import Bucket

OnProgress = Callable[[SnapshotProgress], None]


def is_taken_from_table(client: DynamoClient) -> bool:
    """Whether the table has VALID labels and no dataset that came from elsewhere, which a person may mean."""
    own = source_of(client)
    if any(first_source(dataset.source) != own for dataset in client.list_datasets()):
        return False
    return ReceiptClient(client).has_labels(ValidationStatus.VALID)


def check_worker_can_snapshot(client: DynamoClient, training_bucket: str, storage: Storage) -> None:
    """What can be known at submit of a snapshot that the worker is to take. Raises ConfigError, NoLabels."""
    if storage != Storage(bucket=training_bucket):
        raise ConfigError(
            "snapshot_on_worker: the worker puts the snapshot and the job's files at the top of the training bucket: "
            "leave --output-s3-path out"
        )
    if not ReceiptClient(client).has_labels(ValidationStatus.VALID):
        raise no_labels(client)


def dataset_to_train_on(
    client: DynamoClient, bucket: Bucket, config: TrainConfig, now: datetime, on_progress: OnProgress
) -> Dataset:
    """The one named, else a snapshot taken now of what changed in the table, else the only dataset of the store."""
    if (known := _known(client, config)) is not None:
        return known
    taken = read_table(client, last_snapshot(client, bucket, DEFAULT_NAME), on_progress, config.over_lines)
    return keep_snapshot(client, bucket, DEFAULT_NAME, taken, now)


def dataset_to_plan_with(
    client: DynamoClient,
    open_bucket: Callable[[], Bucket],
    config: TrainConfig,
    now: datetime,
    on_progress: OnProgress,
) -> tuple[Dataset, list[Page] | None]:
    """The dataset that a job would train on, and its pages where they are stored nowhere yet; writes nothing."""
    if (known := _known(client, config)) is not None:
        return known, None
    taken = read_table(client, last_snapshot(client, open_bucket(), DEFAULT_NAME), on_progress, config.over_lines)
    found = describe_dataset(DEFAULT_NAME, taken.pages, source_of(client), now, taken.report.forgotten)
    return found, taken.pages


def _known(client: DynamoClient, config: TrainConfig) -> Dataset | None:
    """A dataset that is there already, None where the table's labels are to be taken."""
    if config.dataset:
        return find_dataset(client, config.dataset)
    if is_taken_from_table(client):
        return None
    if config.over_lines:
        raise ConfigError(
            "over_lines says how the table's labels become pages, and here pages come from a dataset of the store: "
            "leave it out, or take a snapshot with 'layoutlm-cli dataset import dynamo --over-lines' and name it"
        )
    return only_dataset(client)
