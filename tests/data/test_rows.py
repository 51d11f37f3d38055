"""One page in every wrapping that people bring: lines, arrays, objects over several lines, columns, CSV by word."""

import json
from pathlib import Path

import pytest

from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import read_jsonl

PAGES: list[dict[str, object]] = [
    {
        "id": "1",
        "words": ["Shop", "Total", "9.00"],
        "bboxes": [[10, 10, 200, 30], [10, 50, 90, 70], [800, 50, 900, 70]],
        "labels": ["B-MERCHANT_NAME", "O", "B-GRAND_TOTAL"],
    },
    {
        "id": "2",
        "words": ["Cafe", "5"],
        "bboxes": [[10, 10, 200, 30], [800, 10, 900, 30]],
        "labels": ["B-MERCHANT_NAME", "O"],
    },
]
FEATURES = [
    {
        "name": "labels",
        "type": {"feature": {"names": ["O", "B-MERCHANT_NAME", "B-GRAND_TOTAL"], "_type": "ClassLabel"}},
    }
]


def read(tmp_path: Path, text: str, name: str = "pages.json") -> list[Page]:
    path = tmp_path / name
    path.write_text(text)
    return read_jsonl(path)


@pytest.fixture
def expected(tmp_path: Path) -> list[Page]:
    return read(tmp_path, "".join(json.dumps(page) + "\n" for page in PAGES), "expected.jsonl")


def numbered(page: dict[str, object]) -> dict[str, object]:
    names = {"O": 0, "B-MERCHANT_NAME": 1, "B-GRAND_TOTAL": 2}
    labels = page["labels"]
    assert isinstance(labels, list)
    return {**page, "labels": [names[label] for label in labels]}


WRAPPED = {
    "array": json.dumps(PAGES),
    "pretty array": json.dumps(PAGES, indent=2),
    "objects over several lines": "\n".join(json.dumps(page, indent=1) for page in PAGES),
    "under data": json.dumps({"version": "1", "data": PAGES}),
    "under rows, with class names": json.dumps(
        {"features": FEATURES, "rows": [{"row_idx": 0, "row": numbered(page)} for page in PAGES]}, indent=1
    ),
    "columns": json.dumps({key: [page[key] for page in PAGES] for key in PAGES[0]}),
    "columns of pandas": json.dumps({key: {str(n): page[key] for n, page in enumerate(PAGES)} for key in PAGES[0]}),
    "objects by id": json.dumps({str(page["id"]): {**page, "id": str(page["id"])} for page in PAGES}),
    "under documents": json.dumps({"documents": PAGES}),
    "sets": json.dumps({"train": PAGES[:1], "test": PAGES[1:]}),
    "boxes with names": json.dumps(
        [
            {**page, "bboxes": [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)) for box in page["bboxes"]]}
            for page in PAGES
        ]
    ),
    "lines with nulls and other fields": "\n".join(
        json.dumps({**page, "group": None, "width": None, "key": None, "image": {"bytes": None, "path": None}, "x": 1})
        for page in PAGES
    ),
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
def test_every_wrapping_gives_the_same_pages(tmp_path: Path, expected: list[Page], text: str) -> None:
    assert read(tmp_path, text) == expected


CSV = {
    "edges": "id,word,x0,y0,x1,y1,label\n{}",
    "semicolons": "page_id;text;xmin;ymin;xmax;ymax;tag\n{}",
    "tabs": "image\ttoken\tleft\ttop\tright\tbottom\tner_tag\n{}",
}


@pytest.mark.parametrize("header", CSV.values(), ids=CSV)
def test_csv_with_a_row_for_each_word_becomes_pages(tmp_path: Path, expected: list[Page], header: str) -> None:
    separator = next(sign for sign in ",;\t" if sign in header)
    rows = [
        separator.join(map(str, (page["id"], word, *box, tag)))
        for page in PAGES
        for word, box, tag in zip(page["words"], page["bboxes"], page["labels"], strict=True)  # type: ignore[call-overload]
    ]
    assert read(tmp_path, header.format("\n".join(rows)) + "\n", "pages.csv") == expected


def test_csv_with_a_box_in_one_column_and_blank_labels(tmp_path: Path, expected: list[Page]) -> None:
    text = (
        'id,word,box,label\n1,Shop,"[10, 10, 200, 30]",B-MERCHANT_NAME\n1,Total,"(10, 50, 90, 70)",\n'
        "1,9.00,800 50 900 70,B-GRAND_TOTAL\n"
    )
    assert read(tmp_path, text, "pages.csv") == expected[:1]


def test_csv_with_corner_and_size(tmp_path: Path, expected: list[Page]) -> None:
    text = "id,word,left,top,width,height,label\n2,Cafe,10,10,190,20,B-MERCHANT_NAME\n2,5,800,10,100,20,O\n"
    assert read(tmp_path, text, "pages.csv") == expected[1:]


def test_width_and_height_of_a_csv_convert_its_pixels(tmp_path: Path, expected: list[Page]) -> None:
    text = "id,word,x0,y0,x1,y1,label,width,height\n2,Cafe,20,20,400,60,B-MERCHANT_NAME,2000,2000\n"
    text += "2,5,1600,20,1800,60,O,2000,2000\n"
    assert [page.boxes for page in read(tmp_path, text, "pages.csv")] == [expected[1].boxes]


def test_a_row_of_a_csv_without_its_box_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pages.csv:3: has 3 numbers for the box"):
        read(tmp_path, "id,word,x0,y0,x1,y1,label\n1,a,1,2,3,4,O\n1,b,1,2,3,,O\n", "pages.csv")


def test_numbers_as_text_whole_floats_and_integer_ids_are_read(tmp_path: Path) -> None:
    line = {
        "id": 7,
        "words": ["Total", 9.5, None, 3],
        "bboxes": [["10", "10", "90", "30"], [100.0, 10, 150, 30], [0, 0, 1, 1], [[200, 10], [250, 30]]],
        "labels": ["O", "B-GRAND_TOTAL", None, "O"],
        "width": "800",
        "height": 1200.0,
        "group": 3,
    }
    page = read(tmp_path, json.dumps(line))[0]
    assert (page.page_id, page.group, page.words) == ("7", "3", ("Total", "9.5", "3"))
    assert page.boxes == ((10, 10, 90, 30), (100, 10, 150, 30), (200, 10, 250, 30))
    assert (page.tags, page.width, page.height) == (("O", "B-GRAND_TOTAL", "O"), 800, 1200)


def test_an_image_object_gives_its_path(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({**PAGES[0], "image": {"bytes": None, "path": "a.png"}}))[0].image == "a.png"


def test_all_bad_lines_are_in_one_message_the_first_ten_of_them(tmp_path: Path) -> None:
    bad = {**PAGES[0], "labels": ["B-MERCHANT_NAME", "O", "GRAND_TOTAL"]}
    lines = [PAGES[0], *({**bad, "id": f"bad {number}"} for number in range(12))]
    with pytest.raises(DataError) as refusal:
        read(tmp_path, "\n".join(map(json.dumps, lines)), "pages.jsonl")
    first, *shown, more = str(refusal.value).splitlines()
    assert first == "12 files or lines cannot be used:" and more == "  and 2 more"
    assert [line.split("pages.jsonl:")[1].split(":")[0] for line in shown] == [str(number) for number in range(2, 12)]
    assert all("tag 2 'GRAND_TOTAL' is not BIO: write B-GRAND_TOTAL" in line for line in shown)


def test_nan_is_a_null_word_and_no_label(tmp_path: Path) -> None:
    line = {**PAGES[0], "words": ["Shop", float("nan"), "9.00"], "labels": ["B-MERCHANT_NAME", float("nan"), "O"]}
    (page,) = read(tmp_path, json.dumps(line))
    assert (page.words, page.tags) == (("Shop", "9.00"), ("B-MERCHANT_NAME", "O"))


def test_decimal_commas_of_a_csv_are_read(tmp_path: Path, expected: list[Page]) -> None:
    text = "id;word;x0;y0;x1;y1;label\n2;Cafe;0,01;0,01;0,2;0,03;B-MERCHANT_NAME\n2;5;0,8;0,01;0,9;0,03;O\n"
    assert read(tmp_path, text, "pages.csv") == expected[1:]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,text,box,kind\n1,a,1 2 3 4,O\n", r"pages.csv: has no columns id, word, box .* but 'id,text,box,kind'"),
        (
            'id,words,bboxes,labels\n1,"[1, 2]","[[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]","[0, 1]"\n',
            r"pages.csv:2: has 12 numbers .* as if each row were a page: write its rows as JSON lines",
        ),
    ],
)
def test_a_csv_of_another_form_is_refused_in_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read(tmp_path, text, "pages.csv")


def test_a_missing_field_is_named_as_it_is_written(tmp_path: Path) -> None:
    line = {name: value for name, value in PAGES[0].items() if name not in ("id", "labels")}
    with pytest.raises(DataError, match=r"has no id .*, no labels \(or ner_tags, tags\); its fields are words, bboxes"):
        read(tmp_path, json.dumps(line))
    with pytest.raises(DataError, match="is no JSON object with id, words, bboxes and labels"):
        read(tmp_path, "[[1, 2]]")


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"id": "a", "words": ' + "[" * 100_000])
@pytest.mark.parametrize("name", ["pages.jsonl", "pages.json"])
def test_json_nested_deeper_than_the_stack_is_an_error_of_its_line(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=f"{name}:1: is not JSON"):
        read_jsonl(path)
