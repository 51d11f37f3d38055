"""Document services and doccano: their entities, fields and spans become labels of the words."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from receipt_layoutlm.data.importers import ImportReport, import_pages, load_format
from receipt_layoutlm.data.importers.label_table import core_table, own_table
from receipt_layoutlm.data.page import DataError, Page
from tests.support.spans import spans

Json = dict[str, Any]
TEXT = "Corner Shop\nTea 3.70\nTotal 3.70\n"
WORDS = [  # text, offset, box in shares of the page
    ("Corner", 0, (0.1, 0.05, 0.2, 0.08)),
    ("Shop", 7, (0.22, 0.05, 0.3, 0.08)),
    ("Tea", 12, (0.1, 0.2, 0.16, 0.23)),
    ("3.70", 16, (0.8, 0.2, 0.9, 0.23)),
    ("Total", 21, (0.1, 0.5, 0.2, 0.53)),
    ("3.70", 27, (0.8, 0.5, 0.9, 0.53)),
]
FOUND = [
    ("MERCHANT_NAME", ("Corner", "Shop")),
    ("PRODUCT_NAME", ("Tea",)),
    ("LINE_TOTAL", ("3.70",)),
    ("GRAND_TOTAL", ("3.70",)),
]


def refuse(error: DataError) -> None:
    raise error


def read(name: str, path: Path, *documents: object, keep: bool = False) -> tuple[list[Page], ImportReport]:
    path.write_text("\n".join(json.dumps(document) for document in documents))
    source_format = load_format(name)
    table = own_table(source_format.own_labels, {}) if keep else core_table(source_format.labels, {})
    return import_pages(name, [path], table, refuse)


def refusal(name: str, path: Path, document: object) -> str:
    with pytest.raises(DataError) as caught:
        read(name, path, document)
    return str(caught.value)


def corners(box: tuple[float, ...], width: float = 1, height: float = 1) -> list[float]:
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    return [x0, y0, x1, y0, x1, y1, x0, y1]


# Google


def anchor(begin: int, end: int) -> Json:
    segment = {"startIndex": str(begin), "endIndex": str(end)} if begin else {"endIndex": str(end)}
    return {"textSegments": [segment]}


def token(text: str, begin: int, box: tuple[float, ...]) -> Json:
    numbers = corners(box)
    vertices = [{"x": x, "y": y} for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    return {
        "layout": {"textAnchor": anchor(begin, begin + len(text) + 1), "boundingPoly": {"normalizedVertices": vertices}}
    }


def entity(kind: str, begin: int, end: int, *properties: Json) -> Json:
    return {"type": kind, "mentionText": TEXT[begin:end], "textAnchor": anchor(begin, end), "properties": [*properties]}


DOCUMENT: Json = {
    "text": TEXT,
    "pages": [
        {"pageNumber": 1, "dimension": {"width": 600, "height": 800}, "tokens": [token(*word) for word in WORDS]}
    ],
    "entities": [
        entity("supplier_name", 0, 11),
        entity("line_item", 12, 20, entity("line_item/description", 12, 15), entity("line_item/amount", 16, 20)),
        entity("total_amount", 27, 31),
        {"type": "currency", "mentionText": "", "normalizedValue": {"text": "USD"}},
    ],
}


def snake(value: object) -> object:
    if isinstance(value, list):
        return [snake(each) for each in value]
    if isinstance(value, dict):
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(each) for key, each in value.items()}
    return value


@pytest.mark.parametrize("document", [DOCUMENT, snake(DOCUMENT), {"document": DOCUMENT, "humanReviewStatus": {}}])
def test_document_ai_entities_and_their_properties_are_labels(tmp_path: Path, document: object) -> None:
    (page,), report = read("document-ai", tmp_path / "r1.json", document)

    assert spans(page) == FOUND
    assert (page.page_id, page.width, page.height, page.boxes[0]) == ("r1", 600, 800, (100, 50, 200, 80))
    assert page.tags[4] == "O"
    assert all(match.rate == 1 for match in report.matches.values())


def test_document_ai_without_entities_is_unlabelled_and_without_tokens_read_by_its_lines(tmp_path: Path) -> None:
    line = token("Corner Shop", 0, (0.0, 0.05, 0.3, 0.08))
    line["layout"]["boundingPoly"] = {"vertices": [{"y": 40}, {"x": 180, "y": 40}, {"x": 180, "y": 64}, {"y": 64}]}
    dimension = {"width": 600, "height": 800}

    (page,), _ = read(
        "document-ai", tmp_path / "r1.json", {"text": TEXT, "pages": [{"lines": [line], "dimension": dimension}]}
    )

    assert (page.words, page.tags) == (("Corner", "Shop"), ("-", "-"))
    assert page.boxes[0][:2] == (0, 50), "a coordinate that is left out is 0"


# Azure


def azure_word(text: str, offset: int, box: tuple[float, ...]) -> Json:
    span = {"offset": offset, "length": len(text)}
    return {"content": text, "polygon": corners(box, 8.5, 11), "confidence": 0.99, "span": span}


def field(begin: int, end: int) -> Json:
    return {"type": "string", "content": TEXT[begin:end], "spans": [{"offset": begin, "length": end - begin}]}


RESULT: Json = {
    "modelId": "prebuilt-receipt",
    "content": TEXT,
    "pages": [
        {"pageNumber": 1, "width": 8.5, "height": 11, "unit": "inch", "words": [azure_word(*word) for word in WORDS]}
    ],
    "documents": [
        {
            "docType": "receipt.retailMeal",
            "fields": {
                "MerchantName": field(0, 11),
                "CountryRegion": {"type": "countryRegion", "valueCountryRegion": "USA"},
                "Tip": None,
                "Items": {
                    "type": "array",
                    "valueArray": [
                        {"type": "object", "valueObject": {"Description": field(12, 15), "TotalPrice": field(16, 20)}}
                    ],
                },
                "Total": field(27, 31),
            },
        }
    ],
}


@pytest.mark.parametrize("document", [RESULT, {"status": "succeeded", "analyzeResult": RESULT}])
def test_azure_fields_are_labels_by_their_spans(tmp_path: Path, document: Json) -> None:
    (page,), _ = read("azure", tmp_path / "r1.json", document)

    assert spans(page) == FOUND
    assert (page.width, page.height) == (850, 1100)
    assert page.boxes[0] == (100, 50, 200, 80), "inches are shares of the page"


def test_azure_layout_is_unlabelled_and_points_of_the_sdk_are_read(tmp_path: Path) -> None:
    layout = copy.deepcopy({**RESULT, "modelId": "prebuilt-layout", "documents": []})
    for word in layout["pages"][0]["words"]:
        numbers = word["polygon"]
        word["polygon"] = [{"x": x, "y": y} for x, y in zip(numbers[::2], numbers[1::2], strict=True)]

    (page,), _ = read("azure", tmp_path / "r1.json", layout)

    assert set(page.tags) == {"-"} and page.boxes[0] == (100, 50, 200, 80)


def test_azure_version_2_has_words_in_lines_and_fields_by_their_place(tmp_path: Path) -> None:
    words = [{"text": text, "boundingBox": corners(box, 600, 800)} for text, _, box in WORDS]
    total = {"type": "number", "text": "3.70", "page": 1, "boundingBox": corners((0.79, 0.49, 0.91, 0.54), 600, 800)}
    pages = [{"page": 1, "width": 600, "height": 800, "unit": "pixel", "lines": [{"words": words}]}]
    result = {"readResults": pages, "documentResults": [{"fields": {"Total": total}}]}

    (page,), _ = read("azure", tmp_path / "r1.json", {"analyzeResult": result})

    assert [tag for tag in page.tags if tag != "O"] == ["B-GRAND_TOTAL"]
    assert page.tags[5] == "B-GRAND_TOTAL", "not the other amount with the same text"


def test_names_of_fields_are_kept_if_asked(tmp_path: Path) -> None:
    (page,), _ = read("azure", tmp_path / "r1.json", RESULT, keep=True)

    assert [label for label, _ in spans(page)] == ["MerchantName", "Items.Description", "Items.TotalPrice", "Total"]


# doccano

BOXES = [[round(1000 * value) for value in box] for _, _, box in WORDS]
LAYOUT: Json = {"words": [text for text, _, _ in WORDS], "bboxes": BOXES}
SPANS = [[0, 11, "SHOP"], [27, 31, "TOTAL"]]


@pytest.mark.parametrize(
    "line",
    [
        {"id": 1, "text": TEXT, "label": SPANS, **LAYOUT},
        {"id": 1, "text": TEXT, "label": SPANS, "meta": LAYOUT},
        {"id": 1, "data": TEXT, "labels": SPANS, "meta": json.dumps(LAYOUT)},
        {
            "id": 1,
            "text": TEXT,
            "entities": [
                {"id": n, "start_offset": a, "end_offset": b, "label": c} for n, (a, b, c) in enumerate(SPANS)
            ],
            "tokens": LAYOUT["words"],
            "boxes": BOXES,
        },
    ],
)
def test_doccano_spans_label_the_words_beside_the_text(tmp_path: Path, line: Json) -> None:
    (page,), _ = read("doccano", tmp_path / "all.jsonl", line, keep=True)

    assert (page.page_id, spans(page)) == ("1", [("SHOP", ("Corner", "Shop")), ("TOTAL", ("3.70",))])
    assert page.tags[3] == "O", "the first 3.70 is another word"
    assert [list(box) for box in page.boxes] == BOXES


def test_adjacent_doccano_spans_of_one_label_are_two_entities(tmp_path: Path) -> None:
    line = {"text": TEXT, "label": [[0, 6, "A"], [7, 11, "A"]], **LAYOUT}

    (page,), _ = read("doccano", tmp_path / "all.jsonl", line, keep=True)

    assert page.tags[:3] == ("B-A", "B-A", "O")


@pytest.mark.parametrize(
    ("name", "document", "reason"),
    [
        ("document-ai", {"text": "a", "pages": [{"tokens": [{"layout": {}}]}]}, "has no vertices"),
        ("document-ai", {"text": "a", "pages": []}, "no text was found"),
        ("document-ai", {"pages": []}, "text: Field required"),
        ("azure", {"pages": [{"width": 0, "height": 1, "words": []}]}, "pages.0.width"),
        ("azure", {"pages": [{"width": 1, "height": 1, "words": [{"content": "a", "polygon": [1, 2]}]}]}, "polygon"),
        ("azure", {"status": "running"}, "pages"),
        (
            "doccano",
            {"text": "Shop", "label": [[0, 4, "A"]]},
            "a text alone has no layout: before the import into doccano",
        ),
        (
            "doccano",
            {"text": "Shop", "label": [], "words": ["Tea"], "bboxes": [[0, 0, 9, 9]]},
            "word 0 'Tea' does not follow",
        ),
        ("doccano", {"text": "Shop", "label": [[0, 4]], **LAYOUT}, "label.0"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, name: str, document: Json, reason: str) -> None:
    error = refusal(name, tmp_path / "wrong.json", document)

    assert str(tmp_path / "wrong.json") in error and reason in error
