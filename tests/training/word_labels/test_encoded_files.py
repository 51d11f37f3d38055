"""Stored encodings are reused only if complete and correct, and never change a result."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from receipt_layoutlm.configs.word_labels import ENCODING_VERSION
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, Finished, Log
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, verify, write_manifest
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.training.tasks.word_labels.inputs import encoded_files
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import DTYPES, EncodedPages, Features, select
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded_files import encoded_key, open_encoded, write_encoded
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from tests.support.runs import checkpoint_steps, events_of, never, new_run, tiny_model, untimed
from tests.support.tiny import tiny_layoutlm, tiny_pages

KEY = "0" * 64
PAGES = tiny_pages(12)
GOLDEN = "6e378ede177219bd"  # of crooked_pages encoded
EXACT = {"epochs": 2, "batch_size": 2, "lr": 0.01, "dropout": 0.2, "o_entity_ratio": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(model)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Where PAGES are kept."""
    write_encoded(encode(tokenizer)(PAGES), tmp_path / "kept", KEY)
    return tmp_path / "kept"


def encode(tokenizer: PreTrainedTokenizerFast, max_length: int = 16) -> Callable[..., Features]:
    return partial(encode_pages, tokenizer=tokenizer, max_length=max_length, on_page=lambda: None)


def everything(features: Features) -> list[object]:
    arrays = [getattr(features, name) for name in DTYPES]
    return [
        features.page_ids,
        features.tag_names,
        features.special_ids,
        *((array.dtype.str, array.tolist()) for array in arrays),
    ]


# files


def test_opened_pages_equal_the_stored_ones_and_are_memory_mapped(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    opened = open_encoded(folder, KEY, PAGES, encode(tokenizer))

    assert everything(opened) == everything(encode(tokenizer)(PAGES))
    assert all(isinstance(getattr(opened, name).base, np.memmap) for name in DTYPES)


def cut_short(folder: Path) -> None:
    os.truncate(folder / "pieces.npy", (folder / "pieces.npy").stat().st_size - 1)


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "boxes.npy").read_bytes())
    content[-1] ^= 1
    (folder / "boxes.npy").write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / "scorer.npy").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


DAMAGES = [cut_short, flip_a_byte, lose_a_file, lose_the_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_not_whole_is_not_used(
    folder: Path, tokenizer: PreTrainedTokenizerFast, damage: Callable[[Path], None]
) -> None:
    damage(folder)

    with pytest.raises(DamagedFolder):
        open_encoded(folder, KEY, PAGES, encode(tokenizer))


def test_one_wrong_bit_among_many_pages_is_noticed(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    pages = tiny_pages(600)
    write_encoded(encode(tokenizer)(pages), tmp_path / "kept", KEY)
    flip_a_byte(tmp_path / "kept")

    with pytest.raises(DamagedFolder, match=r"boxes\.npy is missing or not what"):
        open_encoded(tmp_path / "kept", KEY, pages, encode(tokenizer))


@pytest.mark.parametrize("name", DTYPES)
def test_a_whole_folder_that_holds_something_else_is_not_used(
    folder: Path, tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    """As somebody could lay one into a bucket, or an earlier version of the code have left it."""
    array = np.load(folder / f"{name}.npy")
    array.flat[array.size // 2] += 1
    np.save(folder / f"{name}.npy", array)
    write_manifest(folder, 0)

    with pytest.raises(DamagedFolder):
        open_encoded(folder, KEY, PAGES, encode(tokenizer))


def test_pages_of_another_key_or_other_pages_are_not_used(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DamagedFolder, match="from other pages or by another rule"):
        open_encoded(folder, "1" * 64, PAGES, encode(tokenizer))
    with pytest.raises(DamagedFolder, match="from other pages or by another rule"):
        open_encoded(folder, KEY, PAGES[:-1], encode(tokenizer))
    with pytest.raises(DamagedFolder, match="differ from a fresh encoding"):
        open_encoded(folder, KEY, PAGES, encode(tokenizer, max_length=12))


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    np.save(folder / "tags.npy", np.array([Bomb(tmp_path / "exploded")], object), allow_pickle=True)
    write_manifest(folder, 0)

    with pytest.raises(DamagedFolder):
        open_encoded(folder, KEY, PAGES, encode(tokenizer))
    assert not (tmp_path / "exploded").exists()


def test_what_is_kept_replaces_what_stood_there_and_leaves_nothing_beside_it(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    lose_a_file(folder)
    write_encoded(encode(tokenizer)(PAGES), folder, KEY)

    assert open_encoded(folder, KEY, PAGES, encode(tokenizer)).page_ids == tuple(page.page_id for page in PAGES)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_processes_that_keep_the_same_pages_at_once_leave_one_whole_folder(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    features, spawn = encode(tokenizer)(PAGES), multiprocessing.get_context("fork")
    writers = [spawn.Process(target=keep_often, args=(features, folder)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0] * 4
    verify(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def keep_often(features: Features, folder: Path) -> None:
    for _ in range(25):
        write_encoded(features, folder, KEY)


# keys


def test_a_key_is_of_everything_that_decides_what_pages_are_encoded_to(
    model: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = AutoTokenizer.from_pretrained(tiny_layoutlm(tmp_path / "other", tiny_pages(2)))
    keys = [
        encoded_key("layoutlm", KEY, tokenizer, 512),
        encoded_key("another", KEY, tokenizer, 512),
        encoded_key("layoutlm", "1" * 64, tokenizer, 512),
        encoded_key("layoutlm", KEY, other, 512),
        encoded_key("layoutlm", KEY, tokenizer, 511),
        encoded_key("layoutlm", KEY, tokenizer, 512, 4),
    ]
    for name in ("ENCODING_VERSION", "OVERLAP"):
        with monkeypatch.context() as patch:
            patch.setitem(vars(encoded_files), name, 0.125)
            keys.append(encoded_key("layoutlm", KEY, tokenizer, 512))
    assert len(set(keys)) == len(keys)


def test_a_key_does_not_depend_on_what_the_tokenizer_did_before(model: Path) -> None:
    fresh, used = AutoTokenizer.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    used("1 2 3", truncation=True, max_length=4, padding="max_length")

    assert encoded_key("layoutlm", KEY, fresh, 512) == encoded_key("layoutlm", KEY, used, 512)


def crooked_pages() -> list[Page]:
    """Two skewed pages with jitter, one of them longer than a window."""
    draw, pages = random.Random(0), []
    for number, words in enumerate((60, 160)):
        boxes = []
        for word in range(words):
            x, y = 20 + 240 * (word % 4), 24 * (word // 4) + word % 4 * 2 + draw.randint(-2, 2) + 10
            boxes.append((x, y, x + draw.randint(60, 200), y + 16))
        tags = tuple(draw.choice(("O", "O", "-", "B-DATE", "B-GRAND_TOTAL")) for _ in range(words))
        texts = tuple("0123456789/."[word % 12 :][: draw.randint(1, 6)] for word in range(words))
        pages.append(Page(f"p{number}", "g", texts, tuple(boxes), tags, 100, 200))
    return pages


def test_code_that_encodes_otherwise_has_another_version(tokenizer: PreTrainedTokenizerFast) -> None:
    features = encode(tokenizer, max_length=128)(crooked_pages())
    document = json.dumps([*everything(features)]).encode()

    assert (ENCODING_VERSION, hashlib.sha256(document).hexdigest()[:16]) == (2, GOLDEN), (
        "pages are encoded otherwise than before: raise ENCODING_VERSION and set the hash here"
    )


# views


@settings(max_examples=20, deadline=None)
@given(chosen=st.permutations(range(12)), count=st.integers(0, 12))
def test_a_choice_of_pages_is_what_they_are_encoded_to_alone(
    tokenizer: PreTrainedTokenizerFast, chosen: list[int], count: int
) -> None:
    pages, labels = [PAGES[number] for number in chosen[:count]], LabelMap({}, ("DATE",))
    ids = [page.page_id for page in pages]

    of_all, alone = (select(features, ids, labels) for features in map(encode(tokenizer), (PAGES, pages)))

    assert list(map(seen, of_all.pages)) == list(map(seen, alone.pages))
    assert inputs(of_all) == inputs(alone)
    assert of_all.window_lengths.tolist() == [len(window.input_ids) for window in of_all.windows]


def seen(page: object) -> list[object]:
    return [getattr(page, name) for name in ("page_id", "words", "tags")] + [
        getattr(page, name).tolist() for name in ("label_ids", "order")
    ]


def inputs(part: EncodedPages) -> list[object]:
    names = ("input_ids", "bbox", "word_index", "first", "scored", "label_ids")
    return [[window.page, *(getattr(window, name).tolist() for name in names)] for window in part.windows]


# runs


def outcome(run_dir: RunDir) -> tuple[list[Evaluation], dict[str, bytes]]:
    """Every evaluation, and every bit of the last weights."""
    weights = load_file(run_dir.checkpoint(max(checkpoint_steps(run_dir))) / "model.safetensors")
    evaluations = [event for event in events_of(run_dir) if isinstance(event, Evaluation)]
    return untimed(evaluations), {name: value.tobytes() for name, value in weights.items()}


def with_kept(run_dir: RunDir, other: RunDir) -> RunDir:
    """The run directory of another run with what that one kept."""
    shutil.copytree(other.encoded, run_dir.encoded)
    return run_dir


def phases(run_dir: RunDir) -> set[str]:
    end = events_of(run_dir)[-1]
    assert isinstance(end, Finished)
    return set(end.phase_seconds) & {"cached", "encode"}


@pytest.fixture(scope="module")
def first(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that had to encode."""
    run_dir = new_run(tmp_path_factory.mktemp("first") / "1", model, **EXACT)
    train(run_dir, never)
    return run_dir


@pytest.mark.parametrize(
    "options",
    [{}, {"seed": 7}, {"sample_size": 3}, {"allowed_labels": ["DATE"]}, {"merge_amounts": True}, {"test_ratio": 0.2}],
    ids=str,
)
def test_a_run_ends_bit_for_bit_the_same_with_kept_pages_and_without(
    first: RunDir, model: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    """One encoding serves every split, sample and label map."""
    anew = new_run(tmp_path / "anew", model, **EXACT, **options)
    kept = with_kept(new_run(tmp_path / "kept", model, **EXACT, **options), first)
    for run_dir in (anew, kept):
        train(run_dir, never)

    assert (phases(anew), phases(kept)) == ({"encode"}, {"cached"})
    assert outcome(kept) == outcome(anew)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_with_damaged_pages_encodes_again_logs_it_and_repairs_them(
    first: RunDir, model: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run_dir = with_kept(new_run(tmp_path / "1", model, **EXACT), first)
    damage(run_dir.encoded)
    train(run_dir, never)

    assert outcome(run_dir) == outcome(first)
    assert "encoded_anew" in [event.event for event in events_of(run_dir) if isinstance(event, Log)]
    assert "encode" in phases(run_dir)
    verify(run_dir.encoded)


def test_a_separate_evaluation_dataset_is_kept_apart(model: Path, tmp_path: Path) -> None:
    runs = [new_run(tmp_path / name, model, **EXACT) for name in ("1", "2")]
    for run_dir in runs:
        shutil.copy(run_dir.dataset, run_dir.eval_dataset)
    train(runs[0], never)
    for name in ("encoded", "eval_encoded"):
        shutil.copytree(runs[0].path / name, runs[1].path / name)
    train(runs[1], never)

    assert (phases(runs[0]), phases(runs[1])) == ({"encode"}, {"cached"})
    assert outcome(runs[1]) == outcome(runs[0])


def test_a_run_whose_pages_cannot_be_stored_trains_nevertheless(first: RunDir, model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, **EXACT)
    (tmp_path / "no-folder").write_text("")
    run_dir.encoded.symlink_to(tmp_path / "no-folder" / "kept")
    train(run_dir, never)

    assert "encoded_not_kept" in [event.event for event in events_of(run_dir) if isinstance(event, Log)]
    assert outcome(run_dir) == outcome(first)
