"""Load pages into a table and snapshot them back: nothing is lost, and only what changed is read again."""

from collections import Counter
from collections.abc import Sequence

import pytest

from receipt_dynamo import DynamoClient, ReceiptClient
from receipt_dynamo.bulk import Bulk
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.datasets.receipt_load import LoadReport, load_pages
from receipt_layoutlm.datasets.receipt_pages import (
    CONTINUES_OVER_LINES,
    StoredReceipt,
    image_id_of,
    page_from_receipt,
    receipt_from_page,
)
from receipt_layoutlm.datasets.receipt_snapshot import (
    KnownReceipt,
    SnapshotProgress,
    TableSnapshot,
    read_labelled_receipts,
)
from receipt_layoutlm.datasets.table_snapshots import NoLabels, keep_snapshot, last_snapshot, read_table
from receipt_layoutlm.storage.keys import dataset_key
from tests.support import original_system
from tests.support.paths import SHARED
from tests.support.spans import page_in_reading_order, spans
from tests.support.stores import Clock, Store
from tests.support.tiny import tiny_pages
from tests.support.wire import Wire

pytestmark = pytest.mark.engine

SROIE = SHARED / "sroie"
CLOCK = Clock()


@pytest.fixture
def client(table_name: str, dynamo_endpoint: str) -> DynamoClient:
    return DynamoClient(table_name, endpoint_url=dynamo_endpoint)


def load(client: DynamoClient, pages: Sequence[Page], known: str = "keep") -> LoadReport:
    return load_pages(ReceiptClient(client), pages, CLOCK(), known, lambda: None)  # type: ignore[arg-type]


def take(
    client: DynamoClient, before: TableSnapshot | None = None, over_lines: frozenset[str] = CONTINUES_OVER_LINES
) -> TableSnapshot:
    rows = zip(before.pages, before.marks, strict=True) if before else ()
    seen = {mark.page_id: KnownReceipt(page, mark) for page, mark in rows}
    return read_labelled_receipts(ReceiptClient(client), seen, lambda progress: None, over_lines=over_lines)


def without_entities() -> Page:
    return Page("none", "g", ("a", "b"), ((0, 0, 9, 9), (20, 0, 29, 9)), ("-", "O"), 10, 10)


def test_every_page_comes_back_as_it_was_also_one_without_any_entity(client: DynamoClient) -> None:
    pages = [*tiny_pages(6), without_entities()]

    report = load(client, pages)
    taken = take(client)

    assert (report.loaded, report.words, report.unwritten) == (7, sum(len(page.words) for page in pages), {})
    assert taken.pages == sorted(pages, key=lambda page: page.page_id)
    assert (taken.report.receipts, taken.report.read, taken.report.reused) == (7, 7, 0)
    assert taken.report.labels == {"NEEDS_REVIEW": 1, "VALID": report.labels - 1}
    assert taken.report.read_units > 0 and report.write_units > 0


def test_pages_that_are_there_stay_as_they_were_corrected_unless_they_are_replaced(client: DynamoClient) -> None:
    page = tiny_pages(1)[0]
    load(client, [page])
    corrected = receipt_from_page(page, CLOCK()).labels[0].model_copy(update={"label": "TAX"})
    ReceiptClient(client).put(labels=[corrected])

    report = load(client, [page, *tiny_pages(2)[1:]])
    assert (report.loaded, report.already_there) == (1, 1)
    assert take(client).report.notes.conflicts == ("page page-000, line 1, word 2: GRAND_TOTAL and TAX are both VALID",)

    assert load(client, [page], "replace").loaded == 1
    assert take(client).pages == tiny_pages(2)


def test_a_receipt_counts_when_it_is_whole(client: DynamoClient) -> None:
    """Its Receipt item is written last; a load that was killed before goes on where it stopped."""
    page = tiny_pages(1)[0]
    stored = receipt_from_page(page, CLOCK())
    ReceiptClient(client).put(words=stored.words[:1], labels=stored.labels)

    taken = take(client)
    assert (taken.pages, taken.report.without_receipt) == ([], 1)

    assert load(client, [page]).already_there == 0
    assert take(client).pages == [page]


def test_what_the_table_does_not_take_is_reported_by_page_and_makes_no_receipt(client: DynamoClient) -> None:
    table, page = client.table_name, tiny_pages(1)[0]

    def refuse(parsed: dict[str, object], **_: object) -> None:
        parsed["UnprocessedItems"] = {table: [{"PutRequest": {"Item": {"PK": {"S": "IMAGE#x"}, "SK": {"S": "y"}}}}]}

    client.raw.meta.events.register("after-call.dynamodb.BatchWriteItem", refuse)
    receipts = ReceiptClient(client, Bulk(client.raw, table, patience_seconds=0.0))

    report = load_pages(receipts, [page], CLOCK(), "keep", lambda: None)

    assert (report.loaded, report.unwritten) == (0, {"page-000": 1})
    assert receipts.get_receipts([(image_id_of("page-000"), 1)]) == []


def put_original(client: DynamoClient, image_id: str, *labels: tuple[int, str, str]) -> None:
    """A receipt with the words TOTAL and 9.00 on one line, and letters; labels: word, name, status."""
    rows = [
        original_system.receipt(image_id),
        *(
            original_system.word(image_id, 1, number, text, (0.3 * number, 0.9, 0.2, 0.02))
            for number, text in ((1, "TOTAL"), (2, "9.00"))
        ),
        original_system.letter(image_id, 1, 1, "T"),
        *(original_system.label(image_id, 1, number, name, status) for number, name, status in labels),
    ]
    for row in rows:
        client.raw.put_item(TableName=client.table_name, Item=row)


def test_receipts_of_the_original_system_become_pages(client: DynamoClient) -> None:
    put_original(client, "aa", (2, "GRAND_TOTAL", "VALID"), (1, "DATE", "PENDING"))
    put_original(client, "bb", (2, "GRAND_TOTAL", "INVALID"))
    put_original(client, "cc", (2, "CARD_NUMBER", "NEEDS_REVIEW"))

    taken = take(client)

    (page,) = taken.pages
    assert (page.page_id, page.words, page.tags) == ("aa-00001", ("TOTAL", "9.00"), ("-", "B-GRAND_TOTAL"))
    assert (page.boxes[0], page.width, page.height) == ((300, 80, 500, 100), 800, 1600)
    assert taken.report.not_validated == 1
    assert taken.report.labels == {"NEEDS_REVIEW": 1, "PENDING": 1, "VALID": 1}


def test_only_what_changed_since_the_last_snapshot_is_read_again(client: DynamoClient) -> None:
    for image_id in ("aa", "bb", "cc", "dd", "ff"):
        put_original(client, image_id, (2, "GRAND_TOTAL", "VALID"), (1, "DATE", "PENDING"))
    before = take(client)
    unchanged = take(client, before)
    assert (unchanged.pages, unchanged.marks) == (before.pages, before.marks)
    assert (unchanged.report.read, unchanged.report.reused) == (0, 5)
    assert unchanged.report.notes == before.report.notes

    put_original(client, "aa", (2, "TAX", "VALID"))  # another label
    put_original(client, "bb", (1, "DATE", "INVALID"))  # a label is refused
    put_original(client, "dd", (1, "DATE", "VALID"))  # another is confirmed
    put_original(client, "ee", (2, "GRAND_TOTAL", "VALID"))  # a receipt
    wider = original_system.receipt("cc") | {"width": {"N": "900"}}  # the receipt itself
    client.raw.put_item(TableName=client.table_name, Item=wider)
    wire = Wire(client)
    after = take(client, before)

    assert (after.report.read, after.report.reused) == (5, 1)
    asked = {body["ExpressionAttributeValues"][":p"]["S"] for body in wire.bodies if "IndexName" in body}
    assert {key for key in asked if key.startswith("IMAGE#")} == {f"IMAGE#{i * 2}" for i in "abcde"}
    assert after.pages == take(client).pages
    assert [page.tags for page in after.pages[:2]] == [("-", "-"), ("O", "B-GRAND_TOTAL")]


def test_other_labels_that_go_on_over_lines_make_other_pages_of_the_same_items(client: DynamoClient) -> None:
    page = Page("p", "g", ("ice", "cream"), ((0, 0, 99, 20), (0, 40, 99, 60)), ("B-PRODUCT_NAME",) * 2, 100, 100)
    loaded = receipt_from_page(page, CLOCK())
    labels = [label.model_copy(update={"begins": None}) for label in loaded.labels]
    ReceiptClient(client).put([loaded.receipt], loaded.words, labels)
    wider = CONTINUES_OVER_LINES | {"PRODUCT_NAME"}

    plain = take(client)
    wide = take(client, plain, wider)
    again = take(client, wide, wider)

    assert [page.tags[1] for taken in (plain, wide, again) for page in taken.pages] == [
        *("B-PRODUCT_NAME", "I-PRODUCT_NAME", "I-PRODUCT_NAME"),
    ]
    assert [taken.report.reused for taken in (wide, again)] == [0, 1]
    assert plain.marks != wide.marks == again.marks


def test_progress_ends_with_all_receipts_and_all_shares(client: DynamoClient) -> None:
    load(client, tiny_pages(5))
    seen: list[SnapshotProgress] = []
    read_labelled_receipts(ReceiptClient(client), {}, seen.append)

    assert seen[-1].receipts == 5
    assert seen[-1].parts_done == seen[-1].parts
    assert [progress.receipts for progress in seen] == sorted(progress.receipts for progress in seen)


def test_two_receipts_that_say_they_are_one_page_are_an_error(client: DynamoClient) -> None:
    page = tiny_pages(1)[0]
    load(client, [page])
    stored = receipt_from_page(page, CLOCK())
    copies = [[each.model_copy(update={"image_id": "copy"}) for each in rows] for rows in (stored.words, stored.labels)]
    ReceiptClient(client).put([stored.receipt.model_copy(update={"image_id": "copy"})], *copies)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="page-000"):
        take(client)


# in the store


def snapshot(store: Store) -> TableSnapshot:
    client, bucket = store.queue.client, store.bucket
    taken = read_table(client, last_snapshot(client, bucket, "mine"), lambda progress: None)
    keep_snapshot(client, bucket, "mine", taken, store.clock())
    return taken


def test_a_kept_snapshot_is_a_dataset_that_the_next_one_goes_on_from(store: Store) -> None:
    client = store.queue.client
    load(client, tiny_pages(3))
    first = snapshot(store)
    load(client, tiny_pages(4))
    second = snapshot(store)

    assert [first.report.read, second.report.read] == [3, 1]
    newest, oldest = client.list_datasets()
    assert (newest.counts["pages"], oldest.counts["pages"]) == (4, 3)
    assert newest.source == f"dynamo {client.table_name}"
    assert snapshot(store).report.read == 0
    assert len(client.list_datasets()) == 2


def test_without_a_whole_last_snapshot_everything_is_read(store: Store) -> None:
    load(store.queue.client, tiny_pages(3))
    snapshot(store)
    (dataset,) = store.queue.client.list_datasets()
    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=dataset_key(dataset.fingerprint), Body=b"broken")

    assert snapshot(store).report.read == 3


def test_a_dataset_of_the_same_name_from_elsewhere_is_not_gone_on_from(store: Store) -> None:
    client = store.queue.client
    load(client, tiny_pages(2))
    taken = take(client)
    keep_snapshot(client, store.bucket, "mine", taken, store.clock())
    other = client.get_dataset("mine").model_copy(update={"source": "jsonl a.jsonl", "created_at": store.clock()})
    client.add_dataset(other, 0)

    assert last_snapshot(client, store.bucket, "mine") == {}


def test_a_table_without_valid_labels_says_what_to_do(store: Store) -> None:
    put_original(store.queue.client, "aa", (1, "DATE", "PENDING"))
    with pytest.raises(NoLabels, match="dataset load --help"):
        snapshot(store)


# real receipts


@pytest.mark.parametrize("count", [40, pytest.param(549, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_real_receipts_survive_the_table_with_every_entity_intact(client: DynamoClient, count: int) -> None:
    if not SROIE.exists():
        pytest.skip(f"no receipts in {SROIE}")
    read = [page for name in ("train", "dev") for page in read_jsonl(SROIE / f"{name}.jsonl")]
    pages = sorted(read, key=lambda page: page.page_id)[:count]

    assert load(client, pages).loaded == len(pages)
    back = take(client)

    assert [page.words for page in back.pages] == [page.words for page in pages]
    assert sum(len(spans(page)) for page in pages) > 3 * len(pages)
    assert [spans(page) for page in back.pages] == [spans(page) for page in pages]
    assert back.pages == pages
    for page in back.pages:  # and in the order that the trainer sees
        assert Counter(spans(page_in_reading_order(page))) == Counter(spans(page))


def test_the_printed_lines_alone_give_back_every_entity() -> None:
    """Labels of another system do not say where an entity begins, nor the words their order."""
    if not SROIE.exists():
        pytest.skip(f"no receipts in {SROIE}")
    for page in (page for name in ("train", "dev") for page in read_jsonl(SROIE / f"{name}.jsonl")):
        stored = receipt_from_page(page, CLOCK())
        labels = tuple(label.model_copy(update={"begins": None}) for label in stored.labels)
        receipt = stored.receipt.model_copy(update={"page_id": None})
        back, _ = page_from_receipt(StoredReceipt(receipt, stored.words, labels))
        assert back is not None
        assert Counter(spans(back)) == Counter(spans(page))
