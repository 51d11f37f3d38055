"""A folder of drawn pages is continued, and neither another model's nor anybody else's files are touched."""

from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.reports.overlay import Overlay
from receipt_layoutlm.reports.overlay_folder import RECORDS, FolderError, OverlayFolder, content_of, remove_drawn
from receipt_layoutlm.reports.overlay_index import DrawnPage, Format
from tests.support.overlays import overlay_with

BOTH: tuple[Format, ...] = ("html", "png")


def numbered(number: int, page_id: str = "r-1") -> Overlay:
    return replace(overlay_with(page_id=page_id), number=number)


def draw(folder: Path, *overlays: Overlay, formats: tuple[Format, ...] = BOTH, model: str = "m") -> list[DrawnPage]:
    """Draw those that the folder does not have; returns the pages that it has then."""
    with OverlayFolder(folder, formats, model) as drawn:
        for each in overlays:
            content = content_of(each.page)
            if not drawn.has(each.source, each.number, content):
                drawn.draw(each, content)
    return list(drawn.pages.values())


def test_pages_with_any_id_have_files_of_their_own_and_stand_in_the_index(tmp_path: Path) -> None:
    ids = ("../../etc/passwd", "r-1", "R-1", "a/b", "a b", "..", "x" * 500, "咖啡", "con", "#q?")
    pages = draw(tmp_path, *(numbered(number, page_id) for number, page_id in enumerate(ids, start=1)))
    names = [name for page in pages for name in page.files.values()]
    assert len({name.casefold() for name in names}) == 2 * len(ids)
    assert {path.name for path in tmp_path.iterdir()} == {*names, "index.html", RECORDS}
    index = (tmp_path / "index.html").read_text()
    assert all(f'href="{page.files["html"]}"' in index for page in pages)
    assert all((tmp_path / page.files["png"]).read_bytes().startswith(b"\x89PNG") for page in pages)


def test_an_interrupted_folder_is_continued_and_a_torn_record_is_drawn_again(tmp_path: Path) -> None:
    first, second = draw(tmp_path, numbered(1), numbered(2))
    records = tmp_path / RECORDS
    records.write_bytes(records.read_bytes()[:-20])
    for page in (first, second):
        (tmp_path / page.files["html"]).write_text("marked")
    (tmp_path / "index.html").unlink()
    assert draw(tmp_path, numbered(1), numbered(2)) == [first, second]
    assert (tmp_path / first.files["html"]).read_text() == "marked"
    assert "<svg" in (tmp_path / second.files["html"]).read_text()
    assert (tmp_path / "index.html").exists()
    assert len(records.read_text().splitlines()) == 2


def test_a_page_with_other_labels_is_drawn_again_and_another_format_is_added(tmp_path: Path) -> None:
    (page,) = draw(tmp_path, numbered(1), formats=("html",))
    assert page.files.keys() == {"html"}
    (page,) = draw(tmp_path, numbered(1), formats=("png",))
    assert page.files.keys() == {"html", "png"}
    changed = replace(numbered(1), gold=())
    changed = replace(changed, page=replace(changed.page, tags=("O",) * 8))
    (again,) = draw(tmp_path, changed)
    assert (page.right, again.right) == (1, 0)


def test_pages_of_another_model_are_refused_until_they_are_removed(tmp_path: Path) -> None:
    draw(tmp_path, numbered(1))
    with pytest.raises(FolderError, match="pages of another model"):
        draw(tmp_path, numbered(1), model="other")
    (tmp_path / "own.txt").write_text("kept")
    remove_drawn(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]


def test_a_record_cannot_remove_a_file_outside_the_folder(tmp_path: Path) -> None:
    (page,) = draw(tmp_path / "drawn", numbered(1))
    (tmp_path / "precious").write_text("kept")
    record = page.model_copy(update={"files": {"html": "../precious"}})
    (tmp_path / "drawn" / RECORDS).write_text(record.model_dump_json() + "\n")
    remove_drawn(tmp_path / "drawn")
    assert (tmp_path / "precious").exists()


def test_a_folder_with_other_files_and_one_with_damaged_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(FolderError, match="files that overlay did not write"):
        draw(tmp_path, numbered(1))
    assert (tmp_path / "index.html").read_text() == "mine"
    (tmp_path / RECORDS).write_text("{}\n")
    with pytest.raises(FolderError, match="cannot be read, or overlay did not write it"):
        draw(tmp_path, numbered(1))


def test_a_page_id_with_line_ends_of_other_programs_is_one_record(tmp_path: Path) -> None:
    odd = numbered(1, "a\u2028b\x85c")
    assert draw(tmp_path, odd) == draw(tmp_path, odd)
