"""Base weights go into the bucket once for each revision, and jobs take them from there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.local.engines import ACCESS_KEY, SECRET_KEY
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.weights import mirrored
from tests.support.model_hub import Model, ModelHub, model_hub

pytestmark = pytest.mark.engine

NAME = "some/layoutlm"
OLD, NEW = "a" * 40, "b" * 40
FILES = {"config.json": b"{}", "tokenizer.json": b"[]", "tokenizer_config.json": b"{}", "vocab.txt": b"x"}
OTHERS = {"pytorch_model.bin": b"pickled", "README.md": b"text", "modeling_evil.py": b"import os"}


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with model_hub() as hub:
        hub.models[NAME] = Model(
            {commit: {**FILES, **OTHERS, "model.safetensors": commit.encode()} for commit in (OLD, NEW)}
        )
        yield hub


class Shell:
    """The command in a process of its own: huggingface_hub reads its settings once, when it is imported."""

    def __init__(self, hub: ModelHub, bucket: str, s3_endpoint: str, home: Path) -> None:
        self.bucket = Bucket(bucket, endpoint_url=s3_endpoint)
        own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        aws = {"AWS_ENDPOINT_URL_S3": s3_endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        self.environment = {**os.environ, **own, **aws, "LAYOUTLM_TRAINING_BUCKET": bucket}

    def mirror(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "receipt_layoutlm.cli", "weights", "mirror", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def mirrored(self, pretrained: str = NAME) -> str:
        return mirrored(self.bucket, WordLabelsConfig(pretrained=pretrained)).pretrained


@pytest.fixture
def shell(hub: ModelHub, bucket: str, s3_endpoint: str, tmp_path: Path) -> Shell:
    return Shell(hub, bucket, s3_endpoint, tmp_path / "hub")


def test_a_mirrored_model_is_what_jobs_get_whole_and_verified(shell: Shell, tmp_path: Path) -> None:
    assert shell.mirrored() == NAME  # nothing is mirrored yet
    done = shell.mirror(NAME, "--json")
    assert done.returncode == 0, done.stderr
    uri = f"s3://{shell.bucket.name}/weights/some--layoutlm/{NEW}/"
    shown = json.loads(done.stdout)
    assert (shown["uri"], shown["revision"], shown["licence"]) == (uri, NEW, "mit")
    assert shell.mirrored() == uri
    shell.bucket.get_folder(f"weights/some--layoutlm/{NEW}/", tmp_path / "got")
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == NEW.encode()
    assert {path.name for path in (tmp_path / "got").iterdir()} == {*FILES, "model.safetensors", "manifest.json"}


def test_a_revision_is_fetched_once_and_the_last_one_asked_for_is_what_jobs_get(shell: Shell, hub: ModelHub) -> None:
    for revision in (OLD, NEW, OLD):
        assert shell.mirror(NAME, "--revision", revision).returncode == 0
    assert shell.mirrored().endswith(f"/{OLD}/")
    assert len(hub.downloads) == len(set(hub.downloads)) == 2 * (len(FILES) + 1)


def test_weights_without_safetensors_are_refused_with_the_fix(shell: Shell, hub: ModelHub) -> None:
    hub.models["some/pickle"] = Model({NEW: {**FILES, **OTHERS}})
    done = shell.mirror("some/pickle")
    assert done.returncode == 1 and "no model.safetensors" in done.stderr and "save_pretrained" in done.stderr
    assert list(shell.bucket.list_keys("weights/")) == []


def test_a_licence_against_commerce_has_to_be_accepted(shell: Shell, hub: ModelHub) -> None:
    hub.models[NAME].licence = "cc-by-nc-sa-4.0"
    assert "--accept-license cc-by-nc-sa-4.0" in shell.mirror(NAME).stderr
    assert shell.mirrored() == NAME
    assert shell.mirror(NAME, "--accept-license", "cc-by-nc-sa-4.0").returncode == 0
    assert shell.mirrored().endswith(f"/{NEW}/")


def test_what_the_hub_does_not_have_is_told(shell: Shell) -> None:
    assert "the hub has no some/other" in shell.mirror("some/other").stderr
    assert f"the hub has no {NAME} at nowhere" in shell.mirror(NAME, "--revision", "nowhere").stderr
    assert "not a name on the model hub" in shell.mirror("../etc").stderr


@pytest.mark.parametrize("pretrained", ["minilm", "s3://another/place/"])
def test_weights_from_elsewhere_stay_what_they_are(shell: Shell, pretrained: str) -> None:
    assert shell.mirrored(pretrained) == pretrained
