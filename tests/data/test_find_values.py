"""Values as a spreadsheet has them are found among words as OCR reads them, or left in doubt."""

from datetime import date
from decimal import Decimal

import pytest

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.importers.find_values import Document, GivenValue, Placement
from receipt_layoutlm.data.page import Box


def document(*lines: str) -> Document:
    """A line every 40 thousandths, letters 10 wide and 16 high; one that begins with `!` is twice as high."""
    words: list[str] = []
    boxes: list[Box] = []
    for number, line in enumerate(lines):
        x, height = 10, 32 if line.startswith("!") else 16
        for word in line.lstrip("!").split():
            words.append(word)
            boxes.append((x, 40 * number, x + 10 * len(word), 40 * number + height))
            x += 10 * len(word) + 10
    return Document([(words, boxes)])


def find(label: str, value: GivenValue, *lines: str, order: DateOrder | None = "dmy") -> tuple[list[str], Placement]:
    """The texts with the label, and the placement."""
    page = document(*lines)
    placement = page.find(label, value, order)
    return [" ".join(page.words[begin:end]) for begin, end in placement.spans], placement


def doubtful(label: str, value: GivenValue, *lines: str, order: DateOrder | None = "dmy") -> list[str]:
    page = document(*lines)
    return [page.words[index] for index in sorted(page.find(label, value, order).doubtful)]


@pytest.mark.parametrize(
    ("lines", "found", "how"),
    [
        (("ACME STORES SDN BHD",), "ACME STORES SDN BHD", "exact"),
        (("Acme Stores Sdn. Bhd. (12-X)",), "Acme Stores Sdn. Bhd.", "exact"),
        (("ACMESTORES SDNBHD",), "ACMESTORES SDNBHD", "exact"),
        (("AC ME STO RES", "SDN BHD"), "AC ME STO RES SDN BHD", "exact"),
        (("ACM3 ST0RES 5DN BHD",), "ACM3 ST0RES 5DN BHD", "approximate"),
        (("ACHE STORFS SDN BHO",), "ACHE STORFS SDN BHO", "approximate"),
        (("BETA MART SDN BHD",), None, "missing"),
    ],
)
def test_a_text_is_found_as_ocr_spells_joins_and_divides_it(
    lines: tuple[str, ...], found: str | None, how: str
) -> None:
    texts, placement = find("MERCHANT_NAME", "ACME STORES SDN BHD", "WELCOME TO", *lines, "TEL 1234")
    assert (texts, placement.how) == ([found] if found else [], how)


def test_an_address_over_several_lines_is_one_place() -> None:
    texts, _ = find(
        "ADDRESS_LINE",
        "No 5, Jalan Sagu 18, 81100 Johor Bahru",
        "ACME",
        "NO 5, JALAN",
        "SAGU 18,",
        "81100 J0HOR BAHRU",
        "TEL 1",
    )
    assert texts == ["NO 5, JALAN SAGU 18, 81100 J0HOR BAHRU"]


def test_of_copies_of_a_text_the_topmost_is_taken_and_the_others_are_in_doubt() -> None:
    lines = ("ACME STORES", "TOTAL 9.00", "THANK YOU ACME STORES")
    texts, placement = find("MERCHANT_NAME", "Acme Stores", *lines)
    assert (texts, placement.spans[0].begin) == (["ACME STORES"], 0)
    assert doubtful("MERCHANT_NAME", "Acme Stores", *lines) == ["ACME", "STORES"]


def test_a_short_text_at_several_places_is_ambiguous() -> None:
    texts, placement = find("QUANTITY", "2", "2 X BREAD", "1 X BUTTER", "TABLE 2")
    assert (texts, placement.how, len(placement.doubtful)) == ([], "ambiguous", 2)


@pytest.mark.parametrize(
    "printed",
    [
        "25/12/2018", "25-12-18", "25.12.2018", "2018-12-25", "20181225", "25 DEC 2018", "25DEC18",
        "25th December 2018", "Dec 25, 2018", "DATE:25/12/2018", "25/12/201808:13", "25 / 12 / 2018", "2S/l2/2O18",
        "25112/2018", "[25/12/18]", "25/12/2018-08.13:00", "20181225/081300", "25~12-18",
    ],
)  # fmt: skip
def test_a_date_is_found_in_every_form_and_as_ocr_misreads_it(printed: str) -> None:
    texts, placement = find("DATE", date(2018, 12, 25), "ACME", f"Tarikh {printed} 08:13", "TOTAL 25.12")
    assert placement.how == "exact"
    assert texts and texts[0] in f"Tarikh {printed} 08:13"


@pytest.mark.parametrize("printed", ["125/12/2018", "25/12/2019", "12/25/2018", "25/12/20181", "25-12-2018-7", "2512"])
def test_what_is_another_date_or_a_code_is_not_found(printed: str) -> None:
    assert find("DATE", date(2018, 12, 25), printed)[1].how == "missing"


def test_every_place_of_a_date_gets_the_label_and_a_misread_copy_is_in_doubt() -> None:
    lines = ("25/12/2018", "INVOICE 001-25/12/2018", "25/12/2O18", "PRINTED 25/12/2C18")
    texts, _ = find("DATE", date(2018, 12, 25), *lines)
    assert texts == ["25/12/2018", "25/12/2O18"]
    assert doubtful("DATE", date(2018, 12, 25), *lines) == ["001-25/12/2018", "25/12/2C18"]


def test_day_and_month_are_exchanged_only_where_receipts_print_them_so() -> None:
    value = date(2018, 2, 1)
    assert find("DATE", value, "01/02/2018", order="dmy")[0] == ["01/02/2018"]
    assert find("DATE", value, "02/01/2018", order="dmy")[1].how == "missing"
    assert find("DATE", value, "02/01/2018", order="mdy")[0] == ["02/01/2018"]
    assert find("DATE", value, "01/02/2018", "02/01/2018", order=None)[1].how == "ambiguous"


@pytest.mark.parametrize(
    "printed",
    ["1,234.50", "RM1,234.50", "1234.50", "1.234,50", "1 234.50", "1,234. 50", "l,234.5O", "$1,234.50", "1'234.50"],
)
def test_an_amount_is_found_in_every_form_and_as_ocr_misreads_it(printed: str) -> None:
    texts, placement = find("GRAND_TOTAL", Decimal("1234.5"), f"TOTAL: {printed}", "ITEMS 12")
    assert placement.how == "exact"
    assert texts[0] in printed


@pytest.mark.parametrize("printed", ["11234.50", "1234.505", "1234.50%", "1234.51", "-1234.50"])
def test_what_is_another_amount_is_not_found(printed: str) -> None:
    assert find("GRAND_TOTAL", Decimal("1234.5"), f"TOTAL {printed}")[1].how == "missing"


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (("BREAD 9.00", "TOTAL 9.00", "CASH 9.00"), 1),
        (("SUBTOTAL 9.00", "TAX 0.00", "TOTAL 9.00"), 2),
        (("BREAD 9.00", "TUTAL 9.00", "VISA 9.00"), 1),  # misread in a letter
        (("TOTAL INCL.GST@6% 9.00", "CASH 9.00"), 0),
        (("BREAD 9.00", "AMOUNT TO BE PAID 9.00"), 1),
        (("TOTAL 9.00", "!TOTAL 9.00", "TOTAL 9.00"), 1),  # the largest
        (("TOTAL 9.00", "ROUNDED TOTAL 9.00"), 1),  # the last
        (("BREAD 5.00", "9.00"), 1),
    ],
)
def test_of_equal_amounts_the_one_with_the_caption_is_the_total(lines: tuple[str, ...], line: int) -> None:
    page = document(*lines)
    ((begin, end),) = page.find("GRAND_TOTAL", Decimal("9"), None).spans
    assert page.lines[line].begin <= begin < end <= page.lines[line].end


@pytest.mark.parametrize("lines", [("BREAD 9.00", "BUTTER 9.00"), ("SUBTOTAL 9.00", "CASH 9.00"), ("CASH 9.00",)])
def test_a_total_without_its_caption_is_left_in_doubt_with_all_its_places(lines: tuple[str, ...]) -> None:
    texts, placement = find("GRAND_TOTAL", Decimal("9.00"), *lines)
    assert (texts, placement.how) == ([], "ambiguous")
    assert doubtful("GRAND_TOTAL", Decimal("9.00"), *lines) == ["9.00"] * len(lines)


def test_equal_amounts_of_several_labels_are_told_by_their_captions() -> None:
    lines = ("SUBTOTAL 9.00", "GST 9.00", "CHANGE 9.00", "TOTAL 9.00")
    for number, label in enumerate(("SUBTOTAL", "TAX", "CHANGE", "GRAND_TOTAL")):
        (span,) = document(*lines).find(label, Decimal("9"), None).spans
        assert span.begin == 2 * number + 1


@pytest.mark.parametrize(
    ("value", "lines", "found"),
    [
        ("45000", ("TOTAL Rp 45.000",), ["45.000"]),
        ("9", ("QTY 9", "TOTAL 9"), ["9"]),
        ("9", ("QTY 9", "9 X BREAD"), []),  # quantities
        ("12.50", ("ITEM 1250", "TOTAL 1250"), ["1250"]),  # the point was not read
    ],
)
def test_an_amount_without_decimals_needs_a_caption_or_some_digits(
    value: str, lines: tuple[str, ...], found: list[str]
) -> None:
    assert find("GRAND_TOTAL", Decimal(value), *lines)[0] == found


def test_values_are_found_on_every_page_of_a_document() -> None:
    first = (["ACME", "STORES"], [(10, 10, 60, 30), (70, 10, 120, 30)])
    second = (["9.00", "TOTAL"], [(500, 10, 560, 30), (10, 10, 60, 30)])  # not in reading order
    page = Document([first, second])

    (span,) = page.find("GRAND_TOTAL", Decimal("9.00"), None).spans
    tags = page.by_page([(0, "GRAND_TOTAL") if span.begin <= index < span.end else "O" for index in range(4)])

    assert tags == (("O", "O"), ("B-GRAND_TOTAL", "O"))
