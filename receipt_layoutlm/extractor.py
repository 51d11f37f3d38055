"""Extractor: reads fields from scans and pages with a fine-tuned model. The package's door for Python programs."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Self

from receipt_dynamo import DynamoClient
from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.acceptance import Acceptance, AcceptanceRule
from receipt_layoutlm.inference.extraction import Extraction, extraction_of
from receipt_layoutlm.inference.predictor import Predictor, nothing
from receipt_layoutlm.inference.runtime import Device, RuntimeName
from receipt_layoutlm.inference.scans import ScanOptions
from receipt_layoutlm.inference.sources import InputPage, read_pages
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.models import model_at, model_of_job
from receipt_layoutlm.paths import cache_dir
from receipt_layoutlm.references import TABLE_VARIABLE, is_in_bucket
from receipt_layoutlm.storage.bucket import Bucket

PAGES_AT_ONCE = 16


def model_folder(
    source: str | Path, open_client: Callable[[], DynamoClient], open_bucket: Callable[[str], Bucket], cache: Path
) -> Path:
    """Folder of a model named as a folder, as s3://BUCKET/PREFIX, or as a job.

    Raises NoModel, NotFound, AmbiguousJob, StorageError, DamagedFolder.
    """
    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    if is_in_bucket(source):
        return model_at(open_bucket, source, cache)
    return model_of_job(open_bucket, find_job(open_client(), source), cache)


@dataclass(frozen=True, slots=True)
class Extractor:
    """A loaded model. May be used from several threads."""

    predictor: Predictor
    date_order: DateOrder | None = None
    rule: AcceptanceRule | None = None
    """Decides which fields to accept; None without max_error."""
    scans: ScanOptions = field(default_factory=ScanOptions)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        client: DynamoClient | None = None,
        open_bucket: Callable[[str], Bucket] = Bucket,
        device: Device = "auto",
        date_order: DateOrder | None = None,
        max_error: float | None = None,
        scans: ScanOptions | None = None,
        runtime: RuntimeName = "auto",
    ) -> Self:
        """Load a model: a folder, s3://BUCKET/PREFIX, or the best model of a job (id, name, @last, @best).

        A folder needs no AWS. A job is looked up by `client`, by default in the table DYNAMO_TABLE_NAME; its files are
        verified and kept in the cache folder. A folder of `model export` runs on onnxruntime, without torch.
        `date_order` decides about dates like 01/02/2018. With `max_error`, the wished share of errors among accepted
        fields, each field is marked accept or ask; the model must be calibrated. Raises UserError.
        """

        def open_client() -> DynamoClient:
            if client is None and TABLE_VARIABLE not in os.environ:
                raise UserError(f"{source!r} is no folder; to look it up as a job set {TABLE_VARIABLE} or give client=")
            return client or DynamoClient(os.environ[TABLE_VARIABLE])

        folder = model_folder(source, open_client, open_bucket, cache_dir(os.environ))
        predictor = Predictor.load(folder, device, runtime=runtime)
        return cls.open(predictor, folder, date_order, max_error, scans or ScanOptions())

    @classmethod
    def open(
        cls,
        predictor: Predictor,
        folder: Path,
        date_order: DateOrder | None,
        max_error: float | None,
        scans: ScanOptions,
    ) -> Self:
        """An extractor of a loaded model and the calibration in its folder. Raises CalibrationError."""
        rule = None if max_error is None else Acceptance.read(folder, predictor.digest).rule(max_error)
        return cls(predictor, date_order, rule, scans)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.predictor.label_map.labels

    def read(self, path: str | Path, check_stop: Callable[[], None] = nothing) -> list[Extraction]:
        """The pages of a scan, a PDF, or a JSON file of words and boxes. Raises DataError, ScanError.

        `check_stop` is called before each page and each batch, and may raise to stop.
        """

        def on_page(*_: int) -> None:
            check_stop()

        return list(self.extract(read_pages(Path(path), self.scans, on_page), check_stop))

    def extract(self, pages: Iterable[InputPage], on_batch: Callable[[], None] = nothing) -> Iterator[Extraction]:
        """Predict pages as they come, some at a time, so that memory does not grow with their number.

        `on_batch` is called before each batch of windows, and may raise to stop.
        """
        remaining = iter(pages)
        while block := list(islice(remaining, PAGES_AT_ONCE)):
            predictions = self.predictor.predict([each.page for each in block], on_batch)
            for each, prediction in zip(block, predictions, strict=True):
                yield extraction_of(
                    each.page,
                    prediction,
                    source=each.source,
                    number=each.number,
                    model=self.predictor.digest,
                    date_order=self.date_order,
                    ocr_confidences=each.ocr_confidences,
                    rule=self.rule,
                    notes=(*self.predictor.notes, *each.notes),
                )
