"""Folders of this machine: where they lie, who may use them, and the line that says what to do about another's."""

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from receipt_layoutlm import paths
from receipt_layoutlm.paths import FolderRefused
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.worker.prepare import prepare_work_dir
from tests.support.stranger import STRANGER, as_stranger, needs_root


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder like /tmp: everybody may write to it, and remove only what is theirs."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_state_folder_and_the_local_work_folder_follow_the_variables(tmp_path: Path) -> None:
    environ = {"LAYOUTLM_STATE_DIR": str(tmp_path / "state")}
    assert paths.local_work_dir(environ) == tmp_path / "state" / "work"
    assert paths.given_work_dir(environ) is None
    assert paths.prepare_local_work_dir(environ) == tmp_path / "state" / "work"
    assert [mode(tmp_path / name) for name in ("state", "state/work")] == [0o700, 0o700]

    environ["LAYOUTLM_WORK_DIR"] = str(tmp_path / "big-disk" / "runs")
    assert paths.prepare_local_work_dir(environ) == tmp_path / "big-disk" / "runs"


def test_every_folder_that_is_created_is_its_owners_alone(tmp_path: Path) -> None:
    paths.prepare_state_dir(tmp_path / "a" / "b" / "state")
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/state")] == [0o700] * 3


def test_a_folder_of_an_earlier_version_is_closed_and_used(common: Path) -> None:
    folder = common / "receipt_layoutlm"
    for earlier in (0o755, 0o775):
        folder.mkdir()
        folder.chmod(earlier)
        assert paths.worker_work_dir(folder) == folder
        paths.make_own_folder(folder)
        assert mode(folder) == 0o700
        folder.rmdir()


@needs_root
def test_where_the_default_belongs_to_somebody_else_a_worker_takes_one_named_after_its_user(common: Path) -> None:
    default = common / "receipt_layoutlm"
    assert paths.prepare_default_work_dir(default, {}) == default  # of two who start at once, one is first

    def take() -> Path:
        folder = paths.prepare_default_work_dir(default, {})
        prepare_work_dir(folder)
        return folder

    own = Path(as_stranger(take))

    assert own == common / f"receipt_layoutlm-{STRANGER}"
    assert (own.stat().st_uid, mode(own), (own / ".attempts").is_dir()) == (STRANGER, 0o700, True)
    assert paths.prepare_default_work_dir(default, {}) == default


@needs_root
@pytest.mark.parametrize("planted", ["folder", "link", "link to the victim's own"])
def test_what_somebody_else_planted_at_the_place_is_refused_in_one_line(
    common: Path, planted: str, tmp_path: Path
) -> None:
    place, target = common / "receipt_layoutlm-root", tmp_path if "own" in planted else common
    as_stranger(place.mkdir if planted == "folder" else lambda: place.symlink_to(target))

    with pytest.raises(FolderRefused) as refusal:
        paths.make_own_folder(place)

    assert f"{place} " in str(refusal.value)
    assert "--work-dir or LAYOUTLM_WORK_DIR" in str(refusal.value) and "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_link_a_file_and_a_folder_open_to_everybody_are_refused(common: Path) -> None:
    (common / "link").symlink_to(common)
    (common / "file").touch()
    (common / "open").mkdir()
    (common / "open").chmod(0o777)
    for name, reason in (("link", "is a link"), ("file", "is not a folder"), ("open", "every user")):
        with pytest.raises(FolderRefused, match=reason):
            paths.make_own_folder(common / name)


@needs_root
def test_what_lies_at_a_fixed_name_inside_a_shared_folder_must_be_ones_own(common: Path) -> None:
    """--work-dir may name a folder that others write to; its .attempts is trusted, so it may not be theirs."""
    as_stranger((common / ".attempts").mkdir)
    with pytest.raises(FolderRefused, match=r"\.attempts belongs to 12345"):
        prepare_work_dir(common)
    (common / ".attempts").rmdir()
    as_stranger(lambda: (common / ".attempts").symlink_to("/root"))
    with pytest.raises(FolderRefused, match="is a link"):
        prepare_work_dir(common)


def test_two_workers_that_start_at_once_share_their_users_folder(common: Path) -> None:
    barrier, failures = threading.Barrier(8), list[str]()

    def start() -> None:
        barrier.wait()
        try:
            paths.make_own_folder(common / "receipt_layoutlm")
        except FolderRefused as error:
            failures.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, mode(common / "receipt_layoutlm")) == ([], 0o700)


@needs_root
def test_the_state_of_another_user_is_one_line_with_the_way_out(common: Path) -> None:
    theirs = common / "state"
    paths.prepare_state_dir(theirs)

    for path in (theirs, theirs / "inside"):
        text = as_stranger(lambda path=path: paths.check_state_dir(path))
        assert text.startswith("FolderRefused: the state folder") and "set LAYOUTLM_STATE_DIR" in text
    os.chown(theirs, STRANGER, STRANGER)  # and root does not write into the state of another
    with pytest.raises(FolderRefused, match="belongs to 12345, not to root: set LAYOUTLM_STATE_DIR"):
        paths.prepare_state_dir(theirs)


def test_a_disk_that_cannot_be_written_is_one_line(common: Path) -> None:
    for place in (Path("/proc/state"), common / "file" / "state"):
        (common / "file").touch()
        with pytest.raises(FolderRefused, match=r"cannot be created .*set LAYOUTLM_STATE_DIR"):
            paths.prepare_state_dir(place)


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    run_dir = RunDir(tmp_path)
    run_dir.train_log.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        run_dir.open_train_log()
    assert (tmp_path / "victim").read_text() == "precious"


def test_files_inside_the_block_are_private_and_afterwards_as_before(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with paths.private_files():
            (tmp_path / "inside").touch()
        (tmp_path / "after").touch()
    finally:
        os.umask(before)
    assert (mode(tmp_path / "inside"), mode(tmp_path / "after")) == (0o600, 0o644)


@needs_root
@pytest.mark.parametrize("planted", ["file", "link", "hard link"])
def test_a_log_that_somebody_put_there_first_is_not_written_to(common: Path, planted: str) -> None:
    victim = common / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    run = common / "run"
    run.mkdir()
    run.chmod(0o777)
    log = run / "train.log"
    if planted == "hard link":
        log.hardlink_to(victim)
    else:
        as_stranger(log.touch if planted == "file" else lambda: log.symlink_to(victim))

    with pytest.raises(OSError, match=r"exists|symbolic link"):
        RunDir(run).open_train_log()

    assert victim.read_text() == "precious"
    assert planted != "file" or log.read_bytes() == b""


def test_run_directories_are_their_users_alone_in_a_folder_that_is_shared(common: Path) -> None:
    (common / ".attempts").mkdir()
    (common / ".attempts").chmod(0o755)  # as an earlier version made it

    prepare_work_dir(common)

    assert mode(common / ".attempts") == 0o700
    assert mode(common) == 0o1777


@needs_root
def test_a_work_folder_in_which_others_can_replace_what_is_ones_own_is_refused(common: Path) -> None:
    open_to_all = common / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(FolderRefused, match=r"every user of this machine \(chmod \+t.*--work-dir"):
        prepare_work_dir(open_to_all)
    theirs = common / "theirs"
    as_stranger(theirs.mkdir)
    with pytest.raises(FolderRefused, match=r"belongs to 12345, who can replace"):
        prepare_work_dir(theirs)
    assert list(theirs.iterdir()) == list(open_to_all.iterdir()) == []
