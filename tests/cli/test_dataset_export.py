"""layoutlm-cli dataset export label-studio: tasks to review, which come back as the same pages but for changes."""

import json
from pathlib import Path
from typing import Any

from receipt_dynamo import DynamoClient
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import Shell

Json = dict[str, Any]


def stored(cloud: DynamoClient, name: str) -> list[Page]:
    (dataset,) = [each for each in cloud.list_datasets() if each.name == name]
    return stored_pages(Bucket("the-bucket"), dataset)


def exported(shell: Shell, pages: str, folder: Path, *options: str) -> list[Json]:
    assert shell.run("dataset", "import", "jsonl", pages, "--name", "mine").exit_code == 0
    result = shell.run("dataset", "export", "label-studio", "mine", "--output", str(folder / "out.json"), *options)
    assert result.exit_code == 0, result.output
    tasks: list[Json] = json.loads((folder / "out.json").read_text())
    return tasks


def test_reviewed_tasks_come_back_with_the_changed_label_and_the_same_words_and_boxes(
    shell: Shell, cloud: DynamoClient, pages: str, tmp_path: Path
) -> None:
    tasks = exported(shell, pages, tmp_path)
    changed = False
    for number, task in enumerate(tasks):
        result = task.pop("predictions")[0]["result"]
        for part in result:
            if part["type"] == "labels" and not changed:
                part["value"]["labels"], changed = ["TAX"], True
        task |= {"id": number, "annotations": [{"id": number, "was_cancelled": False, "result": result}]}
    (tmp_path / "reviewed.json").write_text(json.dumps(tasks))

    result = shell.run("dataset", "import", "label-studio", str(tmp_path / "reviewed.json"), "--name", "reviewed")

    assert result.exit_code == 0, result.output
    before, after = stored(cloud, "mine"), stored(cloud, "reviewed")
    assert [(page.page_id, page.words, page.boxes) for page in after] == [
        (page.page_id, page.words, page.boxes) for page in before
    ]
    differing = [
        (old, new)
        for first, second in zip(before, after, strict=True)
        for old, new in zip(first.tags, second.tags, strict=True)
        if old != new
    ]
    assert [new for _, new in differing] == ["B-TAX"]


def test_the_interface_beside_the_tasks_has_the_labels_of_the_dataset(shell: Shell, pages: str, tmp_path: Path) -> None:
    tasks = exported(shell, pages, tmp_path)

    labels = {
        label
        for task in tasks
        for part in task["predictions"][0]["result"]
        for label in part["value"].get("labels", ())
    }
    assert labels and all(f'value="{label}"' in (tmp_path / "out.xml").read_text() for label in labels)


def test_image_addresses_have_the_names_of_the_files_and_the_prefix_given(
    shell: Shell, pages: str, tmp_path: Path
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "page-000.jpg").write_bytes(b"jpeg")

    plain = exported(shell, pages, tmp_path)
    named = exported(shell, pages, tmp_path, "--images", str(tmp_path / "scans"), "--image-url", "https://host/")

    assert plain[0]["data"]["ocr"] == "/data/local-files/?d=page-000"
    assert [task["data"]["ocr"] for task in named[:2]] == ["https://host/page-000.jpg", "https://host/page-001"]


def test_pages_without_an_image_are_told(shell: Shell, pages: str, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    assert shell.run("dataset", "import", "jsonl", pages, "--name", "mine").exit_code == 0
    arguments = ("--output", str(tmp_path / "out.json"), "--images", str(tmp_path / "scans"), "--json")

    result = shell.run("dataset", "export", "label-studio", "mine", *arguments)

    assert json.loads(result.stdout)["pages"] == 12
    assert "12 pages have no image" in result.stderr


def test_one_model_is_named_at_most(shell: Shell) -> None:
    result = shell.run("dataset", "export", "label-studio", "mine", "--job", "a", "--model", "b")

    assert (result.exit_code, "give one of the two" in result.stderr) == (2, True)
