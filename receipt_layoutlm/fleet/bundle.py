"""What a fleet's machines and its scaler are made of: two archives, named by the hash of their content."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.infra import template_path
from receipt_layoutlm.run.manifest import sha256_of
from receipt_layoutlm.storage.bucket import Bucket

PACKAGE = "receipt-layoutlm"
SOURCES = ("receipt_dynamo", "receipt_layoutlm")
MACHINE_FILES = ("worker.lock", "bootstrap.sh", "worker@.service", "terminate_instance.sh")
LAMBDA_PYTHON, LAMBDA_PLATFORM = "3.13", "manylinux2014_x86_64"  # as infra/workers.yaml has them
BUILD = "make one with scripts/build_wheel and give it as --wheel"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip knows: equal content makes equal bytes
PIP_SECONDS = 600


class BundleError(UserError):
    """An archive cannot be made; the text says what is missing and how to get it."""


def find_wheel(dist: Path) -> Path:
    """The newest wheel of this project in a folder, else the file that the package was installed from."""
    built = sorted(dist.glob("receipt_layoutlm-*.whl"), key=lambda path: path.stat().st_mtime)
    if built:
        return built[-1]
    origin = _installed_from()
    if origin is None or not origin.is_file():
        raise BundleError(f"no wheel in {dist}, and the one that this was installed from is not known: {BUILD}")
    return origin


def _installed_from() -> Path | None:
    """By direct_url.json (PEP 610), which installers write for a file."""
    try:
        text = distribution(PACKAGE).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    url = urlparse(str(json.loads(text)["url"]) if text else "")
    path = Path(unquote(url.path))
    return path if url.scheme == "file" and path.suffix == ".whl" else None


def make_bundle(wheel: Path, folder: Path) -> Path:
    """{sha256}.tar.gz with the wheel, its pinned requirements and a machine's scripts."""
    check_wheel(wheel)
    files = {name: template_path(name).read_bytes() for name in MACHINE_FILES}
    return _named(_tar({wheel.name: wheel.read_bytes(), **files}), folder, ".tar.gz")


def check_wheel(wheel: Path) -> None:
    """Raises BundleError unless this is a wheel of this project."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{wheel} is not a wheel that can be read ({error}): {BUILD}") from error
    if not wheel.name.startswith("receipt_layoutlm-") or "receipt_layoutlm/worker/worker.py" not in names:
        raise BundleError(f"{wheel} is not a wheel of {PACKAGE}: {BUILD}")


def make_scaler_zip(
    folder: Path, python: str = LAMBDA_PYTHON, platform: str = LAMBDA_PLATFORM, lock: Path | None = None
) -> Path:
    """{sha256}.zip: this project's code and what a lock (infra/scaler.lock) pins, for a Lambda's Python."""
    site = folder / f"scaler-{python}-{platform}"
    _install(lock or template_path("scaler.lock"), site, python, platform)
    installed = {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*")) if path.is_file()}
    root = Path(__file__).parents[2]
    own = {
        path.relative_to(root).as_posix(): path
        for name in SOURCES
        for path in sorted((root / name).rglob("*.py"))
        if "_infra" not in path.parts
    }
    return _named(_zip({**installed, **own}), folder, ".zip")


def _install(lock: Path, site: Path, python: str, platform: str) -> None:
    """pip chooses the wheels of another platform than this one; what it downloads has to have the pinned hash."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--python-version", python, "--platform", platform]
    command += ["--no-compile", "--upgrade", "--target", str(site), "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BundleError(
            f"pip could not fetch the scaler's packages: {reason}; it needs pip and a package index "
            f"({sys.executable} -m ensurepip, if pip is missing)"
        )


def upload(bucket: Bucket, archive: Path) -> str:
    """Put an archive to wheels/{sha256}.… unless it is there; returns its SHA-256."""
    sha256 = sha256_of(archive)
    key = f"wheels/{sha256}{''.join(archive.suffixes)}"
    if not bucket.exists(key):
        bucket.put_file(archive, key)
    return sha256


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)  # time 0, owner 0: equal content makes equal bytes
            entry.size, entry.mode = len(files[name]), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(packed.getvalue(), mtime=0)


def _zip(files: Mapping[str, Path]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _without_traces(sorted(files)):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name].read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _without_traces(names: Iterable[str]) -> list[str]:
    """Not what pip notes about the installation: it differs from machine to machine."""
    traces = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    return [name for name in names if not (".dist-info/" in name and name.endswith(traces))]


def _named(content: bytes, folder: Path, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    archive.write_bytes(content)
    return archive
