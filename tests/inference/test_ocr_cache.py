import os
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.inference.ocr_cache import OcrCache
from receipt_layoutlm.inference.scanned_page import ScannedPage

PAGE = ScannedPage(("TOTAL", "9.00"), ((1, 2, 3, 4), (5, 6, 7, 8)), (0.98, 0.5), 800, 1200, 1, "an engine", 90)
DIGEST = "ab" * 32


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_page_comes_back_as_it_was_put_in(tmp_path: Path) -> None:
    OcrCache(tmp_path, "one engine").put(DIGEST, PAGE)

    assert OcrCache(tmp_path, "one engine").get(DIGEST, 1) == PAGE
    assert [path.suffix for path in stored(tmp_path)] == [".json"]


def test_another_file_page_or_engine_is_not_taken_for_it(tmp_path: Path) -> None:
    cache = OcrCache(tmp_path, "one engine")
    cache.put(DIGEST, PAGE)

    assert cache.get("cd" * 32, 1) is None
    assert cache.get(DIGEST, 2) is None
    assert OcrCache(tmp_path, "its next version").get(DIGEST, 1) is None


@pytest.mark.parametrize("damage", [b"", b'{"words": ["TOT', b"[]", b"\xff\xfe"])
def test_a_damaged_entry_is_read_anew(tmp_path: Path, damage: bytes) -> None:
    cache = OcrCache(tmp_path, "one engine")
    cache.put(DIGEST, PAGE)
    stored(tmp_path)[0].write_bytes(damage)

    assert cache.get(DIGEST, 1) is None
    cache.put(DIGEST, PAGE)
    assert cache.get(DIGEST, 1) == PAGE


def test_an_entry_with_a_box_too_few_is_damaged(tmp_path: Path) -> None:
    cache = OcrCache(tmp_path, "one engine")
    cache.put(DIGEST, replace(PAGE, boxes=PAGE.boxes[:1]))

    assert cache.get(DIGEST, 1) is None


def test_the_pages_not_used_for_longest_go_when_the_folder_is_full(tmp_path: Path) -> None:
    cache = OcrCache(tmp_path, "one engine")
    for number in range(1, 5):
        cache.put(DIGEST, replace(PAGE, number=number))
    for path in stored(tmp_path):
        os.utime(path, (1_000, 1_000))
    assert cache.get(DIGEST, 2)  # used now
    size = stored(tmp_path)[0].stat().st_size

    OcrCache(tmp_path, "one engine", max_bytes=2 * size).put(DIGEST, replace(PAGE, number=5))

    assert [bool(cache.get(DIGEST, number)) for number in range(1, 6)] == [False, True, False, False, True]


def test_a_folder_that_cannot_be_written_to_costs_the_cache_only(tmp_path: Path) -> None:
    (tmp_path / "ocr").write_text("a file where the folder should be")

    OcrCache(tmp_path, "one engine").put(DIGEST, PAGE)
