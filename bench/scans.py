"""From scans and four values a receipt to a model: quality of the labels, and the fields that the model then reads.

    python bench/scans.py values SROIE/train.jsonl VALUES.csv         the four values of each receipt, as a table
    python bench/scans.py labels SROIE/train.jsonl IMAGES            labels found, beside those of the transcription
    python bench/scans.py fields SROIE/dev.jsonl IMAGES --model BEST  fields from words of the transcription, and by OCR

IMAGES has the scan of each receipt as ID.jpg; what OCR reads is kept in LAYOUTLM_CACHE_DIR. Receipts whose scan IMAGES
lacks are left out.
"""

import argparse
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from receipt_layoutlm.data.amounts import read_amount
from receipt_layoutlm.data.dates import read_date
from receipt_layoutlm.data.importers.find_values import Document, GivenValue
from receipt_layoutlm.data.importers.labelled_scans import label_scans
from receipt_layoutlm.data.importers.value_columns import Values
from receipt_layoutlm.data.importers.value_match import bare
from receipt_layoutlm.data.labels import value_kind
from receipt_layoutlm.data.page import UNSUPERVISED, Box, Page
from receipt_layoutlm.data.reading_order import as_read
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.inference.scan_batch import read_scans
from receipt_layoutlm.inference.scans import ScanError, ScanOptions
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import normalised

LABELS = {"company": "MERCHANT_NAME", "address": "ADDRESS_LINE", "date": "DATE", "total": "GRAND_TOTAL"}
SLACK = 4  # thousandths between the centre of a word and the box of its transcription
SAME = 0.8  # F1 of the words of an entity and those of the transcription's

Texts = dict[str, set[str]]  # by label


class Receipt(NamedTuple):
    """A transcription in reading order, its four values, and its scan as OCR reads it (unlabelled)."""

    gold: Page
    values: Values
    scanned: Page


def values_of(key: Mapping[str, str]) -> Values:
    """The four values: dates as ISO, amounts as decimals. A value that cannot be read is unknown."""
    found: dict[str, GivenValue | None] = {}
    for name, label in LABELS.items():
        text = key.get(name) or ""
        read, amount = read_date(text, "dmy"), read_amount(text)
        if label == "DATE":
            found[label] = None if isinstance(read, str) else read
        elif label == "GRAND_TOTAL":
            found[label] = amount.value if amount else None
        else:
            found[label] = text or None
    return Values(found)


def keys(path: Path) -> dict[str, Values]:
    with path.open(encoding="utf-8") as file:
        return {row["id"]: values_of(row["key"]) for row in map(json.loads, file)}


def receipts(path: Path, images: Path) -> Iterator[Receipt]:
    values = keys(path)
    gold = {page.page_id: as_read(page) for page in read_jsonl(path)}
    names = {images / f"{page_id}.jpg": page_id for page_id in gold}
    present = {file: name for file, name in names.items() if file.is_file()}
    for scan in read_scans(present, ScanOptions(threads=1), workers=1):
        if isinstance(scan, ScanError):
            print(scan)
        else:
            yield Receipt(gold[scan.name], values[scan.name], scan.as_pages()[0])


def write_values(path: Path, target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *LABELS])
        for page_id, values in keys(path).items():
            writer.writerow([f"{page_id}.jpg", *("" if value is None else value for value in values.found.values())])


def is_within(box: Box, other: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return other[0] - SLACK <= x <= other[2] + SLACK and other[1] - SLACK <= y <= other[3] + SLACK


def label_quality(data: Iterable[Receipt]) -> None:
    """Entities found in the words of OCR, beside those at the boxes of the transcription's."""
    data = list(data)
    scans = [(each.gold.page_id, Document([(each.scanned.words, each.scanned.boxes)]), each.values) for each in data]
    labelled, report = label_scans(scans)
    counts: dict[str, Counter[str]] = {label: Counter() for label in LABELS.values()}
    for receipt, found in zip(data, labelled, strict=True):
        tags = found.tags[0]
        values = texts_of(receipt.gold.words, receipt.gold.tags)
        for label, count in counts.items():
            places = [
                {
                    i
                    for i, box in enumerate(receipt.scanned.boxes)
                    if any(is_within(box, receipt.gold.boxes[w]) for w in words)
                }
                for words in (range(e.begin, e.end) for e in entities(receipt.gold.tags) if e.label == label)
            ]
            spans = [set(range(e.begin, e.end)) for e in entities(tags) if e.label == label]
            hit = [place for place in places if place and any(is_same(span, place) for span in spans)]
            count["gold"] += len(places)
            count["recalled"] += len(hit)
            rest = [place for place in places if place not in hit]
            count["unlabelled"] += sum(all(tags[i] == UNSUPERVISED for i in place) for place in rest)
            count["called O"] += sum(any(tags[i] == "O" for i in place) for place in rest)
            count["found"] += len(spans)
            count["right place"] += sum(any(is_same(span, place) for place in places) for span in spans)
            count["right value"] += sum(
                comparable(label, " ".join(receipt.scanned.words[i] for i in sorted(span)))
                in {comparable(label, text) for text in values.get(label, ())}
                or any(is_same(span, place) for place in places)
                for span in spans
            )
    print(f"{report.scans} scans, {report.unlabelled} of {report.words} words unlabelled, order {report.date_order}")
    for label, count in counts.items():
        print(label, dict(report.outcomes[label]), dict(count))
    for doubt in report.doubts:
        print("  ", doubt.file, doubt.label, doubt.outcome, repr(doubt.value), repr(doubt.words))


def is_same(words: set[int], others: set[int]) -> bool:
    return 2 * len(words & others) >= SAME * (len(words) + len(others))


def texts_of(words: Iterable[str], tags: Iterable[str]) -> Texts:
    words, found = list(words), Texts()
    for label, begin, end in entities(list(tags)):
        found.setdefault(label, set()).add(" ".join(words[begin:end]))
    return found


def comparable(label: str, text: str) -> str:
    """Dates and amounts by value, other texts by letters and digits."""
    kind = value_kind(label)
    if kind == "date":
        read = read_date(text, "dmy")
        return bare(text) if isinstance(read, str) else read.isoformat()
    return normalised(text) if kind == "amount" else bare(text)


def score(name: str, pairs: Iterable[tuple[Texts, Texts]], form: Callable[[str, str], str]) -> None:
    """F1 of the distinct values of all pages, by label and together."""
    right, predicted, true = Counter[str](), Counter[str](), Counter[str]()
    for gold, found in pairs:
        for label in LABELS.values():
            expected = {form(label, text) for text in gold.get(label, ())}
            read = {form(label, text) for text in found.get(label, ())}
            right[label] += len(expected & read)
            predicted[label] += len(read)
            true[label] += len(expected)
    rows = [(label, right[label], predicted[label], true[label]) for label in LABELS.values()]
    rows.append(("all", right.total(), predicted.total(), true.total()))
    print(
        name,
        ", ".join(f"{label} {2 * r / max(p + t, 1):.3f}" for label, r, p, t in rows),
        f"P {right.total() / max(predicted.total(), 1):.3f} R {right.total() / max(true.total(), 1):.3f}",
    )


def fields(data: Iterable[Receipt], model: Path) -> None:
    """The values that a model reads from gold words and from those of OCR, and the best that OCR's words allow."""
    from receipt_layoutlm.inference.predictor import Predictor

    data = list(data)
    predictor = Predictor.load(model, "cpu", 1)
    scans = [(each.gold.page_id, Document([(each.scanned.words, each.scanned.boxes)]), each.values) for each in data]
    aligned, _ = label_scans(scans)
    gold = [texts_of(each.gold.words, each.gold.tags) for each in data]
    read: dict[str, list[Texts]] = {
        "values found in the words of OCR": [
            texts_of(each.scanned.words, found.tags[0]) for each, found in zip(data, aligned, strict=True)
        ]
    }
    for name, pages in (
        ("model, gold words", [each.gold for each in data]),
        ("model, words of OCR", [each.scanned for each in data]),
    ):
        read[name] = [
            texts_of([page.words[i] for i in prediction.order], prediction.tags)
            for page, prediction in zip(pages, predictor.predict(pages), strict=True)
        ]
    print(len(data), "receipts")
    for name, found in read.items():
        score(f"{name}, as text:", zip(gold, found, strict=True), lambda label, text: normalised(text))
        score(f"{name}, by value:", zip(gold, found, strict=True), comparable)
    pairs = zip(read["values found in the words of OCR"], read["model, words of OCR"], strict=True)
    score("model, words of OCR, beside the values found in them:", pairs, comparable)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["values", "labels", "fields"])
    parser.add_argument("data", type=Path)
    parser.add_argument("place", type=Path)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    if given.what == "values":
        write_values(given.data, given.place)
    elif given.what == "labels":
        label_quality(receipts(given.data, given.place))
    else:
        fields(receipts(given.data, given.place), given.model)
