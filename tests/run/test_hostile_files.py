"""Files of a run that no program of ours writes: each reader takes them, or refuses them with its own error."""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic_core import to_json

from receipt_layoutlm.configs.word_labels import InferenceOptions
from receipt_layoutlm.data.frozen_split import parse_frozen
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.acceptance import ACCEPTANCE, Acceptance, CheckedField
from receipt_layoutlm.run.events import EventReader, Log
from receipt_layoutlm.run.manifest import Manifest, ManifestFile, parse_manifest
from receipt_layoutlm.run.predictions import PredictedPage, read_predictions
from tests.support.hostile import CONTROLS, DOCUMENTS, NUMBERS, TEXTS, damaged

SEED: Final = 20261128
FEW, MANY = 150, 5_000

WORDS: Final = PredictedPage("p", (0, 1), ("a", "b"), ("O", "B-X"), ("O", "O"), (0.9, 0.8), (0.9, None))
FIELD: Final = CheckedField(certainty=0.9, right=True, group=0)


@dataclass(frozen=True)
class Kind:
    """A valid file, and its reader in a folder of its own."""

    valid: bytes
    read: Callable[[bytes, Path], object]


def read_events(content: bytes, folder: Path) -> object:
    (folder / "events.jsonl").write_bytes(content)
    return EventReader(folder / "events.jsonl").read()


def read_acceptance(content: bytes, folder: Path) -> object:
    (folder / ACCEPTANCE).write_bytes(content)
    return Acceptance.read(folder, "m").rule(0.05)


def line(document: object) -> bytes:
    return to_json(document) + b"\n"


KINDS: Final = {
    "manifest.json": Kind(
        line(Manifest(global_step=7, files={"model.safetensors": ManifestFile(size=1, sha256="0" * 64)})),
        lambda content, _: parse_manifest(content, "s3://x/"),
    ),
    "predictions": Kind(line(WORDS), lambda content, _: read_predictions(gzip.compress(content), "eval-7.jsonl.gz")),
    "packed predictions": Kind(gzip.compress(line(WORDS)), lambda content, _: read_predictions(content, "x")),
    "a split": Kind(
        b'{"by": "page", "train": ["a"], "validation": ["b"], "test": []}\n', lambda content, _: parse_frozen(content)
    ),
    "label_map.json": Kind(
        LabelMap({"A": "B"}, ("B", "C")).to_json().encode(), lambda content, _: LabelMap.from_json(content)
    ),
    "inference.json": Kind(
        line(InferenceOptions(temperature=1.5)), lambda content, _: InferenceOptions.model_validate_json(content)
    ),
    "acceptance.json": Kind(
        line(Acceptance(model="m", pages=1, groups=1, single=("X",), fields={"X": (FIELD,) * 70})), read_acceptance
    ),
    "events.jsonl": Kind(
        line(Log(seq=1, time=datetime(2026, 1, 1, tzinfo=UTC), level="info", event="e", message="m")), read_events
    ),
}


def changed(content: bytes, source: random.Random) -> bytes:
    """A value of the JSON document replaced by a hostile one, or the bytes damaged."""
    if source.random() < 0.3:
        return damaged(content, source)
    try:
        document = json.loads(content)
    except ValueError:
        return damaged(content, source)
    place: Any = document
    while isinstance(place, dict | list) and place:
        key = source.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or source.random() < 0.3:
            place[key] = "HERE"
            break
        place = place[key]
    text = source.choice([*NUMBERS, *DOCUMENTS, *(json.dumps(each) for each in (*TEXTS, CONTROLS))])
    return json.dumps(document).replace('"HERE"', text, 1).encode("utf-8", "surrogatepass") + b"\n"


def check(kind: str, folder: Path, count: int) -> None:
    source, valid = random.Random(f"{SEED} {kind}"), KINDS[kind]
    for number in range(count):
        content = changed(valid.valid, source)
        try:
            valid.read(content, folder)
        except (UserError, ValueError):  # pydantic's errors are ValueErrors, which each caller of such a reader expects
            continue
        except Exception as error:
            raise AssertionError(f"{kind} {number} of seed {SEED}: {content[:200]!r}") from error


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_file_is_read(kind: str, tmp_path: Path) -> None:
    assert KINDS[kind].read(KINDS[kind].valid, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, FEW)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_in_the_long_run(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, MANY)
