"""Predictions become proposed labels beside what people labelled, also when they label at the same moment."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from receipt_dynamo import DynamoClient, ReceiptClient, ReceiptWordLabel, ValidationStatus, utcnow
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.datasets.label_proposals import (
    ProposalReport,
    ProposedLabel,
    ProposedPage,
    labelled_page_ids,
    plan_proposals,
    write_proposals,
)
from receipt_layoutlm.datasets.receipt_pages import stored_receipt, words_of_page
from receipt_layoutlm.datasets.receipt_snapshot import read_labelled_receipts
from tests.support import original_system

IMAGE = "3f52804b-2fad-4e00-92c8-b593da3a8ed3"
PAGE_ID = f"{IMAGE}-00001"
# numbered from the bottom; read as "JOE'S BAR 1/2/2024 9.50"
WORDS = {
    (2, 1): ("JOE'S", 0.1, 0.8),
    (2, 2): ("BAR", 0.3, 0.8),
    (1, 2): ("1/2/2024", 0.1, 0.4),
    (1, 1): ("9.50", 0.7, 0.4),
}
PENDING, NEEDS_REVIEW = ValidationStatus.PENDING, ValidationStatus.NEEDS_REVIEW
Rows = dict[tuple[int, int, str], tuple[str, str | None]]


@pytest.fixture
def receipts(cloud: DynamoClient) -> ReceiptClient:
    """A receipt of the original system, where a person rejected a label of the last word."""
    put_raw(cloud, original_system.receipt(IMAGE), original_system.label(IMAGE, 1, 1, "TAX", "INVALID"))
    for place, (text, x, y) in WORDS.items():
        put_raw(cloud, original_system.word(IMAGE, *place, text, (x, y, 0.1, 0.05)))
    return ReceiptClient(cloud)


def put_raw(client: DynamoClient, *items: original_system.Raw) -> None:
    for item in items:
        client.raw.put_item(TableName=client.table_name, Item=item)


def page(receipts: ReceiptClient, *labels: str, by: str = "job-1", asked: str = "") -> ProposedPage:
    """The receipt, with a predicted label for each word in reading order, O for none."""
    stored = stored_receipt(receipts, PAGE_ID)
    assert stored is not None
    proposed = {
        index: ProposedLabel(
            label=label,
            begins=index == 0 or labels[index - 1] != label,
            confidence=0.75,
            status=NEEDS_REVIEW if label == asked else PENDING,
            doubts="low confidence" if label == asked else None,
        )
        for index, label in enumerate(labels)
        if label != "O"
    }
    return ProposedPage(PAGE_ID, [(word.text, box) for word, box in words_of_page(stored)], proposed, by)


def rows(receipts: ReceiptClient) -> Rows:
    return {
        (each.line_id, each.word_id, each.label): (each.validation_status.value, each.label_proposed_by)
        for each in receipts.list_labels(IMAGE)
    }


def write(receipts: ReceiptClient, proposed: ProposedPage) -> ProposalReport:
    return write_proposals(receipts, proposed, utcnow())


BEFORE: Rows = {(1, 1, "TAX"): ("INVALID", None)}


def test_predictions_are_written_with_proposer_and_confidence_but_not_on_a_word_that_a_person_labelled(
    receipts: ReceiptClient,
) -> None:
    proposed = page(receipts, "MERCHANT_NAME", "MERCHANT_NAME", "DATE", "GRAND_TOTAL", asked="DATE")

    assert write(receipts, proposed) == ProposalReport(receipts=1, written=3, asked=1, kept=1)

    assert rows(receipts) == BEFORE | {
        (2, 1, "MERCHANT_NAME"): ("PENDING", "job-1"),
        (2, 2, "MERCHANT_NAME"): ("PENDING", "job-1"),
        (1, 2, "DATE"): ("NEEDS_REVIEW", "job-1"),
    }
    by_place = {(each.line_id, each.word_id): each for each in receipts.list_labels(IMAGE)}
    assert (by_place[2, 1].begins, by_place[2, 2].begins) == (True, False)
    assert (by_place[1, 2].confidence, by_place[1, 2].reasoning) == (0.75, "low confidence")


def test_the_same_predictions_are_written_once_and_a_plan_writes_nothing(receipts: ReceiptClient) -> None:
    proposed = page(receipts, "O", "O", "DATE", "O")
    assert plan_proposals(receipts, proposed, utcnow()) == ProposalReport(receipts=1, written=1)
    assert rows(receipts) == BEFORE
    write(receipts, proposed)
    before = receipts.list_labels(IMAGE)

    assert write(receipts, proposed) == ProposalReport(receipts=1, unchanged=1)

    assert receipts.list_labels(IMAGE) == before


def test_another_model_replaces_proposals_but_for_those_that_a_person_decided_on(receipts: ReceiptClient) -> None:
    write(receipts, page(receipts, "MERCHANT_NAME", "ADDRESS_LINE", "DATE", "O"))
    decided = next(each for each in receipts.list_labels(IMAGE) if each.label == "ADDRESS_LINE")
    receipts.change_status(decided, NEEDS_REVIEW)

    report = write(receipts, page(receipts, "O", "MERCHANT_NAME", "TIME", "O", by="job-2"))

    assert report == ProposalReport(receipts=1, written=1, withdrawn=2, kept=1)
    assert rows(receipts) == BEFORE | {
        (2, 2, "ADDRESS_LINE"): ("NEEDS_REVIEW", "job-1"),
        (1, 2, "TIME"): ("PENDING", "job-2"),
    }


def test_a_confirmed_proposal_that_is_sent_back_to_review_stays_a_persons(receipts: ReceiptClient) -> None:
    write(receipts, page(receipts, "O", "O", "DATE", "O", asked="DATE"))
    (date,) = (each for each in receipts.list_labels(IMAGE) if each.label == "DATE")
    receipts.change_status(receipts.change_status(date, ValidationStatus.VALID), NEEDS_REVIEW)

    assert write(receipts, page(receipts, "O", "O", "TIME", "O", by="job-2")).kept == 1

    assert rows(receipts) == BEFORE | {(1, 2, "DATE"): ("NEEDS_REVIEW", "job-1")}


def test_pending_labels_of_another_system_are_a_persons(receipts: ReceiptClient, cloud: DynamoClient) -> None:
    put_raw(cloud, original_system.label(IMAGE, 1, 2, "DATE", "PENDING"))
    assert write(receipts, page(receipts, "O", "O", "DATE", "O")) == ProposalReport(receipts=1, kept=1)
    assert rows(receipts) == BEFORE | {(1, 2, "DATE"): ("PENDING", None)}


@pytest.mark.parametrize("label", ["DATE", "TIME"])
def test_a_person_who_labels_a_word_at_the_moment_of_the_write_wins(
    receipts: ReceiptClient, cloud: DynamoClient, label: str
) -> None:
    proposed = page(receipts, "O", "O", "DATE", "O")
    before_write(cloud, "PutItem", lambda other: put_raw(other, original_system.label(IMAGE, 1, 2, label)))

    assert write(receipts, proposed).kept == 1

    assert rows(receipts) == BEFORE | {(1, 2, label): ("VALID", None)}


def test_a_person_who_confirms_a_proposal_at_the_moment_it_is_replaced_wins(
    receipts: ReceiptClient, cloud: DynamoClient
) -> None:
    write(receipts, page(receipts, "O", "O", "DATE", "O"))
    (date,) = (each for each in receipts.list_labels(IMAGE) if each.label == "DATE")
    proposed = page(receipts, "O", "O", "TIME", "O", by="job-2")
    before_write(cloud, "DeleteItem", lambda other: ReceiptClient(other).change_status(date, ValidationStatus.VALID))

    assert write(receipts, proposed).kept == 1

    assert rows(receipts) == BEFORE | {(1, 2, "DATE"): ("VALID", "job-1")}


def before_write(client: DynamoClient, operation: str, act: Callable[[DynamoClient], object]) -> None:
    """Somebody else acts once, right before the first such request is sent."""
    waiting = [act]

    def hook(**_: object) -> None:
        if waiting:
            waiting.pop()(DynamoClient(client.table_name))

    client.raw.meta.events.register(f"before-call.dynamodb.{operation}", hook)


def test_a_receipt_whose_words_changed_is_not_labelled(receipts: ReceiptClient) -> None:
    proposed = page(receipts, "O", "O", "DATE", "O")
    with pytest.raises(DataError, match="other words now: predict it again"):
        write(receipts, replace(proposed, words=[("other", box) for _, box in proposed.words]))
    assert rows(receipts) == BEFORE


def test_receipts_are_found_by_labels_of_any_status_and_proposals_are_not_learned(
    receipts: ReceiptClient, cloud: DynamoClient
) -> None:
    assert labelled_page_ids(receipts) == [PAGE_ID]
    write(receipts, page(receipts, "MERCHANT_NAME", "O", "DATE", "O", asked="DATE"))
    assert read_labelled_receipts(receipts, {}, lambda _: None).pages == []  # no VALID label

    put_raw(cloud, original_system.label(IMAGE, 2, 2, "MERCHANT_NAME"))
    (snapshot,) = read_labelled_receipts(receipts, {}, lambda _: None).pages
    assert snapshot.tags == ("-", "B-MERCHANT_NAME", "-", "O")


def test_a_label_without_its_own_proposal_is_no_open_one() -> None:
    plain = ReceiptWordLabel(
        image_id=IMAGE, receipt_id=1, line_id=1, word_id=1, label="DATE", validation_status=PENDING
    )
    assert not plain.is_open_proposal
    assert plain.model_copy(update={"proposed_status": PENDING}).is_open_proposal
    assert not plain.model_copy(update={"proposed_status": NEEDS_REVIEW}).is_open_proposal
