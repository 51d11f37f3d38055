"""Pictures of pages in the bucket: sent once, verified on arrival, and downloaded once."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.datasets.page_images import DamagedImage, fetch_images, image_digests, put_images
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import image_key
from tests.support.tiny import tiny_pages


@pytest.fixture
def bucket(cloud: DynamoClient) -> Bucket:
    return Bucket("the-bucket")


def nothing() -> None:
    return None


def scan(folder: Path, content: bytes) -> tuple[str, Path]:
    """A file with this content, and its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest[:8]}.jpg"
    path.write_bytes(content)
    return digest, path


def pages_of(*digests: str | None) -> list[Page]:
    return [replace(page, image=digest) for page, digest in zip(tiny_pages(len(digests)), digests, strict=True)]


def test_a_picture_is_sent_once_and_comes_back_whole(bucket: Bucket, tmp_path: Path) -> None:
    first, second = scan(tmp_path, b"first scan"), scan(tmp_path, b"second scan")
    assert put_images(bucket, dict([first]), nothing) == 1
    assert put_images(bucket, dict([first, second]), nothing) == 1

    found = fetch_images(bucket, pages_of(first[0], second[0], first[0]), tmp_path / "kept", nothing)

    assert {digest: path.read_bytes() for digest, path in found.items()} == {
        first[0]: b"first scan",
        second[0]: b"second scan",
    }
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == sorted([first[0], second[0]])


def test_what_is_kept_is_not_downloaded_again(bucket: Bucket, tmp_path: Path) -> None:
    digest, path = scan(tmp_path, b"scan")
    put_images(bucket, {digest: path}, nothing)
    fetch_images(bucket, pages_of(digest), tmp_path / "kept", nothing)
    bucket.delete_prefix("images/")

    assert list(fetch_images(bucket, pages_of(digest), tmp_path / "kept", nothing)) == [digest]


def test_another_content_under_its_name_is_refused_and_not_kept(bucket: Bucket, tmp_path: Path) -> None:
    digest, _ = scan(tmp_path, b"scan")
    bucket.put_bytes(b"another scan", image_key(digest))

    with pytest.raises(DamagedImage, match=f"s3://the-bucket/images/{digest} is another picture"):
        fetch_images(bucket, pages_of(digest), tmp_path / "kept", nothing)
    assert not (tmp_path / "kept").exists()


def test_a_file_that_changed_since_it_was_read_is_not_stored(bucket: Bucket, tmp_path: Path) -> None:
    digest, path = scan(tmp_path, b"scan")
    path.write_bytes(b"edited")

    with pytest.raises(DataError, match="has changed since it was read"):
        put_images(bucket, {digest: path}, nothing)
    assert list(bucket.list_keys("images/")) == []


def test_pages_without_a_stored_picture_are_left_out(bucket: Bucket, tmp_path: Path) -> None:
    digest, path = scan(tmp_path, b"scan")
    put_images(bucket, {digest: path}, nothing)
    pages = pages_of(None, "a.jpg", "0" * 64, digest)

    assert image_digests(pages) == ["0" * 64, digest]
    assert list(fetch_images(bucket, pages, tmp_path / "kept", nothing)) == [digest]


def test_a_prefix_in_the_bucket_has_pictures_of_its_own(bucket: Bucket, tmp_path: Path) -> None:
    digest, _ = scan(tmp_path, b"scan")
    bucket.put_bytes(b"scan", image_key(digest, "team/"))

    assert fetch_images(bucket, pages_of(digest), tmp_path / "kept", nothing) == {}
    assert list(fetch_images(bucket, pages_of(digest), tmp_path / "kept", nothing, "team/")) == [digest]
