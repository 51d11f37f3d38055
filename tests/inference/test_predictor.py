"""A model predicts for a user exactly what it predicted when it was validated."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.inference.predictor import PagePrediction, Predictor
from receipt_layoutlm.inference.runtime import NotAModel
from receipt_layoutlm.inference.torch_runtime import TorchRuntime
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.manifest import DamagedFolder, write_manifest
from receipt_layoutlm.run.predictions import PredictedPage, evaluation_name, read_predictions
from receipt_layoutlm.training.tasks.pretrained import ModelLoadError
from tests.support.runs import events_of, tiny_model
from tests.support.tiny import tiny_pages


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model, "cpu")


@pytest.fixture(scope="module")
def best(finished_run: RunDir) -> Evaluation:
    return [each for each in events_of(finished_run) if isinstance(each, Evaluation) and each.is_best][-1]


@pytest.fixture(scope="module")
def validated(finished_run: RunDir, best: Evaluation) -> list[PredictedPage]:
    """The predictions that training stored for its validation set."""
    path = finished_run.predictions / evaluation_name(best.global_step)
    return read_predictions(path.read_bytes(), path.name)


def pages_of(rows: list[PredictedPage]) -> list[Page]:
    page_of = {page.page_id: page for page in tiny_pages(40)}
    return [page_of[row.page_id] for row in rows]


def changed(model: Path, folder: Path, **options: object) -> Path:
    """A copy of a model with other options."""
    shutil.copytree(model, folder)
    path = folder / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))
    return folder


def test_the_tags_are_those_of_the_validation(predictor: Predictor, validated: list[PredictedPage]) -> None:
    found = predictor.predict(pages_of(validated))
    assert [(each.order, each.tags) for each in found] == [(row.index, row.predicted) for row in validated]
    assert {tag for each in found for tag in each.tags} >= {"B-DATE", "B-GRAND_TOTAL", "O"}


def test_confidences_are_those_of_the_validation_at_its_temperature(
    model: Path, tmp_path: Path, best: Evaluation, validated: list[PredictedPage]
) -> None:
    assert json.loads((model / "inference.json").read_text())["temperature"] == best.scores["temperature"] != 1
    plain = Predictor.load(changed(model, tmp_path / "plain", temperature=1.0), "cpu").predict(pages_of(validated))
    for each, row in zip(plain, validated, strict=True):
        assert each.confidences == pytest.approx(row.confidence, abs=1e-4)
    hot = Predictor.load(changed(model, tmp_path / "hot", temperature=20.0), "cpu").predict(pages_of(validated))
    assert max(p for each in hot for p in each.confidences) < min(p for each in plain for p in each.confidences)


def test_labels_of_a_page_do_not_matter(predictor: Predictor) -> None:
    page = tiny_pages(3)[2]
    unlabelled = replace(page, tags=("-",) * len(page.words))
    assert predictor.predict([unlabelled]) == predictor.predict([page])


def test_a_page_is_predicted_the_same_alone_and_among_others(predictor: Predictor) -> None:
    pages = tiny_pages(12)
    alone = [predictor.predict([page])[0] for page in pages]
    for one, other in zip(alone, predictor.predict(pages), strict=True):
        assert one.tags == other.tags
        assert one.confidences == pytest.approx(other.confidences, abs=1e-4)


def test_a_page_longer_than_many_windows_comes_out_whole(predictor: Predictor) -> None:
    words = ("total", "3.50", "shop", "a") * 500
    boxes = tuple((10 * (i % 4), i // 4, 10 * (i % 4) + 9, i // 4 + 1) for i in range(len(words)))
    (found,) = predictor.predict([Page("long", "g", words, boxes, ("-",) * len(words), 100, 100)])
    assert sorted(found.order) == list(range(len(words)))
    assert len(found.tags) == len(found.confidences) == len(words)


def with_bias(folder: Path, tag: str) -> Path:
    """The model sees this tag in every word."""
    weights = load_file(folder / "model.safetensors")
    number = json.loads((folder / "config.json").read_text())["label2id"][tag]
    weights["classifier.bias"][number] = 100.0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def tags_of_six_words(folder: Path) -> tuple[str, ...]:
    return Predictor.load(folder, "cpu").predict([tiny_pages(3)[2]])[0].tags


def test_a_single_valued_label_is_found_once(model: Path, tmp_path: Path) -> None:
    once = with_bias(changed(model, tmp_path / "once"), "B-DATE")
    often = with_bias(changed(model, tmp_path / "often", single_valued_labels=[]), "B-DATE")
    assert tags_of_six_words(once).count("B-DATE") == 1
    assert tags_of_six_words(often) == ("B-DATE",) * 6


def test_the_decoding_of_the_run_decides(model: Path, tmp_path: Path) -> None:
    options = {"single_valued_labels": []}
    argmax = with_bias(changed(model, tmp_path / "argmax", decoding="argmax", **options), "I-DATE")
    viterbi = with_bias(changed(model, tmp_path / "viterbi", decoding="viterbi", **options), "I-DATE")
    assert tags_of_six_words(argmax) == ("I-DATE",) * 6
    assert tags_of_six_words(viterbi) == ("B-DATE", *("I-DATE",) * 5)


def test_a_model_of_an_earlier_version_works_with_defaults_and_says_so(
    model: Path, tmp_path: Path, validated: list[PredictedPage]
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("inference.json"))
    old = Predictor.load(folder, "cpu")
    assert "confidences are not calibrated" in old.notes[0]
    assert len(old.predict(pages_of(validated))) == len(validated)
    assert Predictor.load(model, "cpu").notes == ()


def test_weights_that_were_never_fine_tuned_are_refused(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    with pytest.raises(NotAModel, match=r"no label_map\.json"):
        Predictor.load(base, "cpu")
    (base / "label_map.json").write_text('{"labels": ["DATE"], "merges": {}}')
    with pytest.raises(NotAModel, match="not fine-tuned for its labels"):
        Predictor.load(base, "cpu")


@pytest.mark.parametrize(
    ("break_it", "error", "text"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), NotAModel, "job pull"),
        (lambda folder: (folder / "label_map.json").write_text("{"), NotAModel, "label_map.json is damaged"),
        (lambda folder: (folder / "inference.json").write_text('{"decoding": "x"}'), NotAModel, "inference.json is"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), ModelLoadError, "cannot load"),
    ],
)
def test_a_broken_folder_is_one_clear_error(
    model: Path, tmp_path: Path, break_it: object, error: type[Exception], text: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(model, folder)
    assert callable(break_it)
    break_it(folder)
    with pytest.raises(error, match=text):
        Predictor.load(folder, "cpu")


def test_files_that_differ_from_the_manifest_are_not_used(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pulled"
    shutil.copytree(model, folder)
    write_manifest(folder, 1)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(DamagedFolder, match=r"model\.safetensors"):
        Predictor.load(folder, "cpu")


def test_predicting_leaves_the_global_generator_and_the_mode_alone(predictor: Predictor) -> None:
    state = torch.random.get_rng_state()
    first: list[PagePrediction] = predictor.predict(tiny_pages(3))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert isinstance(predictor.runtime, TorchRuntime)
    assert not predictor.runtime.model.model.training
    assert predictor.predict(tiny_pages(3)) == first
