"""Words of real scans by OCR beside their transcription: share found, errors by kind, seconds by stage, pages turned.

    python bench/ocr.py SROIE/dev.jsonl SROIE_IMAGES [--scans N] [--threads N] [--turned N]

SROIE_IMAGES has the scan of each receipt as ID.jpg. The transcription is in capitals, so letter case is not compared.
Seconds are CPU seconds of this process, whatever else runs on the machine, except those of the elapsed time.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from receipt_layoutlm.data.importers.value_match import bare
from receipt_layoutlm.data.page import Box
from receipt_layoutlm.data.reading_order import reading_order
from receipt_layoutlm.inference.ocr import OcrEngine, OcrResult, read_words
from receipt_layoutlm.inference.pictures import read_frame

SLACK = 15  # thousandths between the centre of a word and the box of its transcription
ANGLES = (90, 180, 270)


class TimedEngine(OcrEngine):
    """Adds up the CPU seconds of each stage."""

    def __init__(self, threads: int) -> None:
        self.seconds: Counter[str] = Counter()
        begin = time.process_time()
        super().__init__(threads)
        self.seconds["load"] += time.process_time() - begin

    def detect(self, *arguments: Any) -> Any:
        begin = time.process_time()
        found = super().detect(*arguments)
        self.seconds["detect"] += time.process_time() - begin
        return found

    def recognise(self, *arguments: Any) -> Any:
        begin = time.process_time()
        found = super().recognise(*arguments)
        self.seconds["recognise"] += time.process_time() - begin
        return found


class Receipt(NamedTuple):
    """A transcription in reading order, and the four values of the receipt."""

    page_id: str
    words: list[str]
    boxes: list[Box]
    values: dict[str, str]


def receipts(path: Path) -> Iterator[Receipt]:
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            order = reading_order([tuple(box) for box in row["bboxes"]])
            words = [row["words"][index].casefold() for index in order]
            yield Receipt(row["id"], words, [tuple(row["bboxes"][index]) for index in order], row["key"])


def errors(gold: Sequence[str], read: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Kind of error and number of words of the transcription, for each stretch of both."""
    for kind, begin, end, first, last in SequenceMatcher(None, gold, read, autojunk=False).get_opcodes():
        expected, found = "".join(gold[begin:end]), "".join(read[first:last])
        if kind == "equal":
            yield "right", end - begin
        elif kind == "insert":
            yield "not in the transcription", last - first
        elif kind == "delete":
            yield "missing", end - begin
        elif expected == found:
            yield "joined" if last - first < end - begin else "divided", end - begin
        else:
            yield "punctuation" if bare(expected) == bare(found) else "letters or digits", end - begin


def is_at(place: Box, box: Box) -> bool:
    x, y, slack = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2, max(SLACK, (box[3] - box[1]) / 2)
    return box[0] - SLACK <= x <= box[2] + SLACK and box[1] - slack <= y <= box[3] + slack


def compare(pairs: Sequence[tuple[Receipt, OcrResult]]) -> None:
    kinds: Counter[str] = Counter()
    values: Counter[tuple[str, str]] = Counter()
    placed, heights = 0, []
    for receipt, result in pairs:
        read = [word.casefold() for word in result.words]
        kinds.update({kind: 0 for kind, _ in errors(receipt.words, read)})
        for kind, count in errors(receipt.words, read):
            kinds[kind] += count
        for word, box in zip(receipt.words, receipt.boxes, strict=True):
            places = [
                place for other, place in zip(read, result.boxes, strict=True) if other == word and is_at(place, box)
            ]
            placed += bool(places)
            heights += [(place[3] - place[1]) / max(box[3] - box[1], 1) for place in places[:1]]
        text, transcription = " ".join(read), " ".join(receipt.words)
        for name, value in receipt.values.items():
            value = " ".join(value.casefold().split())
            if value and value in transcription:  # some are worded otherwise than printed
                values[name, "all"] += 1
                values[name, "exact"] += value in text
                values[name, "letters"] += bare(value) in bare(text)
    words = sum(len(receipt.words) for receipt, _ in pairs)
    print(
        f"{words} words: {placed / words:.3f} read exactly, where they are; heights {median(heights):.2f} of the gold"
    )
    for kind, count in kinds.most_common():
        print(f"  {kind:25} {count:6} {count / words:.3f}")
    for name in ("company", "date", "address", "total"):
        counts = [values[name, each] for each in ("exact", "letters", "all")]
        print(f"  {name:10} {counts[0]} exactly, {counts[1]} by letters and digits, of {counts[2]}")


def turned(images: Sequence[Path], engine: OcrEngine) -> None:
    """How many pages are recognised as turned, by angle, and how many upright ones are taken for turned."""
    right: Counter[int] = Counter()
    for path in images:
        image, _ = read_frame(path, 1)
        for angle in (0, *ANGLES):
            right[angle] += read_words(image.rotate(-angle, expand=True), engine).rotation == -angle % 360
    print(
        f"of {len(images)} scans turned by hand:",
        *(f"{angle} degrees {right[angle]} right" for angle in (0, *ANGLES)),
        sep="  ",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--scans", type=int, default=40, help="scans, drawn with a fixed seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turned", type=int, default=0, help="scans to turn by 90, 180 and 270 degrees")
    arguments = parser.parse_args()
    chosen = sorted(receipts(arguments.pages), key=lambda receipt: receipt.page_id)
    random.Random(0).shuffle(chosen)
    engine, pairs, decoding, elapsed = TimedEngine(arguments.threads), [], 0.0, []
    read_words(read_frame(arguments.images / f"{chosen[-1].page_id}.jpg", 1)[0], engine)  # loads the models
    loading = engine.seconds.total()
    engine.seconds.clear()
    begin = time.process_time()
    for receipt in chosen[: arguments.scans]:
        start, cpu = time.perf_counter(), time.process_time()
        image, _ = read_frame(arguments.images / f"{receipt.page_id}.jpg", 1)
        decoding += time.process_time() - cpu
        pairs.append((receipt, read_words(image, engine)))
        elapsed.append(time.perf_counter() - start)
    total = time.process_time() - begin
    compare(pairs)
    stages = {"decode": decoding, **engine.seconds}
    stages["cut into words and the rest"] = total - sum(stages.values())
    print(f"load with the first scan {loading:.1f} CPU s; then, CPU s a scan, {arguments.threads} threads:")
    print(*(f"  {stage} {seconds / len(pairs):.2f}" for stage, seconds in stages.items()), sep="\n")
    print(f"  all {total / len(pairs):.2f}; elapsed {mean(elapsed):.2f} s a scan (median {median(elapsed):.2f})")
    if arguments.turned:
        turned([arguments.images / f"{receipt.page_id}.jpg" for receipt in chosen[: arguments.turned]], engine)


if __name__ == "__main__":
    main()
