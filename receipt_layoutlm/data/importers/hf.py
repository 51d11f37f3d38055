"""Hugging Face datasets: a folder of save_to_disk, or Parquet and Arrow files, read with pyarrow (extra hf).

    dataset_dict.json {"splits": ["train", "test"]}           a DatasetDict, with a folder for each split
    state.json {"_data_files": [{"filename": ...}]}           a Dataset, beside dataset_info.json
    train-00000-of-00002.parquet                              files of the hub, or of its cache (.arrow)

A row is a page, with the columns of data/jsonl.py: tokens or words, bboxes, ner_tags with names of a ClassLabel. All
splits become one data set; page ids then begin with the split, train-0. An image is not kept, but its digest is,
and its size where the row has none.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagesize

from receipt_layoutlm.data.importers.arrow import ArrowTable, open_table
from receipt_layoutlm.data.importers.jsonl import pages_of_lines
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage
from receipt_layoutlm.data.jsonl import ReadOptions, labelled_rows
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.rows import Row
from receipt_layoutlm.data.source_text import files_below, parse_json, read_source

_TAGS = ("tags", "labels", "ner_tags")
_COLUMNS = (
    *("page_id", "id", "guid", "words", "tokens", "boxes", "bboxes", "bbox", *_TAGS),
    *("width", "height", "group", "image"),
)
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
_SAVED, _SPLITS = "state.json", "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows, and the split that it belongs to."""

    path: Path
    split: str


def read_hf(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of all files, split by split."""
    files = [file for path in paths for file in _data_files(path)]
    splits = list(dict.fromkeys(file.split for file in files))
    if len(splits) > 1:
        options.text.note(f"rows of {', '.join(splits)} read as one data set")
    for file in files:
        try:
            pages = _pages(file.path, options)
        except DataError as error:
            yield error
            continue
        for page in pages:
            yield _of_split(page, file.split) if isinstance(page, SourcePage) and len(splits) > 1 else page


def _of_split(page: SourcePage, split: str) -> SourcePage:
    page_id = f"{split}-{page.page_id}"
    return replace(page, page_id=page_id, group=page_id if page.group == page.page_id else page.group)


def _data_files(path: Path) -> list[DataFile]:
    """The files that a folder or file means. Raises DataError."""
    if not path.is_dir():
        return [DataFile(path, _split_of(path))]
    if (path / _SPLITS).is_file():
        splits = _field(path / _SPLITS, "splits")
        if missing := [name for name in splits if not (path / str(name) / _SAVED).is_file()]:
            raise DataError(
                f"names the split {missing[0]}, which has no {missing[0]}/{_SAVED}", file=str(path / _SPLITS)
            )
        return [DataFile(file.path, str(name)) for name in splits for file in _data_files(path / str(name))]
    if (path / _SAVED).is_file():
        names = [each.get("filename") for each in _field(path / _SAVED, "_data_files") if isinstance(each, dict)]
        return [DataFile(path / str(name), path.name) for name in names]
    files = files_below([path], "*.parquet", "*.arrow")
    return [DataFile(file, _split_of(file)) for file in files if not file.name.startswith("cache-")]


def _split_of(path: Path) -> str:
    match = _SHARD.fullmatch(path.stem)
    return match[1] if match else path.stem


def _field(path: Path, name: str) -> list[Any]:
    """A list in a JSON file that save_to_disk wrote."""
    try:
        value = parse_json(read_source(path))
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", file=str(path)) from error
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise DataError(f"has no list {name}, as save_to_disk writes it", file=str(path))
    return found


def _pages(path: Path, options: ReadOptions) -> list[SourcePage | DataError]:
    table = open_table(path)
    columns = [name for name in table.columns if name in _COLUMNS]
    bad: list[DataError] = []
    rows = [Row(number, _row(path, number, row)) for number, row in enumerate(table.rows(columns), start=1)]
    if rows and not {"words", "tokens"} & set(columns):
        raise DataError(f"has no column words or tokens, but {', '.join(table.columns)}{_hint(table)}", file=str(path))
    lines = labelled_rows(path, rows, _features(table), options, bad.append)
    return pages_of_lines(path, lines, bad)


def _hint(table: ArrowTable) -> str:
    if "input_ids" in table.columns:
        return ": these rows are encoded for a model; bring the data set from before"
    if "ground_truth" in table.columns:
        return ": `layoutlm-cli dataset import cord` reads CORD"
    return ": rename the column, in datasets with rename_column"


def _features(table: ArrowTable) -> object:
    """The features of the tags, which have the names of their classes, as the schema's metadata has them."""
    try:
        info = json.loads(table.metadata.get(b"huggingface", b"{}"))
        features = info.get("info", {}).get("features", {})
        return next((features[name] for name in _TAGS if name in features and name in table.columns), None)
    except (ValueError, AttributeError):
        return None


def _row(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """The row with an id and, in place of its image, its digest and size."""
    row = {"guid": f"{path.stem}#{number}", **{name: value for name, value in row.items() if value is not None}}
    image = row.pop("image", None)
    content = image.get("bytes") if isinstance(image, dict) else None
    if isinstance(content, bytes):
        row["image"] = hashlib.sha256(content).hexdigest()
        width, height = imagesize.get(BytesIO(content))
        if min(width, height) > 0:
            row = {"width": width, "height": height, **row}
    elif isinstance(image, str | dict):
        row["image"] = image
    return row


FORMAT = SourceFormat(read_hf, labels={}, own_labels={})
