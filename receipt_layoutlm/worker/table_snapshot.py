"""train --snapshot-on-worker: the worker takes the pages of a job from the table, checks them and pins them for good.

The pin is a write under the lease into the job's own config, which happens once: every later attempt finds its pages
named there, as if they had been at submit. Until then an attempt that ends leaves nothing behind that decides anything,
so what the checks find wrong can be put right in the table before the job is tried again.
"""

import logging
from dataclasses import dataclass

from receipt_dynamo import Dataset, Job, JsonObject, Lease
from receipt_layoutlm.config import TrainConfig, with_pin
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.checks import put_summary, stored_pages, stored_split, without_errors
from receipt_layoutlm.datasets.snapshots import find_dataset, pinned
from receipt_layoutlm.datasets.table_snapshots import DEFAULT_NAME, keep_snapshot, last_snapshot, read_table
from receipt_layoutlm.redact import printable
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.context import Workplace
from receipt_layoutlm.worker.patience import Patience

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pinned:
    """The job with its pages named, and what the check said of them."""

    job: Job
    dataset: Dataset
    report: CheckReport


def pin_snapshot(
    place: Workplace, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, patiently: Patience
) -> Pinned:
    """Snapshot the table, check the pages as at submit, pin them.

    Raises Stopped, LeaseLost, NoLabels, LabelError, DataError, CheckFailed, and what bucket and table refuse.
    """
    client = place.queue.client
    seen = patiently.do(lambda: last_snapshot(client, bucket, DEFAULT_NAME))
    log.info("reading the receipts of table %s", client.table_name)
    taken = read_table(client, seen, lambda _progress: patiently.check(), config.over_lines)
    dataset = patiently.do(lambda: keep_snapshot(client, bucket, DEFAULT_NAME, taken, place.now()))
    patiently.check()
    report = _checked(place, config, bucket, taken.pages)
    patiently.do(lambda: put_summary(bucket, dataset, printable(report.findings_text)))
    document = with_pin(job.job_config, pinned(dataset), [finding.message for finding in report.warnings])
    return Pinned(place.queue.pin(lease, job.job_config, document), dataset, report)


def _checked(place: Workplace, config: TrainConfig, bucket: Bucket, pages: list[Page]) -> CheckReport:
    """The report of the check that `train` makes at submit where it has the pages; raises CheckFailed."""
    held_out = None
    if config.eval_dataset is not None:
        held_out = stored_pages(bucket, find_dataset(place.queue.client, config.eval_dataset))
    sha256 = frozen_sha256(config.split)
    frozen = None if sha256 is None else stored_split(bucket, "", sha256)
    return without_errors(check_dataset(CheckInput(pages, held_out, frozen), config))


def pin_row(found: Pinned) -> tuple[str, JsonObject]:
    """Message and data of the log row that says what was pinned."""
    pages = ", ".join(f"{count} {part}" for part, count in found.report.pages.items())
    text = f"the table's labels were snapshotted and pinned: {pinned(found.dataset)}, pages: {pages}"
    return text, {"dataset": pinned(found.dataset), "counts": {**found.dataset.counts}, "pages": {**found.report.pages}}
