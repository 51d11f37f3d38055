"""Label Studio: exports of projects, and pages that went there as pre-annotations and come back reviewed."""

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from receipt_layoutlm.data.importers import ImportReport, import_pages
from receipt_layoutlm.data.importers.label_table import own_table
from receipt_layoutlm.data.label_studio import Proposal, labelling_interface, task_of
from receipt_layoutlm.data.page import DataError, Page
from tests.support.spans import spans

Json = dict[str, Any]
SIZE = {"original_width": 600, "original_height": 800, "image_rotation": 0}
PLACES = {"Corner Shop": (10, 5, 40, 4), "25/12/18": (10, 20, 20, 4), "3.70": (70, 50, 20, 4)}


def refuse(error: DataError) -> None:
    raise error


def read(path: Path, tasks: object) -> tuple[list[Page], ImportReport]:
    path.write_text(json.dumps(tasks))
    return import_pages("label-studio", [path], own_table({}, {}), refuse)


def refusal(path: Path, tasks: object) -> str:
    with pytest.raises(DataError) as caught:
        read(path, tasks)
    return str(caught.value)


def region(text: str, label: str = "", name: str = "", transcribed: str | None = None) -> list[Json]:
    """The parts of a region, as the OCR template of Label Studio writes them."""
    x, y, width, height = PLACES.get(text, (10, 5, 80, 50))
    place = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    parts: list[Json] = [{"type": "rectangle", "from_name": "bbox", "value": place}]
    if label:
        parts.append({"type": "labels", "from_name": "label", "value": {**place, "labels": [label]}})
    text = text if transcribed is None else transcribed
    if text:
        parts.append({"type": "textarea", "from_name": "transcription", "value": {**place, "text": [text]}})
    return [{"id": name or text, "to_name": "image", **SIZE, **part} for part in parts]


def annotation(*regions: list[Json], **fields: object) -> Json:
    return {"id": 9, "was_cancelled": False, "result": [part for each in regions for part in each], **fields}


def task(*annotations: Json, image: str = "/data/upload/1/0a1b2c3d-a.png") -> Json:
    return {"id": 7, "annotations": list(annotations), "predictions": [], "data": {"ocr": image}}


def test_regions_are_entities_and_the_page_is_named_after_its_image(tmp_path: Path) -> None:
    shop = region("Corner Shop", "Merchant")

    (page,), _ = read(tmp_path / "export.json", [task(annotation(shop, region("3.70")))])

    assert (page.page_id, page.width, page.height) == ("a", 600, 800)
    assert spans(page) == [("Merchant", ("Corner", "Shop"))]
    assert page.words == ("Corner", "Shop", "3.70")
    assert page.boxes[2] == (700, 500, 900, 540)


@pytest.mark.parametrize(
    "image", ["/data/local-files/?d=scans%2Fa%20b.png", "s3://bucket/a%20b.png", "https://host/x/a%20b.jpg?sig=1"]
)
def test_images_of_every_storage_name_the_page(tmp_path: Path, image: str) -> None:
    (page,), _ = read(tmp_path / "export.json", [task(annotation(region("3.70", "TOTAL")), image=image)])

    assert page.page_id == "a b"


def test_the_ground_truth_and_else_the_newest_annotation_is_read(tmp_path: Path) -> None:
    old = annotation(region("3.70", "OLD"), updated_at="2026-01-01T00:00:00Z")
    new = annotation(region("3.70", "NEW"), updated_at="2026-02-01T00:00:00Z")
    skipped = annotation(region("3.70", "SKIPPED"), updated_at="2026-03-01T00:00:00Z", was_cancelled=True)

    (page,), report = read(tmp_path / "a.json", [task(new, old, skipped)])
    assert page.tags == ("B-NEW",)
    assert report.notes == ("of several annotations of a task the ground truth, or else the newest, is read",)

    (page,), _ = read(tmp_path / "b.json", [task(new, {**old, "ground_truth": True}, skipped)])
    assert page.tags == ("B-OLD",)


def test_labels_of_rectanglelabels_and_polygons_are_read_and_rotated_boxes_turned(tmp_path: Path) -> None:
    value = {"x": 50, "y": 50, "width": 8, "height": 30, "rotation": 90, "rectanglelabels": ["TOTAL"]}
    rotated = {"id": "r", "type": "rectanglelabels", **SIZE, "value": value}
    text = {"id": "r", "type": "textarea", **SIZE, "value": {**value, "text": "3.70"}}
    polygon = {"id": "p", "type": "polygonlabels", **SIZE}
    points = {"points": [[10, 5], [50, 5], [50, 9]], "polygonlabels": ["DATE"]}
    dated = [{**polygon, "value": points}, {**polygon, "value": {**points, "text": ["25/12/18"]}}]

    (page,), _ = read(tmp_path / "a.json", [task(annotation([rotated, text], dated))])

    assert spans(page) == [("DATE", ("25/12/18",)), ("TOTAL", ("3.70",))]
    assert page.boxes == ((100, 50, 500, 90), (100, 500, 500, 560)), "30 % of 800 pixels are 40 % of 600"


def test_related_regions_are_one_entity_and_others_are_not(tmp_path: Path) -> None:
    regions = [region("25/12/18", "ADDRESS", "r1"), region("Corner Shop", "ADDRESS", "r2")]
    relation = [{"type": "relation", "from_id": "r2", "to_id": "r1", "direction": "right"}]

    (apart,), _ = read(tmp_path / "a.json", [task(annotation(*regions))])
    (joined,), _ = read(tmp_path / "b.json", [task(annotation(*regions, relation))])

    assert apart.tags == ("B-ADDRESS", "I-ADDRESS", "B-ADDRESS")
    assert joined.tags == ("B-ADDRESS", "I-ADDRESS", "I-ADDRESS")


def test_where_every_region_holds_one_word_adjacent_ones_of_a_label_are_one_entity(tmp_path: Path) -> None:
    words = [region("25/12/18", "DATE"), region("3.70", "DATE")]

    (page,), report = read(tmp_path / "a.json", [task(annotation(*words))])

    assert page.tags == ("B-DATE", "I-DATE")
    assert report.notes == ("regions hold single words: adjacent ones of one label are read as one entity",)


def test_a_region_without_a_text_labels_the_words_inside_of_it(tmp_path: Path) -> None:
    whole = region("whole", "HEADER", "h", transcribed="")

    (page,), _ = read(tmp_path / "a.json", [task(annotation(region("Corner Shop"), region("25/12/18"), whole))])

    assert page.tags == ("B-HEADER", "I-HEADER", "I-HEADER")


def test_json_min_is_read_like_json(tmp_path: Path) -> None:
    places = [dict(zip(("x", "y", "width", "height"), PLACES[name], strict=True)) | SIZE for name in PLACES]
    labels = [{**places[2], "labels": ["TOTAL"]}, {**places[0], "labels": ["Merchant"]}]
    export = {"ocr": "/data/upload/1/a.png", "id": 7, "bbox": places, "label": labels, "transcription": [*PLACES]}

    (page,), _ = read(tmp_path / "a.json", [export])

    assert page.tags == ("B-Merchant", "I-Merchant", "O", "B-TOTAL")
    reason = refusal(tmp_path / "b.json", [{**export, "transcription": ["3.70"]}])
    assert "1 transcriptions of 3 regions cannot be assigned in JSON-MIN: export as JSON" in reason


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([task()], "task 7 has no annotation"),
        ([{**task(), "predictions": [{"result": []}]}], "submit its predictions in Label Studio first"),
        ([task(annotation(region("3.70", "A"), was_cancelled=True))], "task 7 was skipped"),
        ([task(annotation(region("3.70", "A", "r", transcribed="")))], "has no region with a text"),
        (
            [task(annotation(region("Corner Shop"), region("3.70", "A", "r", transcribed="")))],
            "has a region A without a text and without words: transcribe it",
        ),
        ([task(annotation([{**part, "item_index": 1} for part in region("3.70", "A")]))], "has several images"),
        ([task(annotation([{"id": "a", "value": {"x": "left"}}]))], "valid number"),
    ],
)
def test_tasks_that_cannot_be_used_are_named(tmp_path: Path, tasks: object, reason: str) -> None:
    error = refusal(tmp_path / "export.json", tasks)

    assert str(tmp_path / "export.json") in error and reason in error


# pages that were exported here

PAGE = Page(
    page_id="r1",
    group="corner shop",
    words=("Corner", "Shop", "Tea", "Cake", "3.70", "thanks"),
    boxes=(
        (101, 50, 333, 85),
        (341, 50, 500, 85),
        (100, 200, 180, 230),
        (100, 240, 180, 270),
        *[(700, 500, 900, 540)] * 2,
    ),
    tags=("B-MERCHANT_NAME", "I-MERCHANT_NAME", "B-PRODUCT_NAME", "B-PRODUCT_NAME", "B-GRAND_TOTAL", "O"),
    width=617,
    height=811,
    image="0" * 64,
)


def submitted(page: Page) -> Json:
    """A task of a page that a person submitted without a change."""
    exported = json.loads(json.dumps(task_of(Proposal(page, "/data/local-files/?d=r1.png", "model"))))
    result = copy.deepcopy(exported["predictions"][0]["result"])
    return {"id": 1, **exported, "annotations": [{"id": 5, "result": result}]}


def parts(exported: Json, kind: str) -> list[Json]:
    return [part for part in exported["annotations"][0]["result"] if part["type"] == kind]


def test_what_nobody_changed_comes_back_as_the_same_page(tmp_path: Path) -> None:
    (page,), _ = read(tmp_path / "export.json", [submitted(PAGE)])

    assert page == PAGE


def test_a_changed_label_changes_only_the_label(tmp_path: Path) -> None:
    exported = submitted(PAGE)
    (total,) = [part for part in parts(exported, "labels") if part["value"]["labels"] == ["GRAND_TOTAL"]]
    total["value"]["labels"] = ["SUBTOTAL"]

    (page,), _ = read(tmp_path / "export.json", [exported])

    assert page.tags == (*PAGE.tags[:4], "B-SUBTOTAL", "O")
    assert (page.words, page.boxes, page.width, page.image) == (PAGE.words, PAGE.boxes, PAGE.width, PAGE.image)


def test_regions_that_got_other_ids_are_found_by_their_place(tmp_path: Path) -> None:
    exported = submitted(PAGE)
    for part in exported["annotations"][0]["result"]:
        part["id"] = f"x{part['id'][::-1]}"

    (page,), _ = read(tmp_path / "export.json", [exported])

    assert page == PAGE, "also of words that share a box"


def test_a_review_that_was_exported_as_json_min_is_the_same_page(tmp_path: Path) -> None:
    exported = submitted(PAGE)

    def values(kind: str) -> list[Json]:
        return [{**part["value"], **SIZE} for part in parts(exported, kind)]

    texts = [part["value"]["text"][0] for part in parts(exported, "textarea")]
    task_min = {
        **exported["data"],
        "id": 1,
        "bbox": values("rectangle"),
        "label": values("labels"),
        "transcription": texts,
    }

    (page,), _ = read(tmp_path / "export.json", [task_min])

    assert page == PAGE


def test_corrected_texts_moved_boxes_and_deleted_regions_are_changes(tmp_path: Path) -> None:
    exported = submitted(PAGE)
    result = exported["annotations"][0]["result"]
    for part in result:
        if part["id"] == "w2" and part["type"] == "textarea":
            part["value"]["text"] = ["Green Tea"]
        if part["id"] == "w3":
            part["value"]["x"] = 20
    exported["annotations"][0]["result"] = [part for part in result if part["id"] != "w4"]

    (page,), _ = read(tmp_path / "export.json", [exported])

    assert page.words == ("Corner", "Shop", "Green Tea", "Cake", "3.70", "thanks")
    assert page.boxes[3] == (200, 240, 280, 270)
    assert page.tags[4] == "O"


def test_a_rectangle_that_the_reviewer_drew_labels_the_words_inside_or_adds_its_text(tmp_path: Path) -> None:
    exported = submitted(PAGE)
    place = {"x": 9, "y": 19, "width": 10, "height": 9, "rotation": 0}
    around = {"id": "new1", "type": "labels", **SIZE, "value": {**place, "labels": ["ITEMS"]}}
    new = {"x": 10, "y": 90, "width": 10, "height": 4, "rotation": 0}
    added = [
        {"id": "new2", "type": "labels", **SIZE, "value": {**new, "labels": ["DATE"]}},
        {"id": "new2", "type": "textarea", **SIZE, "value": {**new, "text": ["25 Dec"]}},
    ]
    exported["annotations"][0]["result"] += [around, *added]

    (page,), _ = read(tmp_path / "export.json", [exported])

    assert ("ITEMS", ("Tea", "Cake")) in spans(page)
    assert ("DATE", ("25", "Dec")) in spans(page)


def test_the_confidence_of_a_model_is_the_score_of_its_regions() -> None:
    proposal = Proposal(PAGE, "a.png", "m1", [0.9, 0.8, 0.95, 0.7, 0.99, 1.0])

    (prediction,) = task_of(proposal)["predictions"]  # type: ignore[misc]

    assert (prediction["model_version"], prediction["score"]) == ("m1", 0.7)
    assert prediction["result"][0]["score"] == 0.9


def test_the_labelling_interface_has_every_label_and_the_names_of_the_tasks() -> None:
    root = ElementTree.fromstring(labelling_interface(["DATE", 'A"B']))

    assert [each.get("value") for each in root.iter("Label")] == ["DATE", 'A"B']
    names = {(each.get("name"), each.get("toName")) for each in root.iter() if each.get("toName")}
    regions = task_of(Proposal(PAGE, "a.png", "m1"))["predictions"][0]["result"]  # type: ignore[index]
    assert {(part["from_name"], part["to_name"]) for part in regions} <= names
