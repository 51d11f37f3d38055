"""Excluded pages: kept in the table, omitted from every new snapshot, found in existing ones."""

import pytest

from receipt_dynamo import AlreadyExists, Dataset, DynamoClient, ForgottenPage, ReceiptClient, ValidationStatus
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.datasets.exclusions import (
    ExcludedMeanwhile,
    UnknownPage,
    check_excluded,
    check_pages_exist,
    exclude,
    excluded_ids,
    ids_by_snapshot,
    without_excluded,
)
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.datasets.table_snapshots import NoLabels, keep_snapshot, last_snapshot, read_table
from receipt_layoutlm.storage.keys import dataset_key
from tests.support import original_system
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine


@pytest.fixture
def client(store: Store) -> DynamoClient:
    return store.queue.client


def gone(store: Store, *page_ids: str) -> list[str]:
    return exclude(store.queue.client, page_ids, "me", store.clock())


def keep(store: Store, name: str, pages: list[Page]) -> Dataset:
    return add_snapshot(store.queue.client, store.bucket, describe_dataset(name, pages, "test", store.clock()), pages)


def test_a_forgotten_page_is_listed_until_it_is_taken_back(store: Store, client: DynamoClient) -> None:
    strange = "a#b é/ü"
    assert gone(store, "p1", strange) == ["p1", strange]
    assert gone(store, "p1", "p0") == ["p0"]

    assert [page.page_id for page in client.list_forgotten()] == [strange, "p0", "p1"]
    assert client.list_forgotten()[0].forgotten_by == "me"
    with pytest.raises(AlreadyExists):
        client.add_forgotten(ForgottenPage(page_id="p1", forgotten_at=store.clock(), forgotten_by="you"))
    assert {page.forgotten_by for page in client.list_forgotten()} == {"me"}

    client.remove_forgotten("p1")
    assert excluded_ids(client) == {strange, "p0"}


def test_many_forgotten_pages_are_all_listed(store: Store, client: DynamoClient) -> None:
    """More than one page of a query: 1 MB."""
    ids = {f"{number:04}-{'x' * 900}" for number in range(650)}
    gone(store, *ids)
    assert excluded_ids(client) == ids


def test_pages_are_left_out_in_their_order(store: Store, client: DynamoClient) -> None:
    pages = tiny_pages(4)
    gone(store, "page-001", "page-009")

    kept = without_excluded(client, pages)

    assert kept.pages == [pages[0], *pages[2:]]
    assert kept.forgotten == ("page-001",)
    with pytest.raises(DataError, match="--undo"):
        without_excluded(client, pages[1:2])


def test_no_way_of_storing_a_snapshot_gets_past_it(store: Store, client: DynamoClient) -> None:
    gone(store, "page-001")
    with pytest.raises(ExcludedMeanwhile, match="'page-001'"):
        keep(store, "mine", tiny_pages(3))
    assert client.list_datasets() == []
    assert list(store.bucket.list_keys("")) == []


def test_a_snapshot_of_the_table_leaves_it_out_counts_it_and_takes_it_back(store: Store, client: DynamoClient) -> None:
    load_pages(ReceiptClient(client), tiny_pages(4), store.clock(), "keep", lambda: None)
    gone(store, "page-001")

    def snapshot() -> tuple[list[str], Dataset, int]:
        taken = read_table(client, last_snapshot(client, store.bucket, "mine"), lambda progress: None)
        dataset = keep_snapshot(client, store.bucket, "mine", taken, store.clock())
        return [page.page_id for page in taken.pages], dataset, taken.report.read

    ids, dataset, read = snapshot()
    assert (ids, read) == (["page-000", "page-002", "page-003"], 4)
    assert dataset.counts["forgotten"] == 1
    assert snapshot()[2] == 1  # the forgotten one, which no snapshot knows

    client.remove_forgotten("page-001")
    ids, dataset, _ = snapshot()
    assert len(ids) == 4 and "forgotten" not in dataset.counts

    gone(store, *ids)
    with pytest.raises(NoLabels, match="--undo"):
        snapshot()


def test_which_snapshots_hold_a_page_is_read_from_their_pages(store: Store, client: DynamoClient) -> None:
    odd = Page('quoted "é\n', "g", ("a",), ((0, 0, 9, 9),), ("O",), 10, 10)
    first, second = keep(store, "a", [*tiny_pages(2), odd]), keep(store, "b", tiny_pages(1))
    broken = keep(store, "c", tiny_pages(3))
    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=dataset_key(broken.fingerprint), Body=b"broken")
    seen: list[int] = []

    found = ids_by_snapshot(store.bucket, client.list_datasets(), lambda: seen.append(1))

    assert found == {
        first.fingerprint: {"page-000", "page-001", odd.page_id},
        second.fingerprint: {"page-000"},
        broken.fingerprint: None,
    }
    assert len(seen) == 3


def test_an_unknown_page_is_an_error_that_names_the_nearest(store: Store, client: DynamoClient) -> None:
    dataset = keep(store, "a", tiny_pages(3))
    known = ids_by_snapshot(store.bucket, [dataset], lambda: None)
    check_pages_exist(client, ["page-002"], known)
    with pytest.raises(UnknownPage, match="'page-0002': did you mean 'page-002'"):
        check_pages_exist(client, ["page-000", "page-0002"], known)
    with pytest.raises(UnknownPage, match=r"'zzzz'$"):
        check_pages_exist(client, ["zzzz"], known)

    gone(store, "page-001")
    check_excluded(client, ["page-001"])
    with pytest.raises(UnknownPage, match="'page-002' is not forgotten: did you mean 'page-001'"):
        check_excluded(client, ["page-002"])


def test_a_page_that_is_in_the_table_alone_is_known(store: Store, client: DynamoClient) -> None:
    load_pages(ReceiptClient(client), tiny_pages(1), store.clock(), "keep", lambda: None)
    (label, *_) = ReceiptClient(client).iter_labels_by_status(ValidationStatus.VALID)

    check_pages_exist(client, ["page-000"], {})
    for unknown in (f"{label.image_id}-00001", f"{label.image_id}-1", "a#b-00001"):  # it has an id of its own
        with pytest.raises(UnknownPage):
            check_pages_exist(client, [unknown], {})
    client.raw.put_item(TableName=client.table_name, Item=original_system.receipt("aa"))
    check_pages_exist(client, ["aa-00001"], {})
