"""Tasks of Label Studio's JSON and JSON-MIN exports, and the regions that a person drew or left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, radians, sin
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, RootModel, field_validator

from receipt_layoutlm.data.importers.ocr_page import is_near
from receipt_layoutlm.data.lines import FloatBox, bounds
from receipt_layoutlm.data.page import LARGEST_EXTENT
from receipt_layoutlm.data.source_text import RECORD

_IMAGES = ("ocr", "image", "img", "pdf", "document")
_UPLOAD = 8  # hexadecimal digits and a dash that Label Studio puts before the name of an upload
_TEXTS = ("transcription", "text", "textarea", "ocr_text")
_SIDES = ("x", "y", "width", "height")
_SEVERAL = "of several annotations of a task the ground truth, or else the newest, is read"


def _texts(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value or ""


class RegionValue(BaseModel):
    """A region's box or polygon in percent of the image, with its labels or its text."""

    model_config = RECORD

    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float = 0
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[str, ...] = Field(
        default=(), validation_alias=AliasChoices("labels", "rectanglelabels", "polygonlabels")
    )
    text: Annotated[str, BeforeValidator(_texts)] = ""

    def box(self, width: float, height: float) -> FloatBox | None:
        """The upright box in percent; None without a place. Rotations are clockwise, around the top left corner."""
        if self.points:
            return bounds([value for point in self.points for value in point])
        if self.x is None or self.y is None or self.width is None or self.height is None:
            return None
        turn, ratio = radians(self.rotation), width / height
        corners: list[float] = []
        for x, y in ((0.0, 0.0), (self.width, 0.0), (self.width, self.height), (0.0, self.height)):
            corners += [self.x + x * cos(turn) - y * sin(turn) / ratio, self.y + x * ratio * sin(turn) + y * cos(turn)]
        return bounds(corners)


class RegionPart(BaseModel):
    """One part of a region, or the relation of two."""

    model_config = RECORD

    id: str | None = None
    value: RegionValue | None = None
    original_width: float | None = Field(default=None, gt=0, le=LARGEST_EXTENT)
    original_height: float | None = Field(default=None, gt=0, le=LARGEST_EXTENT)
    item_index: int = 0
    from_id: str | None = None
    to_id: str | None = None


class TaskAnnotation(BaseModel):
    """What a person submitted."""

    model_config = RECORD

    result: tuple[RegionPart, ...] = ()
    was_cancelled: bool = False
    ground_truth: bool = False
    created_at: str | None = None
    updated_at: str | None = None

    def preference(self) -> tuple[bool, str]:
        """Greater is better."""
        return self.ground_truth, self.updated_at or self.created_at or ""


@dataclass(frozen=True, slots=True)
class Region:
    """A box in percent of the image; without a label or a text they are ""."""

    id: str
    box: FloatBox
    label: str
    text: str


class LabelStudioTask(BaseModel):
    """One image."""

    model_config = RECORD

    id: str = ""
    data: dict[str, Any]
    annotations: tuple[TaskAnnotation, ...] = Field(
        default=(), validation_alias=AliasChoices("annotations", "completions")
    )
    predictions: tuple[object, ...] = ()

    def annotation(self, note: Callable[[str], None]) -> TaskAnnotation:
        """The one to read. ValueError if nobody submitted one."""
        usable = [each for each in self.annotations if not each.was_cancelled]
        if not usable:
            reason = "was skipped" if self.annotations else "has no annotation"
            hint = ": submit its predictions in Label Studio first" if self.predictions else ""
            raise ValueError(f"{reason}{hint}")
        if len(usable) > 1:
            note(_SEVERAL)
        return max(reversed(usable), key=TaskAnnotation.preference)  # of equals the last

    def image_name(self) -> str:
        """The name of its image without suffix, as Label Studio has it; the task's number without an image."""
        texts = [self.data[name] for name in _IMAGES if isinstance(self.data.get(name), str)]
        texts += [value for value in self.data.values() if isinstance(value, str) and _is_image(value)]
        if not texts:
            return f"task-{self.id}"
        parts = urlsplit(texts[0])
        place = (parse_qs(parts.query).get("d") or [parts.path])[0]
        return PurePosixPath(unquote(place)).stem or f"task-{self.id}"


def _is_image(text: str) -> bool:
    return urlsplit(text).path.lower().endswith((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"))


def without_upload_prefix(name: str) -> str:
    """The name that a file had before it was uploaded."""
    prefix, dash, rest = name.partition("-")
    is_prefix = dash and rest and len(prefix) == _UPLOAD and all(each in "0123456789abcdef" for each in prefix)
    return rest if is_prefix else name


class LabelStudioTasks(RootModel[tuple[LabelStudioTask, ...]]):
    """A whole export."""

    @field_validator("root", mode="before")
    @classmethod
    def _as_tasks(cls, value: object) -> object:
        tasks = value if isinstance(value, list) else [value]
        return [_from_min(task) if isinstance(task, dict) and "data" not in task else task for task in tasks]


def regions_of(annotation: TaskAnnotation, size: tuple[float, float]) -> list[Region]:
    """The regions in the order of the export. ValueError if the task has several images."""
    parts: dict[str, list[RegionValue]] = {}
    for index, result in enumerate(annotation.result):
        if result.item_index:
            raise ValueError("has several images: make a task of each")
        if result.value:
            parts.setdefault(result.id or f"#{index}", []).append(result.value)
    regions = []
    for name, values in parts.items():
        box = next((box for value in values if (box := value.box(*size))), None)
        if box is not None and not is_near(box):
            raise ValueError(f"has a region at {box} percent, no place on an image")
        if box is not None:
            label = next((value.labels[0] for value in values if value.labels), "")
            regions.append(Region(name, box, label, next((value.text for value in values if value.text.strip()), "")))
    return regions


def size_of(annotation: TaskAnnotation) -> tuple[float, float] | None:
    """Width and height of the image in pixels, if a region tells them."""
    sizes = ((each.original_width, each.original_height) for each in annotation.result)
    return next(((width, height) for width, height in sizes if width and height), None)


def relations_of(annotation: TaskAnnotation) -> list[tuple[str, str]]:
    """The ids of related regions."""
    return [(each.from_id, each.to_id) for each in annotation.result if each.from_id and each.to_id]


# JSON-MIN


def _from_min(task: dict[str, Any]) -> dict[str, Any]:
    """A task of JSON-MIN, which has the fields of data and of the annotation side by side, as one of JSON."""
    lists = [value for value in task.values() if isinstance(value, list) and value and _are_boxes(value)]
    if not lists:
        return task  # which has no data, as the error says
    boxes = max(lists, key=len)
    results = [{"id": f"#{index}", "value": {**box}, **_size(box)} for index, box in enumerate(boxes)]
    for labelled in lists:
        if labelled is not boxes:
            _add_labels(results, labelled)
    texts = _transcriptions(task)
    if texts and len(texts) != len(boxes):
        raise ValueError(
            f"task {task.get('id')}: {len(texts)} transcriptions of {len(boxes)} regions cannot be assigned in "
            "JSON-MIN: export as JSON"
        )
    results += [{"id": f"#{index}", "value": {"text": text}} for index, text in enumerate(texts)]
    times = {name: task.get(name) for name in ("created_at", "updated_at")}
    return {"id": task.get("id", ""), "data": task, "annotations": [{"result": results, **times}]}


def _are_boxes(values: Sequence[object]) -> bool:
    return all(isinstance(value, dict) and ("points" in value or value.keys() >= {*_SIDES}) for value in values)


def _size(box: dict[str, Any]) -> dict[str, Any]:
    return {name: box[name] for name in ("original_width", "original_height") if name in box}


def _add_labels(results: list[dict[str, Any]], labelled: Sequence[dict[str, Any]]) -> None:
    """Adds labels to the regions with the same place, each to the first that has none."""
    of_place: dict[str, list[str]] = {}
    for result in results:
        of_place.setdefault(_place(result["value"]), []).append(result["id"])
    for box in labelled:
        if ids := of_place.get(_place(box)):
            results.append({"id": ids.pop(0), "value": {**box}})


def _place(box: dict[str, Any]) -> str:
    return str(box.get("points") or [box.get(side) for side in _SIDES])


def _transcriptions(task: dict[str, Any]) -> list[str]:
    """The texts of the regions: the field of the usual name, else the first with a list of texts."""
    named: list[str | list[object]] = [task[name] for name in _TEXTS if isinstance(task.get(name), str | list)]
    lists = [value for value in task.values() if isinstance(value, list) and value]
    named += [value for value in lists if all(isinstance(text, str) for text in value)]
    first = next(iter(named), None)
    return [first] if isinstance(first, str) else [str(_texts(text)) for text in first or []]
