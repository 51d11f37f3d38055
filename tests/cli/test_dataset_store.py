"""layoutlm-cli dataset load, count, import dynamo, and train on the table's own labels."""

import json
from pathlib import Path

from receipt_dynamo import DynamoClient, ReceiptClient, ValidationStatus, utcnow
from receipt_layoutlm.data.page import Page, page_to_line
from receipt_layoutlm.datasets.receipt_pages import image_id_of, receipt_from_page
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages

NO_SPLIT_TROUBLE = ("--split", "random")


def test_loaded_pages_are_counted_corrected_and_snapshotted(cloud: DynamoClient, pages: str) -> None:
    report = json.loads(ok("dataset", "load", pages, "--json"))
    assert (report["loaded"], report["labels"], report["unwritten"]) == (12, 20, {})

    assert json.loads(ok("dataset", "count", "--json")) == {
        "all": {"VALID": 20, "INVALID": 0, "NEEDS_REVIEW": 0, "PENDING": 0, "NONE": 0}
    }
    receipts = ReceiptClient(cloud)
    (label, *_) = receipts.list_labels(image_id_of("page-003"))
    receipts.put(labels=[label.model_copy(update={"validation_status": ValidationStatus.NEEDS_REVIEW})])
    by_label = json.loads(ok("dataset", "count", "--by-label", "--json"))
    assert by_label["GRAND_TOTAL"] == {"VALID": 11, "INVALID": 0, "NEEDS_REVIEW": 1, "PENDING": 0, "NONE": 0}
    assert list(by_label) == ["DATE", "GRAND_TOTAL", "all"]
    assert "NEEDS_REVIEW" in ok("dataset", "count")

    told = json.loads(ok("dataset", "import", "dynamo", "--name", "mine", "--json"))
    (dataset,) = cloud.list_datasets()
    # page-003 has that one label: without a VALID one it is left out
    assert (dataset.name, dataset.counts["pages"], told["report"]["not_validated"]) == ("mine", 11, 1)
    assert told["fingerprint"] == dataset.fingerprint


def test_pages_that_are_there_already_are_told_and_kept(cloud: DynamoClient, pages: str) -> None:
    ok("dataset", "load", pages)
    assert "12 already in the table" in ok("dataset", "load", pages)
    assert "12 pages loaded" in ok("dataset", "load", pages, "--replace")


def test_a_dry_run_writes_neither_receipts_nor_a_snapshot(cloud: DynamoClient, pages: str) -> None:
    assert json.loads(ok("dataset", "load", pages, "--dry-run", "--json"))["labels"] == 20
    assert json.loads(ok("dataset", "count", "--json"))["all"]["VALID"] == 0
    ok("dataset", "load", pages)

    result = run("dataset", "import", "dynamo", "--dry-run")

    assert "12 receipts (0 unchanged, 12 read)" in result.stdout
    assert "nothing was written" in result.stderr
    assert cloud.list_datasets() == []
    assert list(Bucket("the-bucket").list_keys("")) == []


def test_a_second_snapshot_reads_only_what_changed_unless_told_to_read_all(cloud: DynamoClient, pages: str) -> None:
    ok("dataset", "load", pages)
    assert "(0 unchanged, 12 read)" in ok("dataset", "import", "dynamo")
    assert "(12 unchanged, 0 read)" in ok("dataset", "import", "dynamo")
    assert "(0 unchanged, 12 read)" in ok("dataset", "import", "dynamo", "--full")
    assert len(cloud.list_datasets()) == 1


def load_as_the_original(client: DynamoClient, page: Page) -> None:
    """Without a word on where its entities begin."""
    loaded = receipt_from_page(page, utcnow())
    labels = [label.model_copy(update={"begins": None}) for label in loaded.labels]
    ReceiptClient(client).put([loaded.receipt], loaded.words, labels)


def ice_cream(page_id: str) -> Page:
    """One product on two lines."""
    return Page(page_id, page_id, ("ice", "cream"), ((0, 0, 99, 20), (0, 40, 99, 60)), ("B-PRODUCT_NAME",) * 2, 9, 9)


def test_labels_that_go_on_over_lines_are_told_by_name(cloud: DynamoClient) -> None:
    load_as_the_original(cloud, ice_cream("p"))

    def entities(*arguments: str) -> int:
        told = json.loads(ok("dataset", "import", "dynamo", "--json", *arguments))
        return int(told["labels"]["PRODUCT_NAME"])

    assert [entities(), entities("--over-lines", "PRODUCT_NAME"), entities()] == [2, 1, 2]
    result = run("dataset", "import", "dynamo", "--over-lines", "PRODUCT_NAMES")
    assert (result.exit_code, "did you mean PRODUCT_NAME?" in result.stderr) == (1, True)
    first, second, third = cloud.list_datasets()
    assert first.fingerprint == third.fingerprint != second.fingerprint


def test_two_valid_labels_are_shown(cloud: DynamoClient, pages: str) -> None:
    ok("dataset", "load", pages)
    receipts = ReceiptClient(cloud)
    (label, *_) = receipts.list_labels(image_id_of("page-003"))
    receipts.put(labels=[label.model_copy(update={"label": "TAX"})])

    shown = ok("dataset", "import", "dynamo")
    assert "1 words have two VALID labels" in shown
    assert "page page-003, line 1, word 2: GRAND_TOTAL and TAX are both VALID" in shown


def test_a_table_without_valid_labels_says_what_to_do(cloud: DynamoClient) -> None:
    result = run("dataset", "import", "dynamo")
    assert (result.exit_code, "dataset load --help" in result.stderr) == (1, True)
    assert "Traceback" not in result.output


def train(*arguments: str) -> dict[str, object]:
    told: dict[str, object] = json.loads(ok("train", "--json", *NO_SPLIT_TROUBLE, *arguments))
    return told


def test_train_without_a_dataset_takes_the_labels_of_the_table_as_they_are_at_each_submit(
    cloud: DynamoClient, pages: str, tmp_path: Path
) -> None:
    ok("dataset", "load", pages)
    first = train()
    assert (
        cloud.get_job(str(first["job_id"])).job_config["dataset"] == f"receipts@{cloud.list_datasets()[0].fingerprint}"
    )
    train()
    assert len(cloud.list_datasets()) == 1

    more = tmp_path / "more.jsonl"
    more.write_text(page_to_line(tiny_pages(13)[12]) + "\n")
    ok("dataset", "load", str(more))
    train()
    assert [dataset.counts["pages"] for dataset in cloud.list_datasets()] == [13, 12]


def test_a_dry_run_of_train_shows_the_labels_of_the_table_and_keeps_nothing(cloud: DynamoClient, pages: str) -> None:
    ok("dataset", "load", pages)
    told = json.loads(ok("train", "--dry-run", "--json", *NO_SPLIT_TROUBLE))

    assert told["dataset"]["counts"]["pages"] == 12
    assert cloud.list_datasets() == []


def test_a_dataset_from_elsewhere_goes_before_the_labels_of_the_table(cloud: DynamoClient, pages: str) -> None:
    ok("dataset", "load", pages)
    ok("dataset", "import", "jsonl", pages, "--name", "shop")

    assert str(cloud.get_job(str(train()["job_id"])).job_config["dataset"]).startswith("shop@")


def test_train_takes_its_snapshot_with_the_labels_that_go_on_over_lines(cloud: DynamoClient, pages: str) -> None:
    load_as_the_original(cloud, ice_cream("p"))
    load_as_the_original(cloud, ice_cream("q"))
    over_lines = ("--over-lines", "PRODUCT_NAME")

    plain = json.loads(ok("train", "--dry-run", "--json", *NO_SPLIT_TROUBLE))
    planned = json.loads(ok("train", "--dry-run", "--json", *NO_SPLIT_TROUBLE, *over_lines))
    assert [told["dataset"]["labels"]["PRODUCT_NAME"] for told in (plain, planned)] == [4, 2]
    config = cloud.get_job(str(train(*over_lines)["job_id"])).job_config
    assert config["dataset"] == f"receipts@{planned['dataset']['fingerprint']}"
    assert config["over_lines"] == ["PRODUCT_NAME"]

    for arguments in (("--dataset", "receipts"), ("--data", pages)):
        result = run("train", *NO_SPLIT_TROUBLE, *over_lines, *arguments)
        assert (result.exit_code, "over" in result.stderr) == (2, True)
    ok("dataset", "import", "jsonl", pages, "--name", "shop")
    result = run("train", *NO_SPLIT_TROUBLE, *over_lines)
    assert (result.exit_code, "dataset import dynamo --over-lines" in result.stderr) == (2, True)
