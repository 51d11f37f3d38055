"""layoutlm-cli dataset select: a subset by quality thresholds, from the pinned snapshot alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.storage.bucket import Bucket
from tests.support import original_system
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages


def selected(*arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ok("dataset", "select", *arguments, "--json"))
    return told


@pytest.fixture
def shop(cloud: DynamoClient, tmp_path: Path) -> str:
    """A dataset of 12 pages with one or two entities; 4 have one, and page 001 has an unlabelled word."""
    lines = [page_to_line(page) for page in tiny_pages(12)]
    lines[1] = lines[1].replace('"O","B-GRAND_TOTAL"', '"-","B-GRAND_TOTAL"')
    path = tmp_path / "shop.jsonl"
    path.write_text("\n".join(lines))
    ok("dataset", "import", "jsonl", str(path))
    return "shop"


def put_receipt(client: DynamoClient, image_id: str, confidence: float | None, status: str) -> None:
    """Two words of which the second is a valid total, and the first waits or not."""
    rows = [original_system.receipt(image_id)]
    for number, text in ((1, "TOTAL"), (2, "9.00")):
        word = original_system.word(image_id, 1, number, text, (0.3 * number, 0.9, 0.2, 0.02))
        of_word = {1: 0.1, 2: confidence}[number]
        word["confidence"] = {"NULL": True} if of_word is None else {"N": str(of_word)}
        rows.append(word)
    rows.append(original_system.label(image_id, 1, 2, "GRAND_TOTAL", "VALID"))
    rows.append(original_system.label(image_id, 1, 1, "DATE", status))
    for row in rows:
        client.raw.put_item(TableName=client.table_name, Item=row)


@pytest.fixture
def receipts(cloud: DynamoClient) -> str:
    """A snapshot of receipts whose labelled words were read with different confidence; then the table is emptied."""
    put_receipt(cloud, "aa", 0.9, "INVALID")
    put_receipt(cloud, "bb", 0.5, "INVALID")
    put_receipt(cloud, "cc", None, "INVALID")
    put_receipt(cloud, "dd", 0.9, "PENDING")
    ok("dataset", "import", "dynamo")
    for image_id in ("aa", "bb", "cc", "dd"):
        for place in ("RECEIPT#00001", "RECEIPT#00001#LINE#00001#WORD#00002"):
            key = {"PK": {"S": f"IMAGE#{image_id}"}, "SK": {"S": place}}
            cloud.raw.delete_item(TableName=cloud.table_name, Key=key)
    return "receipts"


@pytest.mark.parametrize(
    ("rules", "pages"),
    [
        ([], ["aa", "bb", "cc"]),
        (["--min-validated-share", "0.5"], ["aa", "bb", "cc", "dd"]),
        (["--min-confidence", "0.8"], ["aa"]),
        (["--min-confidence", "0.8", "--min-validated-share", "0"], ["aa", "dd"]),
        (["--min-confidence", "0.5"], ["aa", "bb"]),
        (["--min-confidence", "0.5", "--min-pages", "2"], ["aa", "bb"]),
    ],
)
def test_each_rule_decides_on_the_pinned_snapshot_without_the_table(
    cloud: DynamoClient, receipts: str, rules: list[str], pages: list[str]
) -> None:
    told = selected(receipts, *rules)

    assert told["selection"]["page_ids"] == [f"{page}-00001" for page in pages]
    assert told["counts"]["pages"] == len(pages)
    assert cloud.get_dataset("receipts-subset").fingerprint == told["fingerprint"]


def test_a_subset_of_a_subset_still_knows_the_confidence(cloud: DynamoClient, receipts: str) -> None:
    ok("dataset", "select", receipts, "--name", "some", "--min-confidence", "0.5")

    assert selected("some", "--min-confidence", "0.8")["selection"]["page_ids"] == ["aa-00001"]


def test_a_minimum_number_of_labels_decides(cloud: DynamoClient, shop: str) -> None:
    assert len(selected(shop, "--min-validated-share", "0", "--min-labels", "2")["selection"]["page_ids"]) == 8
    assert len(selected(shop, "--min-validated-share", "0", "--min-labels", "1")["selection"]["page_ids"]) == 12


def test_the_subset_is_a_snapshot_that_names_its_source(cloud: DynamoClient, shop: str) -> None:
    told = selected(shop, "--name", "sure", "--min-labels", "2", "--min-pages", "5")

    (whole,) = [each for each in cloud.list_datasets() if each.name == shop]
    stored = cloud.get_dataset("sure")
    assert stored.source == (
        f"jsonl shop.jsonl; selected from shop@{whole.fingerprint} by validated share >= 0.9, labels >= 2"
    )
    assert {"rule": "labels", "threshold": 1, "pages": 11} in told["selection"]["thresholds"]
    assert (told["selection"]["passed"], told["selection"]["min_pages"]) == (7, 5)
    assert Bucket("the-bucket").exists(f"datasets/{stored.fingerprint}.jsonl.gz")
    job = json.loads(ok("train", "--dataset", "sure", "--split", "random", "--json"))
    assert job["job_config"]["dataset"] == f"sure@{stored.fingerprint}"


def test_the_output_shows_the_pages_at_other_thresholds(cloud: DynamoClient, receipts: str) -> None:
    shown = ok("dataset", "select", receipts, "--min-confidence", "0.6")

    assert "1 of 4 pages: validated share >= 0.9, labels >= 1, confidence >= 0.6" in shown
    assert "excluded by rule: 2 confidence, 1 validated share" in shown
    assert "1 pages have no confidence and fail that rule" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("confidence")]
    assert row.split(maxsplit=1)[1] == "3 at 0, 2 at 0.5, 1 at 0.7, 1 at 0.8, 1 at 0.9, 0 at 0.95"


def test_a_dry_run_shows_the_same_and_writes_nothing(cloud: DynamoClient, shop: str) -> None:
    before = list(Bucket("the-bucket").list_keys(""))

    result = run("dataset", "select", shop, "--min-labels", "2", "--dry-run")

    assert "8 of 12 pages" not in result.stdout and "7 of 12 pages" in result.stdout
    assert "nothing was written" in result.stderr
    assert [each.name for each in cloud.list_datasets()] == [shop]
    assert list(Bucket("the-bucket").list_keys("")) == before


@pytest.mark.parametrize(
    ("rules", "code", "text"),
    [
        (["--min-confidence", "0.5"], 1, "no page of the dataset has an OCR confidence"),
        (["--min-pages", "13"], 1, "11 of 12 pages meet validated share >= 0.9, labels >= 1, fewer than 13"),
        (["--min-labels", "99"], 1, "11 at 1, 7 at 2"),
        (["--min-validated-share", "2"], 2, "min_validated_share"),
        (["--min-pages", "0"], 2, "min-pages"),
    ],
)
def test_too_few_pages_are_an_error_with_the_pages_at_other_thresholds(
    cloud: DynamoClient, shop: str, rules: list[str], code: int, text: str
) -> None:
    result = run("dataset", "select", shop, *rules)

    assert (result.exit_code, text in result.stderr, "Traceback" in result.output) == (code, True, False), result.stderr
    assert [each.name for each in cloud.list_datasets()] == [shop]


def test_a_subset_of_the_table_does_not_keep_train_from_its_labels(cloud: DynamoClient, receipts: str) -> None:
    for image_id in ("aa", "bb"):
        put_receipt(cloud, image_id, 0.9, "INVALID")
    ok("dataset", "select", receipts)

    told = json.loads(ok("train", "--split", "random", "--json"))

    assert str(told["job_config"]["dataset"]).startswith("receipts@")
