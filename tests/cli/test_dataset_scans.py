"""layoutlm-cli dataset import images and scans: files become pages, and a table's values their labels."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient
from receipt_layoutlm.cli import cli
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.scans import receipt_picture, text_of, write_pdf

pytest.importorskip("pypdfium2", reason="scans need the extra ocr")

FIRST = ("ACME STORES SDN BHD", "Date: 25/12/2018", "Bread 4.50", "Rounding 0.00", "TOTAL RM 4.50")
SECOND = ("BETA MART", "26 DEC 2018", "Butter 1,234.50", "TOTAL 1,234.50", "CASH 1,300.00")
TABLE = "file,company,date,total\na.pdf,Acme Stores Sdn Bhd,25/12/2018,4.5\nb.pdf,Beta Mart,26/12/2018,1234.50\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two PDF files with text, which are read without OCR."""
    folder = tmp_path / "in"
    folder.mkdir()
    pdf(folder / "a.pdf", FIRST)
    pdf(folder / "b.pdf", SECOND)
    return folder


def pdf(path: Path, *pages: tuple[str, ...]) -> None:
    write_pdf(path, ["".join(text_of(line, 20, 360 - 30 * n) for n, line in enumerate(lines)) for lines in pages])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["dataset", "import", *map(str, arguments), "--workers", "1"])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    return result.stderr


def stored(name: str, tmp_path: Path) -> list[Page]:
    path = tmp_path / "back.jsonl.gz"
    back = CliRunner().invoke(cli, ["dataset", "snapshot", name, "--to", str(path)])
    assert back.exit_code == 0, back.output
    return read_snapshot(path)


def labelled(page: Page) -> dict[str, str]:
    """The words of each label."""
    found: dict[str, list[str]] = {}
    for word, tag in zip(page.words, page.tags, strict=True):
        if tag not in ("O", "-"):
            found.setdefault(tag[2:], []).append(word)
    return {label: " ".join(words) for label, words in found.items()}


def table(folder: Path, text: str = TABLE) -> Path:
    path = folder.parent / "values.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_scans_and_a_table_become_labelled_pages(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    text = ok("scans", folder, "--values", table(folder), "--name", "mine")

    first, second = stored("mine", tmp_path)
    assert labelled(first) == {"MERCHANT_NAME": "ACME STORES SDN BHD", "DATE": "25/12/2018", "GRAND_TOTAL": "4.50"}
    assert labelled(second) == {"MERCHANT_NAME": "BETA MART", "DATE": "26 DEC 2018", "GRAND_TOTAL": "1,234.50"}
    assert second.tags[-3:] == ("B-GRAND_TOTAL", "O", "O")  # the one on the line with TOTAL, and the cash is no total
    assert (first.page_id, first.group, len(first.image or "")) == ("a.pdf", "acme stores sdn bhd", 64)
    assert "GRAND_TOTAL     total     2" in text
    (dataset,) = cloud.list_datasets()
    assert dataset.source == "scans in values.csv"


def test_json_files_beside_the_scans_do_as_well(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    (folder / "a.json").write_text('{"company": "Acme Stores", "total": 4.5}')
    (folder / "b.json").write_text('{"total": 1234.5}')

    ok("scans", folder)

    assert labelled(stored("in", tmp_path)[1]) == {"GRAND_TOTAL": "1,234.50"}


def test_images_become_pages_without_labels_one_for_each_page_of_a_file(
    cloud: DynamoClient, folder: Path, tmp_path: Path
) -> None:
    (folder / "deep").mkdir()
    pdf(folder / "deep" / "c.pdf", FIRST, SECOND)

    ok("images", folder, "--name", "raw")

    pages = stored("raw", tmp_path)
    assert [page.page_id for page in pages] == ["a.pdf", "b.pdf", "deep/c.pdf", "deep/c.pdf#2"]
    assert {tag for page in pages for tag in page.tags} == {"-"}
    assert [page.group for page in pages[2:]] == ["deep/c.pdf"] * 2


def test_a_value_is_found_on_whichever_page_has_it(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    (folder / "b.pdf").unlink()
    pdf(folder / "a.pdf", ("ACME STORES",), ("TOTAL 4.50",))

    ok("scans", folder, "--values", table(folder, "file,company,total\na,Acme Stores,4.50\n"))

    assert [labelled(page) for page in stored("in", tmp_path)] == [
        {"MERCHANT_NAME": "ACME STORES"}, {"GRAND_TOTAL": "4.50"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TABLE.replace("b.pdf", "b.pfd"), "values.csv:3: there is no scan 'b.pfd'; did you mean b.pdf?"),
        (TABLE.splitlines()[0] + "\n" + TABLE.splitlines()[1], "1 scans have no row: b.pdf"),
        (TABLE + "B.PDF,x,2018-12-25,1\n", "values.csv:4: 'B.PDF' has a row already, in line 3"),
        (TABLE.replace("1234.50", "much"), "values.csv:3: total 'much' is no amount"),
        (TABLE.replace("total", "totl", 1), "unknown label totl; did you mean total?"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_is_stored(
    cloud: DynamoClient, folder: Path, text: str, reason: str
) -> None:
    assert reason in refused("scans", folder, "--values", table(folder, text))
    assert cloud.list_datasets() == []


def test_skip_bad_leaves_out_what_does_not_fit_and_says_so(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    rows = TABLE.replace("b.pdf", "b.pfd") + "broken.pdf,x,2018-12-25,1\n"

    result = run("scans", folder, "--values", table(folder, rows), "--skip-bad")

    assert result.exit_code == 0, result.output
    assert [page.page_id for page in stored("in", tmp_path)] == ["a.pdf"]
    for text in ("there is no scan 'b.pfd'", "1 scans have no row: b.pdf", "broken.pdf: is a damaged PDF"):
        assert f"left out: {text}" in result.stderr.replace(f"{folder.parent}/values.csv:3: ", "").replace(
            f"{folder}/", ""
        )
    assert "broken.pdf: is a damaged PDF" in refused(
        "scans", folder, "--values", table(folder, rows.replace("pfd", "pdf"))
    )


def test_an_empty_cell_leaves_words_unlabelled_unless_it_means_that_nothing_is_printed(
    cloud: DynamoClient, folder: Path, tmp_path: Path
) -> None:
    rows = table(folder, TABLE.replace("1234.50", ""))

    ok("scans", folder, "--values", rows, "--name", "unknown")
    ok("scans", folder, "--values", rows, "--name", "none", "--empty", "not-printed")

    assert stored("unknown", tmp_path)[1].tags[-1] == "-"
    assert stored("none", tmp_path)[1].tags[-1] == "O"


def test_the_order_of_dates_can_be_said(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    (folder / "b.pdf").unlink()
    pdf(folder / "a.pdf", ("ACME", "02/01/2018", "TOTAL 4.50"))
    rows = table(folder, "file,date,total\na,01/02/2018,4.50\n")

    assert "--date-order dmy or mdy" in refused("scans", folder, "--values", rows)
    ok("scans", folder, "--values", rows, "--date-order", "mdy")

    assert labelled(stored("in", tmp_path)[0]) == {"DATE": "02/01/2018", "GRAND_TOTAL": "4.50"}


def test_other_labels_are_mapped_or_kept(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    label_map = tmp_path / "map.json"
    label_map.write_text('{"laden": "MERCHANT_NAME", "date": "O"}')
    rows = table(folder, TABLE.replace("company", "laden", 1))

    ok("scans", folder, "--values", rows, "--label-map", label_map, "--name", "mapped")
    ok("scans", folder, "--values", rows, "--keep-labels", "--name", "kept")

    assert labelled(stored("mapped", tmp_path)[1]) == {"MERCHANT_NAME": "BETA MART", "GRAND_TOTAL": "1,234.50"}
    assert set(labelled(stored("kept", tmp_path)[1])) == {"laden", "date", "total"}


def test_values_of_other_receipts_are_refused(cloud: DynamoClient, folder: Path) -> None:
    other = "file,company,total\na.pdf,Gamma Traders,77.10\nb.pdf,Delta Foods,88.20\n"
    assert "only 0 of 4 values are found" in refused("scans", folder, "--values", table(folder, other))


def test_a_dry_run_reports_as_json_and_stores_nothing(cloud: DynamoClient, folder: Path) -> None:
    rows = table(folder, TABLE.replace("Beta Mart", "Beto Mart"))

    told = json.loads(ok("scans", folder, "--values", rows, "--dry-run", "--json"))

    assert told["report"]["outcomes"]["MERCHANT_NAME"] == {"exact": 1, "approximate": 1}
    assert told["report"]["doubts"] == [
        {
            "file": "b.pdf",
            "label": "MERCHANT_NAME",
            "value": "Beto Mart",
            "outcome": "approximate",
            "words": "BETA MART",
        }
    ]
    assert cloud.list_datasets() == []


def test_doubtful_scans_are_drawn_the_worst_first(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="overlays need the extra reports")
    rows = table(folder, TABLE.replace("Acme Stores", "Gamma Traders & Sons").replace("Beta Mart", "Beto Mart"))

    ok("scans", folder, "--values", rows, "--overlays", tmp_path / "drawn")

    drawn = [json.loads(line)["page_id"] for line in (tmp_path / "drawn" / "overlay.jsonl").read_text().splitlines()]
    assert drawn == ["a.pdf", "b.pdf"]
    (page,) = (tmp_path / "drawn").glob("a.pdf-*.html")
    assert "MERCHANT_NAME Gamma Traders &amp; Sons Sdn Bhd: missing" in page.read_text(encoding="utf-8")


def test_a_photograph_is_read_once_and_found_in_the_cache_after_an_interruption(
    cloud: DynamoClient, tmp_path: Path, cache: Path
) -> None:
    pytest.importorskip("rapidocr", reason="pictures need the extra ocr")
    picture = tmp_path / "r.jpg"
    receipt_picture().save(picture)

    ok("images", picture, "--dry-run")
    (entry,) = cache.rglob("*.json")
    entry.write_text(entry.read_text().replace('"ACME"', '"READ_BEFORE"'))
    rows = table(picture, "file,total\nr,10.70\n")
    ok("scans", picture, "--values", rows, "--name", "photo")

    (page,) = stored("photo", tmp_path)
    assert (page.words[0], labelled(page)) == ("READ_BEFORE", {"GRAND_TOTAL": "10.70"})


def test_the_scans_are_stored_with_their_pages_and_a_colleague_gets_them(
    cloud: DynamoClient, folder: Path, tmp_path: Path
) -> None:
    told = run("scans", folder, "--values", table(folder), "--name", "mine")
    again = run("images", folder, "--name", "raw")
    for path in folder.iterdir():
        path.unlink()

    back = CliRunner().invoke(cli, ["dataset", "snapshot", "raw", "--images-to", str(tmp_path / "pictures")])

    assert "2 pictures stored in the bucket" in told.stderr
    assert "0 pictures stored in the bucket, 2 were there already" in again.stderr
    assert back.exit_code == 0, back.output
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == sorted(f"{page.image}.pdf" for page in stored("raw", tmp_path))
    assert all(path.read_bytes().startswith(b"%PDF") for path in pictures)


def test_no_images_leaves_the_scans_where_they_are(cloud: DynamoClient, folder: Path, tmp_path: Path) -> None:
    ok("scans", folder, "--values", table(folder), "--no-images", "--name", "mine")
    assert list(Bucket("the-bucket").list_keys("images/")) == []

    back = CliRunner().invoke(cli, ["dataset", "snapshot", "mine", "--images-to", str(tmp_path / "pictures")])
    assert "2 of 2 pictures are not in the bucket" in back.stderr

    later = CliRunner().invoke(cli, ["dataset", "snapshot", "mine", "--images-from", str(folder)])
    assert "2 pictures stored in the bucket" in later.stderr
    assert len(list(Bucket("the-bucket").list_keys("images/"))) == 2


def test_pictures_of_forgotten_pages_are_not_stored(cloud: DynamoClient, folder: Path) -> None:
    ok("scans", folder, "--values", table(folder), "--no-images", "--name", "mine")
    assert CliRunner().invoke(cli, ["dataset", "forget", "a.pdf"]).exit_code == 0

    ok("scans", folder, "--values", table(folder), "--name", "mine")

    assert len(list(Bucket("the-bucket").list_keys("images/"))) == 1


def test_a_dry_run_stores_no_picture(cloud: DynamoClient, folder: Path) -> None:
    ok("images", folder, "--dry-run")
    assert list(Bucket("the-bucket").list_keys("images/")) == []
