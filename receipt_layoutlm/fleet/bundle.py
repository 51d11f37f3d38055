"""Archives of the code for a fleet's machines and its scaler, named by the hash of their content."""

import base64
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.stack import StackState
from receipt_layoutlm.fleet.stack_errors import StackError, explain_refusals
from receipt_layoutlm.infra import template_path
from receipt_layoutlm.storage.bucket import Bucket

PACKAGE = "receipt-layoutlm"
SOURCES = ("receipt_dynamo", "receipt_layoutlm")
MACHINE_FILES = ("bootstrap.sh", "worker@.service", "terminate_instance.sh")
LAMBDA_PYTHON, LAMBDA_PLATFORM = "3.13", "manylinux2014_x86_64"  # as in infra/workers.yaml
MACHINE_PYTHONS = ("3.12", "3.13")  # of the image that infra/workers.yaml names, in its releases so far
MACHINE_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
BUILD = "build one with scripts/build_wheel and give it with --wheel"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip: equal contents make equal bytes
PIP_TRACES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")  # of an installation; they differ by machine
PIP_SECONDS = 600


class BundleError(UserError):
    """An archive cannot be built. The message contains the fix."""


def find_wheel(dist: Path) -> Path:
    """The newest wheel of this project in a folder, or the wheel that the package was installed from."""
    built = sorted(dist.glob("receipt_layoutlm-*.whl"), key=lambda path: path.stat().st_mtime)
    if built:
        return built[-1]
    try:
        text = distribution(PACKAGE).read_text("direct_url.json")  # PEP 610: written for packages installed from a file
    except PackageNotFoundError:
        text = None
    url = urlparse(str(json.loads(text)["url"]) if text else "")
    origin = Path(unquote(url.path))
    if url.scheme == "file" and origin.suffix == ".whl" and origin.is_file():
        return origin
    raise BundleError(f"there is no wheel in {dist}, and this package was not installed from one: {BUILD}")


def make_bundle(wheel: Path, folder: Path, pythons: Sequence[str] = MACHINE_PYTHONS, lock: Path | None = None) -> Path:
    """{sha256}.tar.gz with the wheel, the wheels that it requires for each Python, and a machine's scripts.

    The required packages are those pinned in a lock (infra/worker.lock).
    """
    check_wheel(wheel)
    files = {name: template_path(name).read_bytes() for name in MACHINE_FILES}
    files["worker.lock"] = (lock or template_path("worker.lock")).read_bytes()
    files[wheel.name] = wheel.read_bytes()
    for path in _download(lock or template_path("worker.lock"), folder / "wheels", pythons):
        files[f"wheels/{path.name}"] = path.read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)  # time 0, owner 0: equal contents make equal bytes
            entry.size, entry.mode = len(files[name]), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return _write(gzip.compress(packed.getvalue(), compresslevel=1, mtime=0), folder, ".tar.gz")  # mostly wheels


def _download(lock: Path, wheels: Path, pythons: Sequence[str]) -> list[Path]:
    """Download the wheels of a lock for each Python; most of them serve all."""
    platforms = [word for platform in MACHINE_PLATFORMS for word in ("--platform", platform)]
    for python in pythons:
        options = ["--python-version", python, *platforms, "--dest", str(wheels), "-r", str(lock)]
        _pip("download", *options, purpose="the machines' packages")
    return sorted(wheels.glob("*.whl"))


def check_wheel(wheel: Path) -> None:
    """Raises BundleError unless this is a wheel of this project."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{wheel} is not a readable wheel ({error}): {BUILD}") from error
    if not wheel.name.startswith("receipt_layoutlm-") or "receipt_layoutlm/worker/worker.py" not in names:
        raise BundleError(f"{wheel} is not a wheel of {PACKAGE}: {BUILD}")


def make_scaler_zip(
    folder: Path, python: str = LAMBDA_PYTHON, platform: str = LAMBDA_PLATFORM, lock: Path | None = None
) -> Path:
    """{sha256}.zip with this project's code and the packages pinned in a lock (infra/scaler.lock)."""
    site = folder / f"scaler-{python}-{platform}"
    _install(lock or template_path("scaler.lock"), site, python, platform)
    files = {
        path.relative_to(site).as_posix(): path
        for path in sorted(site.rglob("*"))
        if path.is_file() and not (".dist-info/" in path.as_posix() and path.name in PIP_TRACES)
    }
    root = Path(__file__).parents[2]
    for package in SOURCES:
        sources = [path for path in sorted((root / package).rglob("*.py")) if "_infra" not in path.parts]
        files |= {path.relative_to(root).as_posix(): path for path in sources}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name].read_bytes(), zipfile.ZIP_DEFLATED)
    return _write(packed.getvalue(), folder, ".zip")


def _install(lock: Path, site: Path, python: str, platform: str) -> None:
    options = ["--python-version", python, "--platform", platform, "--no-compile", "--upgrade"]
    _pip("install", *options, "--target", str(site), "-r", str(lock), purpose="the scaler's packages")


def _pip(command: str, *options: str, purpose: str) -> None:
    """Fetch wheels of another platform with pip, which verifies the pinned hash of each download."""
    shared = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    words = [sys.executable, "-m", "pip", command, *shared, *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PIP_SECONDS)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BundleError(
            f"pip could not download {purpose}: {reason}; this needs pip and a package index "
            f"(install pip with {sys.executable} -m ensurepip)"
        )


def _write(content: bytes, folder: Path, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    archive.write_bytes(content)
    return archive


def upload(bucket: Bucket, archive: Path) -> str:
    """Store an archive as wheels/{sha256}.…, unless the bucket's own checksum proves that these bytes are there.

    An object that somebody placed under the name first is replaced. Returns the version, empty in a bucket without.
    """
    key = f"wheels/{archive.name}"
    if not bucket.holds(archive, key):
        bucket.put_file(archive, key)
    return bucket.version_of(key)


class ForeignCode(StackError):
    """The function runs other code than was deployed."""


def restore_code(client: Any, workers: StackState) -> bool:
    """Give the function the deployed archive again if it runs another one; whether it did. Raises ForeignCode.

    CloudFormation compares the names of archives only, and knows nothing of a change that was made beside it.
    """
    name = workers.outputs["ScalerName"]
    bucket, sha256 = (workers.parameters[key] for key in ("BucketName", "ScalerSha256"))
    expected = base64.b64encode(bytes.fromhex(sha256)).decode()
    with explain_refusals(name):
        if client.get_function_configuration(FunctionName=name)["CodeSha256"] == expected:
            return False
        version = {"S3ObjectVersion": each} if (each := workers.parameters.get("ScalerVersion")) else {}
        key = f"wheels/{sha256}.zip"
        found = client.update_function_code(FunctionName=name, S3Bucket=bucket, S3Key=key, **version)
    if found["CodeSha256"] != expected:
        raise ForeignCode(
            f"function {name} runs other code than was deployed, and s3://{bucket}/{key} is not the archive of "
            "that name: remove from others the right to write below wheels/, then deploy again"
        )
    return True
