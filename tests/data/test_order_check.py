"""Entities that the reading order tears apart, and pages whose words are read as they are given."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.importers import import_pages, load_format
from receipt_layoutlm.data.importers.label_table import own_table
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.order_check import check_order, torn_entities
from receipt_layoutlm.data.page import DataError, Page, page_from_line, page_to_line
from receipt_layoutlm.data.reading_order import order_of_words
from receipt_layoutlm.data.snapshot import fingerprint, read_jsonl
from tests.support.paths import FIXTURES

# two columns, each an entity of two lines
COLUMNS = Page(
    "p",
    "g",
    ("Ship", "London", "Bill", "Paris"),
    ((50, 50, 150, 65), (50, 80, 150, 95), (550, 50, 650, 65), (550, 80, 650, 95)),
    ("B-TO", "I-TO", "B-FROM", "I-FROM"),
    500,
    1000,
)
GIVEN = replace(COLUMNS, order="given")
LINE = replace(COLUMNS, words=("a", "b"), boxes=COLUMNS.boxes[::2], tags=("B-TO", "I-TO"))


def refuse(error: DataError) -> None:
    raise error


def test_each_torn_entity_is_named_with_page_label_text_and_pieces() -> None:
    assert list(map(str, torn_entities(COLUMNS))) == [
        "page p, TO 'Ship London' in 2 pieces",
        "page p, FROM 'Bill Paris' in 2 pieces",
    ]


def test_a_page_that_is_read_as_given_keeps_its_order_and_its_entities() -> None:
    assert order_of_words(GIVEN) == [0, 1, 2, 3]
    assert torn_entities(GIVEN) == []


@pytest.mark.parametrize(("whole_pages", "severity"), [(197, "error"), (198, "warning")])
def test_above_one_percent_of_torn_entities_is_an_error_with_the_command_that_keeps_them(
    whole_pages: int, severity: str
) -> None:
    (finding,) = check_order([COLUMNS, *[LINE] * whole_pages], "layoutlm-cli dataset import x --order given")
    assert (finding.severity, finding.check) == (severity, "torn_entities")
    assert f"2 of {whole_pages + 2} entities" in finding.message
    assert "page p, TO 'Ship London' in 2 pieces" in finding.message
    assert finding.message.endswith("layoutlm-cli dataset import x --order given")


def test_without_torn_entities_there_is_no_finding() -> None:
    assert check_order([LINE, GIVEN], "") == []


def test_a_dataset_check_counts_torn_entities_of_both_datasets() -> None:
    config = WordLabelsConfig(eval_dataset="other")
    report = check_dataset(CheckInput([LINE], validation=[COLUMNS], keep_order="do this"), config)
    (finding,) = (finding for finding in report.errors if finding.check == "torn_entities")
    assert "2 of 3 entities" in finding.message and "do this" in finding.message


def test_the_order_is_part_of_the_fingerprint_and_pages_read_by_their_boxes_keep_theirs() -> None:
    assert "order" not in json.loads(page_to_line(COLUMNS))
    assert json.loads(page_to_line(GIVEN))["order"] == "given"
    assert page_from_line(page_to_line(GIVEN)) == GIVEN
    assert fingerprint([GIVEN]) != fingerprint([COLUMNS])


def test_a_line_of_a_file_may_say_that_its_words_are_in_order(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text(f"{page_to_line(GIVEN)}\n{page_to_line(replace(COLUMNS, page_id='q'))}\n")
    assert [page.order for page in read_jsonl(path)] == ["given", "boxes"]
    assert [page.order for page in read_jsonl(path, "given")] == ["given", "given"]


@pytest.fixture
def form(tmp_path: Path) -> Path:
    """A FUNSD form with the two columns as blocks."""
    blocks = [
        {
            "label": label,
            "words": [{"text": COLUMNS.words[word], "box": COLUMNS.boxes[word]} for word in range(first, first + 2)],
        }
        for label, first in (("question", 0), ("answer", 2))
    ]
    path = tmp_path / "form.json"
    path.write_text(json.dumps({"form": blocks}))
    return path


def test_an_import_counts_the_blocks_that_it_tears_and_keeps_them_if_told(form: Path) -> None:
    table = own_table(load_format("funsd").own_labels, {})
    (by_boxes,), report = import_pages("funsd", [form], table, refuse)
    assert by_boxes.words == ("Ship", "Bill", "London", "Paris")
    assert [(torn.label, torn.text, torn.pieces) for torn in report.torn] == [
        ("question", "Ship London", 2),
        ("answer", "Bill Paris", 2),
    ]
    assert report.learned == 2

    (as_given,), report = import_pages("funsd", [form], table, refuse, ReadOptions(order="given"))
    assert (as_given.words, as_given.tags, as_given.order) == (
        COLUMNS.words,
        ("B-question", "I-question", "B-answer", "I-answer"),
        "given",
    )
    assert report.torn == ()


@pytest.mark.parametrize("name", ["sroie", "cord", "funsd", "wildreceipt"])
def test_every_format_can_keep_the_order_of_its_files(name: str) -> None:
    table = own_table(load_format(name).own_labels, {})
    by_boxes, _ = import_pages(name, [FIXTURES / name], table, refuse)
    as_given, report = import_pages(name, [FIXTURES / name], table, refuse, ReadOptions(order="given"))
    assert {page.order for page in as_given} == {"given"}
    assert [sorted(page.words) for page in as_given] == [sorted(page.words) for page in by_boxes]
    assert report.torn == ()
