"""Receipts on a real engine: the documented keys, the original system's items, batches that are not taken at once."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from urllib3 import HTTPResponse

from receipt_dynamo import (
    DynamoClient,
    Receipt,
    ReceiptClient,
    ReceiptWord,
    ReceiptWordLabel,
    StateConflict,
    StoreError,
    ValidationStatus,
)
from receipt_dynamo.bulk import Bulk
from receipt_dynamo.receipt_client import ALL_LABELS, label_ranges
from tests.support import original_system
from tests.support.wire import Wire

pytestmark = pytest.mark.engine

NOON = datetime(2026, 5, 1, 12, 0, 0, 7, tzinfo=UTC)
IMAGE = "3f52804b-2fad-4e00-92c8-b593da3a8ed3"
RECEIPT = Receipt(
    image_id=IMAGE,
    receipt_id=1,
    width=800,
    height=1600,
    timestamp_added=NOON,
    merchant_name="Joe's",
    page_id="p",
    group="g",
    sha256="ab",
)
VALID = ValidationStatus.VALID


def word(word_id: int, text: str = "TOTAL", line_id: int = 1) -> ReceiptWord:
    return ReceiptWord(
        image_id=IMAGE,
        receipt_id=1,
        line_id=line_id,
        word_id=word_id,
        text=text,
        x=0.1,
        y=1 / 3,
        width=1e-7,
        height=0.2,
        confidence=0.5,
    )


def label(
    word_id: int, name: str = "DATE", status: ValidationStatus = VALID, image_id: str = IMAGE
) -> ReceiptWordLabel:
    return ReceiptWordLabel(
        image_id=image_id,
        receipt_id=1,
        line_id=1,
        word_id=word_id,
        label=name,
        validation_status=status,
        begins=True,
        timestamp_added=NOON,
        label_proposed_by="me",
        reasoning="because",
    )


@pytest.fixture
def receipts(client: DynamoClient) -> ReceiptClient:
    return ReceiptClient(client)


def put_raw(client: DynamoClient, *items: original_system.Raw) -> None:
    for item in items:
        client.raw.put_item(TableName=client.table_name, Item=item)


def keys(client: DynamoClient) -> dict[str, dict[str, str]]:
    """Key attributes of everything under the image, by sort key."""
    rows = client.raw.query(
        TableName=client.table_name,
        KeyConditionExpression="PK = :p",
        ExpressionAttributeValues={":p": {"S": f"IMAGE#{IMAGE}"}},
    )["Items"]
    return {
        row["SK"]["S"]: {name: value["S"] for name, value in row.items() if name.startswith("GSI") or name == "TYPE"}
        for row in rows
    }


def test_records_are_stored_under_the_documented_keys(client: DynamoClient, receipts: ReceiptClient) -> None:
    assert receipts.put(receipts=[RECEIPT], words=[word(12)], labels=[label(12)]) == []

    image, place = f"IMAGE#{IMAGE}", "RECEIPT#00001#LINE#00001#WORD#00012"
    assert keys(client) == {
        "RECEIPT#00001": {"TYPE": "RECEIPT", "GSI3PK": image, "GSI3SK": "RECEIPT#00001"},
        place: {"TYPE": "RECEIPT_WORD", "GSI3PK": image, "GSI3SK": place},
        f"{place}#LABEL#DATE": {
            "TYPE": "RECEIPT_WORD_LABEL",
            "GSI3PK": "VALIDATION_STATUS#VALID",
            "GSI3SK": f"{image}#{place}#LABEL#DATE",
        },
    }


def test_every_field_of_a_record_comes_back(receipts: ReceiptClient) -> None:
    receipts.put(receipts=[RECEIPT], words=[word(1)], labels=[label(1)])

    assert receipts.get_image(IMAGE) == ([RECEIPT], [word(1)])
    assert receipts.get_receipts([(IMAGE, 1), (IMAGE, 2)]) == [RECEIPT]
    assert receipts.list_labels(IMAGE) == [label(1)]
    brief = {"timestamp_added": None, "label_proposed_by": None, "reasoning": None}
    assert list(receipts.iter_labels_by_status(VALID)) == [label(1).model_copy(update=brief)]


def test_items_of_the_original_system_are_read_without_its_letters(
    client: DynamoClient, receipts: ReceiptClient
) -> None:
    put_raw(
        client,
        original_system.receipt(IMAGE),
        original_system.word(IMAGE, 1, 1, "JOE'S", (0.1, 0.9, 0.2, 0.05)),
        original_system.letter(IMAGE, 1, 1, "J"),
        original_system.label(IMAGE, 1, 1, "BUSINESS_NAME"),
        original_system.label(IMAGE, 1, 1, "DATE", "INVALID"),
    )
    ((receipt,), (read,)) = receipts.get_image(IMAGE)

    assert (receipt.width, receipt.height, receipt.sha256, receipt.page_id) == (800, 1600, None, None)
    assert receipt.timestamp_added == datetime(2025, 3, 1, 12, tzinfo=UTC)
    assert (read.text, read.x, read.y, read.width, read.height) == ("JOE'S", 0.1, 0.9, 0.2, 0.05)
    (valid,) = receipts.iter_labels_by_status(VALID)
    assert (valid.label, valid.line_id, valid.word_id, valid.begins) == ("BUSINESS_NAME", 1, 1, None)
    assert [each.label for each in receipts.list_labels(IMAGE)] == ["BUSINESS_NAME", "DATE"]
    assert receipts.count_labels(ValidationStatus.INVALID) == 1


def test_words_that_are_in_no_index_are_found_in_the_table(client: DynamoClient, receipts: ReceiptClient) -> None:
    items = [original_system.receipt(IMAGE), original_system.word(IMAGE, 1, 1, "x", (0.1, 0.9, 0.2, 0.05))]
    put_raw(client, *({name: value for name, value in item.items() if "GSI3" not in name} for item in items))

    rows = receipts.get_image(IMAGE)
    assert ([word.text for word in rows.words], len(rows.receipts)) == (["x"], 1)


def test_the_shares_of_the_labels_hold_each_label_once_and_in_order(receipts: ReceiptClient) -> None:
    images = ["", "!", "00", "07ff", "08", "080", "7fff", "80", "f7", "f8", "ff", "z", "Ä"]
    given = [label(1, image_id=f"{image}x") for image in images] + [label(2, image_id="80x")]
    receipts.put(labels=given)

    ids = [each.image_id for part in label_ranges() for each in receipts.iter_labels_by_status(VALID, part)]
    whole = [each.image_id for each in receipts.iter_labels_by_status(VALID, ALL_LABELS)]
    assert ids == whole == sorted(each.image_id for each in given)
    assert sum(receipts.count_labels(VALID, part) for part in label_ranges()) == len(given)


def test_a_query_brings_every_page(receipts: ReceiptClient) -> None:
    """Labels of more than a megabyte."""
    given = [label(number).model_copy(update={"reasoning": "r" * 10_000}) for number in range(130)]
    receipts.put(labels=given)

    assert len(list(receipts.iter_labels_by_status(VALID))) == receipts.count_labels(VALID) == 130


def test_whether_there_is_a_label_costs_one_small_read(receipts: ReceiptClient) -> None:
    assert not receipts.has_labels(VALID)
    receipts.put(labels=[label(number) for number in range(50)])
    before = receipts.units.read
    assert receipts.has_labels(VALID)
    assert receipts.units.read - before <= 0.5


def test_what_a_newer_version_lacks_is_deleted_and_nothing_else(client: DynamoClient, receipts: ReceiptClient) -> None:
    receipts.put(receipts=[RECEIPT], words=[word(1), word(2)], labels=[label(1), label(2), label(1, "TAX")])
    put_raw(client, original_system.letter(IMAGE, 1, 2, "x"))

    assert receipts.delete_leftovers(RECEIPT, [word(1)], [label(1)]) == []

    place = "RECEIPT#00001#LINE#00001#WORD#0000"
    assert list(keys(client)) == [
        "RECEIPT#00001",
        f"{place}1",
        f"{place}1#LABEL#DATE",
        f"{place}2#LETTER#00001",
    ]


class Waits:
    """A monotonic clock that only waiting moves."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self) -> float:
        return sum(self.seconds)


def impatient(client: DynamoClient, waits: Waits) -> ReceiptClient:
    return ReceiptClient(
        client, Bulk(client.raw, client.table_name, waits, waits.seconds.append, patience_seconds=30.0)
    )


def take_only(client: DynamoClient, counts: Iterator[int]) -> None:
    """Of each batch of writes pretend to have no room for all but the first `count`; these are really written."""
    table = client.table_name

    def shorten(params: dict[str, list[object]], **_: object) -> None:
        count = next(counts, None)
        if count is not None:
            left.append(params["RequestItems"][table][count:])  # type: ignore[call-overload]
            params["RequestItems"][table] = params["RequestItems"][table][:count] or [nothing]  # type: ignore[call-overload]
        else:
            left.append([])

    def add_left(parsed: dict[str, object], **_: object) -> None:
        if unprocessed := left.pop():
            parsed["UnprocessedItems"] = {table: unprocessed}

    left: list[list[object]] = []
    nothing = {"DeleteRequest": {"Key": {"PK": {"S": "nobody"}, "SK": {"S": "nothing"}}}}
    client.raw.meta.events.register("provide-client-params.dynamodb.BatchWriteItem", shorten)
    client.raw.meta.events.register("after-call.dynamodb.BatchWriteItem", add_left)


def test_what_a_batch_did_not_take_is_sent_again_after_a_wait_that_grows(client: DynamoClient) -> None:
    waits = Waits()
    receipts = impatient(client, waits)
    take_only(client, iter([20, 0, 0, 0, 3]))
    given = [word(number) for number in range(30)]

    assert receipts.put(words=given) == []

    assert receipts.get_image(IMAGE).words == given
    assert len(waits.seconds) == 5
    assert all(wait <= bound for wait, bound in zip(waits.seconds, (0.1, 0.2, 0.4, 0.8, 0.1), strict=True))


def test_what_the_table_never_takes_is_reported_and_the_rest_is_there(client: DynamoClient) -> None:
    waits = Waits()
    receipts = impatient(client, waits)
    take_only(client, (count for count in [10, *([0] * 100)]))

    unwritten = receipts.put(words=[word(number) for number in range(12)])

    assert unwritten == ["RECEIPT#00001#LINE#00001#WORD#00010", "RECEIPT#00001#LINE#00001#WORD#00011"]
    assert len(receipts.get_image(IMAGE).words) == 10
    assert 30 <= waits() < 45


def test_a_throttled_write_is_sent_again_and_a_refused_one_is_an_error(client: DynamoClient) -> None:
    waits, wire = Waits(), Wire(client)
    receipts = impatient(client, waits)
    wire.refuse("BatchWriteItem", "ProvisionedThroughputExceededException", times=3)
    assert receipts.put(words=[word(1)]) == []
    assert waits.seconds

    wire.refuse("BatchWriteItem", "ValidationException")
    with pytest.raises(StoreError, match="ValidationException"):
        receipts.put(words=[word(1)])


def test_a_throttled_read_is_asked_again_until_the_patience_ends(client: DynamoClient) -> None:
    waits, wire = Waits(), Wire(client)
    receipts = impatient(client, waits)
    receipts.put(receipts=[RECEIPT], words=[word(1)])
    wire.refuse("Query", "ThrottlingException", times=5)
    assert receipts.get_image(IMAGE).words == [word(1)]

    wire.refuse("Query", "ThrottlingException", times=500)
    with pytest.raises(StoreError, match="Throttling"):
        receipts.get_image(IMAGE)


def test_keys_that_a_batch_did_not_read_are_read_again(client: DynamoClient) -> None:
    waits = Waits()
    receipts = impatient(client, waits)
    given = [RECEIPT.model_copy(update={"receipt_id": number}) for number in range(1, 121)]
    receipts.put(receipts=given)
    unread = {"Keys": [{"PK": {"S": f"IMAGE#{IMAGE}"}, "SK": {"S": "RECEIPT#00001"}}]}
    document = {"Responses": {client.table_name: []}, "UnprocessedKeys": {client.table_name: unread}}
    answers = iter([document])

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        found = next(answers, None)
        if found is None:
            return None
        raw = HTTPResponse(body=io.BytesIO(json.dumps(found).encode()), preload_content=False)
        return AWSResponse(request.url, 200, {"x-amzn-requestid": "ANSWERED"}, raw)

    client.raw.meta.events.register_first("before-send.dynamodb.BatchGetItem", answer)
    found = receipts.get_receipts((IMAGE, number) for number in range(1, 121))
    # the first batch of 100 was answered with one key left unread, and only that one was asked for again
    assert sorted(receipt.receipt_id for receipt in found) == [1, *range(101, 121)]
    assert len(waits.seconds) == 1


def test_consumed_units_are_added_up(receipts: ReceiptClient) -> None:
    receipts.put(words=[word(number) for number in range(30)])
    written = receipts.units.write
    receipts.get_image(IMAGE)
    assert (written, receipts.units.requests) == (60, 3)  # a word and its entry in GSI3
    assert 0 < receipts.units.read < 5


def test_a_key_part_with_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="'#'"):
        Receipt(image_id="a#b", receipt_id=1, width=1, height=1)


def raw_label(client: DynamoClient) -> original_system.Raw:
    place = original_system.label(IMAGE, 1, 3, "DATE")
    found = client.raw.get_item(TableName=client.table_name, Key={"PK": place["PK"], "SK": place["SK"]})
    return found.get("Item", {})


def test_a_change_of_status_leaves_all_else_of_the_original_systems_label_as_it_is(
    client: DynamoClient, receipts: ReceiptClient
) -> None:
    before = {**original_system.label(IMAGE, 1, 3, "DATE"), "something_else": {"L": [{"N": "1"}]}}
    put_raw(client, before)
    (known,) = receipts.list_labels(IMAGE)

    changed = receipts.change_status(known, ValidationStatus.NEEDS_REVIEW)

    assert changed == known.model_copy(update={"validation_status": ValidationStatus.NEEDS_REVIEW})
    new = {"validation_status": {"S": "NEEDS_REVIEW"}, "GSI3PK": {"S": "VALIDATION_STATUS#NEEDS_REVIEW"}}
    assert raw_label(client) == {**before, **new}
    assert [each.word_id for each in receipts.iter_labels_by_status(ValidationStatus.NEEDS_REVIEW)] == [3]
    assert list(receipts.iter_labels_by_status(VALID)) == []


def test_a_status_that_changed_meanwhile_stays(client: DynamoClient, receipts: ReceiptClient) -> None:
    put_raw(client, original_system.label(IMAGE, 1, 3, "DATE", "INVALID"))
    (now,) = receipts.list_labels(IMAGE)
    known = now.model_copy(update={"validation_status": VALID})

    with pytest.raises(StateConflict, match="it is INVALID now"):
        receipts.change_status(known, ValidationStatus.NEEDS_REVIEW)

    assert raw_label(client) == original_system.label(IMAGE, 1, 3, "DATE", "INVALID")


def test_a_label_that_is_gone_is_not_made_again(client: DynamoClient, receipts: ReceiptClient) -> None:
    with pytest.raises(StateConflict, match="it is gone"):
        receipts.change_status(label(3), ValidationStatus.NEEDS_REVIEW)
    assert raw_label(client) == {}


def test_a_change_of_status_whose_reply_is_lost_is_none_that_somebody_else_made(client: DynamoClient) -> None:
    put_raw(client, original_system.label(IMAGE, 1, 3, "DATE"))
    wire = Wire(client)
    receipts = ReceiptClient(client)
    (known,) = receipts.list_labels(IMAGE)
    wire.lose_reply("UpdateItem")

    assert receipts.change_status(known, ValidationStatus.NEEDS_REVIEW).validation_status == "NEEDS_REVIEW"
    assert wire.counted()["UpdateItem"] == 2
