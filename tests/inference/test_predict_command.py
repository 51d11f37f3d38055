"""layoutlm-cli predict and the Extractor: words in, fields out, as a person runs them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from receipt_dynamo import DynamoClient, JobQueue, NotFound, Storage, utcnow
from receipt_layoutlm import Extractor
from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.inference.extraction import Extraction
from receipt_layoutlm.jobs.models import NoModel, model_at, model_of_job
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages

SCHEMA = Path(__file__).parents[2] / "docs" / "extraction.schema.json"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Four pages of words without labels, one a line."""
    path = tmp_path / "words.jsonl"
    pages = [{"id": p.page_id, "words": p.words, "boxes": p.boxes} for p in tiny_pages(4)]
    path.write_text("".join(f"{json.dumps(page)}\n" for page in pages))
    return path


def test_fields_of_words_are_shown_with_value_and_confidence(model: Path, words: Path) -> None:
    lines = ok("predict", "--model", str(model), str(words)).splitlines()
    assert lines[0].split() == ["page", "label", "text", "value", "confidence"]
    total = next(line.split() for line in lines if "GRAND_TOTAL" in line)
    assert total[:4] == [str(words), "GRAND_TOTAL", "0.50", "0.50"]


def test_json_has_every_page_and_follows_the_documented_schema(model: Path, words: Path) -> None:
    document = json.loads(ok("predict", "--model", str(model), str(words), "--json"))
    assert document["failed"] == []
    assert [page["page"] for page in document["pages"]] == [1, 2, 3, 4]
    pages = TypeAdapter(list[Extraction]).validate_python(document["pages"], strict=False)
    for page, given in zip(pages, tiny_pages(4), strict=True):
        assert tuple(word.text for word in page.words) == given.words  # in the order given
        assert all(" ".join(page.words[i].text for i in entity.words) == entity.text for entity in page.entities)
    assert json.loads(SCHEMA.read_text()) == Extraction.model_json_schema()


def test_the_extractor_reads_the_same_without_aws(model: Path, words: Path) -> None:
    printed = json.loads(ok("predict", "--model", str(model), str(words), "--json"))["pages"]
    read = Extractor.load(model).read(words)
    assert [page.model_dump(mode="json") for page in read] == printed
    assert read[0].best("GRAND_TOTAL") is not None
    assert read[0].best("NO_SUCH_LABEL") is None


def test_labels_in_the_file_are_not_read(model: Path, words: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("".join(f"{page_to_line(page)}\n" for page in tiny_pages(4)))
    assert [page.entities for page in Extractor.load(model).read(labelled)] == [
        page.entities for page in Extractor.load(model).read(words)
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_an_interrupted_file_is_continued_and_ends_the_same(
    model: Path, words: Path, tmp_path: Path, suffix: str
) -> None:
    whole, torn = tmp_path / f"whole.{suffix}", tmp_path / f"torn.{suffix}"
    ok("predict", "--model", str(model), str(words), "--output", str(whole))
    content = whole.read_bytes()
    torn.write_bytes(content[: len(content) * 2 // 3])  # in the middle of a line
    assert "were there already" in ok("predict", "--model", str(model), str(words), "--output", str(torn))
    assert torn.read_bytes() == content
    assert "0 pages, 4 were there already" in ok("predict", "--model", str(model), str(words), "--output", str(whole))
    assert whole.read_bytes() == content


def test_a_file_with_words_that_other_programs_break_is_continued(model: Path, words: Path, tmp_path: Path) -> None:
    words.write_text(words.read_text().replace('"total"', '"to\\u2028tal\\u0085"'))
    output = tmp_path / "fields.jsonl"
    ok("predict", "--model", str(model), str(words), "--output", str(output))
    assert "\u2028" in output.read_text()
    assert "0 pages, 4 were there already" in ok("predict", "--model", str(model), str(words), "--output", str(output))


def test_a_csv_has_a_line_a_page_and_columns_for_each_label(model: Path, words: Path, tmp_path: Path) -> None:
    output = tmp_path / "fields.csv"
    ok("predict", "--model", str(model), str(words), "--output", str(output))
    rows = list(csv.DictReader(output.open(newline="")))
    assert [row["page"] for row in rows] == ["1", "2", "3", "4"]
    assert (rows[0]["GRAND_TOTAL"], rows[0]["GRAND_TOTAL value"], rows[0]["DATE"]) == ("0.50", "0.50", "")
    assert 0 < float(rows[0]["GRAND_TOTAL confidence"]) <= 1


def test_a_file_of_something_else_or_of_another_model_is_not_touched(model: Path, words: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "notes.csv"
    foreign.write_text("a,b\n1,2\n")
    result = run("predict", "--model", str(model), str(words), "--output", str(foreign))
    assert result.exit_code == 1
    assert "is no output of predict" in result.stderr
    assert foreign.read_text() == "a,b\n1,2\n"

    output = tmp_path / "fields.jsonl"
    ok("predict", "--model", str(model), str(words), "--output", str(output))
    before = output.read_text().replace('"model":"', '"model":"another-')
    output.write_text(before)
    assert "pages of another model" in run("predict", "--model", str(model), str(words), "--output", str(output)).stderr
    assert output.read_text() == before
    ok("predict", "--model", str(model), str(words), "--output", str(output), "--overwrite")
    assert "another-" not in output.read_text()


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_predicted(model: Path, words: Path) -> None:
    folder = words.parent
    (folder / "a-broken.jsonl").write_text('{"words": ["a"], "boxes": [[0, 0, 9, 9]]}\nnot json\n')
    (folder / "a-outside.json").write_text('{"words": ["a"], "boxes": [[0, 0, 9, 9000]]}')
    (folder / "._words.jsonl").write_bytes(b"\0\5\26\7")
    (folder / "notes.txt").write_text("left out")
    result = run("predict", "--model", str(model), str(folder), "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert [Path(each["source"]).name for each in document["failed"]] == ["a-broken.jsonl", "a-outside.json"]
    assert len(document["pages"]) == 5  # the first line of the broken file too
    assert "a-broken.jsonl:2: is not JSON" in result.stderr
    assert "2 of 3 could not be read" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "nothing to predict"),
        (("a.json", "--job", "x", "--model", "y"), "give one of the two"),
        (("a.json", "--output", "fields.xlsx"), "end the name in .jsonl or .csv"),
    ],
)
def test_wrong_options_are_usage_errors(arguments: tuple[str, ...], text: str) -> None:
    result = run("predict", *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


def test_date_order_decides_about_a_date_that_could_be_two(model: Path, words: Path) -> None:
    words.write_text(json.dumps({"id": "p", "words": tiny_pages(2)[1].words, "boxes": tiny_pages(2)[1].boxes}))

    def shown(*options: str) -> str:
        return ok("predict", "--model", str(model), str(words), *options)

    assert "is no date" in shown()  # 1/2 has no year
    words.write_text(words.read_text().replace('"1/2"', '"1/2/2018"'))
    assert "2018-02-01 or 2018-01-02" in shown()
    assert "2018-02-01" in shown("--date-order", "dmy")
    assert "2018-01-02" in shown("--date-order", "mdy")


@pytest.fixture
def finished_job(queue: JobQueue, model: Path, tmp_path: Path) -> str:
    """A job whose best model is in the bucket."""
    storage = Storage(bucket="the-bucket")
    job = queue.submit(name="finished", config={"config_version": 1}, created_by="tests", storage=storage)
    assert queue.claim_job(job.job_id, "worker") is not None
    folder = tmp_path / "upload"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    write_manifest(folder, 7)
    Bucket("the-bucket").put_folder(folder, RunKeys(storage, job.job_id).best(1))
    return job.job_id


def test_the_best_model_of_a_job_is_downloaded_once_and_repaired(
    cloud: DynamoClient, finished_job: str, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    first = ok("predict", "--job", "finished", str(words), "--json")
    (folder,) = (tmp_path / "cache" / "models").iterdir()
    weights = folder / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert ok("predict", "--job", finished_job, str(words), "--json") == first
    assert weights.stat().st_mtime_ns == written
    weights.write_bytes(b"damaged")
    uri = f"s3://the-bucket/runs/{finished_job}/attempt-001/best"
    assert ok("predict", "--model", uri, str(words), "--json") == first
    assert [page.entities for page in Extractor.load("finished", client=cloud).read(words)] == [
        page.entities for page in Extractor.load(folder).read(words)
    ]


def test_a_job_without_a_model_and_a_place_without_one_say_so(
    cloud: DynamoClient, queue: JobQueue, tmp_path: Path
) -> None:
    job = queue.submit(
        name="waiting", config={"config_version": 1}, created_by="tests", storage=Storage(bucket="the-bucket")
    )
    with pytest.raises(NoModel, match="waiting is pending and has published no best model"):
        model_of_job(Bucket, job, tmp_path)
    with pytest.raises(NoModel, match="holds no model"):
        model_at(Bucket, "s3://the-bucket/nothing/here", tmp_path)
    with pytest.raises(NotFound, match="no job"):
        Extractor.load("never-heard-of", client=cloud)


def test_the_pages_of_a_dataset_are_predicted(cloud: DynamoClient, model: Path) -> None:
    pages = tiny_pages(4)
    add_snapshot(cloud, Bucket("the-bucket"), describe_dataset("tiny", pages, "test", utcnow()), pages)
    document = json.loads(ok("predict", "--model", str(model), "--dataset", "tiny", "--json"))
    assert [(page["source"], page["page_id"]) for page in document["pages"]] == [("tiny", p.page_id) for p in pages]
    assert "no dataset" in run("predict", "--model", str(model), "--dataset", "tinny").stderr


def test_importing_the_package_loads_neither_torch_nor_aws() -> None:
    code = "import sys, receipt_layoutlm; print({'torch', 'boto3', 'pydantic'} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert shown.stdout == "set()\n"
