"""Bytes become text: Unicode with and without marks, guessed and given encodings, files that hold no text."""

import gzip
from pathlib import Path

import pytest

from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import TextOptions, files_below, read_content, read_source, unpacked

TEXT = '{"id": "1", "words": ["Total"]}\n'
GBK = "60,40,420,40,永和豆浆 Sdn Bhd\n".encode("gb18030")


def text_of(tmp_path: Path, content: bytes, encoding: str | None = None) -> tuple[str, list[str]]:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    notes: list[str] = []
    return read_source(path, TextOptions(encoding, notes.append)), notes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_without_a_word(tmp_path: Path, encoding: str) -> None:
    text = TEXT.replace("Total", "Süße 永和")
    assert text_of(tmp_path, text.encode(encoding)) == (text, [])
    assert text_of(tmp_path, gzip.compress(text.encode(encoding))) == (text, [])
    assert text_of(tmp_path, text.encode(encoding), "gb18030") == (text, []), "Unicode stays Unicode"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_guessed_and_named(tmp_path: Path, encoding: str) -> None:
    assert text_of(tmp_path, TEXT.encode(encoding)) == (TEXT, [f"read as {encoding}, guessed"])


def test_single_accented_letters_are_western_and_named(tmp_path: Path) -> None:
    text, notes = text_of(tmp_path, "Café Zoë 5 €, Größe\n".encode("cp1252"))
    assert text == "Café Zoë 5 €, Größe\n"
    assert notes == ["read as cp1252, guessed: --encoding names another encoding"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("永和豆浆", "gb18030"), ("永和豆漿", "big5"), ("コーヒー", "shift_jis"), ("커피", "euc_kr"), ("Кофе", "cp1251")],
)
def test_other_scripts_are_not_guessed_but_offered(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(DataError, match=rf"file.txt:2: is not UTF-8: .*{encoding} reads '{text}.*--encoding"):
        text_of(tmp_path, b"first\n" + f"a,{text} x\n".encode(encoding))
    assert text_of(tmp_path, text.encode(encoding), encoding) == (text, [f"read as {encoding}"])


def test_a_wrong_encoding_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file.txt:2: is not in the encoding ascii"):
        text_of(tmp_path, b"\n" + GBK, "ascii")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
        (b"PAR1\0\0", "Parquet"),
        (b"ARROW1\0\0", "Arrow"),
        (b"PK\x03\x04", "ZIP archive: unpack it; of an Excel workbook"),
        (b"Rar!\x1a\x07", "archive"),
        (b"SQLite format 3\x00", "database"),
        (b"II*\x00", "image"),
        (b"\x00\x05\x16\x07\0", "AppleDouble"),
        (b"\x89PNG\r\n", "image"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_files_without_text_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        text_of(tmp_path, content)


def test_leftovers_of_archivers_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    for name in ("a/x.json", "a/._x.json", "__MACOSX/a/._x.json", ".git/y.json", "a/.ipynb_checkpoints/x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert files_below([tmp_path], "*.json") == [tmp_path / "a/x.json"]


def test_a_folder_inside_of_the_format_stands_for_the_folder_above(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/1.json").write_text("{}")
    assert files_below([tmp_path / "images"], "annotations/*.json") == [tmp_path / "annotations/1.json"]
    with pytest.raises(DataError, match="the folder has no"):
        files_below([tmp_path / "images"], "*.jsonl")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Bäckerei Müller Größe für Käse", "mac_roman"),
        ("Bäckerei Müller Größe für Käse", "cp850"),
        ("Sprzedaż Łódź złotych Świętokrzyska żółw", "cp1250"),
    ],
)
def test_accented_letters_of_other_encodings_are_not_read_as_western(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(DataError, match=rf"{encoding} reads .*--encoding"):
        text_of(tmp_path, text.encode(encoding))


@pytest.mark.parametrize(
    "text", ["Crème brûlée à l’œuf, 9,90 €", "Köln, Straße 3³ m²", "¿Qué? ¡Año! nº 5", "Ça coûte 3 £"]
)
def test_western_texts_are_told_by_their_letters(tmp_path: Path, text: str) -> None:
    assert text_of(tmp_path, text.encode("cp1252"))[0] == text


def test_a_folder_with_an_archive_alone_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"the folder has no \*.json: unpack data.zip"):
        files_below([tmp_path], "*.json")


@pytest.mark.parametrize("content", [b"x" * 101, gzip.compress(b"x" * 101, mtime=0)])
def test_a_file_is_read_up_to_a_bound_packed_or_not(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_bytes(content)

    assert len(read_content(path, at_most=101)) == 101
    with pytest.raises(DataError, match=r"pages\.jsonl.*more than"):
        read_content(path, at_most=100)


def test_a_packed_file_that_grows_without_end_is_not_unpacked_to_its_end() -> None:
    packed = gzip.compress(bytes(50_000_000))

    with pytest.raises(OSError, match="more than 1000 bytes"):
        unpacked(packed, at_most=1000)
