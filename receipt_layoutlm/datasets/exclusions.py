"""Pages that are to be forgotten: none of them goes into a new snapshot; which old ones still hold them."""

import gzip
import json
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple

from receipt_dynamo import AlreadyExists, Dataset, DynamoClient, ForgottenPage, ReceiptClient
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.datasets.receipt_pages import image_id_of, page_id_of, receipt_of_page_id
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import dataset_key

_BEFORE_ID: Final = '{"page_id":'  # in every canonical line, see page.page_to_line


class UnknownPage(UserError):
    """No snapshot and no receipt of the table is a page of this id."""


class ForgottenMeanwhile(UserError):
    """A page was forgotten while a snapshot with it was being made."""


class Kept(NamedTuple):
    """Pages that may go into a new snapshot, and the ids of those left out."""

    pages: list[Page]
    forgotten: tuple[str, ...]


def forgotten_ids(client: DynamoClient) -> frozenset[str]:
    """The ids of every forgotten page."""
    return frozenset(page.page_id for page in client.list_forgotten())


def without_forgotten(client: DynamoClient, pages: Sequence[Page]) -> Kept:
    """The pages that nobody has forgotten, in their order; DataError when none is left."""
    gone = forgotten_ids(client)
    kept = [page for page in pages if page.page_id not in gone]
    if pages and not kept:
        raise DataError(
            "every one of these pages is forgotten: 'layoutlm-cli dataset forget --undo PAGE' takes it back"
        )
    return Kept(kept, tuple(page.page_id for page in pages if page.page_id in gone))


def check_none_forgotten(client: DynamoClient, pages: Iterable[Page]) -> None:
    """Raises ForgottenMeanwhile. Asked where a snapshot is stored, so that no way of making one can leave it out."""
    gone = forgotten_ids(client)
    if found := next((page.page_id for page in pages if page.page_id in gone), None):
        raise ForgottenMeanwhile(f"page {found!r} was forgotten just now, so nothing was stored: do the same again")


def ids_by_snapshot(
    bucket: Bucket, datasets: Iterable[Dataset], on_snapshot: Callable[[], None]
) -> dict[str, frozenset[str] | None]:
    """Page ids by fingerprint; None for a snapshot whose pages are gone or damaged. Newest first."""
    found: dict[str, frozenset[str] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset in datasets:
            if dataset.fingerprint not in found:
                found[dataset.fingerprint] = _ids(bucket, dataset, Path(folder) / "pages.jsonl.gz")
            on_snapshot()
    return found


def _ids(bucket: Bucket, dataset: Dataset, path: Path) -> frozenset[str] | None:
    """By the beginning of each line: parsing whole pages would take a hundred times as long."""
    try:
        bucket.get_file(dataset_key(dataset.fingerprint), path)
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return frozenset(_ids_of(lines))
    except (NotStored, OSError, EOFError, zlib.error, ValueError):
        return None


def _ids_of(lines: Iterable[str]) -> Iterator[str]:
    decoder = json.JSONDecoder()
    for line in lines:
        if not line.startswith(_BEFORE_ID):
            raise ValueError("the line is no page")
        yield decoder.raw_decode(line, len(_BEFORE_ID))[0]


def check_known(
    client: DynamoClient, page_ids: Sequence[str], by_snapshot: Mapping[str, frozenset[str] | None]
) -> None:
    """Raises UnknownPage, naming the nearest known one, when a page is in no snapshot and not in the table."""
    known = frozenset[str]().union(*(ids for ids in by_snapshot.values() if ids is not None))
    for page_id in page_ids:
        if page_id not in known and not _is_in_table(client, page_id):
            raise UnknownPage(f"no snapshot and no receipt of the table is the page {page_id!r}{_near(page_id, known)}")


def _is_in_table(client: DynamoClient, page_id: str) -> bool:
    keys = [(image_id_of(page_id), 1), *receipt_of_page_id(page_id)]
    return any(page_id_of(receipt) == page_id for receipt in ReceiptClient(client).get_receipts(keys))


def _near(page_id: str, known: Collection[str]) -> str:
    near = get_close_matches(page_id, sorted(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ""


def forget(client: DynamoClient, page_ids: Sequence[str], by: str, now: datetime) -> list[str]:
    """Leave pages out of every snapshot from now on; returns those that were not forgotten before."""
    return [
        page_id
        for page_id in page_ids
        if _forget(client, ForgottenPage(page_id=page_id, forgotten_at=now, forgotten_by=by))
    ]


def _forget(client: DynamoClient, page: ForgottenPage) -> bool:
    try:
        client.add_forgotten(page)
    except AlreadyExists:
        return False
    return True


def check_forgotten(client: DynamoClient, page_ids: Sequence[str]) -> None:
    """Raises UnknownPage, naming the nearest forgotten one, for a page that is not forgotten."""
    known = forgotten_ids(client)
    for page_id in page_ids:
        if page_id not in known:
            raise UnknownPage(f"page {page_id!r} is not forgotten{_near(page_id, known)}")
