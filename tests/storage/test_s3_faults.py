"""Damaged folders are refused, and a bucket in trouble gets each byte of a folder once all the same."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest

from receipt_dynamo import Pointer, Storage
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError, StorageUnavailable
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.s3_wire import S3Wire, in_the_end, open_uploads

pytestmark = pytest.mark.engine

PART = 5 << 20  # bytes; the smallest that S3 takes
LARGE = os.urandom(2 * PART + 1000)


@pytest.fixture
def place(bucket: str, s3_endpoint: str) -> Bucket:
    return Bucket(bucket, endpoint_url=s3_endpoint, part_size=PART, wait=lambda _seconds: None)


@pytest.fixture
def wire(place: Bucket) -> S3Wire:
    return S3Wire(place)


def make_folder(path: Path, step: int = 7, **files: bytes) -> str:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return write_manifest(path, step)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "up", model=LARGE, optimizer=b"moments", state=b"{}")
    return tmp_path / "up"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def assert_arrived(place: Bucket, folder: Path, down: Path) -> None:
    place.get_folder("runs/x/", down)
    assert {path.name: path.read_bytes() for path in down.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert open_uploads(place.raw, place.name) == []


# on the way down


def test_a_flipped_byte_in_the_bucket_is_noticed(place: Bucket, folder: Path, tmp_path: Path) -> None:
    place.put_folder(folder, "runs/x/")
    stored = bytearray(LARGE)
    stored[PART] ^= 1
    place.raw.put_object(Bucket=place.name, Key="runs/x/model", Body=bytes(stored))

    with pytest.raises(DamagedFolder, match="model is missing or not what"):
        place.get_folder("runs/x/", tmp_path / "down")


@pytest.mark.parametrize("name", [MANIFEST, "model"])
def test_a_missing_file_is_a_damaged_folder_and_is_named(
    place: Bucket, folder: Path, tmp_path: Path, name: str
) -> None:
    place.put_folder(folder, "runs/x/")
    place.raw.delete_object(Bucket=place.name, Key="runs/x/" + name)

    with pytest.raises(DamagedFolder, match=f"runs/x/{name} does not exist"):
        place.get_folder("runs/x/", tmp_path / "down")


def test_a_missing_bucket_is_no_damaged_folder(s3_endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="create it"):
        Bucket("no-such-bucket", endpoint_url=s3_endpoint).get_folder("runs/x/", tmp_path / "down")


def test_the_manifest_of_another_attempt_under_the_recorded_place_is_refused(place: Bucket, tmp_path: Path) -> None:
    keys = RunKeys(Storage(bucket=place.name), "j")
    recorded = make_folder(tmp_path / "first", model=b"weights of attempt 1")
    make_folder(tmp_path / "second", model=b"weights of attempt 2")
    pointer = Pointer(attempt=1, global_step=7, manifest_sha256=recorded)
    place.put_folder(tmp_path / "second", keys.checkpoint(pointer))

    with pytest.raises(DamagedFolder, match="not the recorded manifest"):
        place.get_folder(keys.checkpoint(pointer), tmp_path / "down", pointer.manifest_sha256)
    assert not (tmp_path / "down").exists()


def test_a_hostile_manifest_writes_nothing_outside_the_folder(place: Bucket, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"evil").hexdigest()
    hostile = {"global_step": 7, "files": {"../evil": {"size": 4, "sha256": digest}}}
    place.put_new(json.dumps(hostile).encode(), "runs/x/" + MANIFEST)
    place.put_new(b"evil", "runs/evil")

    with pytest.raises(DamagedFolder, match=r"no readable manifest\.json"):
        place.get_folder("runs/x/", tmp_path / "down")
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_broke_off_does_not_fetch_whole_files_again(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    place.put_folder(folder, "runs/x/")
    wire.refuse("GetObject", "SlowDown", 503, times=5, ending="/state")
    with pytest.raises(StorageUnavailable):
        place.get_folder("runs/x/", tmp_path / "down")
    wire.counted()

    assert_arrived(place, folder, tmp_path / "down")
    assert wire.counted()["GetObject"] == 2  # the manifest and the file that was missing


def test_a_full_disk_is_named_with_what_to_do(place: Bucket, folder: Path, tmp_path: Path) -> None:
    place.put_folder(folder, "runs/x/")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.partial").symlink_to("/dev/full")

    with pytest.raises(StorageError, match=r"model cannot be written.*free some disk"):
        place.get_file("runs/x/model", tmp_path / "full" / "model")


# on the way up


def test_in_a_storm_of_503_each_byte_is_accepted_once(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    for operation in ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
        wire.refuse_every_second(operation, "SlowDown", 503)
    upload = place.folder_upload(folder, "runs/x/")

    in_the_end(upload.run)

    assert wire.accepted == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert upload.size == size_of(folder)
    assert_arrived(place, folder, tmp_path / "down")


def test_a_lost_reply_costs_one_part_or_small_file(place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path) -> None:
    wire.lose_reply("UploadPart")
    wire.lose_reply("PutObject", ending="/state")

    place.folder_upload(folder, "runs/x/").run()

    again = wire.accepted["model"] - len(LARGE), wire.accepted["state"] - len(b"{}")
    assert again in {(PART, len(b"{}")), (len(LARGE) - 2 * PART, len(b"{}"))}
    assert_arrived(place, folder, tmp_path / "down")


def test_a_file_whose_completion_lost_its_reply_is_found_in_the_bucket(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    wire.lose_reply("CompleteMultipartUpload")

    in_the_end(place.folder_upload(folder, "runs/x/").run)

    assert wire.accepted["model"] == len(LARGE)
    assert_arrived(place, folder, tmp_path / "down")


def test_after_a_failure_only_the_file_that_broke_off_is_sent_again(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    wire.refuse("PutObject", "InternalError", 500, times=5, ending="/state")
    upload = place.folder_upload(folder, "runs/x/")
    with pytest.raises(StorageUnavailable, match="runs/x/state"):
        upload.run()
    wire.counted()

    upload.run()

    assert wire.counted() == {"HeadObject": 1, "PutObject": 2}  # did it arrive?, state, the manifest
    assert_arrived(place, folder, tmp_path / "down")


def test_a_multipart_upload_that_broke_off_is_begun_again(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    wire.refuse("CompleteMultipartUpload", "InternalError", 500, times=5)
    upload = place.folder_upload(folder, "runs/x/")
    with pytest.raises(StorageUnavailable):
        upload.run()

    in_the_end(upload.run)

    assert wire.counted()["CreateMultipartUpload"] == 2
    assert_arrived(place, folder, tmp_path / "down")


def test_an_object_that_another_upload_left_is_not_taken_for_the_file(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(len(LARGE)))
    wire.refuse("CompleteMultipartUpload", "InternalError", 500, times=5)
    upload = place.folder_upload(folder, "runs/x/")
    with pytest.raises(StorageUnavailable):
        upload.run()
    place.put_file(other, "runs/x/model")

    upload.run()

    assert_arrived(place, folder, tmp_path / "down")


def test_a_lost_reply_of_the_manifest_is_no_conflict(place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path) -> None:
    wire.lose_reply("PutObject", ending=MANIFEST)

    in_the_end(place.folder_upload(folder, "runs/x/").run)

    assert_arrived(place, folder, tmp_path / "down")


def test_a_manifest_that_is_being_written_by_another_request_is_tried_again(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    wire.refuse("PutObject", "ConditionalRequestConflict", 409, ending=MANIFEST)
    upload = place.folder_upload(folder, "runs/x/")
    with pytest.raises(StorageUnavailable, match="ConditionalRequestConflict"):
        upload.run()

    upload.run()

    assert_arrived(place, folder, tmp_path / "down")


def test_a_checksum_that_was_wrong_on_the_way_is_sent_again(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    wire.refuse("UploadPart", "BadDigest", 400)
    wire.refuse("PutObject", "XAmzContentChecksumMismatch", 400)
    upload = place.folder_upload(folder, "runs/x/")

    in_the_end(upload.run)

    assert_arrived(place, folder, tmp_path / "down")


def test_the_bucket_refuses_bytes_that_changed_on_the_way_and_they_are_sent_again(
    place: Bucket, wire: S3Wire, folder: Path, tmp_path: Path
) -> None:
    changed: list[str] = []

    def change(request: AWSPreparedRequest, **_: object) -> None:
        if request.url.endswith("/state") and not changed:
            changed.append(request.url)
            request.body = b"[]"  # as long as before, so that only the checksum tells

    place.raw.meta.events.register_last("before-send.s3.PutObject", change)
    upload = place.folder_upload(folder, "runs/x/")
    with pytest.raises(StorageUnavailable, match=r"BadDigest|Checksum|SHA256"):
        upload.run()

    upload.run()

    assert wire.counted()["HeadObject"] == 1
    assert_arrived(place, folder, tmp_path / "down")


def test_a_large_file_outlasts_trouble_by_itself(place: Bucket, wire: S3Wire, folder: Path) -> None:
    wire.refuse("UploadPart", "SlowDown", 503, times=4)

    place.put_file(folder / "model", "model")

    assert place.get_bytes("model") == LARGE
    assert wire.accepted["model"] == len(LARGE)


def test_a_bucket_that_denies_is_not_asked_again(place: Bucket, wire: S3Wire, folder: Path) -> None:
    wire.refuse("CreateMultipartUpload", "AccessDenied", 403)

    with pytest.raises(StorageError, match="s3:PutObject"):
        place.put_folder(folder, "runs/x/")
    assert wire.counted() == {"CreateMultipartUpload": 1}


def test_an_endpoint_that_is_not_there_is_trouble_that_passes(folder: Path) -> None:
    nowhere = Bucket("the-bucket", endpoint_url="http://127.0.0.1:9", part_size=PART)

    with pytest.raises(StorageUnavailable, match="Could not connect"):
        nowhere.folder_upload(folder, "runs/x/").run()
