"""Logs in the bucket: only what is new is sent, no secret is in it, and neither a long line nor a flood gets far."""

import json
import os
import resource
from pathlib import Path

import pytest

from receipt_layoutlm.redact import redacted_bytes, redacted_lines
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.worker.log_mirror import (
    LOG_BYTES,
    LOG_KEPT_BYTES,
    PIECE_BYTES,
    READ_BYTES,
    LogMirror,
    earlier_part,
)
from receipt_layoutlm.worker.process import tail
from tests.support.s3_wire import S3Wire

SECRET = "hf_a-token-of-this-machine"
SECRETS = (SECRET, 'pass"wörd')


@pytest.fixture
def place(cloud: object) -> Bucket:
    return Bucket("the-bucket")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


@pytest.fixture
def mirror(place: Bucket, log: Path) -> LogMirror:
    return LogMirror(log, place, "logs/train.log", SECRETS, redacted_bytes, LOG_KEPT_BYTES)


def stored(place: Bucket) -> bytes:
    def number(key: str) -> int:
        return int(key.rpartition(".")[2]) if key[-1].isdigit() else 1

    return b"".join(place.get_bytes(key) for key in sorted(place.list_keys("logs/"), key=number))


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_only_what_is_new_is_sent(place: Bucket, log: Path, mirror: LogMirror) -> None:
    wire, line = S3Wire(place), b"a line of the log, as long as such lines are\n"
    for _ in range(40):
        append(log, line * 1000)
        mirror.send()

    assert stored(place) == log.read_bytes()
    assert sum(wire.accepted.values()) < 4 * log.stat().st_size  # the present piece again, never the whole log
    wire.counted()
    mirror.send()
    assert wire.counted() == {}


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
def test_a_secret_that_comes_in_two_parts_is_in_the_bucket_at_no_time(
    place: Bucket, log: Path, mirror: LogMirror, cut: int
) -> None:
    append(log, b"token=" + SECRET[:cut].encode())
    mirror.send()
    assert list(place.list_keys("logs/")) == []
    append(log, SECRET[cut:].encode())
    mirror.send()
    mirror.finish()

    assert stored(place) == b"token=[secret]"


@pytest.mark.parametrize(
    "offset", [0, 1, 10, len(SECRET) - 1, len(SECRET), len(SECRET) + 4, 2 * len(SECRET) - 1, 3 * len(SECRET)]
)
def test_a_line_without_an_end_is_sent_without_tearing_a_secret(
    place: Bucket, log: Path, mirror: LogMirror, offset: int
) -> None:
    filler = b"." * (READ_BYTES - offset)
    append(log, filler + SECRET.encode() * 2 + b"." * READ_BYTES)
    mirror.send()
    mirror.finish()

    assert stored(place) == filler + b"[secret]" * 2 + b"." * READ_BYTES


@pytest.mark.parametrize("shown", [str, repr, json.dumps, lambda text: json.dumps(text, ensure_ascii=False)])
def test_a_secret_is_known_in_the_forms_that_programs_print(
    place: Bucket, log: Path, mirror: LogMirror, shown: "type[str]"
) -> None:
    append(log, f"got {shown(SECRETS[1])} from it\n".encode())
    mirror.send()

    assert b"rd" not in stored(place) and b"[secret]" in stored(place)


def test_events_stay_json_when_a_number_looks_like_a_secret(place: Bucket, log: Path) -> None:
    append(log, b'{"message":"x 12345678","loss":0.12345678}\n{"message":"y"}\n')
    LogMirror(log, place, "logs/events.jsonl", ("12345678",), redacted_lines, LOG_KEPT_BYTES).send()

    rows = [json.loads(line) for line in stored(place).splitlines()]
    assert rows == [{"message": "x [secret]", "loss": 0.12345678}, {"message": "y"}]


def test_what_could_not_be_sent_is_sent_by_the_next_call(place: Bucket, log: Path, mirror: LogMirror) -> None:
    S3Wire(place).refuse("PutObject", "AccessDenied", 403)
    append(log, b"one\n")
    with pytest.raises(StorageError):
        mirror.send()
    append(log, b"two\n")
    mirror.send()

    assert stored(place) == b"one\ntwo\n"


def test_a_log_that_is_too_long_begins_anew_and_its_end_is_found_all_the_same(
    place: Bucket, log: Path, mirror: LogMirror
) -> None:
    append(log, b"begin\n" + b"x" * LOG_BYTES + b"\nRuntimeError: the cause\n")
    mirror.bound()
    append(log, b"and a last line\n")
    assert (log.stat().st_size, earlier_part(log).stat().st_size) == (16, LOG_BYTES + 31)
    assert tail(log).splitlines()[-2:] == ["RuntimeError: the cause", "and a last line"]

    mirror.send()

    assert stored(place) == b"... %d bytes left out ...\nand a last line\n" % (LOG_BYTES + 31)


def test_a_flood_is_bounded_in_the_bucket_and_its_newest_part_stays(place: Bucket, log: Path) -> None:
    kept, block = 4 << 20, (b"y" * 99 + b"\n") * 20_000
    mirror = LogMirror(log, place, "logs/train.log", SECRETS, redacted_bytes, kept)
    for _ in range(25):
        append(log, block)
        mirror.bound()
        mirror.send()
    append(log, b"the end\n")
    mirror.finish()

    copy = stored(place)
    assert copy.endswith(b"the end\n") and len(copy) <= kept + READ_BYTES + 2 * PIECE_BYTES
    assert b"bytes left out" in copy
    assert log.stat().st_size <= LOG_BYTES


def test_the_end_of_half_a_gigabyte_is_read_and_sent_in_a_few_megabytes(
    place: Bucket, log: Path, mirror: LogMirror
) -> None:
    with log.open("wb") as file:
        file.truncate(500 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"\nRuntimeError: the cause\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert tail(log).splitlines()[-1] == "RuntimeError: the cause"
    mirror.send()

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB
    assert stored(place).endswith(b"RuntimeError: the cause\n")
