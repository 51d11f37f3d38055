"""predict --fallback: a heuristic's answers stand in for fields that the model leaves out or asks about."""

import csv
import json
from pathlib import Path

import pytest

from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.inference.extraction import ExtractedEntity, Extraction
from receipt_layoutlm.inference.fallback import Fallback
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages

LABELS = ("GRAND_TOTAL", "DATE")


def entity(label: str, decision: str | None = None) -> ExtractedEntity:
    return ExtractedEntity.model_validate(
        {"label": label, "text": "1.00", "confidence": 0.5, "box": (0, 0, 1, 1), "words": (0,), "decision": decision}
    )


def page(source: str, number: int, *entities: ExtractedEntity) -> Extraction:
    return Extraction(
        source=source, page=number, page_id="p", width=1, height=1, model="m", entities=entities, words=()
    )


def filled(path: Path, pages: list[Extraction]) -> list[list[tuple[str, str, str]]]:
    fallback = Fallback.read(path, [each.source for each in pages], LABELS, None)
    return [[(each.label, each.text, each.reason) for each in page.fallback] for page in fallback.fill(pages)]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"a.jpg": {"GRAND_TOTAL": "9.00", "date": "2018-12-25"}, "other.jpg": {"DATE": "x"}}))
    return path


def test_only_what_is_missing_or_asked_about_is_filled(answers: Path) -> None:
    sure, asked = entity("GRAND_TOTAL", "accept"), entity("GRAND_TOTAL", "ask")
    date = ("DATE", "2018-12-25", "missing")
    assert filled(answers, [page("scans/a.jpg", 1, sure)]) == [[date]]
    assert filled(answers, [page("scans/a.jpg", 1, entity("GRAND_TOTAL"))]) == [[date]]
    assert filled(answers, [page("scans/a.jpg", 1, asked)]) == [[("GRAND_TOTAL", "9.00", "asked"), date]]
    assert filled(answers, [page("scans/b.jpg", 1, asked)]) == [[]]


def test_a_field_on_a_later_page_of_the_file_counts(answers: Path) -> None:
    pages = [page("a.jpg", 1), page("a.jpg", 2, entity("GRAND_TOTAL")), page("b.jpg", 1)]
    assert filled(answers, pages) == [[("DATE", "2018-12-25", "missing")], [], []]
    assert filled(answers, [page("a.jpg", 2)]) == [[]], "its first page was written by an earlier run"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("answers.csv", "file,GRAND_TOTAL,DATE\na,9.00,\n"),
        ("answers.json", '{"a": {"GRAND_TOTAL": "9.00", "DATE": null}}'),
        ("answers.jsonl", '\n{"file": "a.jpg", "grand_total": "9.00", "DATE": ""}\n'),
    ],
)
def test_each_kind_of_file_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert filled(tmp_path / name, [page("a.jpg", 1)]) == [[("GRAND_TOTAL", "9.00", "missing")]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("answers.csv", "file,GRAND_TOTL\na,1\n", "did you mean GRAND_TOTAL"),
        ("answers.json", "[1]", "write {"),
        ("answers.json", "{", "is not JSON"),
        ("answers.jsonl", '{"file": "a"}\n{"GRAND_TOTAL": "1"}\n', "answers.jsonl:2: has no 'file'"),
        ("answers.jsonl", '{"file": "a", "DATE": "1"}\n{"file": "a.jpg", "DATE": "2"}\n', "has a row already"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as refused:
        filled(tmp_path / name, [page("a.jpg", 1)])
    assert reason in str(refused.value)


def test_the_command_marks_where_each_value_is_from(model: Path, tmp_path: Path) -> None:
    one = tiny_pages(1)[0]
    words, answers, output = (tmp_path / name for name in ("words.jsonl", "answers.csv", "fields.csv"))
    words.write_text(json.dumps({"id": "p", "words": one.words, "boxes": one.boxes}) + "\n")
    answers.write_text("file,DATE,GRAND_TOTAL\nwords,2018-12-25,77\n")
    command = ("predict", "--model", str(model), str(words), "--fallback", str(answers))
    (read,) = json.loads(ok(*command, "--json"))["pages"]
    assert [(each["label"], each["value"]["text"], each["origin"]) for each in read["fallback"]] == [
        ("DATE", "2018-12-25", "fallback")
    ]
    assert {each["origin"] for each in read["entities"]} == {"model"} and read["schema_version"] == 2
    assert "fallback (missing)" in ok(*command)
    ok(*command, "--output", str(output))
    (row,) = csv.DictReader(output.open(newline=""))
    assert (row["DATE"], row["DATE origin"], row["GRAND_TOTAL origin"]) == ("2018-12-25", "fallback", "model")
    assert "leave --fallback out" in run(*command[:1], "--receipt", "r", "--write-labels", *command[4:]).stderr


def test_a_csv_of_an_earlier_version_is_not_continued(model: Path, tmp_path: Path) -> None:
    one, words, output = tiny_pages(1)[0], tmp_path / "words.jsonl", tmp_path / "fields.csv"
    words.write_text(json.dumps({"id": "p", "words": one.words, "boxes": one.boxes}) + "\n")
    output.write_text("source,page,page_id,model,DATE,DATE value,DATE confidence,DATE decision,notes\n")
    before = output.read_text()
    refused = run("predict", "--model", str(model), str(words), "--output", str(output))
    assert refused.exit_code == 1 and "has other columns" in refused.stderr and output.read_text() == before
