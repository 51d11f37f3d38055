"""An exported model: the same fields as torch, on a machine without torch."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from receipt_layoutlm import Extractor
from receipt_layoutlm.data.page import Page, page_to_line
from receipt_layoutlm.inference.acceptance import Acceptance, CheckedField
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.inference.runtime import NotAModel
from receipt_layoutlm.run.manifest import DamagedFolder, sha256_of, verify
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages

MISSING = [module for module in ("onnx", "onnxruntime", "onnxscript") if find_spec(module) is None]
needs_export = pytest.mark.skipif(bool(MISSING), reason=f"the extra onnx is not installed: {', '.join(MISSING)}")

WITHOUT_TORCH = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "safetensors", "onnx", "onnxscript"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refused())
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.jsonl"
    path.write_text("".join(f"{page_to_line(page)}\n" for page in pages()))
    return path


def pages() -> list[Page]:
    """One of them is longer than many windows."""
    words = ("total", "3.50", "shop", "a", "unknowable\u2603") * 100
    boxes = tuple((10 * (i % 4), i // 4, 10 * (i % 4) + 9, i // 4 + 1) for i in range(len(words)))
    return [*tiny_pages(12), Page("long", "g", words, boxes, ("O",) * len(words), 100, 100)]


@pytest.fixture(scope="module")
def calibrated(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model with a calibration."""
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(model, folder)
    acceptance = Acceptance(
        model=sha256_of(folder / "model.safetensors"),
        pages=3,
        groups=2,
        single=("DATE",),
        fields={"DATE": (CheckedField(certainty=0.5, right=True, group=0),) * 100},
    )
    (folder / "acceptance.json").write_text(acceptance.model_dump_json())
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def exported(calibrated: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if MISSING:
        pytest.skip(f"the extra onnx is not installed: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("exported") / "fp32"
    report = ok("model", "export", str(calibrated), "--to", str(folder), "--onnx", "--check", str(words))
    assert f"100.00% of {sum(len(page.words) for page in pages())} words on 13 pages keep their label" in report
    return folder


def test_the_export_gives_the_confidences_and_certainties_of_torch(exported: Path, model: Path) -> None:
    before, after = Predictor.load(model, "cpu").predict(pages()), Predictor.load(exported, "cpu").predict(pages())
    for one, other in zip(before, after, strict=True):
        assert (one.order, one.tags) == (other.order, other.tags)
        assert one.confidences == pytest.approx(other.confidences, abs=1e-4)
        assert [each.words for each in one.certainties] == pytest.approx(
            [each.words for each in other.certainties], abs=1e-4
        )
    assert {tag for each in after for tag in each.tags} >= {"B-DATE", "B-GRAND_TOTAL", "O"}


def test_the_sub_tokens_are_those_of_training(exported: Path, model: Path) -> None:
    first, second = (Predictor.load(folder, "cpu").runtime.tokenizer for folder in (model, exported))
    before, after = (encode_pages(pages(), each, 16, lambda: None) for each in (first, second))
    assert before.pieces.tolist() == after.pieces.tolist()
    assert before.special_ids == after.special_ids


def test_the_export_runs_without_torch(exported: Path, words: Path, tmp_path: Path) -> None:
    program = f"""{WITHOUT_TORCH}
from receipt_layoutlm import Extractor
for page in Extractor.load({str(exported)!r}, max_error=0.05).read({str(words)!r}):
    print(page.model_dump_json())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here = Extractor.load(exported, max_error=0.05).read(words)
    assert done.stdout.splitlines() == [page.model_dump_json() for page in here]
    command = ["predict", "--runtime", "onnx", "--model", str(exported), str(words), "--json"]
    program = f"{WITHOUT_TORCH}\nfrom receipt_layoutlm.cli import main\nsys.argv[1:] = {command!r}\nmain()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)["pages"]
    assert [page["words"] for page in printed] == [page.model_dump(mode="json")["words"] for page in here]


def test_the_folder_says_what_it_was_made_of(exported: Path, model: Path) -> None:
    assert verify(exported).files.keys() == {
        "model.onnx",
        "tokenizer.json",
        "label_map.json",
        "inference.json",
        "acceptance.json",
        "export.json",
    }
    about = json.loads((exported / "export.json").read_text())
    assert about["precision"] == "fp32"
    assert about["exported_from"] == sha256_of(model / "model.safetensors")
    assert about["agreement"] == 1.0
    assert (exported / "inference.json").read_text() == (model / "inference.json").read_text()


@needs_export
def test_a_model_of_an_earlier_version_is_exported_with_its_note(model: Path, words: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(model, old)
    for name in ("inference.json", "manifest.json"):
        (old / name).unlink(missing_ok=True)
    ok("model", "export", str(old), "--to", str(tmp_path / "new"), "--onnx", "--check", str(words))
    before, after = Predictor.load(old, "cpu"), Predictor.load(tmp_path / "new")
    assert before.notes == after.notes != ()
    assert [each.tags for each in before.predict(pages())] == [each.tags for each in after.predict(pages())]


def test_evaluate_scores_an_export_like_its_model(exported: Path, model: Path, words: Path) -> None:
    one, other = (
        json.loads(ok("evaluate", str(folder), "--data", str(words), "--json")) for folder in (model, exported)
    )
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-3)
    assert one["model"] != other["model"]


def test_int8_is_smaller_and_asks_for_its_own_calibration(
    exported: Path, calibrated: Path, words: Path, tmp_path: Path
) -> None:
    command = ("model", "export", str(calibrated), "--to", str(tmp_path / "int8"), "--onnx", "--int8")
    done = run(*command, "--check", str(words))
    assert done.exit_code == 0, done.output
    assert "needs `layoutlm-cli calibrate` of the export" in done.stderr
    sizes = [(folder / "model.onnx").stat().st_size for folder in (exported, tmp_path / "int8")]
    assert sizes[1] < sizes[0]
    refused = run("predict", "--model", str(tmp_path / "int8"), str(words), "--max-error", "0.05")
    assert refused.exit_code == 1
    assert "is not calibrated" in refused.output
    alone, among = (Predictor.load(tmp_path / "int8").predict(given)[0] for given in (pages()[:1], pages()))
    assert alone == among  # a page's result depends on no other page


@needs_export
def test_an_export_with_other_labels_is_refused(model: Path, words: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    weights = load_file(broken / "model.safetensors")
    last = max(name for name in weights if name.endswith(".output.LayerNorm.bias") and "attention" not in name)
    weights[last][0] = 1e5  # beside it 8 bits hold nothing of the other activations
    weights["classifier.weight"][:, 0] = 0.0  # in full precision it changes nothing
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    (broken / "manifest.json").unlink(missing_ok=True)
    target = tmp_path / "target"
    done = run("model", "export", str(broken), "--to", str(target), "--onnx", "--int8", "--check", str(words))
    assert done.exit_code == 1
    assert "99.0% are needed; nothing was written; try without --int8" in done.output
    assert list(tmp_path.iterdir()) == [broken]


@needs_export
def test_an_existing_folder_is_not_overwritten(exported: Path, model: Path) -> None:
    done = run("model", "export", str(model), "--to", str(exported), "--onnx")
    assert done.exit_code == 1
    assert "exists: name a new folder" in done.output


def test_the_format_must_be_named(model: Path, tmp_path: Path) -> None:
    assert "name the format: --onnx" in run("model", "export", str(model), "--to", str(tmp_path / "x")).output


@pytest.mark.skipif(not MISSING, reason="the extra onnx is installed")
def test_without_the_extra_one_line_says_what_to_install(model: Path, tmp_path: Path) -> None:
    done = run("model", "export", str(model), "--to", str(tmp_path / "x"), "--onnx")
    assert done.exit_code == 1
    assert "pip install 'receipt-layoutlm[onnx]'" in done.output


def test_a_runtime_that_the_folder_does_not_have_is_named(model: Path, words: Path) -> None:
    done = run("predict", "--model", str(model), str(words), "--runtime", "onnx")
    assert done.exit_code == 1
    assert "export the model with `layoutlm-cli model export" in done.output


def test_an_exported_folder_is_refused_where_it_cannot_run(exported: Path, words: Path) -> None:
    for options, reason in (
        (("--runtime", "torch"), "use --runtime onnx"),
        (("--device", "cuda"), "leave out --device cuda"),
    ):
        done = run("predict", "--model", str(exported), str(words), *options)
        assert done.exit_code == 1
        assert reason in done.output


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "export.json"])
def test_a_damaged_export_is_named(exported: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(DamagedFolder, match=name):
        Predictor.load(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(NotAModel, match=name):
        Predictor.load(folder)
    (folder / name).unlink()
    with pytest.raises(NotAModel, match=name):
        Predictor.load(folder, runtime="onnx")
