"""train --snapshot-on-worker: the worker snapshots the table's pages, checks them, and pins them to the job.

The pin is a write under the lease into the job's config and happens once: later attempts find the dataset there, as if
it had been given at submit. An attempt that ends earlier decides nothing, so errors that the checks report can be
corrected in the table before the job is retried.
"""

import logging
from dataclasses import dataclass

from receipt_dynamo import Dataset, Job, JsonObject, Lease
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.config_documents import with_pin
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.datasets.checks import put_summary, stored_pages, stored_split, without_errors
from receipt_layoutlm.datasets.snapshots import find_dataset, pinned
from receipt_layoutlm.datasets.table_snapshots import DEFAULT_NAME, keep_snapshot, last_snapshot, read_table
from receipt_layoutlm.redact import printable
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.patience import Patience

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pinned:
    """The job with its pinned dataset, and the report of the check."""

    job: Job
    dataset: Dataset
    report: CheckReport


def pin_snapshot(
    ctx: WorkerContext, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, patience: Patience
) -> Pinned:
    """Snapshot the table, check the pages as `train` does at submit, pin them.

    Raises Stopped, LeaseLost, NoLabels, LabelError, DataError, CheckFailed, and what bucket and table refuse.
    """
    client, retry = ctx.queue.client, patience.retry_until_stopped
    previous = retry(lambda: last_snapshot(client, bucket, DEFAULT_NAME))
    log.info("reading the receipts of table %s", client.table_name)
    taken = read_table(client, previous, lambda _progress: patience.check(), config.over_lines)
    dataset = retry(lambda: keep_snapshot(client, bucket, DEFAULT_NAME, taken, ctx.now()))
    patience.check()
    held_out = None
    if config.eval_dataset is not None:
        held_out = stored_pages(bucket, find_dataset(client, config.eval_dataset))
    sha256 = frozen_sha256(config.split)
    frozen = None if sha256 is None else stored_split(bucket, "", sha256)
    report = without_errors(check_dataset(CheckInput(taken.pages, held_out, frozen), config))
    retry(lambda: put_summary(bucket, dataset, printable(report.findings_text)))
    document = with_pin(job.job_config, pinned(dataset), [finding.message for finding in report.warnings])
    return Pinned(ctx.queue.pin(lease, job.job_config, document), dataset, report)


def pin_row(snapshot: Pinned) -> tuple[str, JsonObject]:
    """Message and data of the log row dataset_pinned."""
    pages = ", ".join(f"{count} {part}" for part, count in snapshot.report.pages.items())
    text = f"the table's labels were snapshotted and pinned: {pinned(snapshot.dataset)}, pages: {pages}"
    counts, pages_of_sets = snapshot.dataset.counts, snapshot.report.pages
    return text, {"dataset": pinned(snapshot.dataset), "counts": {**counts}, "pages": {**pages_of_sets}}
