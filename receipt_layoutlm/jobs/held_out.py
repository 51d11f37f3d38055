"""The sets of a job's pages, and what a model must not be judged by."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from receipt_dynamo import Job
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.splits import DatasetSplit, divide
from receipt_layoutlm.datasets.checks import snapshot_pages, stored_split
from receipt_layoutlm.jobs.models import run_folder
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.storage.bucket import Bucket


@dataclass(frozen=True, slots=True)
class Seen:
    """Pages that decided a model: it was trained on them, or they selected its weights."""

    page_ids: frozenset[str]
    groups: frozenset[str]

    @classmethod
    def of(cls, split: DatasetSplit) -> "Seen":
        pages = [*split.train, *split.validation]
        return cls(frozenset(page.page_id for page in pages), frozenset(page.group for page in pages))

    def unseen(self, pages: Iterable[Page]) -> list[Page]:
        """The pages of other merchants or document families."""
        return [page for page in pages if page.page_id not in self.page_ids and page.group not in self.groups]


def split_of_job(open_bucket: Callable[[str], Bucket], job: Job) -> DatasetSplit:
    """The training, validation and test pages of a job, from its snapshots.

    With --sample-size the training set has the pages that were not drawn, too. Raises NoModel for a job of the original
    system, StorageError, DamagedFolder, ConfigError.
    """
    bucket, keys = run_folder(open_bucket, job)
    config, prefix = from_document(job.job_config), keys.storage.prefix
    pages = snapshot_pages(bucket, prefix, fingerprint_of(config.dataset))
    if config.eval_dataset is not None:
        held_out = snapshot_pages(bucket, prefix, fingerprint_of(config.eval_dataset))
        return DatasetSplit(train=pages, validation=held_out, test=[], left_out=[])
    sha256 = frozen_sha256(config.split)
    return divide(pages, config, None if sha256 is None else stored_split(bucket, prefix, sha256))
