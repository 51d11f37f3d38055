"""Folders travel with their hashes: manifest last, created once, verified on the way down."""

import hashlib
from pathlib import Path

import pytest

from receipt_dynamo import Pointer, Storage
from receipt_layoutlm.run.manifest import DamagedFolder, write_manifest
from receipt_layoutlm.storage.bucket import MANIFEST_BYTES, Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys, parse_s3_uri

pytestmark = pytest.mark.engine


@pytest.fixture
def place(bucket: str, s3_endpoint: str) -> Bucket:
    return Bucket(bucket, endpoint_url=s3_endpoint)


def make_folder(path: Path, **files: bytes) -> str:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return write_manifest(path, global_step=7)


def test_a_folder_comes_back_as_it_went(place: Bucket, tmp_path: Path) -> None:
    sha256 = make_folder(tmp_path / "up", model=b"weights", state=b"{}")

    place.put_folder(tmp_path / "up", "runs/x/")
    manifest = place.get_folder("runs/x/", tmp_path / "down", sha256)

    assert manifest.global_step == 7
    assert (tmp_path / "down" / "model").read_bytes() == b"weights"
    assert sorted(place.list_keys("runs/x/")) == ["runs/x/manifest.json", "runs/x/model", "runs/x/state"]


def test_an_object_that_is_too_large_to_be_what_it_should_is_not_read(place: Bucket, tmp_path: Path) -> None:
    place.put_bytes(bytes(5), "runs/x/state.json")
    assert place.get_bytes("runs/x/state.json", 5) == bytes(5)
    with pytest.raises(StorageError, match="has 5 bytes, more than the 4 that are read"):
        place.get_bytes("runs/x/state.json", 4)
    place.put_bytes(bytes(MANIFEST_BYTES + 1), "runs/x/manifest.json")
    for read in (lambda: place.get_manifest("runs/x/"), lambda: place.get_folder("runs/x/", tmp_path / "down")):
        with pytest.raises(StorageError, match=f"more than the {MANIFEST_BYTES} that are read"):
            read()


def test_a_file_that_is_too_large_to_be_what_it_should_is_not_downloaded(place: Bucket, tmp_path: Path) -> None:
    place.put_bytes(bytes(5), "datasets/1.jsonl.gz")
    place.get_file("datasets/1.jsonl.gz", tmp_path / "whole", 5)
    with pytest.raises(StorageError, match="has 5 bytes, more than the 4 that are read"):
        place.get_file("datasets/1.jsonl.gz", tmp_path / "cut", 4)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_file_that_is_larger_than_its_manifest_says_is_not_downloaded(place: Bucket, tmp_path: Path) -> None:
    make_folder(tmp_path / "up", model=b"weights")
    place.put_folder(tmp_path / "up", "runs/x/")
    with pytest.raises(StorageError, match="runs/x/ has 7 bytes, more than the 6 that are read"):
        place.get_folder("runs/x/", tmp_path / "down", at_most=6)
    assert not (tmp_path / "down").exists()
    place.raw.put_object(Bucket=place.name, Key="runs/x/model", Body=bytes(12 << 20))
    with pytest.raises(DamagedFolder, match="runs/x/model has 12582912 bytes, more than the 7 that are read"):
        place.get_folder("runs/x/", tmp_path / "down")
    assert [path.name for path in (tmp_path / "down").iterdir()] == ["manifest.json"]


def test_a_file_that_was_changed_in_the_bucket_is_noticed(place: Bucket, tmp_path: Path) -> None:
    make_folder(tmp_path / "up", model=b"weights")
    place.put_folder(tmp_path / "up", "runs/x/")
    place.raw.put_object(Bucket=place.name, Key="runs/x/model", Body=b"wEights")

    with pytest.raises(DamagedFolder, match="model"):
        place.get_folder("runs/x/", tmp_path / "down")


def test_another_manifest_than_the_recorded_one_is_refused(place: Bucket, tmp_path: Path) -> None:
    make_folder(tmp_path / "up", model=b"weights")
    place.put_folder(tmp_path / "up", "runs/x/")

    with pytest.raises(DamagedFolder, match="not the recorded manifest"):
        place.get_folder("runs/x/", tmp_path / "down", "0" * 64)


def test_a_manifest_is_created_once_and_the_same_one_again_is_no_error(place: Bucket) -> None:
    place.put_new(b"first", "m")
    place.put_new(b"first", "m")

    with pytest.raises(StorageError, match="other content"):
        place.put_new(b"second", "m")
    assert place.get_bytes("m") == b"first"


def test_a_folder_without_its_manifest_in_the_bucket_does_not_count(place: Bucket, tmp_path: Path) -> None:
    make_folder(tmp_path / "up", model=b"weights")
    place.put_file(tmp_path / "up" / "model", "runs/x/model")

    with pytest.raises(DamagedFolder, match=r"runs/x/manifest\.json does not exist"):
        place.get_folder("runs/x/", tmp_path / "down")


def test_some_files_are_copied_inside_the_bucket_with_a_manifest_of_their_own(place: Bucket, tmp_path: Path) -> None:
    make_folder(tmp_path / "up", model=b"weights", optimizer=b"moments")
    place.put_folder(tmp_path / "up", "a/")

    part = place.copy_folder("a/", "best/", ["model"])

    assert set(part.files) == {"model"}
    assert place.get_folder("best/", tmp_path / "down").files == part.files


def test_a_copy_that_is_not_what_the_manifest_says_is_no_copy(place: Bucket, tmp_path: Path) -> None:
    make_folder(tmp_path / "up", model=b"weights")
    place.put_folder(tmp_path / "up", "a/")
    place.raw.put_object(Bucket=place.name, Key="a/model", Body=b"wEights")

    with pytest.raises(StorageError, match="not what its manifest says"):
        place.copy_folder("a/", "best/", ["model"])
    assert not place.exists("best/manifest.json")


def test_a_large_file_travels_in_parts_and_whole(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    place = Bucket(bucket, endpoint_url=s3_endpoint, part_size=5 << 20)
    content = bytes(range(256)) * (11 << 12)  # 11 MiB, in parts of 5
    (tmp_path / "large").write_bytes(content)

    place.put_file(tmp_path / "large", "large")

    assert hashlib.sha256(place.get_bytes("large")).digest() == hashlib.sha256(content).digest()
    assert "-" in place.raw.head_object(Bucket=place.name, Key="large")["ETag"]  # the sign of parts


def test_removing_a_prefix_removes_that_prefix_alone(place: Bucket) -> None:
    for key in ("runs/a/1", "runs/a/manifest.json", "runs/ab"):
        place.put_new(b"x", key)

    assert place.delete_prefix("runs/a/") == 2
    assert list(place.list_keys("")) == ["runs/ab"]


def test_a_missing_bucket_is_named_with_what_to_do(s3_endpoint: str) -> None:
    with pytest.raises(StorageError, match="bucket 'no-such-bucket' does not exist: create it"):
        Bucket("no-such-bucket", endpoint_url=s3_endpoint).get_bytes("x")


def test_places_lie_under_the_attempt_that_wrote_them() -> None:
    keys = RunKeys(Storage(bucket="b", prefix="team/"), "id")

    pointer = Pointer(attempt=2, global_step=40, manifest_sha256="")
    assert keys.checkpoint(pointer) == "team/runs/id/attempt-002/checkpoint-40/"
    assert keys.uri(keys.best(3)) == "s3://b/team/runs/id/attempt-003/best/"


@pytest.mark.parametrize("uri", ["bucket", "s3://", "s3://UPPER/x", "https://b/x", "s3://a"])
def test_what_is_not_an_s3_uri_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="not an S3 URI"):
        parse_s3_uri(uri)


def test_an_s3_uri_keeps_its_prefix_as_a_folder() -> None:
    assert parse_s3_uri("s3://my-bucket/a/b") == Storage(bucket="my-bucket", prefix="a/b/")
    assert parse_s3_uri("s3://my-bucket") == Storage(bucket="my-bucket", prefix="")
