"""Jobs that have succeeded, with stored predictions that are right on some pages of their validation set."""

from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job, JobLog, JsonObject, Machine, Storage, utcnow
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.run.comparability import FIELDS, make_stamp
from receipt_layoutlm.run.predictions import PredictedPage, write_predictions
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.stores import Store


def predicted(page: Page, is_right: bool) -> PredictedPage:
    tags = page.tags if is_right else ("O",) * len(page.tags)
    sure = (0.9,) * len(page.words)
    return PredictedPage(page.page_id, tuple(range(len(page.words))), page.words, page.tags, tags, sure, sure)


@dataclass
class JudgedJobs:
    """Ends jobs over a snapshot of these pages, whose F1 is their share of right pages."""

    store: Store
    pages: list[Page]
    folder: Path

    def __post_init__(self) -> None:
        dataset = describe_dataset("receipts", self.pages, "test", self.store.clock())
        self._pin = pinned(add_snapshot(self.store.queue.client, self.store.bucket, dataset, self.pages))

    def end(self, name: str, right: set[int], results: JsonObject | None = None, **options: object) -> Job:
        """A job whose predictions are right on the pages of these numbers."""
        queue, bucket = self.store.queue, self.store.bucket
        config = to_document(WordLabelsConfig.model_validate({"dataset": self._pin, **options}), {})
        storage = Storage(bucket=bucket.name)
        job = queue.submit(name=name, config=config, created_by="tests", storage=storage)
        rows = [predicted(page, number in right) for number, page in enumerate(self.pages)]
        write_predictions(rows, self.folder / "eval-3.jsonl.gz")
        key = f"{RunKeys(storage, job.job_id).attempt(1)}predictions/eval-3.jsonl.gz"
        bucket.put_file(self.folder / "eval-3.jsonl.gz", key)
        lease = queue.claim_job(job.job_id, "worker-1", machine=Machine())
        assert lease is not None
        score = len(right) / len(self.pages)
        document: JsonObject = {"metric_name": "eval_f1", "metric_value": score, "best_global_step": 3}
        document["comparability"] = make_stamp(dict.fromkeys(FIELDS, "equal")).model_dump(mode="json")
        summary = JobLog(
            job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="", attempt=1, seq=9
        )
        queue.complete(lease, results=document | (results or {}), summary=summary)
        return queue.client.get_job(job.job_id)
