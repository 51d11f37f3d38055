"""Hugging Face datasets, as save_to_disk and the hub write them. Without pyarrow only its absence is tested."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from receipt_layoutlm.data.importers import ImportReport, import_pages
from receipt_layoutlm.data.importers.label_table import own_table
from receipt_layoutlm.data.page import DataError, Page

with_pyarrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow (extra hf)")

NAMES = ["O", "B-TOTAL", "I-TOTAL"]
TOKENS, BOXES = ["TOTAL", "RM", "9.00"], [[10, 10, 90, 30], [600, 10, 680, 30], [700, 10, 900, 30]]
ROW = {"id": "0", "tokens": TOKENS, "bboxes": BOXES, "ner_tags": [0, 1, 2]}
IMAGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x58\0\0\x03\x20\x08\0\0\0\0"  # 600 x 800


def refuse(error: DataError) -> None:
    raise error


def read(path: Path) -> tuple[list[Page], ImportReport]:
    return import_pages("hf", [path], own_table({}, {}), refuse)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


def columns_of(*rows: dict[str, Any], names: list[str] | None = NAMES) -> Any:
    """A table whose schema has the features of datasets: a ClassLabel of the tags, and another, longer one."""
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pylist(list(rows))
    if names is None:
        return table
    tags = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
    other = {"names": [f"kind {number}" for number in range(9)], "_type": "ClassLabel"}
    features = {"kind": other, "ner_tags": tags}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(table: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    return path


def write_arrow(table: Any, path: Path, kind: str = "stream") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ipc = pytest.importorskip("pyarrow.ipc")
    opened = ipc.new_stream if kind == "stream" else ipc.new_file
    with opened(str(path), table.schema) as writer:
        writer.write_table(table, 1)
    return path


def save_to_disk(table: Any, folder: Path) -> Path:
    write_arrow(table, folder / "data-00000-of-00001.arrow")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@with_pyarrow
def test_a_saved_dataset_has_the_class_names_of_its_tags(tmp_path: Path) -> None:
    folder = save_to_disk(columns_of(ROW, {**ROW, "id": "1"}), tmp_path / "saved")
    write_arrow(columns_of(ROW), folder / "cache-0123456789abcdef.arrow")

    pages, report = read(folder)

    assert [(page.page_id, page.words) for page in pages] == [("0", tuple(TOKENS)), ("1", tuple(TOKENS))]
    assert pages[0].tags == ("O", "B-TOTAL", "I-TOTAL")
    assert pages[0].boxes[2] == (700, 10, 900, 30)
    assert report.notes == ("tags read as BIO of class numbers",)


@with_pyarrow
def test_splits_of_a_dataset_dict_are_one_dataset_and_stay_apart_in_page_ids(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split in ("train", "test"):
        save_to_disk(columns_of(ROW), tmp_path / split)

    pages, report = read(tmp_path)

    assert [(page.page_id, page.group) for page in pages] == [("train-0", "train-0"), ("test-0", "test-0")]
    assert "rows of train, test read as one data set" in report.notes


@with_pyarrow
@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_files_of_every_kind_have_the_same_pages(tmp_path: Path, kind: str) -> None:
    table = columns_of({**ROW, "id": None}, {**ROW, "id": None})
    if kind == "parquet":
        path = write_parquet(table, tmp_path / "train-00000-of-00002.parquet")
    else:
        path = write_arrow(table, tmp_path / "train-00000-of-00002.arrow", kind)

    pages, _ = read(path)

    assert [page.page_id for page in pages] == ["train-00000-of-00002#1", "train-00000-of-00002#2"]
    assert {page.tags for page in pages} == {("O", "B-TOTAL", "I-TOTAL")}


@with_pyarrow
def test_of_the_splits_of_a_hub_folder_shards_belong_together(tmp_path: Path) -> None:
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        write_parquet(columns_of({**ROW, "id": str(number)}), tmp_path / "data" / f"{name}.parquet")

    pages, _ = read(tmp_path)

    assert [page.page_id for page in pages] == ["test-2", "train-0", "train-1"]


@with_pyarrow
def test_of_an_image_the_digest_and_the_size_are_kept(tmp_path: Path) -> None:
    row = {"words": TOKENS, "bbox": BOXES, "labels": ["O", "B-TOTAL", "I-TOTAL"]}
    table = columns_of({**row, "image": {"bytes": IMAGE, "path": "a.png"}}, names=None)

    (page,), _ = read(write_parquet(table, tmp_path / "a.parquet"))

    assert (page.width, page.height, page.image) == (600, 800, hashlib.sha256(IMAGE).hexdigest())


@with_pyarrow
@pytest.mark.parametrize(
    ("row", "names", "reason"),
    [
        ({"id": "0", "input_ids": [1, 2]}, NAMES, "encoded for a model"),
        ({"id": "0", "text_lines": ["a"]}, NAMES, "has no column words or tokens, but id, text_lines"),
        ({"id": "0", "ground_truth": "{}"}, NAMES, "layoutlm-cli dataset import cord"),
        (ROW, None, "--id2label"),
        ({**ROW, "ner_tags": [0, 1, 7]}, NAMES, "class 7 has no name"),
        ({**ROW, "bboxes": BOXES[:2]}, NAMES, "3 words, 2 boxes, 3 tags"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(
    tmp_path: Path, row: dict[str, Any], names: list[str] | None, reason: str
) -> None:
    path = write_parquet(columns_of(row, names=names), tmp_path / "a.parquet")

    error = refusal(path)

    assert str(path) in error and reason in error


@with_pyarrow
def test_a_damaged_file_and_a_missing_split_are_named(tmp_path: Path) -> None:
    path = write_parquet(columns_of(ROW), tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path}: cannot be read" in refusal(path)

    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert "names the split train, which has no train/state.json" in refusal(tmp_path)


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 PAR1")

    assert refusal(path) == f"{path}: pyarrow is not installed: pip install 'receipt-layoutlm[hf]'"


def test_a_file_of_another_kind_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("words")

    assert refusal(path) == f"{path}: is neither a Parquet nor an Arrow file"
