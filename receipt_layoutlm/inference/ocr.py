"""Optical character recognition: rapidocr's PP-OCR models on onnxruntime, as words with boxes.

Lines are detected in a small copy of the page, and once more in a larger one if they are too small there. Each line is
recognised from the picture in full size. A page that lies on its side or head is turned.
"""

import functools
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from receipt_layoutlm.data.page import PAGE_EXTENT, Box
from receipt_layoutlm.data.reading_order import reading_order
from receipt_layoutlm.inference.line_words import Character, cut_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.uint8]
    Corners = NDArray[np.float32]  # 4 x 2, in pixels, clockwise from the top left

_MODELS = "PP-OCRv6"

REVISION = 1
"""Counts up with each change of this room that changes words or boxes: results in the cache are then read anew."""

_FIRST_PIXELS = 600_000  # size of the first detection
_SMALL_LINE = 15.0  # pixels of height; lines less high are detected once more,
_LARGE_LINE = 20.0  # at a size at which they have this height,
_MAX_PIXELS = 2_400_000  # in a picture of at most this size,
_MAX_ENLARGEMENT = 2.0  # enlarged by at most this factor
_WORTHWHILE = 1.15  # smallest ratio of the sizes of both detections

_MIN_DETECTION = 0.4  # of rapidocr's 0.5, which misses half of the single digits
_TALL = 1.5  # height by width of a line that runs down the page,
_LONG = 2.0  # and its length in usual line heights; a shorter tall box is a letter or two
_MIN_CONFIDENCE = 0.5  # mean of a line's characters; below, it is a pattern, not text
_UPRIGHT_CONFIDENCE = 0.9  # mean of a page's lines from which it is not tried upside down
_SAMPLE = 8  # lines to try it with
_TRIM = 0.14  # of a line's height, above and below, that the detector adds to the letters
_INK_MARGIN = 0.12  # of a line's height, above and below, where other lines may reach in


class OcrMissing(Exception):
    """The packages of the extra `ocr` are not installed."""


class OcrLine(NamedTuple):
    """A recognised line: its characters, and the number of the recogniser's time steps in its width."""

    characters: list[Character]
    columns: float

    @property
    def confidence(self) -> float:
        return sum(character.confidence for character in self.characters) / max(len(self.characters), 1)


@dataclass(frozen=True, slots=True)
class OcrResult:
    """Words of a page in reading order, and the angle in degrees, clockwise, by which it was turned."""

    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    confidences: tuple[float, ...]
    rotation: int


def engine_name() -> str:
    """Name and versions of the engine. Raises OcrMissing."""
    try:
        return f"rapidocr {version('rapidocr')} {_MODELS}"
    except PackageNotFoundError as error:
        raise OcrMissing from error


class OcrEngine:
    """rapidocr's detector and recogniser, which load their models at first use."""

    def __init__(self, threads: int | None) -> None:
        try:
            import cv2
            from rapidocr import RapidOCR
        except ModuleNotFoundError as error:
            raise OcrMissing from error
        if threads:
            cv2.setNumThreads(threads)
        self._rapid: RapidOCR = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_preprocess_img": False,  # the sizes are chosen here
                "Global.return_word_box": True,
                "Det.box_thresh": _MIN_DETECTION,
                "Det.limit_type": "max",
                "Det.limit_side_len": 1 << 20,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def detect(self, pixels: "Pixels", scale: float) -> "list[Corners]":
        """The corners of each line, found in the picture at another scale."""
        import cv2

        if scale != 1:
            filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=filter_)
        found = self._rapid(pixels, use_det=True, use_cls=False, use_rec=False)
        return [] if found.boxes is None else [box / scale for box in found.boxes]

    def recognise(self, images: "Sequence[Pixels]") -> list[OcrLine]:
        """The line of each image, also those without any character."""
        if not images:
            return []
        read = self._rapid.recognize_txt(list(images))
        lines = []
        for text, info in zip(read.txts, read.word_results, strict=True):
            columns = (column for word in info.word_cols or () for column in word)  # spaces have none
            characters, follows_space = [], False
            for character, confidence in zip(text, info.confs or (), strict=False):
                if not character.isspace():
                    characters.append(Character(character, next(columns), confidence, follows_space))
                follows_space = character.isspace()
            lines.append(OcrLine(characters, info.line_txt_len))
        return lines


_engine_lock = threading.Lock()


@functools.lru_cache(maxsize=1)
def _engine_of(process: int, threads: int | None) -> OcrEngine:
    return OcrEngine(threads)


def ocr_engine(threads: int | None) -> OcrEngine:
    """The engine of this process, made at the first call. Its threads do not survive a fork. Raises OcrMissing."""
    with _engine_lock:
        return _engine_of(os.getpid(), threads)


def read_words(image: "Image", engine: OcrEngine) -> OcrResult:
    """The words of a page in RGB; none where there is no text."""
    import numpy as np

    pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])  # BGR
    pixels, boxes, rotation = _detect(pixels, engine)
    usual_height = _usual_height(boxes)
    boxes.sort(key=_length, reverse=True)
    images = [_line_image(pixels, box, usual_height) for box in boxes]
    sample = engine.recognise(images[:_SAMPLE])
    if _mean_confidence(sample) < _UPRIGHT_CONFIDENCE:
        turned = engine.recognise([np.rot90(each, 2) for each in images[:_SAMPLE]])
        if _mean_confidence(turned) > _mean_confidence(sample):
            sample, images, rotation = turned, [np.rot90(each, 2) for each in images], rotation + 180
            extent = np.array(pixels.shape[1::-1], dtype=np.float32)
            boxes = [(extent - box)[[2, 3, 0, 1]] for box in boxes]
    lines = sample + engine.recognise(images[_SAMPLE:])
    found = [
        word
        for line, box, line_image in zip(lines, boxes, images, strict=True)
        if line.characters and line.confidence >= _MIN_CONFIDENCE
        for word in _words(line, box, line_image, usual_height, pixels.shape)
    ]
    order = reading_order([box for _, box, _ in found])
    words, places, confidences = zip(*(found[index] for index in order), strict=True) if found else ((), (), ())
    return OcrResult(words, places, confidences, rotation % 360)


def _detect(pixels: "Pixels", engine: OcrEngine) -> "tuple[Pixels, list[Corners], int]":
    """The picture with its lines level (or upside down), their corners, and the angle by which it was turned."""
    import numpy as np

    area = pixels.shape[0] * pixels.shape[1]
    scale = min(1.0, math.sqrt(_FIRST_PIXELS / area))
    boxes, rotation = engine.detect(pixels, scale), 0
    if sum(_length(box) for box in boxes if _is_tall(box)) > sum(_length(box) for box in boxes) / 2:
        pixels, rotation = np.ascontiguousarray(np.rot90(pixels, -1)), 90
        boxes = engine.detect(pixels, scale)
    height = _usual_height(boxes) * scale
    larger = min(scale * _LARGE_LINE / height if boxes else 1.0, math.sqrt(_MAX_PIXELS / area), _MAX_ENLARGEMENT)
    if height < _SMALL_LINE and larger > scale * _WORTHWHILE:
        boxes = engine.detect(pixels, larger)
    return pixels, boxes, rotation


def _mean_confidence(lines: Sequence[OcrLine]) -> float:
    return sum(line.confidence for line in lines) / max(len(lines), 1)


def _line_image(pixels: "Pixels", box: "Corners", usual_height: float) -> "Pixels":
    """The picture of a line, level; a line that runs down the page is turned, a single tall letter is not."""
    import cv2
    import numpy as np

    width, height = _sides(box)
    size = (max(round(width), 1), max(round(height), 1))
    target = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], dtype=np.float32)
    level = cv2.warpPerspective(
        pixels,
        cv2.getPerspectiveTransform(box.astype(np.float32), target),
        size,
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.rot90(level) if _runs_down(box, usual_height) else level


def _words(
    line: OcrLine, box: "Corners", image: "Pixels", usual_height: float, shape: tuple[int, ...]
) -> list[tuple[str, Box, float]]:
    """Text, box in thousandths of the page, and confidence of each word of a line."""
    import numpy as np

    top_left, top_right, bottom_right, bottom_left = box
    if _runs_down(box, usual_height):  # reads from the top; the letters' upper edge is on the right
        top_left, top_right, bottom_right, bottom_left = top_right, bottom_right, bottom_left, top_left
    trim_left, trim_right = (bottom_left - top_left) * _TRIM, (bottom_right - top_right) * _TRIM
    sides = [
        (top_left + trim_left, top_right + trim_right),
        (bottom_left - trim_left, bottom_right - trim_right),
    ]
    scale = PAGE_EXTENT / np.array(shape[1::-1], dtype=np.float32)
    words = []
    for word in cut_line(line.characters, line.columns, _ink(image), image.shape[0]):
        edges = [one + (other - one) * share for share in (word.begin, word.end) for one, other in sides]
        corners = (np.array(edges) * scale).clip(0, PAGE_EXTENT).round().astype(int)
        (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        words.append((word.text, (x0, y0, x1, y1), round(word.confidence, 4)))
    return words


def _ink(image: "Pixels") -> "NDArray[np.bool_]":
    """Whether each column of a line's picture has ink, dark on light or light on dark."""
    import cv2

    margin = int(image.shape[0] * _INK_MARGIN)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    _, is_light = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    is_ink = is_light == (0 if is_light.mean() > 0.5 else 1)
    columns: NDArray[np.bool_] = is_ink[margin : image.shape[0] - margin].any(axis=0)
    return columns


def _sides(box: "Corners") -> tuple[float, float]:
    """Width and height of a box that may be skewed."""
    import numpy as np

    top_left, top_right, bottom_right, bottom_left = box
    norm = np.linalg.norm
    return (
        float(max(norm(top_left - top_right), norm(bottom_left - bottom_right))),
        float(max(norm(top_left - bottom_left), norm(top_right - bottom_right))),
    )


def _usual_height(boxes: "Sequence[Corners]") -> float:
    """Of the letters, whichever way the lines run; 0 without any."""
    return median(min(_sides(box)) for box in boxes) if boxes else 0.0


def _length(box: "Corners") -> float:
    return max(_sides(box))


def _is_tall(box: "Corners") -> bool:
    width, height = _sides(box)
    return height >= _TALL * width


def _runs_down(box: "Corners", usual_height: float) -> bool:
    return _is_tall(box) and _length(box) >= _LONG * usual_height
