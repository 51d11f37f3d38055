"""layoutlm-cli overlay, as a person runs it: scans, words with and without labels, datasets, evaluations of jobs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from receipt_dynamo import DynamoClient, JobQueue, ReceiptClient, Storage, utcnow
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page, page_to_line
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.datasets.page_images import put_images
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.commands import ok, run
from tests.support.scans import receipt_picture
from tests.support.tiny import tiny_pages


def write(path: Path, pages: Sequence[Page]) -> Path:
    path.write_text("".join(f"{page_to_line(page)}\n" for page in pages))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three pages: labelled right, with a total that is called a date, and without labels."""
    first, second, third = tiny_pages(3)
    wrong = tuple("B-DATE" if tag == "B-GRAND_TOTAL" else tag for tag in second.tags)
    bare = {"words": third.words, "boxes": third.boxes}
    path = write(tmp_path / "labelled.jsonl", [first, replace(second, tags=wrong)])
    path.write_text(path.read_text() + json.dumps(bare) + "\n")
    return path


def drawn(*arguments: str) -> list[Mapping[str, object]]:
    pages: list[Mapping[str, object]] = json.loads(ok("overlay", *arguments, "--json"))["pages"]
    return pages


def test_errors_are_marked_where_pages_have_labels_and_the_worst_page_is_first(
    model: Path, labelled: Path, tmp_path: Path
) -> None:
    pages = drawn("--model", str(model), str(labelled), "--output", str(tmp_path / "out"))
    assert (pages[0]["page_id"], pages[0]["errors"], pages[0]["right"]) == ("page-001", {"wrong label": 1}, 1)
    rest = {page["page_id"]: (page["errors"], page["right"], page["has_gold"]) for page in pages[1:]}
    assert rest == {"page-000": ({}, 1, True), "labelled.jsonl#3": ({}, 0, False)}
    first = tmp_path / "out" / pages[0]["files"]["html"]  # type: ignore[index]
    assert "≠" in first.read_text() and "gold" in first.read_text()


def test_the_text_names_the_worst_pages_the_index_and_a_command_that_runs(
    model: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ok("overlay", "--model", str(model), str(labelled)).splitlines()
    assert lines[2].split()[:4] == ["page-001", "1", "wrong", "label"]
    assert "overlay/index.html: 3 pages, errors: 1 on 1 pages" in lines
    command = lines[-1].partition("`layoutlm-cli ")[2].rstrip("`")
    ok(*command.split())
    assert (tmp_path / "overlay" / "fields.csv").exists()


def test_the_same_command_continues_and_changed_labels_are_drawn_again(
    model: Path, labelled: Path, tmp_path: Path
) -> None:
    command = ("overlay", "--model", str(model), str(labelled), "--output", str(tmp_path / "out"))
    ok(*command)
    assert "3 were there already" in ok(*command)
    labelled.write_text(labelled.read_text().replace("B-DATE", "O", 1))
    assert "2 were there already" in ok(*command)
    assert "already" not in ok(*command, "--overwrite")
    assert "2018" not in ok(*command)
    assert "already" not in ok(*command, "--date-order", "dmy")  # by which values are drawn


def test_formats_are_chosen(model: Path, labelled: Path, tmp_path: Path) -> None:
    def files(name: str, *options: str) -> set[str]:
        ok("overlay", "--model", str(model), str(labelled), "--output", str(tmp_path / name), *options)
        return {path.suffix for path in (tmp_path / name).iterdir() if path.name != "index.html"}

    assert files("both") == {".html", ".png", ".jsonl"}
    assert files("html", "--format", "html") == {".html", ".jsonl"}
    assert files("png", "--format", "png") == {".png", ".jsonl"}


def test_a_picture_is_found_by_the_file_name_or_the_digest_that_a_page_gives(model: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    receipt_picture().save(images / "photo.png")
    receipt_picture(("OTHER",)).save(images / "other.png")
    digest = hashlib.sha256((images / "other.png").read_bytes()).hexdigest()
    first, second, third = tiny_pages(3)
    pages = [replace(first, image="scans/photo.png"), replace(second, image=digest), third]
    found = drawn("--model", str(model), str(write(tmp_path / "labelled.jsonl", pages)), "--images", str(images),
                  "--output", str(tmp_path / "out"))  # fmt: skip
    html = {page["page_id"]: (tmp_path / "out" / page["files"]["html"]).read_text() for page in found}  # type: ignore[index]
    assert ["data:image/jpeg" in html[each.page_id] for each in pages] == [True, True, False]


def test_pictures_of_a_folder_belong_to_pages_by_id(model: Path, labelled: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    receipt_picture().save(images / "page-000.jpg")
    (images / "page-001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = run("overlay", "--model", str(model), str(labelled), "--images", str(images), "--json",
                 "--output", str(tmp_path / "out"))  # fmt: skip
    document = json.loads(result.stdout)
    html = {page["page_id"]: (tmp_path / "out" / page["files"]["html"]).read_text() for page in document["pages"]}
    assert ["data:image/jpeg" in html[page_id] for page_id in ("page-000", "page-001")] == [True, False]
    assert result.exit_code == 1 and "page-001.png: is not a JPEG" in result.stderr
    assert "page-001.png: is not a JPEG" in html["page-001"]  # drawn without its picture, and says why


def test_scans_are_drawn_on_their_own_picture_turned_upright(model: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    receipt_picture(size=(420, 440)).transpose(Image.Transpose.ROTATE_90).save(scan)
    (page,) = drawn("--model", str(model), str(scan), "--output", str(tmp_path / "out"))
    html = (tmp_path / "out" / page["files"]["html"]).read_text()  # type: ignore[index]
    assert 'viewBox="0 0 420 440"' in html and "data:image/jpeg" in html
    assert "turned by 90 degrees clockwise" in html


def test_what_cannot_be_read_is_told_and_stands_in_the_index(model: Path, labelled: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    result = run("overlay", "--model", str(model), str(bad), str(labelled), "--output", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "1 could not be read" in result.stderr and "bad.png" in result.stderr
    assert "bad.png" in (tmp_path / "out" / "index.html").read_text()


def test_labels_that_the_model_does_not_know_are_left_out_and_said(model: Path, tmp_path: Path) -> None:
    page = tiny_pages(1)[0]
    path = write(tmp_path / "labelled.jsonl", [replace(page, tags=("B-SHOP", *page.tags[1:]))])
    (found,) = drawn("--model", str(model), str(path), "--output", str(tmp_path / "out"))
    assert (found["errors"], found["right"]) == ({}, 1)
    html = (tmp_path / "out" / found["files"]["html"]).read_text()  # type: ignore[index]
    assert "labels that the model does not know are left out: SHOP" in html


def test_class_numbers_without_names_name_the_command_that_reads_them(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    path.write_text('{"id": "a", "words": ["a"], "boxes": [[0, 0, 9, 9]], "ner_tags": [3]}')
    error = run("overlay", "--model", str(model), str(path), "--output", str(tmp_path / "out")).stderr
    assert "--id2label" in error and "dataset import jsonl" in error
    assert ok("predict", "--model", str(model), str(path))  # which reads no labels


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "nothing to draw"),
        (("a.json", "--job", "x", "--model", "y"), "give one of the two"),
        (("a.json", "--from-evaluation"), "leave out SOURCE"),
        (("--model", "m", "--from-evaluation"), "leave out SOURCE"),
        (("--dataset", "d", "--from-evaluation"), "leave out SOURCE"),
    ],
)
def test_wrong_options_are_usage_errors(arguments: tuple[str, ...], text: str) -> None:
    result = run("overlay", *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_dataset_is_drawn_with_its_labels(cloud: DynamoClient, model: Path, tmp_path: Path) -> None:
    pages = tiny_pages(3)
    add_snapshot(cloud, Bucket("the-bucket"), describe_dataset("tiny", pages, "test", utcnow()), pages)
    found = drawn("--model", str(model), "--dataset", "tiny", "--output", str(tmp_path / "out"))
    assert sorted((str(page["page_id"]), page["has_gold"]) for page in found) == [(p.page_id, True) for p in pages]


def test_a_receipt_of_the_table_is_drawn_with_its_labels(cloud: DynamoClient, model: Path, tmp_path: Path) -> None:
    load_pages(ReceiptClient(cloud), tiny_pages(2), utcnow(), "keep", lambda: None)
    (found,) = drawn("--model", str(model), "--receipt", "page-001", "--output", str(tmp_path / "out"))
    assert (found["source"], found["page_id"], found["has_gold"]) == ("page-001", "page-001", True)
    assert found["right"] == 2


@pytest.fixture
def evaluated(cloud: DynamoClient, queue: JobQueue, finished_run: RunDir) -> str:
    """A job with the stored predictions of a run, and no model."""
    bucket = Bucket("the-bucket")
    pages = read_snapshot(finished_run.dataset)
    dataset = add_snapshot(cloud, bucket, describe_dataset("tiny", pages, "test", utcnow()), pages)
    config = WordLabelsConfig(dataset=pinned(dataset))
    storage = Storage(bucket="the-bucket")
    job = queue.submit(name="evaluated", config=to_document(config, {}), created_by="tests", storage=storage)
    prefix = RunKeys(storage, job.job_id).attempt(1)
    for path in finished_run.predictions.iterdir():
        bucket.put_file(path, f"{prefix}predictions/{path.name}")
    return job.name


def test_the_stored_predictions_of_a_job_are_drawn_without_its_model(evaluated: str, tmp_path: Path) -> None:
    found = drawn("--job", evaluated, "--from-evaluation", "--output", str(tmp_path / "out"))
    assert len(found) > 3
    assert {str(page["source"]) for page in found} == {"evaluated"}
    assert any(page["errors"] for page in found)  # pages without labels, on which the model finds fields
    assert sum(int(str(page["right"])) for page in found) > 0
    text = ok("overlay", "--job", evaluated, "--from-evaluation", "--output", str(tmp_path / "out"))
    assert f"{len(found)} were there already" in text
    assert "layoutlm-cli dataset suspects evaluated" in text


def test_pages_of_a_dataset_are_drawn_on_the_pictures_that_are_stored_with_them(
    cloud: DynamoClient, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    receipt_picture(size=(321, 456)).save(picture := tmp_path / "scan.png")
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    pages = [replace(page, image=digest if place == 0 else None) for place, page in enumerate(tiny_pages(2))]
    bucket = Bucket("the-bucket")
    add_snapshot(cloud, bucket, describe_dataset("mine", pages, "test", utcnow()), pages)
    put_images(bucket, {digest: picture}, lambda: None)
    picture.unlink()

    drawn_pages = drawn("--dataset", "mine", "--model", str(model), "--output", str(tmp_path / "out"))

    by_id = {str(page["page_id"]): page["files"] for page in drawn_pages}
    with Image.open(tmp_path / "out" / by_id["page-000"]["png"]) as drawing:  # type: ignore[index]
        assert drawing.width == 321
