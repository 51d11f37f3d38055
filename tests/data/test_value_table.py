"""Tables of values as Excel exports them, and JSON files; each fault is named with its line."""

from pathlib import Path

import pytest

from receipt_layoutlm.data.importers.value_table import ValueRow, join_rows, read_value_rows
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import TextOptions

ROW = {"company": "CAFÉ ACME", "total": "1.234,50"}


def read(path: Path) -> list[ValueRow]:
    return read_value_rows(path, TextOptions())


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_table_is_read_in_every_form_that_spreadsheets_export(tmp_path: Path, separator: str, encoding: str) -> None:
    path = tmp_path / "v.csv"
    rows = [["file", "company", "total"], ["000.jpg", "CAFÉ ACME", '"1.234,50"'], ["", "", ""]]
    path.write_bytes("\r\n".join(separator.join(row) for row in rows).encode(encoding))

    (row,) = read(path)

    assert (row.file, row.texts, row.line) == ("000.jpg", ROW, 2)


def test_an_encoding_that_cannot_be_told_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes("file,company\na.jpg,Кафе Акме\n".encode("cp1251"))

    with pytest.raises(DataError, match="--encoding"):
        read(path)
    assert read_value_rows(path, TextOptions("cp1251"))[0].texts == {"company": "Кафе Акме"}


def test_a_cell_may_have_line_breaks_and_excel_may_name_the_separator(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text('sep=;\nfile;address;total\na.jpg;"NO 5,\nJALAN SAGU";9,00\nb.jpg;X;8,00\n', encoding="utf-8")

    first, second = read(path)

    assert (first.texts["address"], first.line, second.line) == ("NO 5, JALAN SAGU", 3, 5)


def test_the_file_names_may_stand_in_another_column_than_the_first(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text(",company,File,total\n0,ACME,a.jpg,9.00\n")  # with pandas' index

    (row,) = read(path)

    assert (row.file, row.texts) == ("a.jpg", {"company": "ACME", "total": "9.00"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,total\na.jpg,9.00,x\n", "v.csv:2: has 3 cells, the header has 2"),
        ("file,total\n,9.00\n", "v.csv:2: has no file name"),
        ("file,total,TOTAL\na.jpg,1,2\n", "v.csv:1: has the column 'TOTAL' twice"),
        ("file\na.jpg\n", "v.csv:1: has one column only, file"),
        ("", "v.csv:1: has one column only"),
        ("file,total\n", "has no row below the header"),
        ("a.jpg,9.00\nb.jpg,8.00\n", "v.csv:1: begins with a scan (a.jpg)"),
        ('file,total\na.jpg,"9"00\n', "v.csv:2: is not CSV"),
    ],
)
def test_a_fault_of_the_table_is_named_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "v.csv"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DataError) as refused:
        read(path)

    assert reason in str(refused.value)


def test_a_workbook_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "v.xlsx"
    path.write_bytes(b"PK\x03\x04rest")

    with pytest.raises(DataError, match="save the sheet as CSV"):
        read(path)


def test_each_scan_may_have_a_json_file(tmp_path: Path) -> None:
    (tmp_path / "000.json").write_text('{"total": 9.5, "date": null, "company": "ACME"}')
    (tmp_path / "000.jpg").touch()

    (row,) = read(tmp_path)

    assert (row.file, row.texts) == ("000", {"total": "9.5", "date": "", "company": "ACME"})


@pytest.mark.parametrize("text", ['{"total": [1]}', "[1]", "{", '"x"'])
def test_a_json_file_without_texts_and_numbers_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "000.json").write_text(text)

    with pytest.raises(DataError, match=r"000\.json"):
        read(tmp_path)


def rows(*names: str) -> list[ValueRow]:
    return [ValueRow(name, {}, Path("v.csv"), line) for line, name in enumerate(names, start=2)]


SCANS = [
    Path("in/a.jpg"),
    Path("in/b.PNG"),
    Path("in/2018/c.jpg"),
    Path("in/2019/c.jpg"),
    Path("in/d.e.pdf"),
    Path("in/007.jpg"),
    Path("in/caf\u00e9.jpg"),
]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "in/a.jpg"),
        ("a", "in/a.jpg"),
        ("A.JPG", "in/a.jpg"),
        ("b.png", "in/b.PNG"),
        ("C:\\scans\\a.jpg", "in/a.jpg"),
        ("/home/x/in/a.jpg", "in/a.jpg"),
        ("2019/c.jpg", "in/2019/c.jpg"),
        ("2018\\c", "in/2018/c.jpg"),
        ("d.e", "in/d.e.pdf"),
        ("7", "in/007.jpg"),  # as Excel writes 007
        ("cafe\u0301.jpg", "in/caf\u00e9.jpg"),
    ],
)
def test_a_row_names_its_scan_with_or_without_folder_and_ending(name: str, path: str) -> None:
    assert list(join_rows(SCANS, rows(name)).rows) == [Path(path)]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.jgp"], "v.csv:2: there is no scan 'a.jgp'; did you mean a.jpg?"),
        (["zzzzzzzz"], "v.csv:2: there is no scan 'zzzzzzzz'"),
        (["c.jpg"], "v.csv:2: 'c.jpg' may be in/2018/c.jpg, in/2019/c.jpg"),
        (["a.jpg", "A"], "v.csv:3: 'A' has a row already, in line 2"),
    ],
)
def test_a_row_without_a_scan_of_its_own_is_refused(names: list[str], reason: str) -> None:
    joined = join_rows(SCANS, rows(*names))
    assert [str(error)[: len(reason)] for error in joined.refused] == [reason]


def test_scans_without_a_row_are_told() -> None:
    assert join_rows(SCANS[:2], rows("a")).without_row == [SCANS[1]]
