"""Many scans are read in processes, in their order, the unreadable ones among them."""

from pathlib import Path

import pytest

from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.inference.scan_batch import ScannedFile, read_scans, scan_names
from receipt_layoutlm.inference.scans import ScanError, ScanOptions
from tests.support.scans import text_of, write_pdf

pytest.importorskip("pypdfium2", reason="scans need the extra ocr")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b", "a", "d"):
        write_pdf(tmp_path / f"{name}.pdf", [text_of(f"SHOP {name}", 20, 300)])
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4 nothing")
    return tmp_path


def told(results: list[ScannedFile | ScanError]) -> list[str]:
    return [str(each.file.name) if isinstance(each, ScanError) else each.pages[0].words[1] for each in results]


@pytest.mark.parametrize("workers", [1, 2])
def test_scans_come_in_their_order_whatever_the_number_of_processes(folder: Path, workers: int) -> None:
    results = list(read_scans(scan_names([folder]), ScanOptions(use_cache=False), workers))

    assert told(results) == ["a", "b", "c.pdf", "d"]
    assert isinstance(results[0], ScannedFile)
    (page,) = results[0].as_pages()
    assert (page.page_id, page.group, page.tags) == ("a.pdf", "a.pdf", ("-", "-"))


def test_files_of_one_name_in_two_folders_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_pdf(other / "a.pdf", [text_of("SHOP", 20, 300)])

    assert scan_names([folder / "a.pdf", folder])[folder / "a.pdf"] == "a.pdf"
    with pytest.raises(DataError, match=r"has the name of .*a\.pdf"):
        scan_names([folder, other])
