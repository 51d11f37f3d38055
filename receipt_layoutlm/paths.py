"""Folders of this machine: state and run directories, made so that nobody but their owner can use them."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from receipt_layoutlm.errors import UserError

STATE_VARIABLE = "LAYOUTLM_STATE_DIR"
CACHE_VARIABLE = "LAYOUTLM_CACHE_DIR"
WORK_VARIABLE = "LAYOUTLM_WORK_DIR"
WORK = "work"  # in the state folder
DEFAULT_WORK_DIR = Path("/tmp/receipt_layoutlm")  # the original system's: its users look there for run.json and best/
STATE_ADVICE = f"set {STATE_VARIABLE} to a folder of your own"
WORK_ADVICE = f"name a folder of your own with --work-dir or {WORK_VARIABLE}"


class FolderRefused(UserError):
    """A folder belongs to somebody else, can be changed by others, or cannot be written. The text has the fix."""


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where the state is kept: LAYOUTLM_STATE_DIR, else the platform's data folder."""
    import platformdirs  # the scaler's archive has none

    given = environ.get(STATE_VARIABLE)
    return Path(given).expanduser().absolute() if given else platformdirs.user_data_path("layoutlm")


def given_work_dir(environ: Mapping[str, str]) -> Path | None:
    """LAYOUTLM_WORK_DIR, which replaces every default."""
    given = environ.get(WORK_VARIABLE)
    return Path(given).expanduser().absolute() if given else None


def local_work_dir(environ: Mapping[str, str]) -> Path:
    """Default folder of run directories with --local and --run-here: in the state folder."""
    return state_dir(environ) / WORK


def worker_work_dir(shared: Path = DEFAULT_WORK_DIR) -> Path:
    """Default folder of run directories of other workers: NAME-USER where `shared` belongs to another user."""
    with suppress(OSError):
        if shared.lstat().st_uid != os.geteuid():
            return shared.with_name(f"{shared.name}-{_user_name(os.geteuid())}")
    return shared


def prepare_state_dir(folder: Path) -> None:
    """Create the state folder, or check an existing one. Raises FolderRefused."""
    check_state_dir(folder)
    make_folders(folder, STATE_ADVICE)


def state_problem(folder: Path) -> str | None:
    """Why an existing state folder cannot be used, as in problem_of. A link there was put by its user."""
    try:
        return problem_of(folder, folder.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def check_state_dir(folder: Path) -> None:
    """Check the state folder if it exists. Raises FolderRefused."""
    if (problem := state_problem(folder)) is not None:
        raise FolderRefused(f"the state folder {folder} {problem}: {STATE_ADVICE}")


def prepare_default_work_dir(folder: Path, environ: Mapping[str, str]) -> Path:
    """Create a default folder of run directories, or check an existing one; returns the one to use.

    That is the user's own where `folder` belongs to another user. Raises FolderRefused.
    """
    if folder == local_work_dir(environ):
        prepare_state_dir(folder.parent)
    else:
        with suppress(OSError):  # of two users who start at once, mkdir lets one win
            folder.mkdir(mode=0o700)
        folder = worker_work_dir(folder)
    make_own_folder(folder)
    return folder


def prepare_local_work_dir(environ: Mapping[str, str]) -> Path:
    """Create or check the folder of commands that replay or train here; returns it. Raises FolderRefused."""
    if (given := given_work_dir(environ)) is not None:
        make_folders(given)
        return given
    return prepare_default_work_dir(local_work_dir(environ), environ)


def make_own_folder(folder: Path, advice: str = WORK_ADVICE) -> None:
    """Create a folder with mode 0700, or check that an existing one is its user's own. Raises FolderRefused.

    Nobody else can replace it afterwards, /tmp being sticky.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        check_own(folder, advice)
        if folder.lstat().st_mode & 0o077:  # made by an earlier version
            folder.chmod(0o700)
    except OSError as error:
        raise FolderRefused(f"{folder} cannot be created ({error.strerror}): {advice}") from error


def check_own(folder: Path, advice: str = WORK_ADVICE) -> None:
    """Check that an existing folder at a fixed place was not put there by somebody else. Raises FolderRefused."""
    if (problem := problem_of(folder, folder.lstat())) is not None:
        raise FolderRefused(f"{folder} {problem}: {advice}")


def check_shared(folder: Path, advice: str = WORK_ADVICE) -> None:
    """Check that no other user can replace what this one puts into a folder. Raises FolderRefused."""
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise FolderRefused(
            f"{folder} belongs to {_user_name(found.st_uid)}, who can replace what lies in it: {advice}"
        )
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise FolderRefused(f"{folder} can be changed by every user of this machine (chmod +t protects it): {advice}")


def problem_of(folder: Path, found: os.stat_result) -> str | None:
    """Why an existing folder is not safe to use, in words that follow its name; None if it is."""
    if stat.S_ISLNK(found.st_mode):
        return "is a link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid != os.geteuid():
        return f"belongs to {_user_name(found.st_uid)}, not to {_user_name(os.geteuid())}"
    if found.st_mode & stat.S_IWOTH:
        return "can be changed by every user of this machine (after a look at its contents, chmod 700 closes it)"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "is on a read-only disk"
    return None if os.access(folder, os.W_OK | os.X_OK) else "is not writable"


def make_folders(folder: Path, advice: str = WORK_ADVICE) -> None:
    """Create a folder and those above it that are missing, all with mode 0700. Raises FolderRefused."""
    try:
        for path in (*reversed(folder.absolute().parents), folder):
            if not path.is_dir():
                path.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise FolderRefused(f"{folder} cannot be created ({error.strerror}): {advice}") from error


def disk_bytes(folder: Path, most: int = 200_000) -> int:
    """Bytes that the files below a folder take on the disk, of the first `most` files. No link is followed."""
    total, seen = 0, set[int]()
    for root, _folders, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                found = os.lstat(os.path.join(root, name))  # noqa: PTH118 - some 5 times faster
                total += found.st_blocks * 512 if found.st_ino not in seen else 0
                seen.add(found.st_ino)
        if len(seen) >= most:
            break
    return total


def private(path: str, flags: int) -> int:
    """Opener for `open`: a new file is its owner's alone from the first byte, and a link is not followed."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def private_new(path: str, flags: int) -> int:
    """Opener as `private` for a file that must not exist yet: no link, and no file that somebody else put there."""
    try:
        return private(path, flags | os.O_EXCL)
    except FileExistsError:
        os.close(private(path, os.O_RDONLY))  # names a link as such
        raise


@contextmanager
def private_files() -> Iterator[None]:
    """Inside the block, new files and folders of this process and its children are their owner's alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _user_name(uid: int) -> str:
    import pwd  # does not exist on Windows, where only the control side runs

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Downloaded models and read scans, which may be removed at any time: LAYOUTLM_CACHE_DIR, else the platform's."""
    import platformdirs  # the scaler's archive has none

    given = environ.get(CACHE_VARIABLE)
    return Path(given).expanduser().absolute() if given else platformdirs.user_cache_path("layoutlm")


def image_cache(environ: Mapping[str, str]) -> Path:
    """Downloaded pictures of pages, named by their SHA-256."""
    return cache_dir(environ) / "images"
