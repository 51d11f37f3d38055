"""dataset check, and the same check at submit: errors stop, warnings stay with the job, a summary beside the pages."""

import json
from pathlib import Path

import pytest

from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.data.frozen_split import frozen_sha256, parse_frozen
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import check_key, split_key
from tests.support.commands import Shell


@pytest.fixture
def file(tmp_path: Path) -> str:
    page = {"bboxes": [[0, 0, 99, 9], [0, 20, 50, 29], [60, 20, 99, 29]], "labels": ["B-DATE", "O", "B-GRAND_TOTL"]}
    path = tmp_path / "shop.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"id": f"p{i}", "group": f"g{i % 5}", "words": [f"a{i}", f"b{i}", f"c{i}"], **page})
            for i in range(20)
        )
    )
    return str(path)


@pytest.fixture
def imported(shell: Shell, file: str) -> str:
    assert shell.run("dataset", "import", "jsonl", file).exit_code == 0
    return "shop"


@pytest.fixture
def split(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"by": "group", "validation": ["g1"], "test": ["g4"]}))
    return path


def test_a_file_and_a_stored_dataset_give_the_same_report(shell: Shell, file: str, imported: str) -> None:
    of_file, stored = (shell.run("dataset", "check", source, "--json") for source in (file, imported))

    assert of_file.exit_code == stored.exit_code == 0
    told = json.loads(stored.stdout)
    assert told == json.loads(of_file.stdout)
    assert told["pages"] == {"train": 16, "evaluation": 4}
    assert {finding["check"] for finding in told["findings"]} >= {"unknown_label", "few_pages", "few_examples"}


def test_the_text_shows_labels_by_set_and_findings(shell: Shell, imported: str) -> None:
    text = shell.run("dataset", "check", imported, "--test-ratio", "0.2").stdout

    assert "12 training, 4 validation, 4 test" in text
    assert "did you mean GRAND_TOTAL?" in text
    assert text.splitlines()[-1].startswith("0 error(s)")


def test_the_options_of_a_run_decide_the_findings(shell: Shell, imported: str) -> None:
    result = shell.run("dataset", "check", imported, "--allowed-label", "TIP", "--split", "random")

    assert result.exit_code == 1
    assert "the training set has no entity of TIP" in result.stdout and "group leak" in result.stdout
    assert shell.run("dataset", "check", imported, "--dataset", "x").exit_code == 2


def test_unreadable_lines_of_a_file_are_errors(shell: Shell, file: str) -> None:
    with Path(file).open("a") as lines:
        lines.write(
            '\n{"id": "x"}\n{"id": "x2"}\n{"id": "y", "words": ["a"], "bboxes": [[0, 0, 2000, 9]], "labels": ["O"]}\n'
        )

    result = shell.run("dataset", "check", file)

    assert result.exit_code == 1
    assert "shop.jsonl:21" in result.stdout and "shop.jsonl:23" in result.stdout
    assert "shop.jsonl:22" in result.stdout  # the second of a kind


def test_errors_stop_the_submit(shell: Shell, imported: str) -> None:
    result = shell.run("train", "--allowed-label", "TIP")

    assert result.exit_code == 1
    assert "the training set has no entity of TIP" in result.stderr
    assert shell.client.list_jobs() == []


def test_warnings_are_shown_and_kept_with_the_job_and_do_not_disturb_its_options(shell: Shell, imported: str) -> None:
    job = shell.train()
    warnings = job.job_config["warnings"]

    assert isinstance(warnings, list) and any("did you mean GRAND_TOTAL?" in str(text) for text in warnings)
    assert "did you mean GRAND_TOTAL?" in shell.run("train").output
    assert "did you mean GRAND_TOTAL?" in shell.run("job", "show", job.job_id).stdout
    assert from_document(job.job_config).epochs == job.job_config["epochs"]


def test_a_summary_for_people_lies_beside_the_snapshot(shell: Shell, imported: str) -> None:
    job = shell.train()

    text = Bucket("the-bucket").get_bytes(check_key(str(job.job_config["dataset"]).partition("@")[2])).decode()

    assert "16 training, 4 validation" in text and "did you mean GRAND_TOTAL?" in text


def test_a_dry_run_checks_too_and_writes_nothing(shell: Shell, file: str, imported: str) -> None:
    keys = list(Bucket("the-bucket").list_keys(""))

    for source in (["--dataset", imported], ["--data", file]):
        told = json.loads(shell.run("train", "--dry-run", "--json", *source).stdout)
        assert any("did you mean GRAND_TOTAL?" in text for text in told["plan"]["warnings"])
        assert shell.run("train", "--dry-run", "--allowed-label", "TIP", *source).exit_code == 1
    assert list(Bucket("the-bucket").list_keys("")) == keys


def test_a_frozen_split_travels_with_the_job_by_its_content(shell: Shell, imported: str, split: Path) -> None:
    job = shell.train("--split", f"frozen:{split}", "--output-s3-path", "s3://the-bucket/team")
    pinned = str(job.job_config["split"])
    split.unlink()

    sha256 = frozen_sha256(pinned)
    assert pinned == f"frozen:mine.json@{sha256}" and sha256 is not None
    stored = parse_frozen(Bucket("the-bucket").get_bytes(split_key(sha256, "team/")))
    assert (stored.by, stored.validation, stored.test) == ("group", ("g1",), ("g4",))
    again = shell.train("--split", pinned, "--output-s3-path", "s3://the-bucket/team")
    assert again.job_config["split"] == pinned


def test_a_frozen_split_with_groups_that_the_data_does_not_have_stops_the_submit(
    shell: Shell, imported: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"by": "group", "validation": ["g1", "nobody"]}))

    assert "validation: nobody" in shell.run("train", "--split", f"frozen:{path}").stderr
    assert "cannot be read" in shell.run("train", "--split", "frozen:/no/such/file").stderr
    assert shell.client.list_jobs() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "frozen:x", "--val-ratio", "0.3"], "leave --val-ratio out"),
        (["--split", "kfold:5/1", "--train-ratio", "0.5"], "leave --train-ratio out"),
        (["--eval-dataset", "shop", "--test-ratio", "0.1"], "have no effect"),
        (["--train-ratio", "0.8", "--val-ratio", "0.2", "--test-ratio", "0.1"], "not 1"),
    ],
)
def test_shares_that_mean_nothing_are_refused(shell: Shell, imported: str, arguments: list[str], words: str) -> None:
    result = shell.run("train", *arguments)

    assert result.exit_code == 2 and words in result.stderr
    assert shell.client.list_jobs() == []


def test_the_shares_come_from_yaml_too_and_a_flag_completes_them(shell: Shell, imported: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train-ratio: 0.6\nsplit: random\n")

    job = shell.train("--config", str(path), "--test-ratio", "0.2")

    shares = [job.job_config[name] for name in ("train_ratio", "val_ratio", "test_ratio")]
    assert shares == pytest.approx([0.6, 0.2, 0.2])
