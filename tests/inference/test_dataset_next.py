"""layoutlm-cli dataset next: the pages most worth a person's time, as a list, as tasks and as marks in the table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, ReceiptClient, utcnow
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.receipt_pages import image_id_of
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages


@pytest.fixture
def pages(cloud: DynamoClient) -> list[Page]:
    """Two labelled pages and four without labels, the last of another kind; in a dataset and in the table."""
    labelled, others = tiny_pages(6)[:2], [replace(page, tags=("-",) * len(page.tags)) for page in tiny_pages(6)[2:]]
    others[-1] = replace(others[-1], words=("summe", "a/a", "tag", "0.0.", "shop", "t"))
    pages = [*labelled, *others]
    add_snapshot(cloud, Bucket("the-bucket"), describe_dataset("tiny", pages, "test", utcnow()), pages)
    load_pages(ReceiptClient(cloud), pages, utcnow(), "keep", lambda: None)
    return pages


def named(*options: str) -> list[str]:
    return [page["page_id"] for page in json.loads(ok("dataset", "next", *options, "--json"))["pages"]]


def test_an_unfamiliar_page_comes_first_and_labelled_ones_are_not_named(pages: list[Page], model: Path) -> None:
    assert named("tiny")[0] == "page-005"
    assert sorted(named("tiny")) == ["page-002", "page-003", "page-004", "page-005"]
    assert len(named("tiny", "--count", "1")) == 1
    assert "letter triples are new" in ok("dataset", "next", "tiny")
    assert "least sure of" in ok("dataset", "next", "tiny", "--model", str(model))
    assert named("--dataset-from", "dynamo") == named("tiny")


def test_the_chosen_pages_are_written_as_tasks_with_the_labels_of_the_model(
    pages: list[Page], model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "next.json"
    chosen = named("tiny", "--count", "2", "--model", str(model), "--label-studio", str(output))
    tasks = json.loads(output.read_text())
    assert [task["data"]["page"]["page_id"] for task in tasks] == chosen
    assert all("score" in task["predictions"][0] for task in tasks)
    assert "GRAND_TOTAL" in output.with_suffix(".xml").read_text()


def test_marked_receipts_have_the_labels_of_the_model_for_review(
    cloud: DynamoClient, pages: list[Page], model: Path
) -> None:
    def statuses(page_id: str) -> set[tuple[str, str]]:
        labels = ReceiptClient(cloud).list_labels(image_id_of(page_id))
        return {(each.label_proposed_by or "", each.validation_status.value) for each in labels}

    before = {page.page_id: statuses(page.page_id) for page in pages}
    mark = ("--model", str(model), "--mark", "NEEDS_REVIEW")
    (chosen,) = named("--dataset-from", "dynamo", "--count", "1", *mark)
    assert [page.page_id for page in pages if statuses(page.page_id) != before[page.page_id]] == [chosen]
    ((by, status),) = statuses(chosen) - before[chosen]
    assert (len(by), status) == (64, "NEEDS_REVIEW")
    assert chosen in named("--dataset-from", "dynamo")  # until it is reviewed


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "a dataset, or --dataset-from dynamo"),
        (("tiny", "--dataset-from", "dynamo"), "a dataset, or --dataset-from dynamo"),
        (("tiny", "--job", "a", "--model", "b"), "give one of the two"),
        (("tiny", "--mark", "NEEDS_REVIEW"), "--mark needs labels to mark"),
    ],
)
def test_wrong_options_are_usage_errors(arguments: tuple[str, ...], text: str) -> None:
    result = run("dataset", "next", *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_dataset_without_anything_to_do_says_what_else_there_is(cloud: DynamoClient) -> None:
    pages = tiny_pages(3)
    add_snapshot(cloud, Bucket("the-bucket"), describe_dataset("done", pages, "test", utcnow()), pages)
    result = run("dataset", "next", "done")
    assert result.exit_code == 1
    assert "every page is labelled, and no label looks wrong: --suspects-of" in result.stderr
