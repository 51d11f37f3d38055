"""Which label of a word counts, where an entity goes on, and that a page comes back from its records as it was."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_dynamo import Receipt, ReceiptWord, ReceiptWordLabel, ValidationStatus
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import build_label_map
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_pages import (
    CONTINUES_OVER_LINES,
    Notes,
    StoredReceipt,
    page_from_receipt,
    receipt_from_page,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
VALID, INVALID, NEEDS_REVIEW, PENDING, NONE = (
    ValidationStatus(name) for name in ("VALID", "INVALID", "NEEDS_REVIEW", "PENDING", "NONE")
)
Given = tuple[str, ValidationStatus]


def receipt(**more: object) -> Receipt:
    return Receipt(image_id="i", receipt_id=1, width=100, height=200, **more)  # type: ignore[arg-type]


def stored(lines: Sequence[Sequence[tuple[str, Sequence[Given]]]], **more: object) -> StoredReceipt:
    """A receipt of printed lines from the top, whose words have these labels."""
    words, labels = [], []
    for line, row in enumerate(lines, start=1):
        for number, (text, given_labels) in enumerate(row, start=1):
            place = {"image_id": "i", "receipt_id": 1, "line_id": line, "word_id": number}
            box = {"x": 0.1 * number, "y": 1 - 0.04 * line, "width": 0.09, "height": 0.02}
            words.append(ReceiptWord.model_validate({**place, **box, "text": text}))
            for label, status in given_labels:
                labels.append(
                    ReceiptWordLabel.model_validate({**place, "label": label, "validation_status": status.value})
                )
    return StoredReceipt(receipt(**more), tuple(words), tuple(labels))


def page_of(*lines: Sequence[tuple[str, Sequence[Given]]], **more: object) -> tuple[Page, Notes]:
    page, notes = page_from_receipt(stored(lines, **more))
    assert page is not None
    return page, notes


def tag_of(*labels: Given) -> str:
    return page_of([("word", labels)])[0].tags[0]


@pytest.mark.parametrize(
    ("labels", "tag"),
    [
        ([], "O"),
        ([("DATE", VALID)], "B-DATE"),
        ([("DATE", INVALID)], "O"),
        ([("DATE", PENDING)], "-"),
        ([("DATE", NEEDS_REVIEW)], "-"),
        ([("DATE", NONE)], "-"),
        ([("DATE", INVALID), ("TIME", PENDING)], "-"),
        ([("DATE", PENDING), ("TIME", VALID)], "B-TIME"),
        ([("TIME", VALID), ("DATE", INVALID), ("TAX", NEEDS_REVIEW)], "B-TIME"),
        ([("DATE", VALID), ("TIME", VALID)], "-"),
        ([("ADDRESS", VALID), ("ADDRESS_LINE", VALID)], "B-ADDRESS_LINE"),
        ([("O", VALID)], "O"),
        ([("O", NEEDS_REVIEW)], "-"),
        ([("no tag!", VALID)], "-"),
    ],
)
def test_the_labels_of_a_word_decide_its_tag_in_whatever_order_they_come(labels: list[Given], tag: str) -> None:
    assert tag_of(*labels) == tag_of(*reversed(labels)) == tag


def test_two_valid_labels_are_reported_and_the_word_is_left_out() -> None:
    page, notes = page_of([("9.00", [("TAX", VALID), ("GRAND_TOTAL", VALID)]), ("x", [("DATE", PENDING)])])

    assert page.tags == ("-", "-")
    assert notes.conflicts == ("page i-00001, line 1, word 1: GRAND_TOTAL and TAX are both VALID",)
    assert notes.undecided_words == 2


def test_aliases_become_core_labels_and_are_counted() -> None:
    line = [
        (text, [(name, VALID)]) for text, name in (("a", "BUSINESS_NAME"), ("b", "CARD_NUMBER"), ("c", "CARD_NUMBER"))
    ]
    page, notes = page_of(line, [("d", [("PAYMENT_TYPE", PENDING)])])

    assert page.tags == ("B-MERCHANT_NAME", "B-PAYMENT_METHOD", "I-PAYMENT_METHOD", "-")
    assert notes.aliases == {"BUSINESS_NAME": 1, "CARD_NUMBER": 2}


def words(text: str, label: str) -> list[tuple[str, list[Given]]]:
    return [(word, [(label, VALID)]) for word in text.split()]


def test_an_entity_goes_on_along_a_printed_line_and_ends_where_something_else_stands() -> None:
    page, _ = page_of([*words("ice cream", "PRODUCT_NAME"), ("x", []), *words("cake", "PRODUCT_NAME")])
    assert page.tags == ("B-PRODUCT_NAME", "I-PRODUCT_NAME", "O", "B-PRODUCT_NAME")


def test_two_line_totals_on_consecutive_lines_are_two_and_an_address_over_three_lines_is_one() -> None:
    totals, _ = page_of(words("9.00", "LINE_TOTAL"), words("7.00", "LINE_TOTAL"))
    assert totals.tags == ("B-LINE_TOTAL", "B-LINE_TOTAL")

    address, _ = page_of(*(words(line, "ADDRESS") for line in ("1 High St", "Springfield", "USA")))
    assert [tag[0] for tag in address.tags] == ["B", "I", "I", "I", "I"]


def test_the_labels_that_go_on_over_a_line_break_can_be_added_to() -> None:
    lines = (words("ice", "PRODUCT_NAME"), words("cream", "PRODUCT_NAME"), words("9.00", "LINE_TOTAL"))
    assert page_of(*lines)[0].tags == ("B-PRODUCT_NAME", "B-PRODUCT_NAME", "B-LINE_TOTAL")
    page, _ = page_from_receipt(stored(lines), {*CONTINUES_OVER_LINES, "PRODUCT_NAME"})
    assert page is not None
    assert page.tags == ("B-PRODUCT_NAME", "I-PRODUCT_NAME", "B-LINE_TOTAL")


def test_subtotal_and_tax_side_by_side_are_two_amounts_after_the_merge() -> None:
    page, _ = page_of([*words("9.00", "SUBTOTAL"), *words("0.54", "TAX")], words("9.54", "GRAND_TOTAL"))
    label_map = build_label_map(WordLabelsConfig(merge_amounts=True), [tag[2:] for tag in page.tags])
    assert label_map.apply(page.tags) == ("B-AMOUNT", "B-AMOUNT", "B-AMOUNT")


labels_of_a_line = st.lists(st.sampled_from(["LINE_TOTAL", "ADDRESS_LINE", "DATE", ""]), min_size=1, max_size=4)


@given(st.lists(labels_of_a_line, min_size=1, max_size=12), st.integers(0, 2**32).map(random.Random))
def test_order_and_entities_depend_neither_on_jitter_nor_on_the_numbers_of_the_words(
    labels_of_lines: list[list[str]], generator: random.Random
) -> None:
    rows = [
        [(f"{line}/{place}", [(label, VALID)] if label else []) for place, label in enumerate(labels)]
        for line, labels in enumerate(labels_of_lines)
    ]
    given_receipt = stored(rows)
    numbers = generator.sample(range(1, 999), len(given_receipt.words))
    new = {
        (word.line_id, word.word_id): {"line_id": number}
        for word, number in zip(given_receipt.words, numbers, strict=True)
    }

    def moved(word: ReceiptWord) -> ReceiptWord:
        place = {side: getattr(word, side) + generator.uniform(-0.003, 0.003) for side in "xy"}
        return word.model_copy(update={**place, **new[word.line_id, word.word_id]})

    page, _ = page_from_receipt(
        StoredReceipt(
            receipt(),
            tuple(moved(word) for word in generator.sample(given_receipt.words, len(given_receipt.words))),
            tuple(label.model_copy(update=new[label.line_id, label.word_id]) for label in given_receipt.labels),
        )
    )
    assert page is not None
    assert page.words == tuple(text for row in rows for text, _ in row)
    assert page.tags == tuple(expected_tags(labels_of_lines))


def expected_tags(labels_of_lines: list[list[str]]) -> Iterator[str]:
    before = ""
    for labels in labels_of_lines:
        for place, label in enumerate(labels):
            goes_on = label == before and (place > 0 or label == "ADDRESS_LINE")
            yield f"{'I' if goes_on else 'B'}-{label}" if label else "O"
            before = label


def test_an_address_that_another_line_cuts_is_two() -> None:
    page, _ = page_of(words("High St", "ADDRESS_LINE"), [("TEL", [])], words("USA", "ADDRESS_LINE"))
    assert page.tags == ("B-ADDRESS_LINE", "I-ADDRESS_LINE", "O", "B-ADDRESS_LINE")


def test_words_come_in_reading_order_whatever_their_numbers() -> None:
    mixed = stored([[("a", []), ("b", [("DATE", VALID)])], [("c", [])]])
    shuffled = StoredReceipt(
        mixed.receipt,
        tuple(word.model_copy(update={"line_id": 9 - word.line_id}) for word in reversed(mixed.words)),
        tuple(label.model_copy(update={"line_id": 9 - label.line_id}) for label in mixed.labels),
    )
    page, _ = page_from_receipt(shuffled)
    assert page is not None
    assert (page.words, page.tags) == (("a", "b", "c"), ("O", "B-DATE", "O"))


def test_shares_from_the_bottom_left_become_thousandths_from_the_top_left() -> None:
    word = ReceiptWord(
        image_id="i", receipt_id=1, line_id=1, word_id=1, text="x", x=0.1, y=0.7, width=0.25, height=0.05
    )
    page, notes = page_from_receipt(StoredReceipt(receipt(), (word,), ()))
    assert page is not None
    assert (page.boxes, notes.moved_boxes) == (((100, 250, 350, 300),), 0)


@pytest.mark.parametrize(("x", "moved"), [(-0.004, 0), (-0.3, 1)])
def test_a_box_over_the_edge_is_cut_and_counted_when_it_is_far_off(x: float, moved: int) -> None:
    word = ReceiptWord(image_id="i", receipt_id=1, line_id=1, word_id=1, text="x", x=x, y=0.99, width=0.5, height=0.01)
    page, notes = page_from_receipt(StoredReceipt(receipt(), (word,), ()))
    assert page is not None
    assert page.boxes[0][:2] == (0, 0)
    assert notes.moved_boxes == moved


def test_blank_words_and_labels_without_a_word_are_left_out_and_counted() -> None:
    given_receipt = stored([[("a", []), (" ", [("DATE", VALID)])]])
    orphan = given_receipt.labels[0].model_copy(update={"line_id": 7})
    page, notes = page_from_receipt(StoredReceipt(receipt(), given_receipt.words, (*given_receipt.labels, orphan)))
    assert page is not None
    assert (page.words, notes.blank_words, notes.labels_without_word) == (("a",), 1, 1)
    assert page_from_receipt(StoredReceipt(receipt(), (), ()))[0] is None


def test_the_group_is_the_merchant_else_its_printed_name_else_the_page() -> None:
    printed = [*words("JOE'S  DINER", "MERCHANT_NAME"), ("x", [])]
    assert page_of(printed, merchant_name="Joe's Place #12")[0].group == "joe s place 12"
    assert page_of(printed, words("JOE", "MERCHANT_NAME"))[0].group == "joe s diner"
    assert page_of([("x", [])])[0].group == "i-00001"


def test_notes_add_up() -> None:
    one = Notes(aliases={"ADDRESS": 1}, conflicts=("a",), blank_words=1)
    two = Notes(aliases={"ADDRESS": 2, "CARD_NUMBER": 1}, conflicts=("b",), blank_words=2, moved_boxes=3)
    assert one + two == Notes(
        aliases={"ADDRESS": 3, "CARD_NUMBER": 1}, conflicts=("a", "b"), blank_words=3, moved_boxes=3
    )


# pages -> records -> pages

boxes = st.tuples(*[st.integers(0, 1000)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """Pages of any order and any IOB2 tags, unlabelled words among them."""
    count = draw(st.integers(1, 12))
    tags: list[str] = []
    for _ in range(count):
        goes_on = f"I{tags[-1][1:]}" if tags and tags[-1][0] in "BI" else "O"
        tags.append(draw(st.sampled_from(["O", "-", "B-DATE", "B-TAX", goes_on])))
    return Page(
        page_id=draw(st.sampled_from(["000", "päge", "a#b"])),
        group=draw(st.sampled_from(["Shop 1", "000"])),
        words=tuple(draw(st.sampled_from(["TOTAL", "9.00", "Ü"])) for _ in range(count)),
        boxes=tuple(draw(boxes) for _ in range(count)),
        tags=tuple(tags),
        width=463,
        height=1013,
        image=draw(st.sampled_from([None, "ab"])),
    )


@given(pages(), st.randoms(use_true_random=False))
def test_a_page_comes_back_from_its_records_with_order_boxes_and_every_entity(page: Page, random: object) -> None:
    records = receipt_from_page(page, NOW)
    words = list(records.words)
    random.shuffle(words)  # type: ignore[attr-defined]
    assert page_from_receipt(StoredReceipt(records.receipt, tuple(words), records.labels))[0] == page


@given(pages())
def test_every_page_with_a_decided_word_has_a_valid_label_to_be_found_by(page: Page) -> None:
    labels = receipt_from_page(page, NOW).labels
    assert any(label.validation_status is VALID for label in labels) == any(tag != "-" for tag in page.tags)


@given(pages())
def test_lines_and_words_are_numbered_from_1_in_the_order_of_the_page(page: Page) -> None:
    numbers = [(word.line_id, word.word_id) for word in receipt_from_page(page, NOW).words]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == (1, 1)
