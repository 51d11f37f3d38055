"""Data checks at submit, and frozen splits in the bucket."""

import hashlib
import shlex
import tempfile
from pathlib import Path

from receipt_dynamo import Dataset
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.check_report import CheckFailed, CheckReport
from receipt_layoutlm.data.frozen_split import (
    FrozenSplit,
    frozen_place,
    frozen_sha256,
    is_pinned,
    parse_frozen,
    pinned_frozen,
    read_frozen,
)
from receipt_layoutlm.data.importers import FORMATS
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.datasets.selection import first_source
from receipt_layoutlm.run.manifest import DamagedFolder
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import check_key, dataset_key, split_key


def read_split(config: TrainConfig) -> tuple[TrainConfig, FrozenSplit | None]:
    """The config with frozen:FILE replaced by frozen:NAME@SHA256, and the split in the file. Raises DataError."""
    place = frozen_place(config.split)
    if place is None:
        return config, None
    frozen = read_frozen(Path(place))
    return config.model_copy(update={"split": pinned_frozen(Path(place).name, frozen)}), frozen


def pin_split(config: TrainConfig, bucket: Bucket, prefix: str) -> tuple[TrainConfig, FrozenSplit | None]:
    """As read_split; a split named frozen:NAME@SHA256, as in an earlier job, is read from the bucket."""
    if not is_pinned(config.split):
        return read_split(config)
    sha256 = frozen_sha256(config.split)
    assert sha256 is not None
    return config, stored_split(bucket, prefix, sha256)


def stored_split(bucket: Bucket, prefix: str, sha256: str) -> FrozenSplit:
    """The frozen split with this hash, verified. Raises NotStored, DamagedFolder."""
    content = bucket.get_bytes(split_key(sha256, prefix))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedFolder("the stored split does not have the hash of its name: give its file as frozen:FILE")
    return parse_frozen(content)


def put_split(bucket: Bucket, prefix: str, frozen: FrozenSplit) -> None:
    """Stores a frozen split for the workers of a job."""
    bucket.put_new(frozen.canonical(), split_key(frozen.sha256, prefix))


def stored_pages(bucket: Bucket, dataset: Dataset) -> list[Page]:
    """The pages of a stored snapshot, verified."""
    return snapshot_pages(bucket, "", dataset.fingerprint)


def snapshot_pages(bucket: Bucket, prefix: str, digest: str) -> list[Page]:
    """The pages of the snapshot with this fingerprint below a prefix, verified."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.jsonl.gz"
        bucket.get_file(dataset_key(digest, prefix), path)
        return read_snapshot(path, digest)


def keep_order_command(dataset: Dataset) -> str:
    """How a dataset is taken from its source again, with the words in the order of the source."""
    format_name, _, names = first_source(dataset.source).partition(" ")
    if format_name in FORMATS:
        words = ["dataset", "import", format_name, *names.split(), "--name", dataset.name, "--order", "given"]
        return f"`layoutlm-cli {shlex.join(words)}`"
    return (
        "load its pages again with --order given (`layoutlm-cli dataset load --help`), then take a snapshot with "
        "`layoutlm-cli dataset import dynamo`"
    )


def without_errors(report: CheckReport) -> CheckReport:
    """The report unchanged. Raises CheckFailed if it has errors."""
    if report.errors:
        raise CheckFailed(report)
    return report


def put_summary(bucket: Bucket, dataset: Dataset, text: str) -> None:
    """Stores a report for people beside the snapshot, replacing an earlier one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.txt"
        path.write_text(text)
        bucket.put_file(path, check_key(dataset.fingerprint))
