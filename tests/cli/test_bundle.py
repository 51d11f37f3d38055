"""doctor --bundle: what it shows and writes for a helper, and what it leaves out."""

import json
import zipfile
from pathlib import Path

import pytest

from receipt_dynamo import JobError, JobLog, JobQueue, Storage
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import ok, run
from tests.support.jobs import NOON, claim, submit

TOKEN = "hf_" + "aB3dE5gH7j" * 3
WORD = "ACME BAKERY"


@pytest.fixture
def job_id(queue: JobQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A failed job whose rows and log hold a secret and a word of a page."""
    monkeypatch.setenv("MY_API_KEY", "s3cret-of-this-machine")
    monkeypatch.chdir(tmp_path)
    job = submit(queue, "broken", storage=Storage(bucket="the-bucket"))
    lease = claim(queue)
    message = f"page 3: word '{WORD}' has no box; key s3cret-of-this-machine, token {TOKEN}"
    log = JobLog(job_id=job.job_id, timestamp=NOON, level="info", event="note", message=message, attempt=1, seq=1)
    queue.client.add_job_log(lease, log.model_copy(update={"data": {"words": [WORD], "pages": 12}}))
    Bucket("the-bucket").put_bytes(
        f'ValueError: "{WORD}" {TOKEN}'.encode(), f"runs/{job.job_id}/attempt-001/logs/train.log"
    )
    queue.fail(lease, JobError(cause="bad_data", message=message, page_ids=(WORD,), log_tail=message))
    return job.job_id


def test_a_bundle_is_shown_and_holds_neither_secrets_nor_words(job_id: str, tmp_path: Path) -> None:
    shown = ok("doctor", "--bundle", job_id, "--to", "help.zip", "--yes")
    with zipfile.ZipFile(tmp_path / "help.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(texts) == {
        "command.txt",
        "config.json",
        "job.json",
        "why.txt",
        "timeline.txt",
        "events.jsonl",
        "train.log",
        "versions.txt",
    }
    for text in (shown, *texts.values()):
        for hidden in (WORD, TOKEN, "s3cret-of-this-machine"):
            assert hidden not in text
    assert json.loads(texts["config.json"]) == {"lr": 6e-5}
    assert json.loads(texts["job.json"])["error"]["cause"] == "bad_data"
    assert json.loads(texts["events.jsonl"].splitlines()[0])["data"] == {"pages": 12}
    assert "ValueError: '…'" in texts["train.log"]
    assert "pydantic" in texts["versions.txt"]


def test_a_bundle_is_written_only_after_a_yes_and_over_no_file(job_id: str, tmp_path: Path) -> None:
    declined = run("doctor", "--bundle", job_id, "--to", "help.zip")  # nobody answers
    assert declined.exit_code == 1
    assert "events.jsonl" in declined.stdout
    assert not (tmp_path / "help.zip").exists()
    (tmp_path / "help.zip").write_text("mine")
    refused = run("doctor", "--bundle", job_id, "--to", "help.zip", "--yes")
    assert "help.zip exists" in refused.stderr
    assert (tmp_path / "help.zip").read_text() == "mine"
    assert run("doctor", "--yes").exit_code == 2
