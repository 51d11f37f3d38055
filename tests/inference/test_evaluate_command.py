"""layoutlm-cli evaluate, calibrate and job evaluate-checkpoints, as a person runs them."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from receipt_dynamo import DynamoClient, JobQueue, Pointer, Storage, utcnow
from receipt_layoutlm import Extractor
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page, page_to_line
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.inference.acceptance import Acceptance
from receipt_layoutlm.inference.evaluation import ModelScores
from receipt_layoutlm.jobs.held_out import split_of_job
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.manifest import verify, write_manifest
from receipt_layoutlm.run.predictions import evaluation_name, read_predictions
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.commands import ok, run
from tests.support.runs import events_of
from tests.support.scans import receipt_picture
from tests.support.tiny import tiny_pages

MANY = 240


def labelled(folder: Path, pages: list[Page]) -> Path:
    path = folder / "labelled.jsonl"
    path.write_text("".join(f"{page_to_line(page)}\n" for page in pages))
    return path


@pytest.fixture
def own_model(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may write to."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    return folder


@pytest.fixture
def job(cloud: DynamoClient, queue: JobQueue, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job with training, validation and test pages of ten merchants each way, and its best model in the bucket."""
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(model, folder := tmp_path / "upload")
    return worked_job(cloud, queue, folder, "shops", val_ratio=0.3, test_ratio=0.3, train_ratio=0.4)


@pytest.fixture
def folds(
    cloud: DynamoClient, queue: JobQueue, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Jobs of three folds, with the weights of the model in a file of another hash."""
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(model, folder := tmp_path / "upload-folds")
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", {"format": "pt", "fold": "any"})
    every: dict[str, object] = {"eval_every": 10**6}
    return [worked_job(cloud, queue, folder, f"fold-{i}", split=f"kfold:3/{i}", **every) for i in (1, 2, 3)]


def shop_pages() -> list[Page]:
    return [replace(page, group=f"shop-{number // 4}") for number, page in enumerate(tiny_pages(40))]


def worked_job(cloud: DynamoClient, queue: JobQueue, folder: Path, name: str, **options: object) -> str:
    """A job on the shops' pages, with two checkpoints and a best model of the folder's files."""
    dataset = describe_dataset("tiny", shop_pages(), "test", utcnow())
    add_snapshot(cloud, Bucket("the-bucket"), dataset, shop_pages())
    storage = Storage(bucket="the-bucket")
    config = WordLabelsConfig.model_validate({"dataset": pinned(dataset), **options})
    submitted = queue.submit(name=name, config=to_document(config, {}), created_by="tests", storage=storage)
    lease = queue.claim_job(submitted.job_id, "worker")
    assert lease is not None
    keys, bucket = RunKeys(storage, submitted.job_id), Bucket("the-bucket")
    for step in (3, 7):
        pointer = Pointer(attempt=1, global_step=step, manifest_sha256=write_manifest(folder, step))
        bucket.put_folder(folder, keys.checkpoint(pointer))
        lease = queue.record_checkpoint(lease, pointer, pointer)
    bucket.put_folder(folder, keys.best(1))
    return submitted.job_id


def evaluated(*arguments: str) -> ModelScores:
    return ModelScores.model_validate_json(ok("evaluate", *arguments, "--json"))


def test_scores_are_those_of_the_training_s_evaluation(finished_run: RunDir, model: Path, tmp_path: Path) -> None:
    best = [each for each in events_of(finished_run) if isinstance(each, Evaluation) and each.is_best][-1]
    name = evaluation_name(best.global_step)
    rows = read_predictions((finished_run.predictions / name).read_bytes(), name)
    page_of = {page.page_id: page for page in tiny_pages(40)}
    pages = [replace(page_of[row.page_id], tags=row.true) for row in rows]
    scores = evaluated(str(model), "--data", str(labelled(tmp_path, pages)))
    assert scores.scores["f1"] == best.scores["f1"]
    for metric in ("precision", "recall", "macro_f1", "field_f1", "ece", "ece_calibrated"):
        assert scores.scores[metric] == pytest.approx(best.scores[metric], abs=1e-9)
    assert scores.per_label == best.per_label
    assert scores.confusion == best.confusion
    assert scores.pages == len(pages)


def test_the_text_has_entities_fields_exact_texts_words_and_calibration(model: Path, tmp_path: Path) -> None:
    shown = ok("evaluate", str(model), "--data", str(labelled(tmp_path, tiny_pages(12))))
    for text in (
        "entities",
        "fields",
        "exact texts",
        "GRAND_TOTAL",
        "words: 1 to 100",
        "words right",
        "calibration error",
    ):
        assert text in shown


def test_a_job_is_scored_on_its_test_set_and_knows_new_merchants(job: str, tmp_path: Path) -> None:
    shown = ok("evaluate", job)
    assert "job shops on its test set" in shown
    own = evaluated(job)
    assert own.pages == 12
    assert set(own.slices["merchants"]) == {"new"}
    assert evaluated(job, "--set", "train").pages == 16
    assert set(evaluated(job, "--set", "train").slices["merchants"]) == {"seen"}
    mixed = [replace(page, group=f"shop-{number}") for number, page in enumerate(tiny_pages(40))]
    slices = evaluated(job, "--data", str(labelled(tmp_path, mixed))).slices["merchants"]
    assert slices["seen"].pages == 7  # shops 0 to 9 without the three of the test set
    assert slices["new"].pages == 33


def test_a_folder_needs_pages_and_a_set_is_of_a_job(model: Path, job: str, tmp_path: Path) -> None:
    assert "is no job, so it has no pages" in run("evaluate", str(model)).stderr
    pages = str(labelled(tmp_path, tiny_pages(4)))
    assert run("evaluate", job, "--data", pages, "--set", "test").exit_code == 2
    assert "give one of the two" in run("evaluate", job, "--data", pages, "--dataset", "tiny").stderr


def test_pages_with_none_of_the_model_s_labels_are_refused(model: Path, tmp_path: Path) -> None:
    pages = [
        replace(page, tags=tuple(t.replace("GRAND_TOTAL", "X").replace("DATE", "Y") for t in page.tags))
        for page in tiny_pages(4)
    ]
    result = run("evaluate", str(model), "--data", str(labelled(tmp_path, pages)))
    assert result.exit_code == 1
    assert "none of the model's labels (DATE, GRAND_TOTAL) but X, Y" in result.stderr


def test_a_calibration_lies_beside_the_weights_and_decides_what_to_accept(own_model: Path, tmp_path: Path) -> None:
    pages = [replace(page, group=f"shop-{number}") for number, page in enumerate(tiny_pages(MANY))]
    data = str(labelled(tmp_path, pages))
    assert (
        "run `layoutlm-cli calibrate`" in run("predict", "--model", str(own_model), data, "--max-error", "0.1").stderr
    )
    assert "kept as" in ok("calibrate", str(own_model), "--data", data)
    found = Acceptance.read(own_model, Extractor.load(own_model).predictor.digest)
    assert (found.pages, found.groups) == (MANY, MANY)
    assert sum(map(len, found.fields.values())) > MANY / 2

    decisions = {}
    for max_error in ("0.001", "0.5"):
        document = json.loads(ok("predict", "--model", str(own_model), data, "--max-error", max_error, "--json"))
        entities = [entity for page in document["pages"] for entity in page["entities"]]
        decisions[max_error] = [entity["decision"] for entity in entities if entity["label"] == "GRAND_TOTAL"]
        assert all((entity["decision"] == "ask") == bool(entity["doubts"]) for entity in entities)
    assert set(decisions["0.001"]) == {"ask"}  # nothing can be promised by so few pages
    assert decisions["0.5"].count("accept") > len(decisions["0.5"]) / 2
    assert Extractor.load(own_model, max_error=0.5).read(data)[0].entities[0].decision == "accept"
    assert "decision" in ok("predict", "--model", str(own_model), data, "--max-error", "0.5").splitlines()[0]


def test_the_test_set_of_a_job_calibrates_the_model_in_the_bucket(job: str, tmp_path: Path) -> None:
    first = json.loads(ok("calibrate", job, "--json"))
    assert first["pages"] == 12
    data = str(labelled(tmp_path, tiny_pages(4)))
    before = json.loads(ok("predict", "--job", job, data, "--max-error", "0.9", "--json"))
    assert {entity["decision"] for page in before["pages"] for entity in page["entities"]} <= {"accept", "ask"}
    assert json.loads(ok("calibrate", job, "--json")) == first  # again, over the earlier one
    newest = max((tmp_path / "cache" / "models").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    assert "acceptance.json" in verify(newest).files


def test_folds_calibrate_a_model_on_every_page_that_it_was_trained_on(
    own_model: Path, folds: list[str], tmp_path: Path
) -> None:
    by_folds = json.loads(
        ok("calibrate", str(own_model), *(word for fold in folds for word in ("--fold", fold)), "--json")
    )

    assert (by_folds["pages"], by_folds["groups"], by_folds["folds"]) == (40, 10, 3)
    itself = json.loads(ok("calibrate", str(own_model), "--data", str(labelled(tmp_path, shop_pages())), "--json"))
    assert itself["folds"] == 0
    assert [
        sorted((field["certainty"], field["right"]) for field in fields) for fields in by_folds["fields"].values()
    ] == [sorted((field["certainty"], field["right"]) for field in fields) for fields in itself["fields"].values()]
    shown = ok("calibrate", str(own_model), "--fold", "fold-1", "--fold", "fold-2")
    assert "judged by 2 models that were trained without them" in shown


def test_folds_that_share_pages_or_selected_weights_by_them_are_told(
    cloud: DynamoClient, queue: JobQueue, own_model: Path, folds: list[str], job: str, tmp_path: Path
) -> None:
    shared = run("calibrate", str(own_model), "--fold", "fold-1", "--fold", job)
    assert shared.exit_code == 1
    assert "was held out by job fold-1 and by job shops" in shared.stderr
    assert "job shops selected its weights by these pages" in run("calibrate", str(own_model), "--fold", job).stderr
    both = run("calibrate", str(own_model), "--fold", "fold-1", "--data", str(labelled(tmp_path, shop_pages())))
    assert (both.exit_code, "leave out --dataset and --data" in both.stderr) == (2, True)
    assert "name a job" in run("calibrate", str(own_model), "--fold", str(own_model)).stderr


def test_folds_with_other_labels_calibrate_nothing(own_model: Path, folds: list[str]) -> None:
    label_map = json.loads((own_model / "label_map.json").read_text())
    text = json.dumps(label_map).replace("GRAND_TOTAL", "GRAND_TOTALS")
    (own_model / "label_map.json").write_text(text)
    (own_model / "manifest.json").unlink(missing_ok=True)
    assert "train them with the same labels and merges" in run("calibrate", str(own_model), "--fold", "fold-1").stderr


def test_pages_that_the_job_has_seen_do_not_calibrate_it(cloud: DynamoClient, job: str, tmp_path: Path) -> None:
    seen = split_of_job(Bucket, cloud.get_job(job)).train[:8]
    known = seen[0].group
    result = run("calibrate", job, "--data", str(labelled(tmp_path, seen)))
    assert result.exit_code == 1
    assert "all of merchants that job shops was trained on" in result.stderr
    mixed = [
        replace(page, page_id=f"new-{number}", group=known if number < 3 else f"new-{number}")
        for number, page in enumerate(seen)
    ]
    result = run("calibrate", job, "--data", str(labelled(tmp_path, mixed)), "--json")
    assert "3 pages of merchants that it was trained on are left out" in result.stderr
    assert json.loads(result.stdout)["pages"] == 5


def test_a_csv_says_which_fields_to_accept(own_model: Path, tmp_path: Path) -> None:
    data = str(labelled(tmp_path, [replace(page, group=page.page_id) for page in tiny_pages(MANY)]))
    ok("calibrate", str(own_model), "--data", data)
    output = tmp_path / "fields.csv"
    ok("predict", "--model", str(own_model), data, "--max-error", "0.5", "--output", str(output))
    rows = list(csv.DictReader(output.open(newline="")))
    assert {bool(row["GRAND_TOTAL"]) == (row["GRAND_TOTAL decision"] in ("accept", "ask")) for row in rows} == {True}
    assert "accept" in {row["GRAND_TOTAL decision"] for row in rows}


def test_every_kept_checkpoint_of_a_job_is_scored(job: str) -> None:
    """Both checkpoints of the fixture hold the same weights."""
    curve = json.loads(ok("job", "evaluate-checkpoints", job, "--json"))
    assert list(curve) == ["3", "7"]
    best = evaluated(job)
    assert [ModelScores.model_validate(scores).scores["f1"] for scores in curve.values()] == [best.scores["f1"]] * 2
    shown = ok("job", "evaluate-checkpoints", "shops", "--set", "validation")
    assert "on its validation set, which chose the weights, 12 pages" in shown


def test_a_folder_has_no_checkpoints(model: Path) -> None:
    assert "is no job, so it has no checkpoints" in run("job", "evaluate-checkpoints", str(model)).stderr


def test_pictures_are_read_and_their_values_compared(model: Path, tmp_path: Path) -> None:
    """A page without a picture is named, and the others are scored."""
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    pages = tiny_pages(3)[1:]
    data, folder = labelled(tmp_path, pages), tmp_path / "scans"
    folder.mkdir()
    receipt_picture(["total     1.50", "date     1/2"]).save(folder / f"{pages[0].page_id}.png")
    result = run("evaluate", str(model), "--data", str(data), "--images", str(folder), "--json")
    assert result.exit_code == 1
    assert f"{pages[1].page_id}: no picture of that name" in result.stderr
    scores = ModelScores.model_validate_json(result.stdout)
    assert (scores.words_from, scores.pages, scores.words) == ("ocr", 1, 4)
    assert 0 <= scores.scores["exact_f1"] <= 1
    assert "f1" not in scores.scores
