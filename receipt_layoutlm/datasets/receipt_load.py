"""Loads pages into the table as receipts with words and labels; the Receipt item, written last, marks a whole one."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import ReceiptClient
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_pages import StoredReceipt, image_id_of, receipt_from_page

THREADS = 4  # a table in the cloud takes more; an embedded engine handles one request at a time

Known = Literal["keep", "replace"]
"""Treatment of receipts that are already in the table, where labels may have been corrected."""


class LoadReport(BaseModel):
    """The result of a load. A page of `unwritten` has no Receipt item; loading the file again completes it."""

    model_config = ConfigDict(frozen=True)

    pages: int
    loaded: int
    already_there: int  # and not changed
    words: int
    labels: int
    unwritten: dict[str, int]  # page id -> items that the table did not accept
    write_units: float
    seconds: float


def load_pages(
    receipts: ReceiptClient,
    pages: Sequence[Page],
    now: datetime,
    known: Known,
    on_page: Callable[[], None],
    threads: int = THREADS,
) -> LoadReport:
    """Writes pages concurrently; `on_page` is called after each page, also if it is already in the table."""
    began, lock = time.monotonic(), threading.Lock()
    existing: set[str | None] = set()
    if known == "keep":
        keys = ((image_id_of(page.page_id), 1) for page in pages)
        existing = {receipt.page_id for receipt in receipts.get_receipts(keys)}

    def load(page: Page) -> tuple[StoredReceipt, int]:
        """Writes one receipt; returns it and the number of items that the table did not accept."""
        stored = receipt_from_page(page, now)
        unwritten = receipts.put(words=stored.words, labels=stored.labels)
        if not unwritten and known == "replace":
            unwritten = receipts.delete_leftovers(stored.receipt, stored.words, stored.labels)
        unwritten = unwritten or receipts.put(receipts=[stored.receipt])
        with lock:
            on_page()
        return stored, len(unwritten)

    new = [page for page in pages if page.page_id not in existing]
    for _ in range(len(pages) - len(new)):
        on_page()
    with ThreadPoolExecutor(threads) as pool:
        written = list(pool.map(load, new))
    whole = [stored for stored, unwritten in written if not unwritten]
    return LoadReport(
        pages=len(pages),
        loaded=len(whole),
        already_there=len(pages) - len(new),
        words=sum(len(stored.words) for stored in whole),
        labels=sum(len(stored.labels) for stored in whole),
        unwritten={page.page_id: count for page, (_, count) in zip(new, written, strict=True) if count},
        write_units=receipts.units.write,
        seconds=time.monotonic() - began,
    )
