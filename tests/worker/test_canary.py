"""Words of receipts, secrets of the environment and terminal escapes do not come out where people look.

Real jobs on pages whose every word is a canary, worked by the command line in an environment full of secrets.
"""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from receipt_dynamo import DynamoClient, Job, JobError, JobLog, JobQueue, JobStatus, Storage, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.job import job as job_commands
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page, page_from_line, page_to_line
from receipt_layoutlm.local.process import wait_until
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.keys import dataset_key
from tests.support.stores import Store
from tests.support.tiny import tiny_layoutlm, tiny_pages

SECRETS = {
    "HF_TOKEN": "hf-canarysecret-1",
    "AWS_SESSION_SECRET": "aws-canarysecret-2",
    "SOME_PASSWORD": "some-canarysecret-3",
    # transformers says, so in train.log, that it knows no such level: as any library may print what it is told
    "TRANSFORMERS_VERBOSITY": "hf-canarysecret-1",
}
CANARY = "canary"
WAIT_SECONDS = 120.0


def canary_pages(count: int) -> list[Page]:
    """Pages of which every word and the merchant is a canary; page ids and labels may be told."""
    return [
        replace(page, group=f"canarymerchant-{page.group}", words=tuple(f"Canary{word}" for word in page.words))
        for page in tiny_pages(count)
    ]


@dataclass
class Project:
    """A table and a bucket with weights in it, and workers as processes of their own."""

    store: Store
    environment: dict[str, str]
    weights: str
    work_dir: Path

    def submit(self, lines: list[str], **options: object) -> Job:
        """A job on these pages, which nobody has looked at: what a snapshot holds is not the worker's word."""
        content = "".join(f"{line}\n" for line in lines).encode()
        fingerprint = hashlib.sha256(content).hexdigest()
        bucket = self.store.bucket
        bucket.raw.put_object(Bucket=bucket.name, Key=dataset_key(fingerprint), Body=gzip.compress(content))
        config = WordLabelsConfig.model_validate(
            {"dataset": f"d@{fingerprint}", "pretrained": self.weights, "batch_size": 4, "device": "cpu", **options}
        )
        return self.store.queue.submit(
            name="a-job", config=to_document(config, {}), created_by="tests", storage=Storage(bucket=bucket.name)
        )

    def start_worker(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "receipt_layoutlm.cli", "worker", "run", "--once", "--work-dir"]
        return subprocess.Popen(
            [*command, str(self.work_dir)],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def job(self, job: Job) -> Job:
        return self.store.queue.client.get_job(job.job_id, consistent=True)

    def stored(self, job: Job) -> str:
        """Every item of the job, as one text."""
        return json.dumps(list(self.store.queue.client.iter_job_rows(job.job_id)), default=str)


@pytest.fixture
def project(store: Store, dynamo_endpoint: str, s3_endpoint: str, tmp_path: Path) -> Project:
    folder = tiny_layoutlm(tmp_path / "tiny", canary_pages(30))
    write_manifest(folder, 0)
    store.bucket.put_folder(folder, "runs/an-earlier-job/attempt-001/best/")
    environment = {
        **os.environ,
        **SECRETS,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamo_endpoint,
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "DYNAMO_TABLE_NAME": store.queue.client.table_name,
        "LAYOUTLM_TRAINING_BUCKET": store.bucket.name,
        "OMP_NUM_THREADS": "1",
    }
    weights = f"s3://{store.bucket.name}/runs/an-earlier-job/attempt-001/best"
    return Project(store, environment, weights, tmp_path / "work")


def good_lines() -> list[str]:
    return [page_to_line(page) for page in canary_pages(12)]


def assert_no_canary(project: Project, job: Job, output: str) -> None:
    assert CANARY not in project.stored(job).lower()
    assert CANARY not in output.lower()


@pytest.mark.engine
def test_a_job_that_begins_with_weights_of_the_bucket_succeeds_and_tells_no_word(project: Project) -> None:
    job = project.submit(good_lines(), epochs=2)

    output, _ = project.start_worker().communicate(timeout=WAIT_SECONDS)

    done = project.job(job)
    assert done.status is JobStatus.SUCCEEDED, (done.error, output)
    assert done.job_config["pretrained"] == project.weights
    assert len(project.store.queue.client.list_job_metrics(job.job_id)) == 2
    assert_no_canary(project, job, output)


def broken(page: str, **changes: object) -> str:
    return json.dumps({**json.loads(page), **changes})


WORDS = list(canary_pages(1)[0].words)
BREAKS: dict[str, dict[str, object]] = {
    "a word that is no text": {"words": [{"text": WORDS[0]}, *WORDS[1:]]},
    "words where tags belong": {"tags": WORDS},
    "an entity that begins inside": {"tags": ["I-DATE", *["O"] * (len(WORDS) - 1)]},
    "words where the width belongs": {"width": WORDS[0]},
    "words where the boxes belong": {"boxes": WORDS},
    "fewer boxes than words": {"boxes": []},
    "a merchant that is a list": {"group": [WORDS[0]]},
}


@pytest.mark.parametrize("changes", BREAKS.values(), ids=BREAKS.keys())
def test_what_is_wrong_with_a_page_is_said_without_its_words(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError) as caught:
        page_from_line(broken(good_lines()[0], **changes))

    assert CANARY not in str(caught.value).lower()


def test_a_line_that_is_no_json_is_refused_without_its_words() -> None:
    line = good_lines()[0]

    for text in (line[:-20], line.replace(":", " ", 1), f"{WORDS[0]} {line}", json.dumps(WORDS)):
        with pytest.raises(ValueError) as caught:
            page_from_line(text)
        assert CANARY not in str(caught.value).lower()


@pytest.mark.engine
def test_a_job_that_fails_on_a_broken_page_tells_no_word(project: Project) -> None:
    first, *others = good_lines()
    job = project.submit([*others, broken(first, **BREAKS["words where tags belong"])], epochs=2)

    output, _ = project.start_worker().communicate(timeout=WAIT_SECONDS)

    error = project.job(job).error
    assert error is not None and error.cause == "bad_data"
    assert_no_canary(project, job, output)


@pytest.mark.engine
def test_a_job_whose_numbers_fail_names_pages_and_tells_no_word(project: Project) -> None:
    job = project.submit(good_lines(), epochs=5, lr=1e38)

    output, _ = project.start_worker().communicate(timeout=WAIT_SECONDS)

    error = project.job(job).error
    assert error is not None and error.cause == "non_finite_loss"
    assert error.page_ids and all(page_id.startswith("page-") for page_id in error.page_ids)
    assert_no_canary(project, job, output)


@pytest.mark.engine
def test_a_job_whose_trainer_is_killed_keeps_the_end_of_its_log_without_words_and_secrets(project: Project) -> None:
    job = project.submit(good_lines(), epochs=500)
    worker = project.start_worker()
    log = project.work_dir / job.name / "train.log"
    wait_until(lambda: worker.poll() is not None or "epoch 1.00" in read(log), WAIT_SECONDS)
    assert CANARY in read(log), "the environment's echo is what this test is about"

    for trainer in trainers_of(worker.pid):
        os.kill(trainer, signal.SIGKILL)

    output, _ = worker.communicate(timeout=WAIT_SECONDS)
    error = project.job(job).error
    assert error is not None and error.cause == "killed"
    assert "[secret]" in error.log_tail
    assert_no_canary(project, job, output)


def read(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def trainers_of(parent: int) -> list[int]:
    """Children of a process that run the trainer."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if is_trainer_of(entry, parent)]


def is_trainer_of(entry: Path, parent: int) -> bool:
    try:
        above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        return above == parent and b"receipt_layoutlm.training" in (entry / "cmdline").read_bytes()
    except OSError:
        return False


# what a terminal sees

STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202edesrever\u2066"
READS = [name for name in ("show", "logs", "list", "metrics", "why") if name in job_commands.commands]


@pytest.fixture
def hostile(cloud: DynamoClient) -> Job:
    """A failed job, each text of which would steer a terminal."""
    queue = JobQueue(cloud)
    config = {"config_version": 1, "dataset": f"d{STEERING}@0", "given": {"dataset": "flag", STEERING: "flag"}}
    job = queue.submit(
        name=f"name{STEERING}",
        config={**config, STEERING: STEERING},
        created_by=f"me{STEERING}",
        description=STEERING,
        tags={STEERING: STEERING},
        storage=Storage(bucket="the-bucket", prefix=STEERING),
    )
    lease = queue.claim(f"worker{STEERING}")
    assert lease is not None
    row = JobLog(
        job_id=job.job_id,
        timestamp=utcnow(),
        level=f"info{STEERING}",
        event=f"event{STEERING}",
        message=f"message{STEERING}\nand a second line",
        attempt=1,
        seq=1,
    )
    cloud.add_job_log(lease, row)
    error = JobError(cause=f"bad_config{STEERING}", message=f"error{STEERING}", log_tail=f"tail\n{STEERING}")
    queue.fail(lease, error)
    return job


def steering(text: str) -> set[str]:
    return {character for character in text if character != "\n" and unicodedata.category(character)[0] == "C"}


@pytest.mark.parametrize("command", READS)
def test_texts_of_the_table_reach_a_terminal_as_spaces(hostile: Job, command: str) -> None:
    result = CliRunner().invoke(cli, ["job", command, *([] if command == "list" else [hostile.job_id])])

    assert result.exit_code == 0, result.output
    assert steering(result.output) == set()


def test_an_error_that_names_a_job_reaches_a_terminal_as_spaces(hostile: Job, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["job", "pull", hostile.job_id, "--to", str(tmp_path / "new")])

    assert result.exit_code == 1
    assert "published no best model" in result.stderr
    assert steering(result.output) == set()


def test_json_keeps_the_texts_as_they_are_and_escapes_them(hostile: Job) -> None:
    result = CliRunner().invoke(cli, ["job", "show", hostile.job_id, "--json"])

    assert json.loads(result.stdout)["name"] == f"name{STEERING}"
    assert steering(result.output) == set()
