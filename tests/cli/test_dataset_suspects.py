"""Planted wrong labels, from the table through trained folds back into the table: layoutlm-cli dataset suspects."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import Job, JobLog, ReceiptClient, ReceiptWordLabel, Storage, ValidationStatus
from receipt_layoutlm.cli import cli
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.receipt_pages import image_id_of
from receipt_layoutlm.datasets.snapshots import pinned
from receipt_layoutlm.datasets.table_snapshots import keep_snapshot, read_table
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.tables import TableFolder
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.recorder import Recorder, RunStorage
from receipt_layoutlm.worker.rows import JobRows
from tests.support.commands import ok
from tests.support.runs import never, new_run, tiny_model
from tests.support.stores import Store, open_store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine

PAGES = 48
PLANTED = {("page-005", 1): "B-DATE", ("page-010", 3): "B-GRAND_TOTAL", ("page-020", 5): "B-DATE"}
"""Wrong tags by page and word: a total called a date, a date called a total, the letter of a shop called a date."""
FORGOTTEN = ("page-017", 3)
"""A date without a label."""
NEEDS_REVIEW = ValidationStatus.NEEDS_REVIEW
OPTIONS = {"epochs": 6, "eval_every": 60, "batch_size": 2, "lr": 0.004, "warmup_ratio": 0.2, "seed": 3}


def planted_pages() -> list[Page]:
    wrong = {**PLANTED, FORGOTTEN: "O"}
    return [
        replace(page, tags=tuple(wrong.get((page.page_id, place), tag) for place, tag in enumerate(page.tags)))
        for page in tiny_pages(PAGES)
    ]


def take(store: Store) -> list[Page]:
    """The table's pages as a snapshot has them now."""
    return read_table(store.queue.client, {}, lambda _: None).pages


@dataclass
class Folds:
    """Two jobs that trained a fold each of one snapshot of the table, stored as a worker stores them."""

    store: Store
    jobs: list[Job]
    labels: list[ReceiptWordLabel]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunDir]:
    """What was planted, trained in two folds; the pages are those that a snapshot of the table has."""
    folder = tmp_path_factory.mktemp("folds")
    model = tiny_model(folder / "model")
    found = []
    for fold in (1, 2):
        run_dir = new_run(folder / str(fold), model, PAGES, split=f"kfold:2/{fold}", **OPTIONS)
        write_snapshot(planted_pages(), run_dir.dataset)
        train(run_dir, never)
        found.append(run_dir)
    return found


@pytest.fixture
def folds(
    runs: list[RunDir],
    monkeypatch: pytest.MonkeyPatch,
    table_name: str,
    dynamo_endpoint: str,
    bucket: str,
    s3_endpoint: str,
) -> Iterator[Folds]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    monkeypatch.setenv("DYNAMO_TABLE_NAME", table_name)
    monkeypatch.setenv("LAYOUTLM_TRAINING_BUCKET", bucket)
    store = open_store(table_name, dynamo_endpoint, bucket, s3_endpoint)
    receipts = ReceiptClient(store.queue.client)
    load_pages(receipts, planted_pages(), store.clock(), "keep", lambda: None)
    taken = read_table(store.queue.client, {}, lambda _: None)
    dataset = keep_snapshot(store.queue.client, store.bucket, "receipts", taken, store.clock())
    jobs = [stored_job(store, run_dir, f"fold-{fold}", pinned(dataset)) for fold, run_dir in enumerate(runs, start=1)]
    yield Folds(store, jobs, list(receipts.iter_labels_by_status(ValidationStatus.VALID)))


def stored_job(store: Store, run_dir: RunDir, name: str, dataset: str) -> Job:
    config = WordLabelsConfig.model_validate_json(run_dir.config.read_bytes()).model_copy(update={"dataset": dataset})
    storage = Storage(bucket=store.bucket.name)
    job = store.queue.submit(name=name, config=to_document(config, {}), created_by="tests", storage=storage)
    lease = store.queue.claim_job(job.job_id, "worker-1")
    assert lease is not None
    keys = RunKeys(storage, job.job_id)
    fit = TableFolder(store.bucket, keys, lease.attempt).fit
    rows = JobRows(store.queue.client, lease, store.clock, (), keys.uri("events.jsonl"), fit)
    run_storage, heartbeat = RunStorage(store.bucket, keys, 1), Heartbeat(store.queue, lease)
    recorder = Recorder(store.queue, run_storage, rows, lease, run_dir, heartbeat, lambda event: None, store.clock)
    recorder.put_predictions()
    summary = rows.last_row("info", "run_summary", "", {})
    best = recorder.run_record().summary
    assert best is not None and isinstance(summary, JobLog)
    store.queue.complete(lease, results={"best_global_step": best.best_global_step}, summary=summary)
    return store.queue.client.get_job(job.job_id)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dataset", "suspects", *arguments])


def told(*arguments: str) -> dict:  # type: ignore[type-arg]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def places(document: dict) -> list[tuple[str, int]]:  # type: ignore[type-arg]
    return [(each["page_id"], word["index"]) for each in document["suspects"] for word in each["words"]]


def test_planted_errors_come_out_on_top_are_marked_and_left_out_of_the_next_snapshot(folds: Folds) -> None:
    before = take(folds.store)
    found = told("fold-1", "fold-2")

    assert set(places(found)[: len(PLANTED)]) == set(PLANTED)
    says = {(each["page_id"]): (each["label"], each["says"]) for each in found["suspects"][: len(PLANTED)]}
    assert says == {
        "page-005": ("DATE", "GRAND_TOTAL"),
        "page-010": ("GRAND_TOTAL", "DATE"),
        "page-020": ("DATE", "O"),
    }
    assert found["pages"] == {"held_out": PAGES, "all": PAGES}
    confidences = [each["confidence"] for each in found["suspects"]]
    assert confidences == sorted(confidences, reverse=True) and min(confidences) >= 0.9

    marked = told("fold-1", "fold-2", "--limit", str(len(PLANTED)), "--mark", "NEEDS_REVIEW")

    assert (marked["marked"], marked["unmarked"]) == (len(PLANTED), [])
    after = {page.page_id: page for page in take(folds.store)}
    for page in before:
        tags = tuple("-" if (page.page_id, place) in PLANTED else tag for place, tag in enumerate(page.tags))
        # a page whose only label is under review is in no snapshot
        assert (
            (page.page_id not in after) if not any(tag[0] == "B" for tag in tags) else after[page.page_id].tags == tags
        )


def test_pages_with_planted_errors_are_the_next_to_look_at(folds: Folds) -> None:
    options = ("receipts", "--suspects-of", "fold-1", "--suspects-of", "fold-2", "--count", str(len(PLANTED)))
    chosen = json.loads(ok("dataset", "next", *options, "--mark", "NEEDS_REVIEW", "--json"))["pages"]

    assert {page["page_id"] for page in chosen} == {page_id for page_id, _ in PLANTED}
    assert any("is labelled DATE, a model says GRAND_TOTAL" in page["reasons"][0] for page in chosen)
    review = ReceiptClient(folds.store.queue.client).iter_labels_by_status(NEEDS_REVIEW)
    assert {label.image_id for label in review} == {image_id_of(page_id) for page_id, _ in PLANTED}


def test_one_fold_judges_the_pages_that_it_held_out_and_says_so(folds: Folds) -> None:
    result = run("fold-1")
    assert "found on 24 of 48 pages" in result.stdout
    assert "--help shows how folds cover all pages" in result.stdout
    both = set(places(told("fold-1"))) | set(places(told("fold-2")))
    assert both == set(places(told("fold-1", "fold-2")))
    assert told("fold-1")["evaluations"] == [
        {"job": "fold-1", "global_step": folds.jobs[0].results["best_global_step"]}  # type: ignore[index]
    ]


def test_words_without_a_label_that_the_model_gives_one(folds: Folds) -> None:
    assert places(told("fold-1", "fold-2", "--missing"))[0] == FORGOTTEN
    result = run("fold-1", "--missing", "--mark", "NEEDS_REVIEW")
    assert (result.exit_code, "omit --mark" in result.output) == (2, True)


def test_threshold_label_and_limit_choose(folds: Folds) -> None:
    all_of_them = places(told("fold-1", "fold-2", "--min-confidence", "0"))
    sure = told("fold-1", "fold-2", "--min-confidence", "0.5")
    assert set(PLANTED) <= set(places(sure)) <= set(all_of_them)
    assert all(each["confidence"] >= 0.5 for each in sure["suspects"])
    totals = told("fold-1", "fold-2", "--label", "GRAND_TOTAL")
    assert {("page-005", 1), ("page-010", 3)} <= set(places(totals)) and ("page-020", 5) not in places(totals)
    first = told("fold-1", "fold-2", "--limit", "1")
    assert (len(first["suspects"]), first["found"]) == (1, told("fold-1", "fold-2")["found"])
    assert "and 2 more (--limit)" in run("fold-1", "fold-2", "--limit", "1").stdout


def test_a_dry_run_writes_nothing(folds: Folds) -> None:
    result = run("fold-1", "fold-2", "--mark", "NEEDS_REVIEW", "--dry-run")
    assert "3 labels would be marked" in result.stdout and "nothing was written" in result.stderr
    assert list(ReceiptClient(folds.store.queue.client).iter_labels_by_status(NEEDS_REVIEW)) == []
    assert run("fold-1", "--dry-run").exit_code == 2


def planted_label(receipts: ReceiptClient) -> ReceiptWordLabel:
    """That of the first word of the first line of page-005 that has one."""
    return min(receipts.list_labels(image_id_of("page-005")), key=lambda label: (label.line_id, label.word_id))


def test_what_changed_meanwhile_is_told_and_left_as_it_is(folds: Folds) -> None:
    receipts = ReceiptClient(folds.store.queue.client)
    rejected = planted_label(receipts)
    receipts.put(labels=[rejected.model_copy(update={"validation_status": ValidationStatus.INVALID})])
    image = receipts.get_image(image_id_of("page-010"))
    receipts.put(words=[image.words[0].model_copy(update={"text": "rewritten"})])

    marked = told("fold-1", "fold-2", "--mark", "NEEDS_REVIEW")

    assert marked["marked"] == 1
    reasons = {each["page_id"]: each["reason"] for each in marked["unmarked"]}
    assert reasons == {"page-005": "its label is INVALID now", "page-010": "its receipt has other words now"}
    assert planted_label(receipts).validation_status is ValidationStatus.INVALID
    assert "2 labels not marked" in run("fold-1", "fold-2", "--mark", "NEEDS_REVIEW", "--limit", "2").stdout


def test_pages_that_are_no_receipts_of_the_table_cannot_be_marked(
    folds: Folds, make_table: object, dynamo_endpoint: str, bucket: str, s3_endpoint: str, runs: list[RunDir]
) -> None:
    name = make_table()  # type: ignore[operator]
    other = open_store(name, dynamo_endpoint, bucket, s3_endpoint)
    for fold, run_dir in enumerate(runs, start=1):
        stored_job(other, run_dir, f"fold-{fold}", folds.jobs[0].job_config["dataset"])  # type: ignore[index]

    assert len(places(told("fold-1", "fold-2", "--dynamo-table", name))) >= len(PLANTED)
    result = run("fold-1", "fold-2", "--dynamo-table", name, "--mark", "NEEDS_REVIEW")

    assert result.exit_code == 1
    assert (
        "none of the 3 pages is a receipt of table" in result.output and "dataset load --dynamo-table" in result.output
    )


def test_jobs_without_predictions_and_of_different_snapshots_are_refused(folds: Folds, tmp_path: Path) -> None:
    folds.store.submit("no-files")
    result = run("no-files")
    assert result.exit_code != 0
    other = folds.jobs[1].job_config
    document = json.loads(json.dumps(other).replace(_fingerprint(folds.jobs[1]), "0" * 64))
    storage = Storage(bucket=folds.store.bucket.name)
    folds.store.queue.submit(name="elsewhere", config=document, created_by="tests", storage=storage)
    assert "different snapshots (fold-1: " in run("fold-1", "elsewhere").output
    assert "is pending and has no stored predictions" in run("elsewhere").output


def _fingerprint(job: Job) -> str:
    dataset = job.job_config["dataset"]  # type: ignore[index]
    return str(dataset).partition("@")[2]
