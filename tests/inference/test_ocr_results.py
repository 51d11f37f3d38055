"""predict and overlay on results of other OCR programs and services: words and boxes are theirs, fields the model's."""

import json
from pathlib import Path

import pytest

from tests.support.commands import ok, run


def textract(text: str, left: float, right: float) -> dict[str, object]:
    box = {"Left": left, "Top": 0.1, "Width": right - left, "Height": 0.1}
    return {"BlockType": "WORD", "Confidence": 99.0, "Text": text, "Geometry": {"BoundingBox": box}}


def doctr(text: str, left: float, right: float) -> dict[str, object]:
    return {"value": text, "confidence": 0.9, "geometry": [[left, 0.1], [right, 0.2]]}


CORNERS = [[[100, 50], [200, 50], [200, 100], [100, 100]], [[300, 50], [400, 50], [400, 100], [300, 100]]]
ALTO = """<alto xmlns="http://www.loc.gov/standards/alto/ns-v3#"><Layout><Page WIDTH="1000" HEIGHT="500"><PrintSpace>
<TextBlock><TextLine><String CONTENT="TOTAL" HPOS="100" VPOS="50" WIDTH="100" HEIGHT="50"/>
<String CONTENT="0.50" HPOS="300" VPOS="50" WIDTH="100" HEIGHT="50"/></TextLine></TextBlock>
</PrintSpace></Page></Layout></alto>"""
HOCR = """<html><body><div class='ocr_page' title='image "scan.png"; bbox 0 0 1000 500'><span class='ocr_line'>
<span class='ocrx_word' title='bbox 100 50 200 100'>TOTAL</span>
<span class='ocrx_word' title='bbox 300 50 400 100'>0.50</span></span></div></body></html>"""
FILES = {
    "textract.json": json.dumps({"Blocks": [textract("TOTAL", 0.1, 0.2), textract("0.50", 0.3, 0.4)]}),
    "doctr.json": json.dumps(
        {
            "pages": [
                {
                    "dimensions": [500, 1000],
                    "blocks": [{"lines": [{"words": [doctr("TOTAL", 0.1, 0.2), doctr("0.50", 0.3, 0.4)]}]}],
                }
            ]
        }
    ),
    "paddle.json": json.dumps({"input_path": "a.jpg", "rec_texts": ["TOTAL", "0.50"], "rec_polys": CORNERS}),
    "page.hocr": HOCR,
    "page.html": HOCR,
    "page.xml": ALTO,
}


@pytest.mark.parametrize("name", FILES)
def test_words_of_another_ocr_are_predicted_without_reading_a_scan(model: Path, tmp_path: Path, name: str) -> None:
    (path := tmp_path / name).write_text(FILES[name])

    (page,) = json.loads(ok("predict", "--model", str(model), str(path), "--json"))["pages"]

    assert [word["text"] for word in page["words"]] == ["TOTAL", "0.50"]
    assert all(word["ocr_confidence"] is None for word in page["words"])
    left, right = (word["box"][0] for word in page["words"])
    assert left < right
    assert page["source"] == str(path)


def test_labels_of_a_service_are_no_gold_labels(model: Path, tmp_path: Path) -> None:
    box = {"BoundingBox": {"Left": 0.3, "Top": 0.1, "Width": 0.1, "Height": 0.1}}
    total = {"Type": {"Text": "TOTAL"}, "ValueDetection": {"Text": "0.50", "Geometry": box}, "PageNumber": 1}
    blocks = json.loads(FILES["textract.json"])["Blocks"]
    (path := tmp_path / "r.json").write_text(
        json.dumps({"ExpenseDocuments": [{"SummaryFields": [total], "LineItemGroups": [], "Blocks": blocks}]})
    )

    (page,) = json.loads(ok("overlay", "--model", str(model), str(path), "--output", str(tmp_path / "out"), "--json"))[
        "pages"
    ]

    assert page["has_gold"] is False


def test_a_folder_of_results_is_predicted_and_a_damaged_one_is_named(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "replies"
    folder.mkdir()
    for name in ("textract.json", "page.hocr"):
        (folder / name).write_text(FILES[name])
    (folder / "bad.json").write_text(json.dumps({"Blocks": [{"BlockType": "WORD", "Text": "TOTAL"}]}))

    result = run("predict", "--model", str(model), str(folder), "--json")

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert [Path(page["source"]).name for page in document["pages"]] == ["page.hocr", "textract.json"]
    assert "bad.json" in result.stderr
