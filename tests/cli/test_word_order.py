"""--order: an import that tears entities apart is refused, and the command that it names keeps them whole."""

import json
import shlex
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import Shell

COLUMNS = {
    "words": ["Ship", "London", "Bill", "Paris"],
    "bboxes": [[50, 50, 150, 65], [50, 80, 150, 95], [550, 50, 650, 65], [550, 80, 650, 95]],
    "labels": ["B-TO", "I-TO", "B-FROM", "I-FROM"],
}


@pytest.fixture
def columns(tmp_path: Path) -> str:
    path = tmp_path / "columns.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "group": f"g{n}", **COLUMNS}) + "\n" for n in range(10)))
    return str(path)


def stored(cloud: DynamoClient) -> list[Page]:
    (dataset,) = cloud.list_datasets()
    return stored_pages(Bucket("the-bucket"), dataset)


def test_an_import_that_tears_entities_is_refused_and_the_command_it_names_keeps_them(
    shell: Shell, cloud: DynamoClient, columns: str
) -> None:
    refused = shell.run("dataset", "import", "jsonl", columns, "--name", "forms", "--skip-bad")
    assert refused.exit_code == 1
    assert "tears 20 of 20 entities apart" in refused.stderr
    assert "page p0, TO 'Ship London' in 2 pieces" in refused.stderr
    assert cloud.list_datasets() == []

    command = refused.stderr.strip().rpartition(": ")[2].strip("`")
    assert command == f"layoutlm-cli dataset import jsonl {columns} --name forms --skip-bad --order given"
    assert shell.run(*shlex.split(command)[1:]).exit_code == 0
    assert {(page.words, page.order) for page in stored(cloud)} == {(tuple(COLUMNS["words"]), "given")}
    assert shell.run("dataset", "check", "forms", "--split", "random").exit_code == 0


def test_a_check_of_a_file_reads_it_in_the_order_that_is_given(shell: Shell, columns: str) -> None:
    refused = shell.run("dataset", "check", columns, "--split", "random")
    assert refused.exit_code == 1
    assert f"layoutlm-cli dataset import jsonl {columns} --order given" in refused.stdout
    assert shell.run("dataset", "check", columns, "--split", "random", "--order", "given").exit_code == 0


def test_train_refuses_a_file_whose_entities_are_torn_and_stores_it_as_given_if_told(
    shell: Shell, cloud: DynamoClient, columns: str
) -> None:
    refused = shell.run("train", "--data", columns)
    assert refused.exit_code == 1
    assert f"layoutlm-cli train --data {columns} --order given" in refused.stderr
    assert shell.run("train", "--data", columns, "--order", "given").exit_code == 0
    assert {page.order for page in stored(cloud)} == {"given"}


def test_the_order_of_a_stored_dataset_is_that_of_its_import(shell: Shell, columns: str) -> None:
    assert shell.run("dataset", "import", "jsonl", columns, "--order", "given").exit_code == 0
    for arguments in (["dataset", "check", "columns"], ["train", "--dataset", "columns"]):
        refused = shell.run(*arguments, "--order", "given")
        assert (refused.exit_code, "import" in refused.stderr) == (2, True)


def test_pages_loaded_into_the_table_as_given_come_back_as_given(
    shell: Shell, cloud: DynamoClient, columns: str
) -> None:
    assert shell.run("dataset", "load", columns, "--order", "given").exit_code == 0
    assert shell.run("dataset", "import", "dynamo").exit_code == 0
    assert {(page.words, page.order) for page in stored(cloud)} == {(tuple(COLUMNS["words"]), "given")}
