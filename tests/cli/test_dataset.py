"""layoutlm-cli dataset: files and generated receipts become pinned snapshots; a bad file leaves nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient
from receipt_layoutlm.cli import cli
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import dataset_key
from tests.support.paths import FIXTURES

PAGE = {"words": ["TOTAL", "9.00"], "bboxes": [[0, 0, 9, 9], [20, 0, 29, 9]], "labels": ["O", "B-GRAND_TOTAL"]}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dataset", *arguments])


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def write(path: Path, *pages: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(page) + "\n" for page in pages))
    return str(path)


def test_several_files_become_one_dataset_under_the_name_given(cloud: DynamoClient, tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", {"id": "1", **PAGE})
    second = write(tmp_path / "b.jsonl", {"id": "2", **PAGE})

    ok("import", "jsonl", first, second, "--name", "both")

    (dataset,) = cloud.list_datasets()
    assert (dataset.name, dataset.counts["pages"], dataset.source) == ("both", 2, "jsonl a.jsonl b.jsonl")


def test_the_stored_snapshot_is_shown_checked_and_brought_back(cloud: DynamoClient, tmp_path: Path) -> None:
    ok("import", "jsonl", write(tmp_path / "a.jsonl", {"id": "1", **PAGE}))

    told = json.loads(ok("snapshot", "a", "--json", "--to", str(tmp_path / "back.jsonl.gz")))

    assert read_snapshot(tmp_path / "back.jsonl.gz", told["fingerprint"])[0].page_id == "1"
    Bucket("the-bucket").raw.put_object(Bucket="the-bucket", Key=dataset_key(told["fingerprint"]), Body=b"broken")
    assert run("snapshot", "a").exit_code == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bboxes": [[0, 0, 9, 9], [20, 0, 1029, 9]]}, "bad.jsonl:2"),
        ({"labels": ["O", "GRAND_TOTAL"]}, "bad.jsonl:2"),
        ({"labels": ["O"]}, "bad.jsonl:2"),
        ({"id": "1"}, "bad.jsonl:2"),
    ],
)
def test_one_bad_line_refuses_the_file_and_keeps_nothing(
    cloud: DynamoClient, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    bad = write(tmp_path / "bad.jsonl", {"id": "1", **PAGE}, {"id": "2", **PAGE, **change})

    result = run("import", "jsonl", bad)

    assert result.exit_code == 1
    assert reason in result.stderr and "Traceback" not in result.stderr
    assert cloud.list_datasets() == []
    assert list(Bucket("the-bucket").list_keys("")) == []


def test_generated_receipts_depend_on_count_and_seed(cloud: DynamoClient) -> None:
    def fingerprint(*arguments: str) -> str:
        return str(json.loads(ok("import", "sample", "--pages", "4", "--json", *arguments))["fingerprint"])

    assert fingerprint("--dry-run") == fingerprint("--seed", "0", "--name", "again") != fingerprint("--seed", "1")
    assert sorted(dataset.name for dataset in cloud.list_datasets()) == ["again", "sample"]


def test_a_dry_run_checks_and_writes_nothing(cloud: DynamoClient, tmp_path: Path) -> None:
    result = run("import", "jsonl", write(tmp_path / "a.jsonl", {"id": "1", **PAGE}), "--dry-run")

    assert "GRAND_TOTAL" in result.stdout and "nothing was written" in result.stderr
    assert cloud.list_datasets() == []


def test_the_list_has_a_line_for_each_snapshot(cloud: DynamoClient, tmp_path: Path) -> None:
    ok("import", "jsonl", write(tmp_path / "a.jsonl", {"id": "1", **PAGE}))
    ok("import", "jsonl", write(tmp_path / "a.jsonl", {"id": "1", **PAGE}, {"id": "2", **PAGE}))

    assert [row["counts"]["pages"] for row in json.loads(ok("list", "--json"))] == [2, 1]
    assert len(ok("list").splitlines()) == 4


@pytest.mark.parametrize("name", ["sroie", "cord", "funsd", "wildreceipt"])
def test_every_format_is_imported_from_its_folder_and_named_after_it(cloud: DynamoClient, name: str) -> None:
    told = json.loads(ok("import", name, str(FIXTURES / name), "--json"))

    (dataset,) = cloud.list_datasets()
    assert (dataset.name, dataset.source, dataset.fingerprint) == (name, f"{name} {name}", told["fingerprint"])
    assert told["report"]["pages"] == dataset.counts["pages"]
    assert told["report"]["entities"] == dataset.labels


def test_the_report_says_what_was_found_renamed_and_dropped(cloud: DynamoClient) -> None:
    sroie = ok("import", "sroie", str(FIXTURES / "sroie"))
    (company,) = [line.split() for line in sroie.splitlines() if line.split()[:2] == ["company", "2"]]
    assert company == ["company", "2", "0", "1", "50.0%", "001"]
    assert "1 texts are blank" in sroie
    cord = ok("import", "cord", str(FIXTURES / "cord"))
    (line,) = [line.split() for line in cord.splitlines() if line.startswith("sub_total.service_price ")]
    assert line == ["sub_total.service_price", "O", "1", "dropped"]


def test_a_label_map_file_is_applied_and_own_labels_are_kept(cloud: DynamoClient, tmp_path: Path) -> None:
    label_map = tmp_path / "map.json"
    label_map.write_text('{"total": "O", "date": "TIME"}')
    source = str(FIXTURES / "sroie")

    mapped = json.loads(ok("import", "sroie", source, "--label-map", str(label_map), "--json"))
    own = json.loads(ok("import", "sroie", source, "--keep-labels", "--json"))

    assert mapped["report"]["dropped"] == {"total": 1} and mapped["labels"]["TIME"] == 2
    assert own["labels"] == {"address": 1, "company": 1, "date": 2, "total": 1}


def test_a_label_map_that_names_nothing_of_the_data_keeps_nothing(cloud: DynamoClient, tmp_path: Path) -> None:
    label_map = tmp_path / "map.json"
    label_map.write_text('{"GRAND_TOTL": "O"}')

    result = run("import", "jsonl", write(tmp_path / "a.jsonl", {"id": "1", **PAGE}), "--label-map", str(label_map))

    assert result.exit_code == 1 and "did you mean GRAND_TOTAL?" in result.stderr
    assert cloud.list_datasets() == []


def test_a_bad_line_refuses_the_import_unless_bad_ones_are_to_be_skipped(cloud: DynamoClient, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jsonl", {"id": "1", **PAGE}, {"id": "2"}, {"id": "3", **PAGE})

    assert run("import", "jsonl", bad).exit_code == 1
    assert cloud.list_datasets() == []
    told = ok("import", "jsonl", bad, "--skip-bad")

    assert cloud.list_datasets()[0].counts["pages"] == 2
    assert "1 files or lines were skipped" in told and "bad.jsonl:2" in told


# what is told from the data, and the options that tell it otherwise

LINE = {
    "id": "1",
    "words": ["Corner", "Shop", "Date", "01/02/2021", "Tea", "2.50", "TOTAL", "2.50"],
    "bboxes": [
        [100, 50, 220, 80],
        [240, 50, 340, 80],
        [100, 150, 190, 180],
        [300, 150, 490, 180],
        [100, 200, 170, 230],
        [700, 200, 790, 230],
        [100, 300, 200, 330],
        [700, 300, 790, 330],
    ],
    "labels": ["B-MERCHANT_NAME", "I-MERCHANT_NAME", "O", "B-DATE", "O", "O", "O", "B-GRAND_TOTAL"],
}


def refused(*arguments: str) -> str:
    result = run("import", *arguments)
    assert result.exit_code == 1 and "Traceback" not in result.stderr, result.output
    return result.stderr


def fingerprint(*arguments: str) -> str:
    return str(json.loads(ok("import", *arguments, "--json"))["fingerprint"])


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda box: [value / 10 for value in box], ["--boxes", "percent"]),
        (lambda box: [box[1], box[0], box[3], box[2]], ["--box-order", "y0x0y1x1"]),
        (lambda box: [box[0], 1000 - box[3], box[2], 1000 - box[1]], ["--origin", "bottom-left"]),
    ],
)
def test_boxes_of_another_kind_are_refused_and_read_by_the_option_that_the_error_names(
    cloud: DynamoClient, tmp_path: Path, change: object, options: list[str]
) -> None:
    assert callable(change)
    expected = fingerprint("jsonl", write(tmp_path / "plain.jsonl", LINE))
    path = write(tmp_path / "a.jsonl", {**LINE, "bboxes": [change(box) for box in LINE["bboxes"]]})  # type: ignore[attr-defined]
    assert " ".join(options) in refused("jsonl", path)
    assert len(cloud.list_datasets()) == 1
    assert fingerprint("jsonl", path, *options) == expected


def test_converted_boxes_are_named_in_the_report(cloud: DynamoClient, tmp_path: Path) -> None:
    expected = fingerprint("jsonl", write(tmp_path / "plain.jsonl", LINE))
    path = write(tmp_path / "a.jsonl", {**LINE, "bboxes": [[value / 1000 for value in box] for box in LINE["bboxes"]]})  # type: ignore[attr-defined]
    assert "boxes read as shares" in ok("import", "jsonl", path)
    told = json.loads(ok("import", "jsonl", path, "--json"))
    assert (told["fingerprint"], told["report"]["notes"]) == (expected, ["boxes read as shares"])


def test_tags_are_read_by_their_options(cloud: DynamoClient, tmp_path: Path) -> None:
    expected = fingerprint("jsonl", write(tmp_path / "plain.jsonl", LINE))
    bare = write(tmp_path / "bare.jsonl", {**LINE, "labels": [tag[2:] or "O" for tag in LINE["labels"]]})  # type: ignore[attr-defined]
    numbers = write(tmp_path / "numbers.jsonl", {**LINE, "labels": [1, 2, 0, 3, 0, 0, 0, 4]})
    names = '["O", "B-MERCHANT_NAME", "I-MERCHANT_NAME", "B-DATE", "B-GRAND_TOTAL"]'
    assert "--tags bare" in refused("jsonl", bare) and "--id2label" in refused("jsonl", numbers)
    assert (
        fingerprint("jsonl", bare, "--tags", "bare") == fingerprint("jsonl", numbers, "--id2label", names) == expected
    )


def test_labels_that_differ_from_ours_in_case_are_kept_and_told(cloud: DynamoClient, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**LINE, "labels": [tag.lower() for tag in LINE["labels"]]})  # type: ignore[attr-defined]
    told = ok("import", "jsonl", path)
    assert "grand_total" in told and '"grand_total": "GRAND_TOTAL"' in told and "--label-map" in told


def test_pages_without_labels_need_the_option(cloud: DynamoClient, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**LINE, "labels": ["O"] * 8})
    assert "--unlabelled" in refused("jsonl", path)
    assert cloud.list_datasets() == []
    ok("import", "jsonl", path, "--unlabelled")
    assert cloud.list_datasets()[0].labels == {}


def test_a_known_encoding_is_needed_for_texts_that_are_not_unicode(cloud: DynamoClient, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    page = {**LINE, "words": ["永和豆浆", *LINE["words"][1:]]}  # type: ignore[index]
    path.write_text(json.dumps(page, ensure_ascii=False), encoding="gb18030")
    assert "--encoding" in refused("jsonl", str(path))
    assert run("import", "jsonl", str(path), "--encoding", "klingon").exit_code == 2
    told = json.loads(ok("import", "jsonl", str(path), "--encoding", "gbk", "--json"))
    assert told["report"]["notes"] == ["read as gbk"]


def test_all_bad_lines_are_told_at_once(cloud: DynamoClient, tmp_path: Path) -> None:
    bad = [{**LINE, "id": str(number), "labels": [*LINE["labels"][:7], "GRAND_TOTAL"]} for number in (2, 3)]  # type: ignore[index]
    told = refused("jsonl", write(tmp_path / "bad.jsonl", LINE, *bad))
    assert "2 files or lines cannot be used" in told
    assert "bad.jsonl:2: tag 7" in told and "bad.jsonl:3: tag 7" in told and "write B-GRAND_TOTAL" in told


def test_a_label_map_comes_before_the_validation_of_labels(cloud: DynamoClient, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**LINE, "labels": ["B-Shop Name", "I-Shop Name", *LINE["labels"][2:]]})  # type: ignore[index]
    label_map = tmp_path / "map.json"
    label_map.write_text('{"Shop Name": "MERCHANT_NAME"}')
    assert '{"Shop Name": "Shop_Name"}' in refused("jsonl", path)
    assert fingerprint("jsonl", path, "--label-map", str(label_map)) == fingerprint(
        "jsonl", write(tmp_path / "plain.jsonl", LINE)
    )
