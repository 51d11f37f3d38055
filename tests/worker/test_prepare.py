"""An attempt's folder: its own, with the pinned pages and the checkpoint it goes on from."""

import gzip
from pathlib import Path

import pytest

from receipt_dynamo import Job, Lease, Pointer, Storage
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.frozen_split import FrozenSplit, pinned_frozen, read_frozen
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.references import safe_name
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import DamagedFolder, write_manifest
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys, dataset_key, split_key
from receipt_layoutlm.worker.prepare import get_best, prepare_run_dir
from tests.support.stores import Store

pytestmark = pytest.mark.engine

PAGES = [Page("a", "shop", ("TOTAL",), ((0, 0, 9, 9),), ("O",), 100, 200)]


@pytest.fixture
def config(store: Store) -> WordLabelsConfig:
    dataset = add_snapshot(store.queue.client, store.bucket, describe_dataset("d", PAGES, "test", store.clock()), PAGES)
    return WordLabelsConfig(dataset=pinned(dataset))


def prepare(store: Store, config: WordLabelsConfig, lease: Lease, work_dir: Path) -> RunDir:
    job: Job = store.queue.client.get_job(lease.job_id)
    keys = RunKeys(Storage(bucket=store.bucket.name), job.job_id)
    return prepare_run_dir(work_dir, job, config, lease, store.bucket, keys)


def test_the_folder_holds_the_config_and_the_pinned_pages(
    store: Store, config: WordLabelsConfig, tmp_path: Path
) -> None:
    run_dir = prepare(store, config, store.claimed(), tmp_path)

    assert WordLabelsConfig.model_validate_json(run_dir.config.read_text()) == config
    assert read_snapshot(run_dir.dataset) == PAGES
    assert not run_dir.eval_dataset.exists()


def test_a_separate_evaluation_dataset_lies_beside_it(store: Store, config: WordLabelsConfig, tmp_path: Path) -> None:
    both = config.model_copy(update={"eval_dataset": config.dataset})

    assert read_snapshot(prepare(store, both, store.claimed(), tmp_path).eval_dataset) == PAGES


def test_a_second_job_of_a_name_gets_its_own_folder_and_the_link(
    store: Store, config: WordLabelsConfig, tmp_path: Path
) -> None:
    first = prepare(store, config, store.claimed("same"), tmp_path)
    second = prepare(store, config, store.claimed("same"), tmp_path)

    assert first.path != second.path and first.config.exists()
    assert (tmp_path / "same").resolve() == second.path.resolve()


def test_a_folder_of_a_persons_that_has_the_jobs_name_stays(
    store: Store, config: WordLabelsConfig, tmp_path: Path
) -> None:
    (tmp_path / "a-job").mkdir()
    (tmp_path / "a-job" / "notes").write_text("mine")

    prepare(store, config, store.claimed(), tmp_path)

    assert (tmp_path / "a-job" / "notes").read_text() == "mine"


def test_pages_that_are_not_what_their_name_says_are_refused(
    store: Store, config: WordLabelsConfig, tmp_path: Path
) -> None:
    key = dataset_key(str(config.dataset).partition("@")[2])
    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=key, Body=gzip.compress(b"{}\n"))

    with pytest.raises(DamagedFolder, match="import them again"):
        prepare(store, config, store.claimed(), tmp_path)


def test_pages_that_are_gone_are_named(store: Store, config: WordLabelsConfig, tmp_path: Path) -> None:
    store.bucket.delete_prefix("datasets/")

    with pytest.raises(StorageError, match="does not exist"):
        prepare(store, config, store.claimed(), tmp_path)


def test_a_job_that_pins_no_pages_cannot_be_worked(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not pinned"):
        prepare(store, WordLabelsConfig(dataset="just-a-name"), store.claimed(), tmp_path)


@pytest.mark.parametrize("name", ["..", "a/b", "/etc", "a\nb", ".x"])
def test_a_name_from_the_table_that_is_no_path_segment_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        safe_name(name)


def test_a_frozen_split_lies_beside_the_pages_and_another_content_under_its_name_is_refused(
    store: Store, config: WordLabelsConfig, tmp_path: Path
) -> None:
    frozen = FrozenSplit(validation=("a",))
    with_split = config.model_copy(update={"split": pinned_frozen("mine", frozen)})
    key = split_key(frozen.sha256)
    store.bucket.put_new(frozen.canonical(), key)

    assert read_frozen(prepare(store, with_split, store.claimed(), tmp_path).split) == frozen

    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=key, Body=b'{"validation": ["b"]}')
    with pytest.raises(DamagedFolder, match="submit the job again"):
        prepare(store, with_split, store.claimed(), tmp_path)


def test_the_best_weights_of_an_earlier_attempt_are_brought_without_what_only_resuming_needs(
    store: Store, tmp_path: Path
) -> None:
    stored, run_dir = tmp_path / "checkpoint-3", RunDir(tmp_path / "run")
    for folder in (stored, run_dir.path):
        folder.mkdir()
    for name in ("model.safetensors", "optimizer.safetensors"):
        (stored / name).write_text(name)
    best = Pointer(attempt=1, global_step=3, manifest_sha256=write_manifest(stored, 3))
    lease = store.claimed().model_copy(update={"best": best, "checkpoint": Pointer(**{**dict(best), "global_step": 6})})
    keys = RunKeys(Storage(bucket=store.bucket.name), lease.job_id)
    store.bucket.put_folder(stored, keys.checkpoint(best))

    get_best(store.bucket, keys, lease, run_dir)

    assert [path.name for path in run_dir.best.iterdir()] == ["model.safetensors"]
    store.bucket.raw.put_object(
        Bucket=store.bucket.name, Key=keys.checkpoint(best) + "model.safetensors", Body=b"other"
    )
    with pytest.raises(DamagedFolder, match="does not match its manifest"):
        get_best(store.bucket, keys, lease, RunDir(tmp_path / "run"))


def test_the_best_weights_are_not_brought_twice(store: Store, tmp_path: Path) -> None:
    best = Pointer(attempt=1, global_step=3, manifest_sha256="0" * 64)
    lease = store.claimed().model_copy(update={"best": best, "checkpoint": best})
    run_dir = RunDir(tmp_path)

    get_best(store.bucket, RunKeys(Storage(bucket=store.bucket.name), lease.job_id), lease, run_dir)

    assert not run_dir.best.exists()
