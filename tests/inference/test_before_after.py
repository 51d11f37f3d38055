"""model promote --before-after: perfect, partial and wrong answers of two models, and the verdict."""

import json
import shutil
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, JobQueue, Pointer, Storage
from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.inference.before_after import Answers, judge
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.held_out import split_of_job
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.inference.test_evaluate_command import worked_job
from tests.support.commands import ok, run
from tests.support.jobs import summary
from tests.support.tiny import tiny_pages

WORDS = ("Ann's", "Shop", "1.50", "1,50", "tax")


@pytest.mark.parametrize(
    ("predicted", "answer"),
    [
        (("B-NAME", "I-NAME", "O", "O", "O"), {"NAME": "perfect"}),
        (("B-NAME", "O", "O", "O", "O"), {"NAME": "partial"}),
        (("B-NAME", "I-NAME", "O", "O", "B-NAME"), {"NAME": "partial"}),
        (("O", "O", "O", "O", "O"), {"NAME": "wrong"}),
        (("O", "O", "O", "O", "B-NAME"), {"NAME": "wrong"}),
        (("B-NAME", "I-NAME", "O", "O", "B-TAX"), {"NAME": "perfect", "TAX": "wrong"}),
    ],
)
def test_a_page_is_perfect_partial_or_wrong_by_label(predicted: tuple[str, ...], answer: dict[str, str]) -> None:
    assert judge(WORDS, ("B-NAME", "I-NAME", "O", "O", "O"), predicted, ["NAME", "TAX"]) == answer


def test_a_total_printed_elsewhere_is_perfect() -> None:
    true, found = ("O", "O", "B-SUM", "O", "O"), ("O", "O", "O", "B-SUM", "O")

    assert judge(WORDS, true, found, ["SUM"]) == {"SUM": "perfect"}


@pytest.mark.parametrize(
    ("perfect", "verdict"), [(0, "keep"), (19, "keep"), (20, "hybrid"), (40, "hybrid"), (41, "deploy"), (100, "deploy")]
)
def test_the_verdict_follows_the_share_of_perfect_answers(perfect: int, verdict: str) -> None:
    counted = Answers(per_label={"A": {"perfect": perfect, "partial": 0, "wrong": 100 - perfect}})

    assert counted.verdict == verdict


@pytest.fixture
def jobs(queue: JobQueue, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """first and second, both with the tiny model as their best."""
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(model, folder := tmp_path / "upload")
    (folder / "manifest.json").unlink(missing_ok=True)
    pointer = Pointer(attempt=1, global_step=7, manifest_sha256=write_manifest(folder, 7))
    for name in ("first", "second"):
        storage = Storage(bucket="the-bucket")
        job = queue.submit(name=name, config={"lr": 1e-4}, created_by="me", storage=storage)
        Bucket("the-bucket").put_folder(folder, RunKeys(storage, job.job_id).best(1))
        lease = queue.claim_job(job.job_id, "w")
        assert lease is not None
        lease = queue.record_checkpoint(lease, pointer, pointer)
        results = {"metric_name": "eval_f1", "metric_value": 0.9, "ece": 0.01}
        queue.complete(lease, results=results, summary=summary(lease))  # type: ignore[arg-type]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    lines = [f"{page_to_line(page)}\n" for page in tiny_pages(30)]
    (folder / "a.jsonl").write_text("".join(lines[:20]))
    (folder / "b.jsonl").write_text("".join(lines[20:]))
    return folder


def test_both_models_are_counted_and_nothing_is_promoted(jobs: None, labelled: Path, cloud: DynamoClient) -> None:
    alone = json.loads(ok("model", "promote", "first", "--before-after", str(labelled), "--json"))
    assert alone["in_use"] is None and alone["pages"] == 30 and cloud.list_promotions("production") == []

    ok("model", "promote", "first", "--reason", "the first")
    both = json.loads(ok("model", "promote", "second", "--before-after", str(labelled / "a.jsonl"), "--json"))
    assert both["pages"] == 20 and both["in_use"] == both["candidate"] != alone["candidate"]
    assert both["verdict"] == "deploy" and both["candidate"]["perfect_share"] > 0.4
    assert len(cloud.list_promotions("production")) == 1


def test_the_table_says_what_to_do(jobs: None, labelled: Path) -> None:
    text = ok("model", "promote", "first", "--before-after", str(labelled), "--pages", "10")

    assert "10 of 30 pages" in text and "candidate: perfect" in text and "in use: perfect" not in text
    assert "deploy it: `layoutlm-cli model promote" in text


def test_pages_that_are_not_there_and_a_missing_reason_are_refused(jobs: None, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert "holds no *.jsonl file" in run("model", "promote", "first", "--before-after", str(tmp_path / "empty")).stderr
    assert "no dataset" in run("model", "promote", "first", "--before-after", "nowhere").stderr
    assert "--reason is missing" in run("model", "promote", "first").stderr
    assert "would be in use" in ok("model", "promote", "first", "--dry-run")


def test_pages_that_the_candidate_was_trained_on_are_told(
    cloud: DynamoClient, queue: JobQueue, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(model, folder := tmp_path / "upload")
    worked_job(cloud, queue, folder, "shops", val_ratio=0.3, test_ratio=0.3, train_ratio=0.4)
    split = split_of_job(lambda name: Bucket(name), find_job(cloud, "shops"))
    for name, pages in (("seen", split.train), ("unseen", split.test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{page_to_line(page)}\n" for page in pages))

    seen = run("model", "promote", "shops", "--before-after", str(tmp_path / "seen.jsonl"))
    unseen = run("model", "promote", "shops", "--before-after", str(tmp_path / "unseen.jsonl"))

    assert f"was trained or selected by {len(split.train)} of these {len(split.train)} pages" in seen.stderr
    assert unseen.exit_code == 0 and "was trained" not in unseen.stderr
