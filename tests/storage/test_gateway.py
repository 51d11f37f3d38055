"""Answers of a gateway before the bucket are waited for like an outage, and nothing that they say is stored."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored, StorageUnavailable, keep_trying
from tests.support.gateway import Answer, Gateway, each_page, gateway_to
from tests.support.s3_wire import S3Wire, in_the_end, open_uploads

pytestmark = pytest.mark.engine

PART = 5 << 20  # bytes; the smallest that S3 takes


@pytest.fixture
def gateway(s3_endpoint: str) -> Iterator[Gateway]:
    with gateway_to(s3_endpoint) as gateway:
        yield gateway


@pytest.fixture
def place(bucket: str, gateway: Gateway) -> Bucket:
    place = Bucket(bucket, endpoint_url=gateway.endpoint, part_size=PART, wait=lambda _seconds: None)
    S3Wire(place)  # botocore's own repetitions go without their waits
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "up"
    folder.mkdir()
    (folder / "model").write_bytes(os.urandom(PART + 1000))
    (folder / "state").write_bytes(b"{}")
    write_manifest(folder, 7)
    return folder


@each_page
def test_a_folder_goes_up_and_comes_back_through_a_gateway_that_answers_every_other_request_itself(
    place: Bucket, gateway: Gateway, folder: Path, tmp_path: Path, page: Answer
) -> None:
    def after_page(action: Callable[[], object]) -> object:
        gateway.answer(page)
        return in_the_end(action)

    after_page(place.folder_upload(folder, "runs/x/").run)
    after_page(lambda: place.get_folder("runs/x/", tmp_path / "down"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "down").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert after_page(lambda: place.get_bytes("runs/x/state")) == b"{}"
    assert after_page(lambda: place.exists("runs/x/state")) is True
    assert len(after_page(lambda: list(place.list_keys("runs/x/")))) == 3  # type: ignore[arg-type]
    after_page(lambda: place.put_new(b"once", "once"))
    after_page(lambda: place.copy_folder("runs/x/", "best/", ["state"]))
    assert after_page(lambda: place.delete_prefix("runs/")) == 3

    gateway.answers.clear()
    assert list(place.list_keys("")) == ["best/manifest.json", "best/state", "once"]
    assert open_uploads(place.raw, place.name) == []


@each_page
def test_a_bucket_behind_a_gateway_that_never_lets_through_is_away_and_the_gateway_is_named(
    place: Bucket, gateway: Gateway, page: Answer
) -> None:
    gateway.answer(page, times=1000)
    waits: list[float] = []

    with pytest.raises(StorageUnavailable, match=r"s3://.*/a/key: (HTTP .*a proxy or a gateway|.*502)"):
        keep_trying(lambda: place.get_bytes("a/key"), lambda: sum(waits) > 30, waits.append, random.Random(0))
    assert gateway.seen <= 5 * (len(waits) + 1)  # botocore's own tries, and none for each redirect


def test_what_the_bucket_itself_says_is_still_final(place: Bucket) -> None:
    with pytest.raises(NotStored):
        place.get_bytes("a/key")
    assert not place.exists("a/key")
