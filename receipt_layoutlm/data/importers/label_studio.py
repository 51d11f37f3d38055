"""Label Studio: JSON and JSON-MIN exports of regions with labels and transcriptions.

    [{"id": 7, "data": {"ocr": "/data/upload/1/a.png"}, "annotations": [{"result": [
        {"id": "a1", "type": "rectangle", "original_width": 600, "original_height": 800, "value": {"x": 10, ...}},
        {"id": "a1", "type": "labels", "value": {"labels": ["DATE"], ...}},
        {"id": "a1", "type": "textarea", "value": {"text": ["25/12/18"], ...}}]}]}]

Boxes are percent of the image. A region is one entity, and so are regions that a relation joins; where all labelled
regions of a file hold one word, adjacent ones of one label are one entity. A region without a text labels the words
inside of it. A task is named after its image.

Tasks that `dataset export label-studio` wrote have their page in data. Its words and boxes are kept but for those
regions that the reviewer changed; a word whose region is gone has no label.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from receipt_layoutlm.data.importers.label_studio_tasks import (
    LabelStudioTask,
    LabelStudioTasks,
    Region,
    TaskAnnotation,
    regions_of,
    relations_of,
    size_of,
    without_upload_prefix,
)
from receipt_layoutlm.data.importers.ocr_page import SHARES_SIZE
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord, in_order
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.label_studio import PAGE_FIELD, REGION
from receipt_layoutlm.data.lines import FloatBox, split_line, thousandths
from receipt_layoutlm.data.page import PAGE_EXTENT, DataError, Page, page_from_line
from receipt_layoutlm.data.source_text import files_below, read_source, shaped

_PERCENT = (100.0, 100.0)
_MOVED = 0.06  # percent by which a box may differ from a word's, for rounding
_JOINED = "regions hold single words: adjacent ones of one label are read as one entity"


def read_label_studio(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each task."""
    for path in files_below(paths, "*.json", "*.json.gz"):
        try:
            tasks = shaped(LabelStudioTasks, read_source(path, options.text), path).root
        except DataError as error:
            yield error
            continue
        names = Counter(without_upload_prefix(task.image_name()) for task in tasks)
        note = cache(options.text.note)  # once a file
        of_file = replace(options, text=replace(options.text, note=note))
        for index, task in enumerate(tasks, start=1):
            try:
                annotation = task.annotation(note)
                page = _exported_page(task)
                if page is not None:
                    yield _reviewed(path, page, annotation)
                else:
                    name = without_upload_prefix(task.image_name())
                    yield _drawn(path, name if names[name] == 1 else task.image_name(), task, annotation, of_file)
            except ValueError as error:
                yield DataError(f"task {task.id or index} {error}", file=str(path))


# tasks of other projects


def _drawn(
    path: Path, name: str, task: LabelStudioTask, annotation: TaskAnnotation, options: ReadOptions
) -> SourcePage:
    size = size_of(annotation)
    width, height = size or SHARES_SIZE
    regions = regions_of(annotation, (width, height))
    words = [
        SourceWord(text, _scaled(box, (width, height)), region.label, entity)
        for entity, region in enumerate(regions)
        for text, box in split_line(region.text, region.box)
    ]
    if not words:
        raise ValueError("has no region with a text: its words are not known. Transcribe its regions")
    for entity, region in enumerate(regions):
        if region.label and not region.text.strip():
            places = _inside(region.box, words, (width, height))
            if not places:
                raise ValueError(f"has a region {region.label} without a text and without words: transcribe it")
            for place in places:
                words[place] = replace(words[place], label=region.label, entity=entity)
    ordered = in_order(_joined(words, regions, annotation), (width, height), options.order)
    group = task.data.get("group")
    return SourcePage(
        file=str(path),
        line=None,
        page_id=name,
        group=group if isinstance(group, str) and group else name,
        words=_of_single_words(ordered, options),
        scale=(width, height),
        width=round(width),
        height=round(height),
        order=options.order,
    )


def _joined(words: Sequence[SourceWord], regions: Sequence[Region], annotation: TaskAnnotation) -> list[SourceWord]:
    """The words, those of related regions with the same label as one entity."""
    entity_of = {region.id: entity for entity, region in enumerate(regions)}
    for first, second in relations_of(annotation):
        a, b = entity_of.get(first), entity_of.get(second)
        if a is not None and b is not None and a != b:
            entity_of = {name: a if entity == b else entity for name, entity in entity_of.items()}
    merged = dict(zip(range(len(regions)), (entity_of[region.id] for region in regions), strict=True))
    return [replace(word, entity=merged[word.entity]) for word in words]


def _of_single_words(words: tuple[SourceWord, ...], options: ReadOptions) -> tuple[SourceWord, ...]:
    counts = Counter(word.entity for word in words if word.label)
    if set(counts.values()) != {1}:
        return words
    joined: list[SourceWord] = []
    for word in words:
        continues = bool(joined and word.label) and joined[-1].label == word.label
        joined.append(replace(word, entity=joined[-1].entity) if continues else word)
        if continues:
            options.text.note(_JOINED)
    return tuple(joined)


def _scaled(box: FloatBox, size: tuple[float, float]) -> FloatBox:
    return tuple(value * extent / 100 for value, extent in zip(box, size * 2, strict=True))  # type: ignore[return-value]


def _inside(box: FloatBox, words: Sequence[SourceWord], size: tuple[float, float]) -> list[int]:
    """The indices of the words whose centre lies in a box in percent."""
    x0, y0, x1, y1 = _scaled(box, size)
    centres = [((word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2) for word in words]
    return [index for index, (x, y) in enumerate(centres) if x0 <= x <= x1 and y0 <= y <= y1]


# tasks that were exported here


def _exported_page(task: LabelStudioTask) -> Page | None:
    page = task.data.get(PAGE_FIELD)
    return page_from_line(json.dumps(page)) if isinstance(page, dict) else None


def _reviewed(path: Path, page: Page, annotation: TaskAnnotation) -> SourcePage:
    """The page with the labels of the reviewer, and the texts and boxes that were changed."""
    words = [SourceWord(text, box) for text, box in zip(page.words, page.boxes, strict=True)]
    regions = regions_of(annotation, (page.width, page.height))
    place_of = _places(page, regions)
    for place, region in place_of.items():
        text = " ".join(region.text.split()) or page.words[place]
        box = page.boxes[place] if _is_at(region.box, page.boxes[place]) else thousandths(region.box, _PERCENT)
        words[place] = replace(words[place], text=text, box=box, label=region.label)
    known = {region.id for region in place_of.values()}
    drawn = [region for region in regions if region.id not in known and (region.label or region.text.strip())]
    words = _with_entities(page, words)
    for entity, region in enumerate(drawn, start=len(words)):
        places = _inside(region.box, words, SHARES_SIZE)
        for place in places if region.label else ():
            words[place] = replace(words[place], label=region.label, entity=entity)
        if not places:
            words += [
                SourceWord(text, thousandths(box, _PERCENT), region.label, entity)
                for text, box in split_line(region.text, region.box)
            ]
    has_more = len(words) > len(page.words)
    return SourcePage(
        file=str(path),
        line=None,
        page_id=page.page_id,
        group=page.group,
        words=in_order(words, SHARES_SIZE, page.order) if has_more else tuple(words),
        scale=(PAGE_EXTENT, PAGE_EXTENT),
        width=page.width,
        height=page.height,
        image=page.image,
        order=page.order,
    )


def _places(page: Page, regions: Sequence[Region]) -> dict[int, Region]:
    """The region of each word: by its id, else the first that lies exactly at the word."""
    numbers = {f"{REGION}{index}": index for index in range(len(page.words))}
    place_of = {numbers[region.id]: region for region in regions if region.id in numbers}
    for region in regions:
        if region.id not in numbers:
            free = (index for index in range(len(page.words)) if index not in place_of)
            place = next((index for index in free if _is_at(region.box, page.boxes[index])), None)
            if place is not None:
                place_of[place] = region
    return place_of


def _is_at(box: FloatBox, word: FloatBox) -> bool:
    return all(abs(value - edge * 100 / PAGE_EXTENT) <= _MOVED for value, edge in zip(box, word, strict=True))


def _with_entities(page: Page, words: Sequence[SourceWord]) -> list[SourceWord]:
    """Adjacent words of one label as one entity, but for those of which the second began one before the review."""
    numbered: list[SourceWord] = []
    for index, word in enumerate(words):
        entity, label = index, word.label
        if numbered and label and numbered[-1].label == label:
            was_second = page.tags[index] == f"B-{label}" and page.tags[index - 1][2:] == label
            entity = index if was_second else numbered[-1].entity
        numbered.append(replace(word, entity=entity if label else -1))
    return numbered


FORMAT = SourceFormat(read_label_studio, labels={}, own_labels={})
