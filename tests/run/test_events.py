"""events.jsonl on a disk that fills up: whole lines stay, a torn one goes, and what is no event is passed over."""

import errno
import logging
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from receipt_layoutlm.run.events import Event, EventReader, EventWriter, Log


def note(text: str) -> Log:
    return Log(event="note", message=text)


def messages(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.seq, event.message) for event in events if isinstance(event, Log)]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files of this process end at 1,000 bytes, as on a full disk: a larger write takes a part and then fails."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_line_that_a_full_disk_took_half_of_is_removed_and_the_next_one_is_whole(
    tmp_path: Path, full_disk: None
) -> None:
    path = tmp_path / "events.jsonl"
    writer, reader = EventWriter(path), EventReader(path)
    writer.write(note("first"))
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        writer.write(note("x" * 2000))
    assert messages(reader.read()) == [(1, "first")]

    writer.write(note("second"))

    assert messages(reader.read()) == [(2, "second")]
    assert reader.skipped == 0 and path.read_bytes().count(b"\n") == 2


def test_a_torn_line_of_another_writer_is_ended_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind":"log","mess')
    EventWriter(path).write(note("first"))
    reader = EventReader(path)

    with caplog.at_level(logging.WARNING):
        assert messages(reader.read()) == [(1, "first")]

    assert reader.skipped == 1
    assert "a line that is no event, which is passed over" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"kind":"dream"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"kind":"log","seq":-1}',
        b"\x00" * 99,
    ],
    ids=repr,
)
def test_a_line_that_is_no_event_costs_only_itself(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    writer, reader = EventWriter(path), EventReader(path)
    writer.write(note("before"))
    with path.open("ab") as file:
        file.write(line + b"\n")
    writer.write(note("after"))

    assert messages(reader.read()) == [(1, "before"), (2, "after")]
    assert reader.skipped == 1


def test_a_torn_tail_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).write(note("whole"))
    line = path.read_bytes()
    path.write_bytes(line + line[:20])
    reader = EventReader(path)
    assert messages(reader.read()) == [(1, "whole")]

    path.write_bytes(line * 2)

    assert messages(reader.read()) == [(1, "whole")] and reader.skipped == 0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic link"):
        EventWriter(tmp_path / "events.jsonl")
    assert (tmp_path / "victim").read_text() == "precious"
