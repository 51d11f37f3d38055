"""Snapshots: content-addressed, found by name or fingerprint, chosen when there is only one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from receipt_dynamo import Dataset, NotFound
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.datasets.snapshots import (
    add_snapshot,
    describe_dataset,
    ensure_snapshot_at,
    find_dataset,
    pinned,
)
from receipt_layoutlm.storage.keys import dataset_key
from tests.support.stores import Store

pytestmark = pytest.mark.engine


def some_pages(*ids: str) -> list[Page]:
    return [
        Page(page_id, "shop", ("TOTAL", "9.00"), ((0, 0, 9, 9), (20, 0, 29, 9)), ("O", "B-GRAND_TOTAL"), 100, 200)
        for page_id in ids
    ]


def keep(store: Store, name: str, *ids: str) -> Dataset:
    pages = some_pages(*ids)
    return add_snapshot(store.queue.client, store.bucket, describe_dataset(name, pages, "test", store.clock()), pages)


def test_a_snapshot_lies_in_the_bucket_under_its_fingerprint(store: Store, tmp_path: Path) -> None:
    dataset = keep(store, "mine", "a", "b")

    store.bucket.get_file(dataset_key(dataset.fingerprint), tmp_path / "pages.jsonl.gz")

    assert read_snapshot(tmp_path / "pages.jsonl.gz", dataset.fingerprint) == some_pages("a", "b")
    assert dataset.counts == {"pages": 2, "words": 4, "groups": 1}
    assert dataset.labels == {"GRAND_TOTAL": 2}


def test_the_same_pages_again_add_nothing(store: Store) -> None:
    first = keep(store, "mine", "a")

    assert keep(store, "mine", "a") == first
    assert store.queue.client.list_datasets() == [first]


def test_a_name_means_its_newest_snapshot_and_a_fingerprint_one_for_ever(store: Store) -> None:
    old, new = keep(store, "mine", "a"), keep(store, "mine", "a", "b")
    client = store.queue.client

    assert find_dataset(client, "mine") == new
    assert find_dataset(client, f"mine@{old.fingerprint[:10]}") == old
    assert find_dataset(client, pinned(old)) == old
    with pytest.raises(NotFound, match="mine@ffff"):
        find_dataset(client, "mine@ffff")


def test_a_snapshot_is_brought_to_where_the_job_keeps_its_files(store: Store) -> None:
    dataset = keep(store, "mine", "a")

    ensure_snapshot_at(store.bucket, "", store.bucket, "team/", dataset)

    key = dataset_key(dataset.fingerprint, "team/")
    assert store.bucket.get_bytes(key) == store.bucket.get_bytes(dataset_key(dataset.fingerprint))


def test_describing_needs_no_store() -> None:
    pages = some_pages("a")

    described = describe_dataset("x", pages, "file", datetime(2026, 1, 1, tzinfo=UTC))

    assert described.fingerprint == describe_dataset("y", pages, "other", datetime(2027, 1, 1, tzinfo=UTC)).fingerprint
