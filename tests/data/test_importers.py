"""Pages from the formats that people have: what becomes a word, an entity and a label, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from receipt_layoutlm.data.importers import FORMATS, ImportReport, import_pages, load_format
from receipt_layoutlm.data.importers.label_table import check_all_used, core_table, own_table, read_label_map
from receipt_layoutlm.data.labels import CORE_LABELS, LabelError
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import read_jsonl
from tests.support.paths import FIXTURES, SHARED
from tests.support.spans import page_in_reading_order


def refuse(error: DataError) -> None:
    raise error


def read(name: str, path: Path, label_map: dict[str, str] | None = None) -> tuple[dict[str, Page], ImportReport]:
    table = core_table(load_format(name).labels, label_map or {})
    pages, report = import_pages(name, [path], table, refuse)
    return {page.page_id: page for page in pages}, report


def read_own(name: str, path: Path) -> tuple[dict[str, Page], ImportReport]:
    pages, report = import_pages(name, [path], own_table(load_format(name).own_labels, {}), refuse)
    return {page.page_id: page for page in pages}, report


def entities(page: Page) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word, tag in zip(page.words, page.tags, strict=True):
        if tag[0] == "B":
            found.append((tag[2:], word))
        elif tag[0] == "I":
            found[-1] = (tag[2:], f"{found[-1][1]} {word}")
    return found


def copied(tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(FIXTURES / name, tmp_path / name))


def test_sroie_values_become_entities_though_ocr_misread_them() -> None:
    pages, _ = read("sroie", FIXTURES / "sroie")
    assert entities(pages["000"]) == [
        ("MERCHANT_NAME", "PASAR M1NI LESTARI"),
        ("ADDRESS_LINE", "NO 5, JALAN BUNGA 7/2, 40000 SHAH ALAM, SELANGOR"),
        ("DATE", "DATE:12/03/2018"),
        ("GRAND_TOTAL", "RM10.00"),
    ]
    assert entities(pages["001"]) == [("DATE", "05 MAR 2018")]


def test_sroie_texts_keep_their_commas_and_quotation_marks_and_sizes_come_from_the_image() -> None:
    pages, report = read("sroie", FIXTURES / "sroie")
    page = pages["000"]
    clay = page.words.index('6"')
    assert page.words[clay : clay + 4] == ('6"', "CLAY", "POT,", "RED")
    assert (page.width, page.height, page.group) == (400, 900, "pasar mini lestari")
    assert page.boxes[clay] == (150, 222, 225, 244)
    assert (pages["001"].width, pages["001"].height) == (180, 90), "without an image the boxes' extent"
    assert (report.blank_texts, report.guessed_sizes) == (1, 1)


def test_sroie_reports_how_many_values_were_found() -> None:
    matches = read("sroie", FIXTURES / "sroie")[1].matches
    told = {name: (found.given, found.exact, found.approximate, found.missing_on) for name, found in matches.items()}
    assert told == {
        "company": (2, 0, 1, ("001",)),
        "date": (2, 1, 1, ()),
        "address": (1, 1, 0, ()),
        "total": (1, 1, 0, ()),
    }
    assert matches["company"].rate == 0.5


def test_cord_values_are_labelled_their_captions_are_not() -> None:
    pages, report = read("cord", FIXTURES / "cord")
    assert entities(pages["cord-train-00000"]) == [
        ("QUANTITY", "2"),
        ("PRODUCT_NAME", "NASI GORENG"),
        ("LINE_TOTAL", "20.000"),
        ("TAX", "1.000"),
        ("GRAND_TOTAL", "21.000"),
        ("PAYMENT_METHOD", "TUNAI"),
        ("CHANGE", "29.000"),
    ]
    assert report.dropped["sub_total.service_price"] == 1
    assert sum(report.dropped.values()) == sum(report.renamed["O"].values())


def test_cord_cuts_what_sticks_out_of_the_image_and_says_so() -> None:
    pages, report = read("cord", FIXTURES / "cord" / "dev")
    assert pages["cord-dev-00000"].boxes[-1] == (750, 500, 1000, 525)
    assert (report.cut_words, report.blank_texts) == (1, 0)


def test_cord_rows_hold_the_same_annotation_as_text() -> None:
    rows, _ = read("cord", FIXTURES / "cord_v2")
    files, _ = read("cord", FIXTURES / "cord" / "train")
    assert rows["cord-train-00000"] == files["cord-train-00000"]
    assert sorted(rows) == ["cord-train-00000", "cord-train-00001"]


def test_cord_rows_are_read_from_a_list_and_from_parquet(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (FIXTURES / "cord_v2/train.jsonl").read_text().splitlines()]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    expected, _ = read("cord", FIXTURES / "cord_v2")
    assert read("cord", tmp_path / "rows.json")[0] == expected

    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"ground_truth": [row["ground_truth"] for row in rows], "image": [b"", b""]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "train-00000-of-00001.parquet")
    assert read("cord", tmp_path)[0] == expected


def test_own_labels_of_cord_have_the_caption_inside_of_the_entity() -> None:
    pages, report = read_own("cord", FIXTURES / "cord" / "train")
    assert ("total.total_price", "TOTAL 21.000") in entities(pages["cord-train-00000"])
    assert report.dropped == {}


def test_funsd_blocks_become_entities() -> None:
    pages, report = read("funsd", FIXTURES / "funsd")
    page = pages["0000971160"]
    assert entities(page) == [
        ("HEADER", "PURCHASE ORDER"),
        ("QUESTION", "Date:"),
        ("ANSWER", "May 3, 1988"),
        ("QUESTION", "Buyer:"),
    ]
    assert (page.width, page.height, page.words[-1], page.tags[-1]) == (300, 400, "7", "O")
    assert report.dropped == {}, "'other' means that a block has no label"


XFUND = {
    "lang": "de",
    "documents": [
        {
            "id": "de_train_0",
            "uid": "0",
            "img": {"fname": "de_train_0.jpg", "width": 1000, "height": 2000},
            "document": [
                {
                    "id": 0,
                    "text": "Name:",
                    "box": [100, 200, 190, 240],
                    "label": "question",
                    "linking": [[0, 1]],
                    "words": [{"text": "Name:", "box": [100, 200, 190, 240]}],
                },
                {
                    "id": 1,
                    "text": "Erika Muster",
                    "box": [300, 200, 500, 240],
                    "label": "ANSWER",
                    "linking": [],
                    "words": [
                        {"text": "Erika", "box": [300, 200, 390, 240]},
                        {"text": "Muster", "box": [400, 200, 500, 240]},
                    ],
                },
                {
                    "label": "other",
                    "words": [{"text": "7", "box": [900, 1900, 920, 1940]}, {"text": " ", "box": [0] * 4}],
                },
            ],
        },
        {"id": "de_train_1", "img": {"width": 0, "height": 5}, "document": []},
    ],
}


def test_xfund_documents_of_one_file_become_pages_and_a_bad_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "de.train.json").write_text(json.dumps(XFUND))
    bad: list[DataError] = []
    table = core_table(load_format("xfund").labels, {})

    (page,), report = import_pages("xfund", [tmp_path], table, bad.append)

    assert entities(page) == [("QUESTION", "Name:"), ("ANSWER", "Erika Muster")]
    assert (page.page_id, page.width, page.height, page.tags[-1]) == ("de_train_0", 1000, 2000, "O")
    assert page.boxes[0] == (100, 100, 190, 120)
    assert report.blank_texts == 1
    assert [str(error) for error in bad] == [
        f"{tmp_path / 'de.train.json'}: document 2: img.width: Input should be greater than 0"
    ]


def test_wildreceipt_pieces_of_an_address_are_one_entity_and_items_are_not() -> None:
    pages, report = read("wildreceipt", FIXTURES / "wildreceipt")
    assert entities(pages["Image_16/11/aa01"]) == [
        ("MERCHANT_NAME", "CORNER MARKET"),
        ("ADDRESS_LINE", "12 HIGH ST SPRINGFIELD"),
        ("PHONE_NUMBER", "703-555-0101"),
        ("PRODUCT_NAME", "CUPCAKES"),
        ("LINE_TOTAL", "3.99"),
        ("PRODUCT_NAME", "MILK"),
        ("LINE_TOTAL", "1.50"),
        ("GRAND_TOTAL", "5.49"),
    ]
    assert [page.group for page in pages.values()] == ["corner market", "Image_16/11/aa02"]
    assert report.dropped == {"Tax_key": 1, "Total_key": 1}


def test_wildreceipt_without_its_class_list_counts_by_the_published_one(tmp_path: Path) -> None:
    folder = copied(tmp_path, "wildreceipt")
    expected, _ = read("wildreceipt", folder)
    (folder / "class_list.txt").unlink()
    assert read("wildreceipt", folder)[0] == expected


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "jsonl"])
def test_every_format_maps_to_core_labels_or_to_its_own_few(name: str) -> None:
    targets = set(load_format(name).labels.values()) - {"O"}
    assert targets <= set(CORE_LABELS) or targets == {"QUESTION", "ANSWER", "HEADER"}


@pytest.mark.parametrize("name", ["sroie", "cord", "funsd", "wildreceipt"])
def test_pages_are_in_reading_order_and_reports_add_up(name: str) -> None:
    pages, report = read(name, FIXTURES / name)
    assert all(page_in_reading_order(page) == page for page in pages.values())
    assert (report.pages, report.words) == (len(pages), sum(len(page.words) for page in pages.values()))
    renamed = {ours: sum(names.values()) for ours, names in report.renamed.items() if ours != "O"}
    assert renamed == report.entities


def test_jsonl_keeps_labels_order_image_and_unlabelled_words(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    line = {"id": "1", "words": ["b", "a", "c"], "bboxes": [[500, 0, 600, 9], [0, 0, 90, 9], [0, 50, 9, 60]]}
    path.write_text(json.dumps({**line, "labels": ["B-MINE", "I-MINE", "-"], "image": "abc", "width": 7}) + "\n")
    pages, report = read_own("jsonl", path)
    assert list(pages.values()) == read_jsonl(path)
    assert report.entities == {"MINE": 1}


# label maps


def test_a_label_map_renames_drops_and_leaves_unlabelled() -> None:
    label_map = {"Total_value": "O", "Tel_value": "WEBSITE", "Others": "-"}
    pages, report = read("wildreceipt", FIXTURES / "wildreceipt", label_map)
    assert report.dropped["Total_value"] == 1 and report.entities["WEBSITE"] == 1
    assert pages["Image_16/11/aa01"].tags[-2:] == ("-", "-")


def test_an_unknown_label_is_an_error_with_its_place_and_the_nearest_known_one(tmp_path: Path) -> None:
    folder = copied(tmp_path, "cord")
    path = folder / "dev/json/receipt_00000.json"
    path.write_text(path.read_text().replace("total.total_price", "total.totalprice"))
    with pytest.raises(LabelError, match=r"00000\.json: unknown label total\.totalprice; did you mean total\.t"):
        read("cord", folder)
    assert read_own("cord", folder)[1].entities["total.totalprice"] == 1


@pytest.mark.parametrize(
    ("label_map", "reason"),
    [
        ({"total": "GRANDTOTAL"}, "did you mean GRAND_TOTAL"),
        ({"totl": "O"}, "has an unknown label totl; did you mean total"),
    ],
)
def test_a_label_map_with_a_slip_is_refused(label_map: dict[str, str], reason: str) -> None:
    with pytest.raises(LabelError, match=reason):
        core_table(load_format("sroie").labels, label_map)
        check_all_used(label_map, load_format("sroie").labels)


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', "{", '{"a": null}'])
def test_a_file_that_is_no_label_map_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"map\.json"):
        read_label_map(path)


def test_a_name_that_cannot_be_a_label_is_refused() -> None:
    with pytest.raises(LabelError, match="map it to a name of letters"):
        own_table({}, {})("två ord")


# what is refused


BAD = [
    ("sroie", "box/000.csv", "1,2,3,4,5,6,7,x,TEXT\n", "000.csv:1: is not x1,y1"),
    ("sroie", "box/000.csv", "1,2,3,4,5,6,7\n", "000.csv:1: is not x1,y1"),
    ("sroie", "box/000.csv", "1,2,3,4,5,6,7,nan,TEXT\n", "000.csv:1: is not x1,y1"),
    ("sroie", "box/000.csv", "", "000.csv: the page has no words"),
    ("sroie", "box/000.csv", "900,950,990,950,990,990,900,990,TEXT\n", "lie outside of the image"),
    ("sroie", "key/000.json", '{"company": [3]}', "000.json: company: "),
    ("sroie", "key/000.json", '{"merchant": "x"}', "none of company, date, address and total, but merchant"),
    ("cord", "dev/json/receipt_00000.json", "{\n\n nonsense", "receipt_00000.json:3: is not JSON"),
    (
        "cord",
        "dev/json/receipt_00000.json",
        '{"valid_line": []}',
        "meta: Field required; is this a file of this format",
    ),
    ("cord", "dev/json/receipt_00000.json", "[3]", "receipt_00000.json:1: "),
    ("cord_v2", "train.jsonl", '{"ground_truth": "{}"}\n', "train.jsonl:1: meta"),
    ("funsd", "training_data/annotations/0000971160.json", '{"form": [{"label": "other"}]}', "form.0.words"),
    ("wildreceipt", "train.txt", "\n[]\n", "train.txt:2: "),
    ("wildreceipt", "class_list.txt", "Ignore\n", "class_list.txt:1: is not a class number"),
    ("wildreceipt", "class_list.txt", "0 Ignore\n", "train.txt:1: annotations.0.label: class 1 is not in class_list"),
]


@pytest.mark.parametrize(("name", "file", "content", "reason"), BAD)
def test_one_bad_file_refuses_the_import_and_says_where_and_why(
    tmp_path: Path, name: str, file: str, content: str, reason: str
) -> None:
    folder = copied(tmp_path, name)
    (folder / file).write_text(content)
    with pytest.raises(DataError) as caught:
        read(name.removesuffix("_v2"), folder)
    assert reason in str(caught.value)


def test_a_page_id_that_comes_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    first, second = copied(tmp_path / "a", "funsd"), copied(tmp_path / "b", "funsd")
    table = core_table(load_format("funsd").labels, {})
    with pytest.raises(DataError, match=r"b/funsd.*'0000971160' is already used in .*a/funsd"):
        import_pages("funsd", [first, second], table, refuse)


def test_bad_lines_can_be_passed_over_one_by_one(tmp_path: Path) -> None:
    folder = copied(tmp_path, "cord_v2")
    good = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join(["{}", good[0], '{"ground_truth": 3}', good[1], good[1]]))
    passed: list[DataError] = []

    pages, report = import_pages("cord", [folder], core_table(load_format("cord").labels, {}), passed.append)

    assert len(pages) == 2
    assert [error.line for error in passed] == [1, 3, 5]
    assert report.skipped == tuple(map(str, passed))


def test_an_import_without_a_usable_page_is_an_error_though_bad_ones_are_passed_over(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a SROIE folder"):
        import_pages("sroie", [tmp_path], core_table(load_format("sroie").labels, {}), lambda error: None)


def test_a_folder_without_the_formats_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no annotations/\*\.json"):
        read("funsd", tmp_path)


def test_a_label_map_does_not_excuse_bad_bytes(tmp_path: Path) -> None:
    folder = copied(tmp_path, "wildreceipt")
    (folder / "train.txt").write_bytes(b"\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"train\.txt:2: is not UTF-8"):
        read("wildreceipt", folder)


# the real receipts


needs_receipts = pytest.mark.skipif(not (SHARED / "sroie_raw").is_dir(), reason="the raw receipts are not here")


@needs_receipts
def test_values_of_real_receipts_are_found_and_their_pages_are_valid_and_in_reading_order() -> None:
    pages, report = read("sroie", SHARED / "sroie_raw")
    # measured: 12 of 12, 12 of 12, 12 of 12 and 11 of 11
    assert {name: found.given for name, found in report.matches.items()} == {
        "company": 12,
        "date": 12,
        "address": 12,
        "total": 11,
    }
    assert all(found.rate >= 0.9 for found in report.matches.values())
    assert len(pages) == 12 and report.cut_words == 0
    assert all(page_in_reading_order(page) == page for page in pages.values())


@needs_receipts
@pytest.mark.skipif(not (SHARED / "sroie").is_dir(), reason="the labelled pages are not here")
def test_real_receipts_are_labelled_as_in_an_independent_labelling_of_them() -> None:
    pages, _ = read("sroie", SHARED / "sroie_raw")
    labelled = {page.page_id: page_in_reading_order(page) for page in read_jsonl(SHARED / "sroie" / "dev.jsonl")}

    same = [tag == other for id_ in pages for tag, other in zip(pages[id_].tags, labelled[id_].tags, strict=True)]

    assert all(pages[id_].words == labelled[id_].words for id_ in pages)
    assert all(pages[id_].boxes == labelled[id_].boxes for id_ in pages)
    # measured: 1,477 of 1,477 words
    assert sum(same) / len(same) >= 0.99
