"""Imports that read garbage: refused with the reason; and the folders that people have after a download."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from receipt_layoutlm.data.boxes import BoxOptions, BoxOrder, Origin
from receipt_layoutlm.data.importers import ImportReport, import_pages, load_format
from receipt_layoutlm.data.importers.label_table import core_table, label_map_for, own_table
from receipt_layoutlm.data.importers.plausibility import refuse_unlabelled
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.labels import LabelError
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.source_text import TextOptions
from receipt_layoutlm.data.tag_schemes import TagOptions, TagScheme
from tests.support.paths import FIXTURES

BOXES = """60,40,420,40,420,70,60,70,{company} Sdn Bhd
60,90,430,90,430,120,60,120,No 12, Jalan Elm, 50000
60,140,300,140,300,170,60,170,Date: 01/03/2021
60,260,440,260,440,290,60,290,TOTAL RM 3.70
"""
KEY = {"company": "{company} SDN BHD", "date": "01/03/2021", "address": "NO 12, JALAN ELM, 50000", "total": "3.70"}


def refuse(error: DataError) -> None:
    raise error


def read(
    name: str, path: Path, options: ReadOptions | None = None, label_map: dict[str, str] | None = None
) -> tuple[list[Page], ImportReport]:
    return import_pages(name, [path], core_table(load_format(name).labels, label_map or {}), refuse, options)


def receipt(
    folder: Path,
    company: str = "Corner Shop",
    boxes: str = BOXES,
    key: dict[str, object] | None = None,
    box: str = "box/0.csv",
    values: str = "key/0.json",
    encoding: str = "utf-8",
) -> Path:
    for name in (box, values):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / box).write_text(boxes.replace("{company}", company), encoding=encoding)
    text = json.dumps(KEY if key is None else key, ensure_ascii=False).replace("{company}", company)
    (folder / values).write_text(text, encoding="utf-8")
    return folder


def labels(pages: list[Page]) -> set[str]:
    return {tag[2:] for page in pages for tag in page.tags if tag != "O"}


ALL = {"MERCHANT_NAME", "DATE", "ADDRESS_LINE", "GRAND_TOTAL"}


@pytest.mark.parametrize(
    ("box", "values"),
    [
        ("box/0.csv", "key/0.json"),
        ("bbox/0.txt", "key/0.txt"),
        ("Box/0.txt", "Key/0.json"),
        ("SROIE2019/train/box/0.txt", "SROIE2019/train/entities/0.txt"),
        ("a/b/train/box/0.txt", "a/b/train/entities/0.txt"),
        ("SROIE2019/0325updated.task1train(626p)/0.txt", "SROIE2019/0325updated.task2train(626p)/0.txt"),
    ],
)
def test_sroie_is_found_in_every_layout_of_its_folders(tmp_path: Path, box: str, values: str) -> None:
    receipt(tmp_path, box=box, values=values)
    for leftover in (f"__MACOSX/{box}", str(Path(box).with_name("._0.csv")), str(Path(values).with_name("._0.json"))):
        (tmp_path / leftover).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / leftover).write_bytes(b"\x00\x05\x16\x07")
    assert labels(read("sroie", tmp_path)[0]) == ALL
    assert labels(read("sroie", (tmp_path / box).parent)[0]) == ALL, "a folder inside of it"


def test_sroie_folders_of_train_and_test_are_both_read(tmp_path: Path) -> None:
    receipt(tmp_path, box="train/box/0.txt", values="train/entities/0.txt")
    receipt(tmp_path, box="test/box/1.txt", values="test/entities/1.txt")
    assert sorted(page.page_id for page in read("sroie", tmp_path)[0]) == ["0", "1"]


@pytest.mark.parametrize(
    "key",
    [
        {name.upper(): value for name, value in KEY.items()},
        {name.title(): value for name, value in KEY.items()},
        {**KEY, "total": 3.7},
        {**KEY, "total": "3.70", "tax": None},
    ],
)
def test_sroie_values_are_read_whatever_their_case_and_type(tmp_path: Path, key: dict[str, object]) -> None:
    assert labels(read("sroie", receipt(tmp_path, key=key))[0]) == ALL


def test_a_null_value_is_not_given(tmp_path: Path) -> None:
    pages, report = read("sroie", receipt(tmp_path, key={**KEY, "company": None}))
    assert labels(pages) == ALL - {"MERCHANT_NAME"} and set(report.matches) == {"date", "address", "total"}


def test_another_encoding_is_refused_with_its_readings_and_read_by_the_option(tmp_path: Path) -> None:
    folder = receipt(tmp_path, company="永和豆浆", encoding="gb18030")
    with pytest.raises(DataError, match=r"0.csv:1: is not UTF-8: gb18030 reads '永和豆浆.*--encoding"):
        read("sroie", folder)
    pages, report = read("sroie", folder, ReadOptions(TextOptions("gb18030")))
    assert labels(pages) == ALL and pages[0].words[0] == "永和豆浆"
    assert report.notes == ("read as gb18030",)


def test_texts_that_were_decoded_wrongly_before_are_refused(tmp_path: Path) -> None:
    for number, garbled in enumerate(
        ("永和".encode().decode("cp1252", "replace"), "永和豆浆".encode("gb18030").decode("latin-1"))
    ):
        with pytest.raises(DataError, match="1 of 1 words beyond ASCII are garbled"):
            read("sroie", receipt(tmp_path / str(number), company=garbled))


def test_accented_words_are_not_garbled(tmp_path: Path) -> None:
    assert labels(read("sroie", receipt(tmp_path, company="Café Zoë Größe ÉTÉ"))[0]) == ALL


def test_words_written_backwards_are_refused(tmp_path: Path) -> None:
    for company in ("םולש", "ةعاس ةسردم"):
        with pytest.raises(DataError, match="written backwards"):
            read("sroie", receipt(tmp_path, company=company))
    arabic = "مطعم ساعة"
    assert read("sroie", receipt(tmp_path, company=arabic))[1].pages == 1


def test_lines_in_hebrew_are_divided_from_the_right(tmp_path: Path) -> None:
    boxes = "60,40,420,40,420,70,60,70,קפה הבית\n60,90,420,90,420,120,60,120,רחוב הרצל 5\n"
    boxes += "60,140,420,140,420,170,60,170,תאריך 01/03/2021\n60,260,420,260,420,290,60,290,סך הכל 3.70\n"
    key = {"company": "קפה הבית", "date": "01/03/2021", "address": "רחוב הרצל 5", "total": "3.70"}
    pages, report = read("sroie", receipt(tmp_path, boxes=boxes, key=dict(key)))
    assert pages[0].words[:2] == ("קפה", "הבית") and pages[0].boxes[0][0] > pages[0].boxes[1][2]
    assert labels(pages) == ALL and all(match.exact == 1 for match in report.matches.values())


def test_values_that_belong_to_other_pages_are_refused_unless_left_out(tmp_path: Path) -> None:
    key = {"company": "Another Shop", "date": "31/12/1999", "address": "1 Other Way", "total": "3.70"}
    folder = receipt(tmp_path, key=dict(key))
    with pytest.raises(DataError, match=r"only 1 of 4 values are found .*company 0 of 1.*total 1 of 1"):
        read("sroie", folder)
    left_out = {"company": "O", "date": "O", "address": "O"}
    assert labels(read("sroie", folder, label_map=left_out)[0]) == {"GRAND_TOTAL"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: f"1,{line}", "has nine numbers in every line"),
        (lambda line: ",".join([*line.split(",")[:8], "0.98", *line.split(",")[8:]]), "or the confidence after"),
        (lambda line: f"{line},other", "has a label after the text in every line"),
        (lambda line: f"{line},0.98", "has a confidence after the text in every line"),
        (lambda line: ",".join([*line.split(",")[:8], "Latin", *line.split(",")[8:]]), "has a script before the text"),
    ],
)
def test_siblings_of_sroie_are_told_apart(tmp_path: Path, change: object, reason: str) -> None:
    assert callable(change)
    boxes = "".join(f"{change(line)}\n" for line in BOXES.splitlines())
    with pytest.raises(DataError, match=reason):
        read("sroie", receipt(tmp_path, boxes=boxes))


def test_the_openset_variant_of_wildreceipt_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    box = [0, 0, 9, 0, 9, 9, 0, 9]
    annotations = [{"box": box, "text": "Shop", "label": 1, "edge": 3}]
    path.write_text(json.dumps({"file_name": "a.jpg", "height": 9, "width": 9, "annotations": annotations}) + "\n")
    with pytest.raises(DataError, match="openset variant of WildReceipt"):
        read("wildreceipt", path)


def test_label_studios_order_of_a_box_is_refused_in_funsd_and_read_by_the_option(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "funsd", tmp_path / "funsd"))
    expected, _ = read("funsd", folder)
    for path in folder.rglob("*.json"):
        form = json.loads(path.read_text())
        for block in form["form"]:
            for word in block["words"]:
                x0, y0, x1, y1 = word["box"]
                word["box"] = [x0, x1, y0, y1]
        path.write_text(json.dumps(form))
    with pytest.raises(DataError, match=r"x0, x1, y0, y1 \(--box-order x0x1y0y1 reads them so\)"):
        read("funsd", folder)
    assert read("funsd", folder, ReadOptions(boxes=BoxOptions(order=BoxOrder.BY_AXIS)))[0] == expected


def test_a_null_text_of_a_form_gives_no_word(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    words = [{"text": None, "box": [10, 10, 90, 30]}, {"text": 5, "box": [100, 10, 120, 30]}]
    path.write_text(json.dumps({"form": [{"label": "answer", "words": words}]}))
    pages, report = read("funsd", path)
    assert (pages[0].words, report.blank_texts) == (("5",), 1)


def test_a_null_word_of_a_line_is_counted_as_blank(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    boxes = [[0, 0, 9, 9], [10, 0, 19, 9]]
    path.write_text(json.dumps({"id": "1", "words": ["a", None], "bboxes": boxes, "labels": ["B-DATE", "O"]}) + "\n")
    pages, report = import_pages("jsonl", [path], own_table({}, {}), refuse)
    assert (pages[0].words, report.blank_texts) == (("a",), 1)


def test_pages_without_any_label_are_refused() -> None:
    page = Page("1", "g", ("a", "b"), ((0, 0, 9, 9), (10, 0, 19, 9)), ("O", "-"), 100, 100)
    with pytest.raises(DataError, match=r"no word of these pages has a label.*--unlabelled"):
        refuse_unlabelled([page])


def test_invalid_labels_are_in_one_message_with_the_map_that_renames_them(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    words, boxes = ["a", "b", "c", "d"], [[10 * x, 0, 10 * x + 9, 9] for x in range(4)]
    given = ["B-MERCHANT NAME", "B-Total/Sum", "B-金额", "B-2nd"]
    path.write_text(json.dumps({"id": "1", "words": words, "bboxes": boxes, "labels": given}) + "\n")
    with pytest.raises(LabelError) as refusal:
        import_pages("jsonl", [path], own_table({}, {}), refuse)
    assert str(refusal.value).startswith("4 labels cannot be used:\n")
    renaming = str(refusal.value).rpartition(": {")[2]
    names = json.loads("{" + renaming)
    assert names == {"MERCHANT NAME": "MERCHANT_NAME", "Total/Sum": "Total_Sum", "金额": "LABEL", "2nd": "L_2nd"}
    pages, report = import_pages("jsonl", [path], own_table({}, names), refuse)
    assert pages[0].tags == ("B-MERCHANT_NAME", "B-Total_Sum", "B-LABEL", "B-L_2nd")
    assert report.renamed["LABEL"] == {"金额": 1}


def test_labels_that_would_get_one_name_are_renamed_apart() -> None:
    names = json.loads(label_map_for(["net amount", "net/amount", "金额", "日期", "Straße"]).rpartition(" them: ")[2])
    assert names["Straße"] == "Strasse"
    assert list(names.values()) == ["net_amount", "net_amount_2", "LABEL", "LABEL_2", "Strasse"]


@pytest.mark.parametrize("label", ["other", "NONE", "Background"])
def test_a_label_that_means_none_is_noted_with_the_map_that_drops_it(tmp_path: Path, label: str) -> None:
    path = tmp_path / "pages.jsonl"
    boxes = [[0, 0, 9, 9], [10, 0, 19, 9]]
    path.write_text(json.dumps({"id": "1", "words": ["a", "b"], "bboxes": boxes, "labels": ["DATE", label]}) + "\n")
    bare = ReadOptions(tags=TagOptions(TagScheme.BARE))
    _, report = import_pages("jsonl", [path], own_table({}, {}), refuse, bare)
    (note,) = (note for note in report.notes if "learned as a label" in note)
    renaming = json.loads(note[note.index("{") : note.index("}") + 1])
    pages, report = import_pages("jsonl", [path], own_table({}, renaming), refuse, bare)
    assert pages[0].tags == ("B-DATE", "O") and not any("learned" in note for note in report.notes)


def long_receipt(
    folder: Path, form: Callable[[list[int]], Sequence[float]], size: tuple[int, int] | None = None
) -> Path:
    """A receipt of printed lines with an amount beside each, whose eight numbers are changed by `form`."""
    lines = BOXES.splitlines() + [
        f"{x},{y},{x + 120},{y},{x + 120},{y + 30},{x},{y + 30},{text} {y}"
        for y in range(310, 660, 50)
        for x, text in ((60, "Bread"), (320, "RM"))
    ]
    changed = [[*form(list(map(int, line.split(",")[:8]))), line.split(",", 8)[8]] for line in lines]
    for number in range(3):
        boxes = "".join(",".join(map(str, line)) + "\n" for line in changed)
        receipt(folder, boxes=boxes, box=f"box/{number}.csv", values=f"key/{number}.json")
        if size:
            (folder / "img").mkdir(exist_ok=True)
            Image.new("1", size).save(folder / "img" / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("form", "options", "option"),
    [
        (
            lambda c: [c[1], c[0], c[3], c[2], c[5], c[4], c[7], c[6]],
            BoxOptions(order=BoxOrder.Y_FIRST),
            "--box-order y0x0y1x1",
        ),
        (lambda c: [*c[0::2], *c[1::2]], BoxOptions(order=BoxOrder.BY_AXIS), "--box-order x0x1y0y1"),
        (lambda c: [*c[1::2], *c[0::2]], BoxOptions(order=BoxOrder.BY_AXIS_Y_FIRST), "--box-order y0y1x0x1"),
        (
            lambda c: [value if place % 2 == 0 else 640 - value for place, value in enumerate(c)],
            BoxOptions(origin=Origin.BOTTOM_LEFT),
            "--origin bottom-left",
        ),
    ],
)
def test_another_arrangement_of_sroies_corners_is_refused_and_read_by_its_option(
    tmp_path: Path, form: Callable[[list[int]], Sequence[float]], options: BoxOptions, option: str
) -> None:
    size = (480, 640)
    expected = read("sroie", long_receipt(tmp_path / "expected", lambda corners: corners, size))[0]
    folder = long_receipt(tmp_path / "other", form, size)
    with pytest.raises(DataError, match=f"box: .*{option} reads them so"):
        read("sroie", folder)
    assert read("sroie", folder, ReadOptions(boxes=options))[0] == expected


def test_an_order_of_four_numbers_is_none_of_sroies_boxes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--box-order xywh is of four numbers"):
        read("sroie", receipt(tmp_path), ReadOptions(boxes=BoxOptions(order=BoxOrder.SIZED)))


@pytest.mark.parametrize(
    ("form", "size", "reason"),
    [
        (lambda c: [value / 7 for value in c], (480, 640), "seem to be percent of the page"),
        (lambda c: [1.5 * value for value in c], (2000, 4000), "seem to be thousandths of the page"),
        (lambda c: [2 * value for value in c], (480, 640), "lie outside of the image .* or extend"),
    ],
)
def test_boxes_of_sroie_in_another_unit_than_its_images_are_refused(
    tmp_path: Path, form: Callable[[list[int]], Sequence[float]], size: tuple[int, int], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read("sroie", long_receipt(tmp_path, form, size))


def test_small_receipts_in_a_corner_of_large_scans_are_kept(tmp_path: Path) -> None:
    assert len(read("sroie", long_receipt(tmp_path, lambda corners: corners, (2000, 4000)))[0]) == 3


def test_boxes_of_sroie_in_shares_of_the_page_are_refused(tmp_path: Path) -> None:
    lines = [line.split(",", 8) for line in BOXES.splitlines()]
    boxes = "".join(",".join([*(f"{int(value) / 1000:g}" for value in line[:8]), line[8]]) + "\n" for line in lines)
    with pytest.raises(DataError, match=r"0\.csv: no value of a box is above 0\.44: .* shares of the page"):
        read("sroie", receipt(tmp_path, boxes=boxes))


def test_boxes_of_funsd_in_shares_of_the_page_are_refused(tmp_path: Path) -> None:
    words = [{"text": "Name", "box": [0.1, 0.1, 0.3, 0.12]}, {"text": "Ann", "box": [0.4, 0.1, 0.6, 0.12]}]
    (tmp_path / "0.json").write_text(json.dumps({"form": [{"label": "question", "words": words}]}))
    with pytest.raises(DataError, match=r"0\.json: no value of a box is above 0\.6: .* shares of the page"):
        read("funsd", tmp_path)
