"""Files of other tools are named, with the command that reads them if there is one."""

import json
from pathlib import Path

import pytest

from receipt_layoutlm.data.importers import FORMATS, import_pages, load_format
from receipt_layoutlm.data.importers.label_table import core_table, own_table
from receipt_layoutlm.data.importers.recognise import recognised
from receipt_layoutlm.data.page import DataError
from tests.support.paths import FIXTURES

WORD = {"text": "Shop", "box": [10, 10, 90, 30]}
OTHERS: dict[str, object] = {
    "Textract": {"DocumentMetadata": {"Pages": 1}, "Blocks": [{"BlockType": "PAGE"}]},
    "Document AI": {"text": "Shop", "pages": [{"tokens": [{"layout": {}}]}], "entities": []},
    "Azure": {"document": "a.jpg", "labels": [{"label": "Shop", "value": []}]},
    "docTR": {"pages": [{"blocks": [{"lines": [{"words": [{"value": "Shop", "geometry": [[0, 0], [1, 1]]}]}]}]}]},
    "XFUND": {"lang": "zh", "documents": [{"id": "1", "document": [{**WORD, "words": [WORD]}]}]},
    "UBIAI": [{"documentName": "a.png", "document": "Shop", "tokens": [{"text": "Shop", "start": 0}]}],
    "Label Studio's export": [{"id": 1, "annotations": [{"result": [{"value": {}}]}], "data": {"ocr": "a.png"}}],
    "JSON-MIN": [{"ocr": "a.png", "bbox": [{"x": 1, "original_width": 600}], "transcription": ["Shop"]}],
    "COCO": {"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}], "categories": []},
    "Donut": {"file_name": "0.png", "ground_truth": '{"gt_parse": {"total": "3"}}'},
    "doccano": {"id": 1, "text": "Shop 3", "label": [[0, 4, "MERCHANT"]]},
    "Azure Document Intelligence": {"modelId": "prebuilt-receipt", "content": "", "pages": [{"words": [{}]}]},
    "a document of Google": {"document": {"text": "Shop", "pages": [{"tokens": [{"layout": {}}]}]}},
    "Label Studio's tasks": [{"id": 1, "data": {"ocr": "a.png"}, "annotations": []}],
    "Prodigy": {"text": "Shop", "tokens": [{"text": "Shop", "start": 0}], "spans": []},
    "labelme": {"shapes": [{"label": "a", "points": [[0, 0]]}], "imagePath": "a.png"},
}
TEXTS = {
    "PaddleOCR": 'img/a.jpg\t[{"transcription": "Shop", "points": [[1, 1], [9, 1], [9, 9], [1, 9]]}]\n',
    "Tesseract": "level\tpage_num\tblock_num\tpar_num\n1\t1\t0\t0\n",
    "hOCR": "<html><body><div class='ocr_page' title='bbox 0 0 1 1'></div></body></html>",
    "ALTO": '<?xml version="1.0"?>\n<alto xmlns="http://www.loc.gov/standards/alto/ns-v3#"></alto>',
    "Pascal VOC": "<annotation><folder>a</folder></annotation>",
    "Pascal VOC annotations": '<?xml version="1.0"?><annotation verified="yes"><folder>a</folder></annotation>',
    "CVAT": '<?xml version="1.0"?><annotations><version>1.1</version></annotations>',
    "YOLO": "0 0.5 0.25 0.1 0.05\n1 0.5 0.75 0.1 0.05\n",
    "words and tags": "Shop\tB-COMPANY\nInc\tE-COMPANY\n\nTea\tO\n",
    "words and boxes": "Shop\t10 10 90 30\nInc\t100 10 190 30\n",
    "CoNLL": "-DOCSTART- -X- O O\n\nShop NN B-NP B-ORG\n",
}
COMMANDS = {
    "Textract": "textract",
    "docTR": "doctr",
    "PaddleOCR": "paddleocr",
    "hOCR": "hocr",
    "ALTO": "alto",
    "doccano": "doccano",
    "XFUND": "xfund",
    "Azure Document Intelligence": "azure",
    **dict.fromkeys(("Document AI", "a document of Google"), "document-ai"),
    **dict.fromkeys(("Label Studio's export", "Label Studio's tasks", "JSON-MIN"), "label-studio"),
}


def refuse(error: DataError) -> None:
    raise error


def refusal(name: str, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        import_pages(name, [path], own_table({}, {}), refuse)
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("tool", "text"), [*((tool, json.dumps(document)) for tool, document in OTHERS.items()), *TEXTS.items()]
)
def test_every_import_names_the_tool_whose_file_it_cannot_read(tmp_path: Path, name: str, tool: str, text: str) -> None:
    path = tmp_path / "export.txt"
    path.write_text(text)
    command = COMMANDS.get(tool)
    if name == command:
        assert recognised(path) is not None
        return
    reason = refusal(name, path)
    remedy = f"layoutlm-cli dataset import {command} {path}" if command else "which no command reads: convert it to"
    assert tool in reason and remedy in reason


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("other", ["sroie", "cord", "cord_v2", "funsd", "wildreceipt"])
def test_every_import_names_the_command_for_the_others(name: str, other: str) -> None:
    command = other.removesuffix("_v2")
    if name == command:
        assert recognised(FIXTURES / other) is not None
        return
    assert f"layoutlm-cli dataset import {command} " in refusal(name, FIXTURES / other)


def test_pages_are_recognised_by_the_other_imports(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text(json.dumps({"id": "1", "words": ["a"], "bboxes": [[1, 1, 9, 9]], "labels": ["O"]}))
    for name in ("sroie", "cord", "funsd", "wildreceipt"):
        assert f"layoutlm-cli dataset import jsonl {path}" in refusal(name, path)


def test_a_folder_saved_by_hugging_face_is_named(tmp_path: Path) -> None:
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff")
    named = refusal("jsonl", tmp_path)
    assert f"saved by Hugging Face's save_to_disk: layoutlm-cli dataset import hf {tmp_path}" in named


@pytest.mark.parametrize(("content", "command"), [(b"PAR1 tokens PAR1", "hf"), (b"PAR1 ground_truth PAR1", "cord")])
def test_the_command_for_a_parquet_file_is_told_by_its_columns(tmp_path: Path, content: bytes, command: str) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    assert f"layoutlm-cli dataset import {command} {path}" in refusal("funsd", path)


def test_the_names_of_commands_are_those_of_importers() -> None:
    assert all(load_format(name).read for name in FORMATS)


@pytest.mark.parametrize("file", ["box/0.csv", "key/0.json"])
def test_of_sroie_the_command_names_the_folder_above_the_file(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "my receipts"
    for name, text in (("box/0.csv", "1,2,3,2,3,4,1,4,Shop\n"), ("key/0.json", '{"company": "Shop", "total": "3"}')):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    assert f"layoutlm-cli dataset import sroie '{folder}'" in refusal("jsonl", folder / file)
    pages, _ = import_pages("sroie", [folder], core_table(load_format("sroie").labels, {}), refuse)
    assert pages[0].words == ("Shop",)
