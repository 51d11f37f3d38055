"""Suspect words find their labels in the table, also in receipts of the original system and among equal words."""

import pytest

from receipt_dynamo import DynamoClient, ReceiptClient, ValidationStatus
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_snapshot import read_labelled_receipts
from receipt_layoutlm.datasets.suspect_review import Marks, NotInTable, find_labels, write_marks
from receipt_layoutlm.datasets.suspects import Suspect, SuspectWord
from tests.support import original_system

IMAGE = "3f52804b-2fad-4e00-92c8-b593da3a8ed3"
PAGE_ID = f"{IMAGE}-00001"
# numbered from the bottom right; read as "1 same same same"
WORDS = {(1, 1): ("same", 0.7, 0.2), (1, 2): ("same", 0.1, 0.2), (2, 1): ("same", 0.7, 0.8), (2, 2): ("1", 0.1, 0.8)}
NEEDS_REVIEW = ValidationStatus.NEEDS_REVIEW


@pytest.fixture
def receipts(cloud: DynamoClient) -> ReceiptClient:
    """A receipt of the original system: its last word in reading order has ADDRESS, by two names."""
    items = [
        original_system.receipt(IMAGE),
        *(original_system.word(IMAGE, *place, text, (x, y, 0.1, 0.05)) for place, (text, x, y) in WORDS.items()),
        original_system.label(IMAGE, 1, 1, "ADDRESS"),
        original_system.label(IMAGE, 1, 1, "ADDRESS_LINE"),
        original_system.label(IMAGE, 1, 1, "DATE", "INVALID"),
        original_system.label(IMAGE, 2, 1, "DATE"),
    ]
    for item in items:
        cloud.raw.put_item(TableName=cloud.table_name, Item=item)
    return ReceiptClient(cloud)


def pages_of(receipts: ReceiptClient) -> dict[str, Page]:
    return {page.page_id: page for page in read_labelled_receipts(receipts, {}, lambda _: None).pages}


def suspect(page: Page, index: int) -> Suspect:
    label = page.tags[index][2:]
    word = SuspectWord(index=index, text=page.words[index], confidence=0.95, label_confidence=0.01)
    return Suspect(page_id=page.page_id, text=word.text, label=label, says="TAX", confidence=0.95, words=(word,))


def found(receipts: ReceiptClient, index: int) -> Marks:
    pages = pages_of(receipts)
    return find_labels(receipts, pages, [suspect(pages[PAGE_ID], index)], lambda: None)


def statuses(receipts: ReceiptClient) -> dict[tuple[int, int, str], str]:
    return {(each.line_id, each.word_id, each.label): each.validation_status for each in receipts.list_labels(IMAGE)}


def test_a_word_is_found_by_its_place_in_the_page_and_every_name_of_its_label_is_marked(
    receipts: ReceiptClient,
) -> None:
    page = pages_of(receipts)[PAGE_ID]
    assert (page.words, page.tags) == (("1", "same", "same", "same"), ("O", "B-DATE", "O", "B-ADDRESS_LINE"))

    assert write_marks(receipts, found(receipts, 3), NEEDS_REVIEW, lambda: None) == []

    assert statuses(receipts) == {
        (1, 1, "ADDRESS"): "NEEDS_REVIEW",
        (1, 1, "ADDRESS_LINE"): "NEEDS_REVIEW",
        (1, 1, "DATE"): "INVALID",
        (2, 1, "DATE"): "VALID",
    }
    assert pages_of(receipts)[PAGE_ID].tags == ("O", "B-DATE", "O", "-")


def test_a_label_that_changes_between_the_look_and_the_write_stays_as_it_is(receipts: ReceiptClient) -> None:
    marks = found(receipts, 1)
    ((_, _, known),) = marks.labels
    receipts.change_status(known, ValidationStatus.INVALID)

    (unmarked,) = write_marks(receipts, marks, NEEDS_REVIEW, lambda: None)

    assert (unmarked.page_id, unmarked.index, unmarked.reason) == (PAGE_ID, 1, "it is INVALID now")
    assert statuses(receipts)[2, 1, "DATE"] == "INVALID"


def test_a_label_that_was_removed_is_told(receipts: ReceiptClient, cloud: DynamoClient) -> None:
    pages = pages_of(receipts)
    gone = original_system.label(IMAGE, 2, 1, "DATE")
    cloud.raw.delete_item(TableName=cloud.table_name, Key={"PK": gone["PK"], "SK": gone["SK"]})

    marks = find_labels(receipts, pages, [suspect(pages[PAGE_ID], 1)], lambda: None)

    assert (marks.labels, [each.reason for each in marks.unmarked]) == ([], ["its label was deleted"])


def test_pages_of_files_are_told_apart_from_receipts(receipts: ReceiptClient) -> None:
    pages = pages_of(receipts)
    stranger = suspect(pages[PAGE_ID], 1).model_copy(update={"page_id": "from a file"})
    pages["from a file"] = pages[PAGE_ID]

    marks = find_labels(receipts, pages, [stranger, suspect(pages[PAGE_ID], 1)], lambda: None)

    assert [page_id for page_id, _, _ in marks.labels] == [PAGE_ID]
    assert [each.reason for each in marks.unmarked] == ["the table has no receipt of this page"]
    with pytest.raises(NotInTable, match="none of the 1 pages is a receipt of table 'the-table'"):
        find_labels(receipts, pages, [stranger], lambda: None)
    assert find_labels(receipts, pages, [], lambda: None) == Marks([], [])
