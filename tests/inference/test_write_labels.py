"""layoutlm-cli predict --write-labels: a model's fields as proposals on the table's receipts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receipt_dynamo import (
    DynamoClient,
    ForgottenPage,
    JobQueue,
    ReceiptClient,
    ReceiptWordLabel,
    Storage,
    ValidationStatus,
    utcnow,
)
from receipt_dynamo.receipt_items import label_item
from receipt_layoutlm import Extractor
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.receipt_pages import image_id_of, page_of_receipt
from receipt_layoutlm.inference.acceptance import ACCEPTANCE, Acceptance
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages

FROM_TABLE = ("--dataset-from", "dynamo")


@pytest.fixture
def pages(cloud: DynamoClient) -> list[Page]:
    """Four receipts of the table; of the first, a person labelled the amount as something else."""
    first, *others = [replace(page, tags=("O",) * len(page.tags)) for page in tiny_pages(4)]
    pages = [replace(first, tags=("O", "B-SUBTOTAL")), *others]
    load_pages(ReceiptClient(cloud), pages, utcnow(), "keep", lambda: None)
    return pages


def labels(cloud: DynamoClient, page_id: str) -> list[ReceiptWordLabel]:
    """But for the O that keeps a page without labels in the index."""
    return [each for each in ReceiptClient(cloud).list_labels(image_id_of(page_id)) if each.label != "O"]


def test_every_receipt_of_the_table_gets_proposals_and_a_second_run_none(
    cloud: DynamoClient, pages: list[Page], model: Path
) -> None:
    command = ("predict", "--model", str(model), *FROM_TABLE, "--write-labels")
    planned = json.loads(ok(*command, "--dry-run", "--json"))
    assert [labels(cloud, page.page_id) for page in pages[1:]] == [[], [], []]

    text = ok(*command)

    assert f"4 receipts: {planned['written']} labels written, {planned['written']} PENDING and 0 NEEDS_REVIEW" in text
    assert "1 words are labelled already and stay as they are" in text
    assert [(each.label, each.validation_status) for each in labels(cloud, "page-000")] == [("SUBTOTAL", "VALID")]
    total = next(each for each in labels(cloud, "page-003") if each.label == "GRAND_TOTAL")
    printed = json.loads(ok("predict", "--model", str(model), "--receipt", "page-003", "--json"))["pages"][0]
    entity = next(each for each in printed["entities"] if each["label"] == "GRAND_TOTAL")
    assert (total.validation_status, total.label_proposed_by) == ("PENDING", printed["model"])
    assert total.confidence == printed["words"][entity["words"][0]]["confidence"]

    again = json.loads(ok(*command, "--json"))
    assert (again["written"], again["unchanged"], again["kept"]) == (0, planned["written"], 1)


def test_words_that_were_loaded_without_a_label_get_one(cloud: DynamoClient, model: Path) -> None:
    page = tiny_pages(1)[0]
    receipts = ReceiptClient(cloud)
    load_pages(receipts, [replace(page, tags=("-", "-"))], utcnow(), "keep", lambda: None)
    command = ("predict", "--model", str(model), *FROM_TABLE, "--write-labels", "--json")
    assert (json.loads(ok(*command))["written"], json.loads(ok(*command))["unchanged"]) == (1, 1)

    (total,) = labels(cloud, page.page_id)
    receipts.change_status(total, ValidationStatus.VALID)

    assert page_of_receipt(receipts, page.page_id).tags == ("-", "B-GRAND_TOTAL")
    assert json.loads(ok(*command))["kept"] == 1


def test_fields_that_max_error_asks_about_need_review(
    cloud: DynamoClient, pages: list[Page], model: Path, tmp_path: Path
) -> None:
    calibrated = Path(shutil.copytree(model, tmp_path / "model"))
    digest = Extractor.load(model).predictor.digest
    nothing_promised = Acceptance(model=digest, pages=1, groups=1, single=(), fields={})
    (calibrated / ACCEPTANCE).write_text(nothing_promised.model_dump_json())

    text = ok("predict", "--model", str(calibrated), "--receipt", "page-001", "--write-labels", "--max-error", "0.01")

    assert " 0 PENDING and " in text
    written = labels(cloud, "page-001")
    assert {each.validation_status for each in written} == {"NEEDS_REVIEW"}
    assert "too few fields" in str(written[0].reasoning)
    assert labels(cloud, "page-003") == []


def test_a_job_proposes_under_its_id(
    cloud: DynamoClient,
    queue: JobQueue,
    pages: list[Page],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    storage = Storage(bucket="the-bucket")
    job = queue.submit(name="finished", config={"config_version": 1}, created_by="tests", storage=storage)
    assert queue.claim_job(job.job_id, "worker") is not None
    folder = Path(shutil.copytree(model, tmp_path / "upload"))
    write_manifest(folder, 7)
    Bucket("the-bucket").put_folder(folder, RunKeys(storage, job.job_id).best(1))

    ok("predict", "--job", "finished", "--receipt", "page-003", "--write-labels")

    assert {each.label_proposed_by for each in labels(cloud, "page-003")} == {job.job_id}


def test_receipts_without_any_label_are_named_and_forgotten_ones_are_not_read(
    cloud: DynamoClient, pages: list[Page], model: Path
) -> None:
    receipts = ReceiptClient(cloud)
    for label in receipts.list_labels(image_id_of("page-001")):
        cloud.raw.delete_item(TableName=cloud.table_name, Key=label_key(label))
    cloud.add_forgotten(ForgottenPage(page_id="page-002", forgotten_at=utcnow(), forgotten_by="me"))

    def sources(*options: str) -> list[str]:
        document = json.loads(ok("predict", "--model", str(model), *FROM_TABLE, *options, "--json"))
        return [page["source"] for page in document["pages"]]

    assert sources() == ["page-000", "page-003"]
    assert sources("--receipt", "page-001") == ["page-001", "page-000", "page-003"]


def label_key(label: ReceiptWordLabel) -> dict[str, Any]:
    item = label_item(label)
    return {"PK": item["PK"], "SK": item["SK"]}


def test_a_table_without_labels_says_how_to_name_receipts(cloud: DynamoClient, model: Path) -> None:
    result = run("predict", "--model", str(model), *FROM_TABLE, "--write-labels")
    assert result.exit_code == 1
    assert "has no receipt with a label, by which they are found: name receipts" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("a.json", "--write-labels"), "give --dataset-from dynamo or --receipt"),
        (("--dataset", "x", "--write-labels"), "give --dataset-from dynamo or --receipt"),
        ((*FROM_TABLE, "--write-labels", "--output", "a.csv"), "or --output"),
        ((*FROM_TABLE, "--dry-run"), "--dry-run needs --write-labels"),
    ],
)
def test_write_labels_takes_receipts_of_the_table_only(arguments: tuple[str, ...], text: str) -> None:
    result = run("predict", *arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", " ").split())
