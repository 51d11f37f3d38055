"""layoutlm-cli train: what each flag stores, where a dataset comes from, what is refused, what a dry run says."""

import getpass
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from receipt_dynamo import Job
from receipt_layoutlm.cli import cli
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.jobs.request import resolve
from receipt_layoutlm.jobs.submit import KeyTaken, SubmitContext, prepare_submission, submit
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import dataset_key
from tests.support.commands import Shell

SEED_FLAGS = (
    "--epochs 3 --batch-size 64 --lr 6e-5 --warmup-ratio 0.2 --label-smoothing 0.1 --o-entity-ratio 2.0 "
    "--merge-amounts --allowed-label MERCHANT_NAME --allowed-label PHONE_NUMBER --allowed-label ADDRESS_LINE "
    "--allowed-label DATE --allowed-label TIME --allowed-label PRODUCT_NAME --allowed-label AMOUNT"
).split()


TRAINING_FLAGS = [
    ("--pretrained", "minilm", "pretrained", "minilm"),
    ("--layers", "2", "layers", 2),
    ("--dropout", "0.3", "dropout", 0.3),
    ("--max-length", "128", "max_length", 128),
    ("--max-sub-tokens", "4", "max_sub_tokens", 4),
    ("--tokens-per-batch", "4096", "tokens_per_batch", 4096),
    ("--precision", "fp16", "precision", "fp16"),
    ("--processes", "2", "processes", 2),
    ("--threads", "1", "threads", 1),
    ("--focal-gamma", "2", "focal_gamma", 2.0),
    ("--class-weights", "sqrt-inverse", "class_weights", "sqrt-inverse"),
    ("--label-weight", "GRAND_TOTAL=2", "label_weight", {"GRAND_TOTAL": 2.0}),
    ("--lr-schedule", "cosine", "lr_schedule", "cosine"),
    ("--layer-lr-decay", "0.8", "layer_lr_decay", 0.8),
    ("--new-parameter-lr", "1e-3", "new_parameter_lr", 1e-3),
    ("--freeze-layers", "1", "freeze_layers", 1),
    ("--decoding", "argmax", "decoding", "argmax"),
    ("--single-valued-label", "GRAND_TOTAL", "single_valued_labels", ["GRAND_TOTAL"]),
    ("--metric-for-best", "eval_f1_GRAND_TOTAL", "metric_for_best", "f1_GRAND_TOTAL"),
    ("--guard", "f1>=0.98*best", "guard", "f1>=0.98*best"),
    ("--augment", "boxes,ocr", "augment", ["ocr", "boxes"]),
    ("--pretrain-on", "sample:9", "pretrain_on", "sample:9"),
    ("--epochs", "20", "epochs", 20),
    ("--early-stopping-patience", "5", "early_stopping_patience", 5),
    ("--batch-size", "16", "batch_size", 16),
    ("--eval-batch-size", "32", "eval_batch_size", 32),
    ("--gradient-accumulation-steps", "4", "gradient_accumulation_steps", 4),
    ("--lr", "1e-4", "lr", 1e-4),
    ("--warmup-ratio", "0.3", "warmup_ratio", 0.3),
    ("--weight-decay", "0.05", "weight_decay", 0.05),
    ("--max-grad-norm", "0.5", "max_grad_norm", 0.5),
    ("--label-smoothing", "0.2", "label_smoothing", 0.2),
    ("--o-entity-ratio", "1.5", "o_entity_ratio", 1.5),
    ("--seed", "7", "seed", 7),
    ("--split-seed", "7", "split_seed", 7),
    ("--merge-preset", "dates", "merge_preset", "dates"),
    ("--label-merges", '{"AMOUNT": ["TAX"]}', "label_merges", {"AMOUNT": ["TAX"]}),
    ("--allowed-label", "GRAND_TOTAL", "allowed_labels", ["GRAND_TOTAL"]),
    ("--eval-every", "50", "eval_every", 50),
    ("--checkpoint-every", "60", "checkpoint_every", 60.0),
    ("--keep-checkpoints", "5", "keep_checkpoints", 5),
    ("--hang-timeout", "120", "hang_timeout", 120.0),
    ("--max-runtime", "3600", "max_runtime", 3600.0),
    ("--logging-steps", "3", "logging_steps", 3),
    ("--sample-size", "12", "sample_size", 12),
    ("--split", "random", "split", "random"),
    ("--train-ratio", "0.5", "train_ratio", 0.5),
    ("--val-ratio", "0.3", "val_ratio", 0.3),
    ("--test-ratio", "0.2", "test_ratio", 0.2),
    ("--device", "cpu", "device", "cpu"),
    ("--work-dir", "/tmp/elsewhere", "work_dir", "/tmp/elsewhere"),
    ("--task", "layoutlm", "task", "layoutlm"),
]


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    path = tmp_path / "shop.jsonl"
    page = {"words": ["JOE'S", "TOTAL", "9.00"], "bboxes": [[0, 0, 99, 9], [0, 20, 50, 29], [60, 20, 99, 29]]}
    tags = {"labels": ["B-MERCHANT_NAME", "O", "B-GRAND_TOTAL"]}
    path.write_text("\n".join(json.dumps({"id": f"p{i}", "group": f"shop-{i % 5}", **page, **tags}) for i in range(20)))
    return path


@pytest.fixture
def imported(shell: Shell, pages: Path) -> str:
    assert shell.run("dataset", "import", "jsonl", str(pages)).exit_code == 0
    return "shop"


def test_the_seed_command_submits_a_pending_job(shell: Shell, imported: str) -> None:
    job = shell.train("--job-name", "nightly", *SEED_FLAGS)

    assert (job.name, job.status, job.queue, job.priority) == ("nightly", "pending", "default", "medium")
    config = job.job_config
    assert (config["epochs"], config["batch_size"], config["lr"], config["warmup_ratio"]) == (3, 64, 6e-5, 0.2)
    assert (config["label_smoothing"], config["o_entity_ratio"], config["merge_amounts"]) == (0.1, 2.0, True)
    assert config["allowed_labels"] == SEED_FLAGS[SEED_FLAGS.index("--merge-amounts") + 2 :: 2]
    assert str(config["dataset"]).startswith("shop@")


def test_labels_without_examples_are_a_warning_and_the_next_commands_are_shown(shell: Shell, imported: str) -> None:
    result = shell.run("train", *SEED_FLAGS)

    assert result.exit_code == 0
    assert "PHONE_NUMBER" in result.output.partition("the training set has no example of")[2].partition("\n")[0]
    assert "layoutlm-cli worker run --once" in result.output


def test_every_training_flag_is_stored_with_its_source(shell: Shell, imported: str) -> None:
    job = shell.train(*(word for flag, value, _key, _stored in TRAINING_FLAGS for word in (flag, value)))

    for flag, _value, key, stored in TRAINING_FLAGS:
        assert job.job_config[key] == stored != WordLabelsConfig().model_dump(mode="json")[key] or key == "task", flag
    assert job.job_config["given"] == {key: "flag" for _flag, _value, key, _stored in TRAINING_FLAGS}


@pytest.mark.parametrize(
    ("flags", "field", "stored"),
    [
        (["--class-weight-clip", "0.5", "4"], "class_weight_clip", [0.5, 4.0]),
        (["--balanced-sampling"], "balanced_sampling", True),
        (["--freeze-embeddings"], "freeze_embeddings", True),
        (["--fp16"], "precision", "fp16"),
        (["--fp16", "--precision", "fp16"], "precision", "fp16"),
    ],
)
def test_a_flag_without_or_with_two_values_is_stored(
    shell: Shell, imported: str, flags: list[str], field: str, stored: object
) -> None:
    assert shell.train(*flags).job_config[field] == stored


def test_an_alias_that_contradicts_its_option_is_refused(shell: Shell, imported: str) -> None:
    text = shell.refused("--fp16", "--precision", "bf16")
    assert "--fp16 is --precision fp16: give one of the two" in text


def test_every_training_option_is_in_the_table_above_or_has_a_test_of_its_own() -> None:
    own_tests = {
        "config_version",
        "dataset",
        "snapshot_on_worker",
        "over_lines",
        "eval_dataset",
        "merge_amounts",
        "continues",
        "class_weight_clip",
        "balanced_sampling",
        "freeze_embeddings",
    }

    assert {key for _flag, _value, key, _stored in TRAINING_FLAGS} | own_tests == set(WordLabelsConfig.model_fields)


def test_what_is_said_about_the_job_is_stored_on_it(shell: Shell, imported: str) -> None:
    told = "--job-name mine --priority high --queue gpu --tag team=a --tag x=1=2 --experiment ratio".split()

    job = shell.train(*told, "--description", "a line")

    assert (job.name, job.priority, job.queue, job.description) == ("mine", "high", "gpu", "a line")
    assert job.tags == {"team": "a", "x": "1=2", "experiment": "ratio"}


def test_a_job_without_a_name_is_called_by_date_and_id(shell: Shell, imported: str) -> None:
    job = shell.train()

    assert job.name == f"job-{job.created_at:%Y%m%d-%H%M%S}-{job.job_id[:8]}"


def test_an_output_path_moves_the_run_and_brings_the_pages_along(shell: Shell, imported: str) -> None:
    job = shell.train("--output-s3-path", "s3://the-bucket/team/a")

    assert job.storage is not None
    assert (job.storage.bucket, job.storage.prefix) == ("the-bucket", "team/a/")
    fingerprint = str(job.job_config["dataset"]).partition("@")[2]
    assert Bucket("the-bucket").exists(dataset_key(fingerprint, "team/a/"))


def test_the_same_unique_key_again_returns_the_first_job_and_says_so(shell: Shell, imported: str) -> None:
    first = shell.train("--unique-key", "tonight", "--job-name", "nightly")
    arguments = ("train", "--unique-key", "tonight", "--job-name", "nightly")
    text, told = shell.run(*arguments).stdout, json.loads(shell.run(*arguments, "--json").stdout)

    assert text.startswith("nightly was there already\n")
    assert (told["job_id"], told["was_there_already"]) == (first.job_id, True)
    assert json.loads(shell.run("train", "--json").stdout)["was_there_already"] is False
    assert len(shell.client.list_jobs()) == 2


def test_a_dry_run_with_a_unique_key_says_what_the_submit_would(shell: Shell, imported: str) -> None:
    arguments = ("train", "--unique-key", "tonight", "--dry-run")
    assert "was there already" not in shell.run(*arguments).stdout
    assert json.loads(shell.run(*arguments, "--json").stdout)["was_there_already"] is None
    first = shell.train("--unique-key", "tonight")

    assert f"{first.name} ({first.job_id}, pending) was there already" in shell.run(*arguments).stdout
    assert json.loads(shell.run(*arguments, "--json").stdout)["was_there_already"] == first.job_id
    other = shell.run(*arguments, "--epochs", "3")
    assert other.exit_code == 1 and "--epochs 10, now 3" in other.stderr
    too_long = shell.run("train", "--dry-run", "--unique-key", "x" * 1001)
    assert too_long.exit_code == 1 and "--unique-key" in too_long.stderr


def test_an_empty_unique_key_is_refused_as_all_jobs_would_be_one(shell: Shell, imported: str) -> None:
    assert "(--unique-key) is empty: give a text, or leave it out" in shell.refused("--unique-key", "")


def test_options_that_one_of_two_submits_did_not_name_differ_in_words(shell: Shell, imported: str) -> None:
    shell.train("--unique-key", "tonight", "--epochs", "9")

    changed = ("--epochs", "9", "--layers", "2", "--merge-amounts", "--tag", "a=b")
    text = shell.run("train", "--unique-key", "tonight", *changed).output

    assert "--layers not given, now 2" in text
    assert "--merge-amounts off, now on" in text
    assert "--tag not given, now a=b" in text


def test_a_unique_key_with_other_options_is_refused_with_what_differs(shell: Shell, imported: str) -> None:
    job = shell.train("--unique-key", "tonight", "--epochs", "9", "--tag", "team=a")

    result = shell.run("train", "--unique-key", "tonight", "--epochs", "2", "--tag", "team=b", "--priority", "high")

    assert result.exit_code == 1
    differing = "--epochs 9, now 2, --priority medium, now high, --tag team=a, now team=b. Use another key"
    assert differing in result.stderr and job.job_id in result.stderr
    assert shell.client.list_jobs() == [job]


def test_of_two_submits_of_a_key_at_once_the_one_with_other_options_is_refused(shell: Shell, imported: str) -> None:
    resolved = resolve({"dataset": imported, "epochs": 2}, {}, {})
    context = SubmitContext(shell.client, Bucket, "the-bucket")
    submission = prepare_submission(context, resolved, None, lambda progress: None)
    others: list[Job] = []

    def submit_the_other(**_: object) -> None:
        if not others:
            others.append(shell.train("--unique-key", "tonight", "--epochs", "9"))

    shell.client.raw.meta.events.register("provide-client-params.dynamodb.TransactWriteItems", submit_the_other)
    with pytest.raises(KeyTaken, match="--epochs 9, now 2"):
        submit(context, submission, "tests", "tonight", None)

    assert shell.client.list_jobs() == others


def test_a_tag_with_two_values_is_refused(shell: Shell, imported: str) -> None:
    assert "--tag a=b and a=c: give one of the two" in shell.refused("--tag", "a=b", "--tag", "a=c")


def test_a_dry_run_calls_a_ratio_that_follows_from_another_one_computed(shell: Shell, imported: str) -> None:
    rows = [line.split() for line in shell.run("train", "--val-ratio", "0.3", "--dry-run").stdout.splitlines()]

    sources = {row[0]: row[-1] for row in rows if row and row[0].endswith("_ratio")}
    assert (sources["train_ratio"], sources["val_ratio"], sources["warmup_ratio"]) == ("computed", "flag", "default")


@pytest.mark.parametrize(
    ("flag", "ours"),
    [
        ("--learning-rate", "--lr"),
        ("--num_train_epochs=3", "--epochs"),
        ("--per-device-train-batch-size", "--batch-size"),
        ("--output-dir", "--work-dir"),
        ("--run-name", "--job-name"),
    ],
)
def test_an_option_of_another_tool_is_answered_with_ours(shell: Shell, flag: str, ours: str) -> None:
    name = flag.partition("=")[0]
    assert f"No such option: {name}; it is called {ours} here." in shell.refused(flag, "1")


def test_a_misspelt_option_or_dataset_is_answered_with_the_nearest(shell: Shell, imported: str) -> None:
    assert "No such option: --decodin. Did you mean --decoding?" in shell.refused("--decodin", "argmax")
    assert "did you mean shop?" in shell.refused("--dataset", "shopp")


def test_doubtful_values_are_warnings_and_stored(shell: Shell, imported: str) -> None:
    job = shell.train("--lr", "1", "--batch-size", "64")

    warnings = job.job_config["warnings"]
    assert isinstance(warnings, list)
    assert [str(text).split()[0] for text in warnings[-2:]] == ["--lr", "--batch-size"]
    assert "--batch-size is 64, more than the 16 training pages" in str(warnings[-1])


def test_weights_with_too_few_layers_are_refused(shell: Shell, imported: str) -> None:
    arguments = ("--pretrained", "minilm", "--layers", "7")

    assert "--layers 7: minilm has 6 layers; the nearest is --layers 6" in shell.refused(*arguments)
    assert "the nearest is --layers 6" in shell.refused(*arguments, "--dry-run")


def test_data_is_imported_on_the_fly_and_the_same_file_again_adds_nothing(shell: Shell, pages: Path) -> None:
    job, again = shell.train("--data", str(pages)), shell.train("--data", str(pages))

    assert job.job_config["dataset"] == again.job_config["dataset"]
    assert [dataset.name for dataset in shell.client.list_datasets()] == ["shop"]


def test_the_environment_names_the_dataset(
    shell: Shell, pages: Path, imported: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.run("dataset", "import", "sample", "--pages", "24", "--name", "other")
    monkeypatch.setenv("LAYOUTLM_DATASET", "other")

    job = shell.train()

    assert str(job.job_config["dataset"]).startswith("other@")
    assert job.job_config["given"] == {"dataset": "environment"}


def test_an_evaluation_dataset_is_pinned_too(shell: Shell, imported: str) -> None:
    shell.run("dataset", "import", "sample", "--pages", "4", "--name", "held-out")

    job = shell.train("--dataset", "shop", "--eval-dataset", "held-out")

    assert str(job.job_config["eval_dataset"]).startswith("held-out@")


def test_without_a_dataset_the_error_names_the_ways_to_get_one(shell: Shell) -> None:
    assert "dataset import" in (text := shell.refused()) and "--data FILE" in text


def test_with_several_datasets_they_are_listed(shell: Shell, imported: str) -> None:
    shell.run("dataset", "import", "sample", "--pages", "4", "--name", "other")

    assert "other, shop" in shell.refused()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--allowed-label", "GRAND_TOTL"], "--allowed-label: unknown label GRAND_TOTL; did you mean GRAND_TOTAL"),
        (["--label-merges", '{"X": ["TAXX"]}'], "--label-merges: unknown label TAXX; did you mean TAX"),
        (["--merge-preset", "amount"], "--merge-preset: unknown merge preset amount; did you mean amounts"),
        (["--allowed-label", "TAX", "--merge-amounts"], "AMOUNT"),
        (["--epochs", "0"], "epochs"),
        (["--merge-amounts", "--merge-preset", "dates"], "give one of the two"),
        (["--label-merges", "{broken"], "not JSON"),
        (["--job-name", "../up"], "--job-name ../up: use letters"),
        (["--tag", "novalue"], "KEY=VALUE"),
        (["--output-s3-path", "nowhere"], "--output-s3-path nowhere: 'nowhere' is not an S3 URI"),
        (["--dataset", "missing"], "--dataset: no dataset 'missing'"),
        (["--eval-dataset", "nope"], "--eval-dataset: no dataset 'nope'"),
        (["--pretrained", "s3://the-bucket/nope/"], "--pretrained s3://the-bucket/nope/: there is no manifest.json"),
        (["--run-here", "--wait"], "leave --wait out"),
        (["--eval-every", "sometimes"], "--eval-every sometimes: should be 'epoch' or a whole number"),
        (["--resume", "nothing", "--epochs", "9"], "no job 'nothing'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out_and_nothing_is_stored(
    shell: Shell, imported: str, arguments: list[str], words: str
) -> None:
    assert words in shell.refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--metric-for-best", "f1_TIP"],
        ["--guard", "f1_TIP>=0.9*best"],
        ["--single-valued-label", "TIP"],
        ["--label-weight", "TIP=2"],
    ],
)
def test_an_option_that_names_a_label_the_run_does_not_learn_is_refused_before_it_costs_anything(
    shell: Shell, imported: str, pages: Path, arguments: list[str]
) -> None:
    words = f"{arguments[0]}: the run does not learn label TIP: use one of GRAND_TOTAL, MERCHANT_NAME"

    assert words in shell.refused(*arguments)
    assert words in shell.refused("--dry-run", *arguments)
    assert words in shell.refused("--dry-run", "--data", str(pages), *arguments)


def test_a_label_that_only_the_evaluation_part_has_is_not_learned(shell: Shell, imported: str, pages: Path) -> None:
    lines = [json.loads(line) for line in pages.read_text().splitlines()]
    for line in lines[:2]:
        line["labels"][1] = "B-TIP"
    pages.write_text("\n".join(map(json.dumps, lines)))
    split = pages.with_name("split.json")
    split.write_text(json.dumps({"by": "page", "train": [f"p{i}" for i in range(2, 20)], "validation": ["p0", "p1"]}))
    arguments = ("--data", str(pages), "--split", f"frozen:{split}", "--label-weight", "TIP=2")

    assert "does not learn label TIP" in shell.refused("--dry-run", *arguments)


def test_a_bad_file_leaves_nothing_behind(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": "a", "words": ["x"], "bboxes": [[0, 0, 2000, 9]], "labels": ["O"]}\n')

    assert "bad.jsonl:1" in shell.refused("--data", str(path))
    assert shell.client.list_datasets() == []


def test_flags_win_over_the_config_file(shell: Shell, imported: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 9\nlr: 0.001\njob_name: from-file\n")

    job = shell.train("--config", str(file), "--epochs", "2")

    assert (job.job_config["epochs"], job.job_config["lr"], job.name) == (2, 0.001, "from-file")
    assert job.job_config["given"] == {"epochs": "flag", "lr": "file"}


def test_an_unknown_key_of_the_config_file_is_a_usage_error(shell: Shell, imported: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("epoch: 9\n")

    result = shell.run("train", "--config", str(file))

    assert result.exit_code == 2
    assert "did you mean 'epochs'" in result.stderr


def test_quick_is_200_pages_and_3_epochs_unless_told_otherwise(shell: Shell, imported: str) -> None:
    quick, told = shell.train("--quick"), shell.train("--quick", "--epochs", "5")

    assert (quick.job_config["sample_size"], quick.job_config["epochs"]) == (200, 3)
    assert (told.job_config["sample_size"], told.job_config["epochs"]) == (200, 5)


def test_a_dry_run_shows_labels_steps_and_an_unknown_time_and_writes_nothing(shell: Shell, imported: str) -> None:
    result = shell.run(
        "train", "--dry-run", "--json", "--epochs", "3", "--batch-size", "4", "--allowed-label", "GRAND_TOTAL"
    )
    told = json.loads(result.stdout)

    assert told["config"]["epochs"] == 3
    assert told["plan"]["steps"] == 3 * 4  # 16 of 20 pages train, 4 a step
    assert told["plan"]["minutes"] is None
    assert told["plan"]["label_counts"] == {"GRAND_TOTAL": 20}
    assert shell.client.list_jobs() == []


@pytest.mark.parametrize("source", [[], ["--data", "FILE"], ["--split", "frozen:SPLIT"], ["--eval-dataset", "other"]])
def test_a_dry_run_shows_the_very_job_that_is_then_submitted(
    shell: Shell, pages: Path, imported: str, source: list[str]
) -> None:
    shell.run("dataset", "import", "sample", "--pages", "4", "--name", "other")
    split = pages.with_name("split.json")
    split.write_text(json.dumps({"by": "page", "train": [f"p{i}" for i in range(2, 20)], "validation": ["p0", "p1"]}))
    where = [word.replace("FILE", str(pages)).replace("SPLIT", str(split)) for word in source]
    arguments = ("--epochs", "3", *where, *(["--dataset", imported] if "FILE" not in source else []))

    planned = json.loads(shell.run("train", "--dry-run", "--json", *arguments).stdout)
    submitted = json.loads(shell.run("train", "--json", *arguments).stdout)

    stored = submitted["job_config"]
    beside = {"given": planned["given"], "recipe": planned["recipe"], "warnings": stored["warnings"]}
    assert stored == {**planned["config"], **beside}
    assert planned["plan"] == submitted["plan"]


def test_a_dry_run_estimates_from_earlier_jobs_of_the_same_shape(shell: Shell, imported: str) -> None:
    from receipt_dynamo import AttemptEnd, JobLog, JobQueue, Machine, utcnow

    queue = JobQueue(shell.client)
    job = shell.train("--epochs", "3", "--batch-size", "4")
    lease = queue.claim("w", machine=Machine(price_per_hour=3600.0))
    assert lease is not None
    summary = JobLog(
        job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="", seq=1, attempt=1
    )
    queue.complete(lease, results={}, summary=summary, end=AttemptEnd(last_step=12))
    (attempt,) = shell.client.list_attempts(job.job_id)
    assert attempt.ended_at is not None
    seconds = (attempt.ended_at - attempt.started_at).total_seconds()

    told = json.loads(shell.run("train", "--dry-run", "--json", "--epochs", "6", "--batch-size", "4").stdout)
    other = json.loads(shell.run("train", "--dry-run", "--json", "--epochs", "6", "--batch-size", "2").stdout)

    assert told["plan"]["minutes"] == pytest.approx(2 * seconds / 60)
    assert told["plan"]["dollars"] == pytest.approx(2 * seconds)
    assert other["plan"]["minutes"] is None


def test_a_dry_run_as_json_needs_neither_table_nor_data(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(cli, ["train", "--dry-run", "--json", "--epochs", "2"])

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (told["config"]["epochs"], told["dataset"], told["plan"]) == (2, None, None)


def test_a_dry_run_reads_a_file_without_importing_it(shell: Shell, pages: Path) -> None:
    told = json.loads(shell.run("train", "--dry-run", "--json", "--data", str(pages)).stdout)

    assert told["dataset"]["counts"]["pages"] == 20
    assert shell.client.list_datasets() == []


def test_without_a_table_the_error_names_the_ways_to_give_one() -> None:
    result = CliRunner().invoke(cli, ["train"])

    assert result.exit_code == 2
    assert "DYNAMO_TABLE_NAME" in result.stderr and "--local" in result.stderr


def test_a_job_is_created_by_the_callers_arn(shell: Shell, imported: str) -> None:
    assert shell.train().created_by.startswith("arn:aws:sts::123456789012:")


def test_where_nobody_can_say_who_calls_it_is_the_os_user(
    shell: Shell, imported: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")

    assert shell.train().created_by == getpass.getuser()


@pytest.mark.parametrize(
    ("option", "text"), [("--description", "x" * 4001), ("--tag", "team=" + "x" * 8000), ("--unique-key", "x" * 1001)]
)
def test_a_text_that_is_too_long_is_refused_before_anything_is_stored(
    shell: Shell, pages: Path, option: str, text: str
) -> None:
    told = shell.refused("--data", str(pages), "--pretrained", "minilm", option, text)
    assert f"({option}) has" in told and "bytes: use at most" in told
    assert len(told) < 200
    assert shell.client.list_datasets() == []
