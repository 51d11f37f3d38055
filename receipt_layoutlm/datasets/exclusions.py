"""Excluded ("forgotten") pages, which no new snapshot may contain, and the snapshots that still contain them."""

import gzip
import json
import shlex
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from receipt_dynamo import AlreadyExists, Dataset, DynamoClient, ForgottenPage, ReceiptClient
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.datasets.receipt_pages import find_receipt
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import dataset_key
from receipt_layoutlm.suggestions import nearest_name

_BEFORE_ID: Final = '{"page_id":'  # in every canonical line, see page.page_to_line


class UnknownPage(UserError):
    """No snapshot and no receipt of the table has a page of this id."""


class ExcludedMeanwhile(UserError):
    """A page was excluded while a snapshot with it was being made."""


class KeptPages(NamedTuple):
    """Pages that may be in a new snapshot, and the ids of excluded ones."""

    pages: list[Page]
    forgotten: tuple[str, ...]


def excluded_ids(client: DynamoClient) -> frozenset[str]:
    """The ids of all excluded pages."""
    return frozenset(page.page_id for page in client.list_forgotten())


def without_excluded(client: DynamoClient, pages: Sequence[Page]) -> KeptPages:
    """The pages that are not excluded, in their order. Raises DataError if none is left."""
    excluded = excluded_ids(client)
    kept = [page for page in pages if page.page_id not in excluded]
    if pages and not kept:
        raise DataError(
            "all of these pages are forgotten: "
            f"`layoutlm-cli dataset forget --undo {shlex.quote(pages[0].page_id)}` includes the first again"
        )
    return KeptPages(kept, tuple(page.page_id for page in pages if page.page_id in excluded))


def check_none_excluded(client: DynamoClient, pages: Iterable[Page]) -> None:
    """Raises ExcludedMeanwhile. Called where snapshots are stored, so that every way to make one is covered."""
    excluded = excluded_ids(client)
    if page_id := next((page.page_id for page in pages if page.page_id in excluded), None):
        raise ExcludedMeanwhile(f"page {page_id!r} was forgotten in the meantime and nothing was stored: try again")


def ids_by_snapshot(
    bucket: Bucket, datasets: Iterable[Dataset], on_snapshot: Callable[[], None]
) -> dict[str, frozenset[str] | None]:
    """Page ids by fingerprint, None for a snapshot whose pages are missing or damaged. Newest first."""
    ids: dict[str, frozenset[str] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset in datasets:
            if dataset.fingerprint not in ids:
                ids[dataset.fingerprint] = _page_ids(bucket, dataset, Path(folder) / "pages.jsonl.gz")
            on_snapshot()
    return ids


def _page_ids(bucket: Bucket, dataset: Dataset, path: Path) -> frozenset[str] | None:
    """Reads the beginning of each line only; parsing whole pages would take a hundred times as long."""
    decoder, ids = json.JSONDecoder(), set()
    try:
        bucket.get_file(dataset_key(dataset.fingerprint), path)
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith(_BEFORE_ID):
                    return None
                ids.add(decoder.raw_decode(line, len(_BEFORE_ID))[0])
    except (NotStored, OSError, EOFError, zlib.error, ValueError):
        return None
    return frozenset(ids)


def check_pages_exist(
    client: DynamoClient, page_ids: Sequence[str], by_snapshot: Mapping[str, frozenset[str] | None]
) -> None:
    """Raises UnknownPage for a page in no snapshot and not in the table, with the most similar known id."""
    known = frozenset[str]().union(*(ids for ids in by_snapshot.values() if ids is not None))
    for page_id in page_ids:
        if page_id not in known and find_receipt(ReceiptClient(client), page_id) is None:
            raise UnknownPage(f"no snapshot and no receipt of the table has page {page_id!r}{_near(page_id, known)}")


def _near(page_id: str, known: Collection[str]) -> str:
    near = nearest_name(page_id, known, cutoff=0.5)
    return f": did you mean {near!r}?" if near else ""


def exclude(client: DynamoClient, page_ids: Sequence[str], by: str, now: datetime) -> list[str]:
    """Excludes pages from every new snapshot; returns those that were not excluded before."""
    added = []
    for page_id in page_ids:
        with suppress(AlreadyExists):
            client.add_forgotten(ForgottenPage(page_id=page_id, forgotten_at=now, forgotten_by=by))
            added.append(page_id)
    return added


def check_excluded(client: DynamoClient, page_ids: Sequence[str]) -> None:
    """Raises UnknownPage for a page that is not excluded, with the most similar excluded one."""
    known = excluded_ids(client)
    for page_id in page_ids:
        if page_id not in known:
            raise UnknownPage(f"page {page_id!r} is not forgotten{_near(page_id, known)}")
