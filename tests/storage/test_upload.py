"""A folder arrives whole, large files in parts, its manifest last; what is no longer what it was is refused."""

import os
from pathlib import Path

import pytest

from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError, StorageUnavailable
from receipt_layoutlm.storage.upload import FolderUpload, UploadTarget
from tests.support.s3_wire import S3Wire, in_the_end, open_uploads

pytestmark = pytest.mark.engine

PART = 5 << 20  # bytes; the smallest that S3 takes
LARGE = os.urandom(2 * PART + 1000)


@pytest.fixture
def place(bucket: str, s3_endpoint: str) -> Bucket:
    return Bucket(bucket, endpoint_url=s3_endpoint, part_size=PART)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of three parts, a small one, an empty one."""
    path = tmp_path / "checkpoint-7"
    path.mkdir()
    for name, content in (("model", LARGE), ("state", b"{}"), ("empty", b"")):
        (path / name).write_bytes(content)
    write_manifest(path, global_step=7)
    return path


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_folder_arrives_whole_and_the_manifest_goes_last(place: Bucket, folder: Path, tmp_path: Path) -> None:
    wire = S3Wire(place)
    upload = place.folder_upload(folder, "runs/x/")

    assert upload.run().global_step == 7

    place.get_folder("runs/x/", tmp_path / "down")
    assert (tmp_path / "down" / "model").read_bytes() == LARGE
    assert list(wire.accepted)[-1] == MANIFEST
    assert open_uploads(place.raw, place.name) == []


def test_an_undisturbed_upload_asks_for_nothing_and_sends_each_byte_once(place: Bucket, folder: Path) -> None:
    wire = S3Wire(place)
    upload = place.folder_upload(folder, "runs/x/")
    upload.run()

    assert upload.size == size_of(folder) == wire.accepted.total()
    assert wire.counted() == {
        "PutObject": 3,
        "CreateMultipartUpload": 1,
        "UploadPart": 3,
        "CompleteMultipartUpload": 1,
    }


def test_running_it_again_sends_no_file_again(place: Bucket, folder: Path) -> None:
    upload = place.folder_upload(folder, "runs/x/")
    upload.run()
    wire = S3Wire(place)

    upload.run()

    assert set(wire.accepted) <= {MANIFEST}


def test_seconds_count_the_time_of_the_runs(place: Bucket, folder: Path) -> None:
    clock = iter([100.0, 103.0, 200.0, 201.0])
    target = UploadTarget(place.raw, place.name, PART)
    upload = FolderUpload(target, folder, "runs/x/", place.put_new, monotonic=lambda: next(clock))

    upload.run()
    upload.run()

    assert upload.seconds == 4.0


@pytest.mark.parametrize("name", ["state", "model"])
def test_a_file_that_changed_after_its_manifest_was_written_is_refused(place: Bucket, folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(DamagedFolder, match=f"{name} is not what its manifest says"):
        place.folder_upload(folder, "runs/x/").run()
    assert not place.exists("runs/x/" + MANIFEST)
    assert not place.exists("runs/x/" + name)


def test_a_part_that_changed_after_a_failure_is_refused(place: Bucket, folder: Path) -> None:
    S3Wire(place).refuse("UploadPart", "SlowDown", 503, times=15)
    upload = place.folder_upload(folder, "runs/x/")
    with pytest.raises(StorageUnavailable):
        upload.run()
    with (folder / "model").open("r+b") as file:
        file.seek(PART + 5)
        file.write(b"other bytes")

    with pytest.raises(DamagedFolder, match="model is not what its manifest says"):
        in_the_end(upload.run)
    assert not place.exists("runs/x/model")


def test_a_file_that_got_shorter_or_went_away_is_refused(place: Bucket, folder: Path) -> None:
    upload = place.folder_upload(folder, "runs/x/")
    (folder / "model").write_bytes(b"short")
    with pytest.raises(DamagedFolder, match="model is shorter"):
        upload.run()
    (folder / "model").unlink()
    with pytest.raises(DamagedFolder, match="model cannot be read"):
        upload.run()
    with pytest.raises(DamagedFolder, match="model is missing"):
        place.folder_upload(folder, "runs/x/")


def test_a_link_is_never_followed(place: Bucket, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"{}")
    (folder / "state").unlink()
    (folder / "state").symlink_to(tmp_path / "secret")

    with pytest.raises(DamagedFolder, match="state is missing or no plain file"):
        place.folder_upload(folder, "runs/x/")
    assert list(place.list_keys("")) == []


def test_another_manifest_at_the_same_place_is_an_error(place: Bucket, folder: Path) -> None:
    place.folder_upload(folder, "runs/x/").run()
    write_manifest(folder, global_step=8)

    with pytest.raises(StorageError, match="other content"):
        place.folder_upload(folder, "runs/x/").run()


def test_an_upload_that_fails_leaves_no_parts_behind(place: Bucket, folder: Path) -> None:
    S3Wire(place).refuse("CompleteMultipartUpload", "InternalError", 500, times=5)

    with pytest.raises(StorageUnavailable, match="InternalError"):
        place.folder_upload(folder, "runs/x/").run()
    assert open_uploads(place.raw, place.name) == []


def test_an_upload_that_is_given_up_ends_within_a_part(place: Bucket, folder: Path) -> None:
    wire = S3Wire(place)
    upload = place.folder_upload(folder, "runs/x/", is_given_up=lambda: "UploadPart" in wire.sent)

    with pytest.raises(StorageUnavailable, match="given up"):
        upload.run()

    assert wire.counted()["UploadPart"] <= 3  # each part once: what was broken off is not repeated
    assert not place.exists("runs/x/model")
    assert open_uploads(place.raw, place.name) == []


def test_a_growing_file_is_sent_as_long_as_it_was(place: Bucket, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(LARGE)

    def grow(**_: object) -> None:
        with log.open("ab") as file:
            file.write(b"a line more")

    place.raw.meta.events.register_first("before-send.s3.UploadPart", grow)

    place.put_file(log, "train.log")

    assert place.get_bytes("train.log") == LARGE
