"""What one attempt encoded the next one has, on this machine and on others; trouble with it stops nobody."""

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_dynamo import JobStatus
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import MANIFEST, verify, write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.encoded_cache import (
    EncodedCache,
    Entry,
    entries_of,
    fetch_entries,
    keep_entries,
    make_room,
)
from tests.support.places import Place, last_weights
from tests.support.s3_wire import S3Wire
from tests.support.stores import Store
from tests.support.tiny import tiny_layoutlm

CONFIG = WordLabelsConfig(dataset="d@" + "a" * 64, pretrained="minilm")


def entry(work_dir: Path, config: WordLabelsConfig = CONFIG) -> Entry:
    """Of a fresh run directory below the work_dir."""
    run_dir = work_dir / f"run-{len(list(work_dir.glob('run-*')))}"
    run_dir.mkdir(parents=True)
    (found,) = entries_of(config, RunDir(run_dir), work_dir, "some/")
    return found


def fill(where: Entry, content: str = "pages") -> Entry:
    where.folder.mkdir(parents=True)
    (where.folder / "text.npy").write_text(content)
    write_manifest(where.folder, 0)
    return where


def kept(bucket: Bucket, *entries: Entry) -> None:
    keep_entries(bucket, list(entries), threading.Event())


# names


@pytest.mark.parametrize(
    "options",
    [{"max_length": 256}, {"max_sub_tokens": 4}, {"pretrained": "other"}, {"dataset": "d@" + "b" * 64}],
    ids=str,
)
def test_what_is_encoded_otherwise_has_another_name(tmp_path: Path, options: dict[str, object]) -> None:
    assert entry(tmp_path, CONFIG.model_copy(update=options)).folder != entry(tmp_path).folder


def test_labels_split_and_training_have_no_part_in_the_name() -> None:
    other = WordLabelsConfig(
        dataset="another-name@" + "a" * 64,
        pretrained="minilm",
        allowed_labels=("DATE",),
        merge_amounts=True,
        split="random",
        val_ratio=0.4,
        seed=7,
        sample_size=9,
        epochs=3,
        lr=1e-3,
    )
    assert other.encoded_name("a" * 64) == CONFIG.encoded_name("a" * 64)


def test_a_separate_evaluation_dataset_has_a_place_of_its_own(tmp_path: Path) -> None:
    both = CONFIG.model_copy(update={"eval_dataset": "e@" + "b" * 64})

    first, second = entries_of(both, RunDir(tmp_path), tmp_path, "")

    assert (first.link, second.link) == (RunDir(tmp_path).encoded, RunDir(tmp_path).eval_encoded)
    assert first.folder != second.folder and first.prefix != second.prefix


# this disk


def folder_of(parent: Path, name: str, age: int, size: int = 100) -> Path:
    (parent / name).mkdir(parents=True)
    (parent / name / "file").write_bytes(b"x" * size)
    os.utime(parent / name, (1000 - age, 1000 - age))
    return parent / name


def test_the_folders_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    folders = {name: folder_of(tmp_path, name, age) for name, age in (("new", 1), ("old", 3), ("middle", 2))}
    make_room(tmp_path, 200, set())
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}

    make_room(tmp_path, 100, {folders["middle"]})
    assert {path.name for path in tmp_path.iterdir()} == {"middle"}


def test_where_nothing_is_kept_there_is_no_room_to_make(tmp_path: Path) -> None:
    make_room(tmp_path / "none", 0, set())

    assert list(tmp_path.iterdir()) == []


# the bucket


@pytest.mark.engine
def test_what_one_machine_keeps_the_next_one_fetches(store: Store, tmp_path: Path) -> None:
    kept(store.bucket, fill(entry(tmp_path / "one")))

    there = entry(tmp_path / "two")
    fetch_entries(store.bucket, [there])

    assert (there.link / "text.npy").read_text() == "pages"
    verify(there.link)
    assert [path.name for path in there.folder.parent.iterdir()] == [there.folder.name]
    assert {key.split("/")[:2][1] for key in store.bucket.list_keys("")} == {"encoded"}


@pytest.mark.engine
def test_what_is_on_this_disk_is_used_and_counts_as_used(store: Store, tmp_path: Path) -> None:
    here = fill(entry(tmp_path))
    os.utime(here.folder, (1000, 1000))

    fetch_entries(store.bucket, [here])

    assert (here.link / "text.npy").read_text() == "pages"
    assert here.folder.stat().st_mtime > 1000


@pytest.mark.engine
def test_where_nothing_was_kept_the_trainer_finds_nothing_and_can_put_it_there(store: Store, tmp_path: Path) -> None:
    here = entry(tmp_path)
    fetch_entries(store.bucket, [here])

    assert not here.link.exists() and here.link.resolve() == here.folder.resolve()
    kept(store.bucket, here)
    assert list(store.bucket.list_keys("")) == []


@pytest.mark.engine
def test_a_damaged_copy_in_the_bucket_is_not_used_and_makes_place_for_a_whole_one(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = (entry(tmp_path / name) for name in ("one", "two", "three"))
    kept(store.bucket, fill(one))
    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=one.prefix + "text.npy", Body=b"other")

    fetch_entries(store.bucket, [two])
    assert not two.link.exists() and "damaged" in caplog.text

    kept(store.bucket, fill(two))
    fetch_entries(store.bucket, [three])
    assert (three.link / "text.npy").read_text() == "pages"


@pytest.mark.engine
def test_what_was_made_with_another_tokenizer_of_the_same_name_is_replaced(store: Store, tmp_path: Path) -> None:
    one, two, three = (entry(tmp_path / name) for name in ("one", "two", "three"))
    kept(store.bucket, fill(one, "of an earlier tokenizer"))
    kept(store.bucket, fill(two, "of this one"))

    fetch_entries(store.bucket, [three])
    assert (three.link / "text.npy").read_text() == "of this one"


@pytest.mark.engine
def test_what_the_bucket_has_is_not_sent_again(store: Store, tmp_path: Path) -> None:
    here = fill(entry(tmp_path))
    kept(store.bucket, here)
    store.bucket.raw.delete_object(Bucket=store.bucket.name, Key=here.prefix + "text.npy")

    kept(store.bucket, here)

    assert [key.removeprefix(here.prefix) for key in store.bucket.list_keys(here.prefix)] == [MANIFEST]


@pytest.mark.engine
@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("SlowDown", 503)])
def test_a_bucket_that_refuses_is_a_warning(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, status: int
) -> None:
    here, wire = entry(tmp_path), S3Wire(store.bucket)
    for operation in ("HeadObject", "GetObject", "PutObject"):
        wire.refuse(operation, code, status, times=50)
    with caplog.at_level(logging.WARNING):
        fetch_entries(store.bucket, [here])
        fetched = caplog.text
        kept(store.bucket, fill(here))

    assert "cannot be fetched, so the trainer encodes" in fetched
    assert "not cached in the bucket" in caplog.text
    assert (here.link / "text.npy").read_text() == "pages"


@pytest.mark.engine
def test_a_worker_that_has_to_go_does_not_wait_for_an_upload(store: Store, tmp_path: Path) -> None:
    here = fill(entry(tmp_path))
    with EncodedCache(store.bucket, may_wait=lambda: True) as sharing:
        sharing.fetch([here])
        sharing.keep()
    assert store.bucket.exists(here.prefix + MANIFEST)

    other = fill(entry(tmp_path, CONFIG.model_copy(update={"max_length": 64})))
    given_up = threading.Event()
    given_up.set()
    keep_entries(store.bucket, [other], given_up)
    assert not store.bucket.exists(other.prefix + MANIFEST)


# jobs


@pytest.mark.engine
def test_the_next_job_on_another_machine_does_not_encode_and_ends_with_the_same_weights(
    store: Store, tmp_path: Path
) -> None:
    pages = generate_pages(12, seed=1)
    model = str(tiny_layoutlm(tmp_path / "tiny", pages))
    place = Place(store, tmp_path / "work")
    weights, phases = [], []
    for work_dir in ("work", "another-machine"):
        policy = replace(place.context.policy, own_work_dir=tmp_path / work_dir)
        place.context = replace(place.context, policy=policy)
        job = place.submit(pages, pretrained=model, epochs=1)
        assert place.work() is JobStatus.SUCCEEDED
        (attempt,) = store.queue.client.list_attempts(job.job_id)
        phases.append(set(attempt.phase_seconds) & {"cached", "encode"})
        weights.append(last_weights(place, job, tmp_path / job.job_id))

    assert phases == [{"encode"}, {"cached"}]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
