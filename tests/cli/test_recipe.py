"""Recipes on the command line: listed, stored with a job and shown; and the next run that `job show` advises."""

import json
import shlex
from pathlib import Path

import pytest

from receipt_dynamo import Job, JobLog, JobQueue, utcnow
from receipt_layoutlm.cli.options import options_of
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.jobs.rerun import rerun_command
from tests.support.commands import Shell, ok, run

LABELS = ("HEADER", "QUESTION")


@pytest.fixture
def forms(shell: Shell, tmp_path: Path) -> str:
    """A dataset whose labels are not those of receipts."""
    page = {
        "words": ["Name:", "Joe"],
        "bboxes": [[0, 0, 99, 9], [100, 0, 150, 9]],
        "labels": ["B-QUESTION", "B-HEADER"],
    }
    path = tmp_path / "forms.jsonl"
    path.write_text("\n".join(json.dumps({"id": f"p{i}", "group": f"g{i % 5}", **page}) for i in range(20)))
    ok("dataset", "import", "jsonl", str(path))
    return "forms"


def test_the_list_has_a_row_for_each_kind_of_weights_and_marks_their_default() -> None:
    rows = json.loads(ok("recipe", "list", "--json"))

    defaults = {row["weights"]: row["name"] for row in rows if row["is_default"]}
    assert defaults == {"minilm": "receipts", "any other": "original"}
    assert "0.890 ± 0.010" in ok("recipe", "list")


@pytest.mark.parametrize("name", ["receipts", "quick", "original"])
def test_what_show_prints_is_a_recipe_file_that_stores_the_same_options(
    shell: Shell, forms: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ok("recipe", "show", name, "--pretrained", "minilm"))

    named, own = shell.train("--pretrained", "minilm", "--recipe", name), shell.train("--recipe", str(path))

    assert {**named.job_config, "given": 0, "recipe": 0} == {**own.job_config, "given": 0, "recipe": 0}


def test_a_recipe_is_stored_and_shown_with_the_source_of_each_value(shell: Shell, forms: str) -> None:
    job = shell.train("--pretrained", "minilm", "--epochs", "2", "--job-name", "mine")

    config = job.job_config
    assert (config["recipe"], config["epochs"], config["lr"]) == ("receipts", 2, 4e-4)
    given = config["given"]
    assert isinstance(given, dict) and (given["lr"], given["epochs"]) == ("recipe", "flag")
    assert "recipe            receipts" in ok("job", "show", "mine")


def test_labels_of_a_recipe_that_the_run_does_not_learn_are_left_out_and_named(shell: Shell, forms: str) -> None:
    job = shell.train("--pretrained", "minilm")
    text, dry = ok("train", "--pretrained", "minilm"), ok("train", "--pretrained", "minilm", "--dry-run")

    assert job.job_config["single_valued_labels"] == []
    left_out = "ADDRESS_LINE, GRAND_TOTAL, MERCHANT_NAME of --single-valued-label"
    line = f"receipts, without {left_out}: this run does not learn them"
    assert f"recipe   {line}" in text and f"recipe   {line}" in dry


def test_labels_that_a_flag_names_are_never_left_out(shell: Shell, forms: str) -> None:
    text = shell.refused("--pretrained", "minilm", "--single-valued-label", "GRAND_TOTAL")

    assert "does not learn label GRAND_TOTAL" in text


def test_quick_is_a_recipe_and_contradicts_another_one(shell: Shell, forms: str) -> None:
    assert shell.train("--quick").job_config["recipe"] == "quick"
    assert shell.train("--quick", "--recipe", "quick").job_config["recipe"] == "quick"
    result = shell.run("train", "--quick", "--recipe", "receipts")
    assert "--quick is --recipe quick: give one of the two" in result.stderr


def finish(shell: Shell, job: Job, results: dict[str, object]) -> Job:
    """The job, after it has succeeded with these results."""
    queue = JobQueue(shell.client)
    lease = queue.claim_job(job.job_id, "w")
    assert lease is not None
    summary = JobLog(
        job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="", seq=1, attempt=1
    )
    queue.complete(lease, results=results, summary=summary)  # type: ignore[arg-type]
    return shell.client.get_job(job.job_id)


def test_more_epochs_are_advised_as_a_command_that_continues_the_job(shell: Shell, forms: str) -> None:
    job = finish(shell, shell.train("--epochs", "2"), {"health": ["still_rising: …"], "remedy": {"epochs": 4}})

    assert f"layoutlm-cli train --resume {job.job_id} --epochs 4" in ok("job", "show", job.job_id)
    assert json.loads(ok("job", "show", job.job_id, "--json"))["to_try"].startswith("train --resume")
    assert f"`layoutlm-cli train --resume {job.job_id} --epochs 4`" in ok("job", "why", job.job_id)


def test_another_option_is_advised_as_a_command_that_stores_the_same_job_but_for_it(shell: Shell, forms: str) -> None:
    flags = (
        "--dataset forms --pretrained minilm --label-weight HEADER=2 --class-weight-clip 0.5 4 --allowed-label HEADER,"
        "QUESTION --balanced-sampling --label-merges".split()
    )
    job = shell.train(*flags, '{"O": ["TAX"]}', "--lr", "1e-2")
    finish(shell, job, {"health": ["collapsed: …"], "remedy": {"lr": 4e-4}})

    (line,) = [line for line in ok("job", "show", job.job_id).splitlines() if line.startswith("to try")]
    again = shell.train(*shlex.split(line.partition("layoutlm-cli train ")[2]))

    assert again.job_config == {**job.job_config, "lr": 4e-4}


def test_the_command_of_a_job_with_a_recipe_file_repeats_its_values(shell: Shell, forms: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("pretrained: minilm\nepochs: 3\naugment: ocr,drop\n")
    job = shell.train("--recipe", str(recipe))

    again = shell.train(*shlex.split(rerun_command(job, {"dropout": 0.2}))[1:])

    assert (job.job_config["recipe"], again.job_config["recipe"]) == ("mine.yaml", "original")
    same = {"pretrained": "minilm", "epochs": 3, "augment": ["drop", "ocr"], "label_smoothing": 0.0}
    assert {name: again.job_config[name] for name in same} == same
    assert again.job_config["dropout"] == 0.2


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    result = run("recipe", "show", "recipts")

    assert result.exit_code == 2 and "did you mean receipts?" in result.stderr


def test_every_advised_option_is_one_of_train() -> None:
    flags = {flag for option in options_of(WordLabelsConfig) for flag in option.opts}

    assert {"--epochs", "--lr", "--augment", "--dropout", "--label-weight", "--early-stopping-patience"} <= flags
