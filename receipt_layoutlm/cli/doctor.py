"""layoutlm-cli doctor: what this machine has for a local training run, or the account for a fleet, and the fixes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.config import DEFAULT_WORK_DIR
from receipt_layoutlm.fleet.finding import Finding, State
from receipt_layoutlm.local import engines as local_engines
from receipt_layoutlm.local.engines import DYNOXIDE_INTEGRITY, EngineUnavailable
from receipt_layoutlm.paths import state_dir

COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "missing": "red"}
OLDEST_PYTHON = (3, 11)
GIGABYTE = 10**9
TIGHT_BYTES, TOO_SMALL_BYTES = 5 * GIGABYTE, GIGABYTE  # a run of MiniLM keeps about 0.3 GB a checkpoint
DEVICE_SECONDS = 60
DEVICE_PROBE = (
    "import torch; print('cuda' if torch.cuda.is_available() else "
    "'mps' if torch.backends.mps.is_available() else 'cpu')"
)
TRAIN_EXTRA = "pip install 'receipt-layoutlm[train]'"
TRAIN_PACKAGES = ("torch", "transformers", "safetensors", "numpy")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--fleet", envvar="LAYOUTLM_FLEET", metavar="NAME", show_envvar=True, help="Check the account for this fleet."
)
@store_options
def doctor(connection: Connection, as_json: bool, fleet: str | None) -> None:
    """Check this machine, or your AWS account, and say what to fix; exit code 1 when something is missing.

    Where a table, a bucket or a fleet is named (by flag or environment, and not --local), the account is looked at:
    credentials, the fleet's stack, your rights to submit jobs and to deploy a fleet (simulated), the table's shape,
    the bucket, quotas for the fleet's instance types, and the wheel that `fleet deploy` would take. Else this
    machine: what `layoutlm-cli --local train` needs.
    """
    if not connection.is_local and (fleet or connection.has_table() or connection.has_bucket()):
        findings = _examine_account(connection, fleet)
    else:
        findings = examine(local_engines.platform_key(), local_engines.programs_dir(), state_dir(os.environ))
    click.echo(json.dumps([asdict(each) for each in findings], indent=1) if as_json else as_text(findings))
    if any(each.state == "missing" for each in findings):
        sys.exit(1)


def _examine_account(connection: Connection, fleet: str | None) -> list[Finding]:
    from receipt_layoutlm.fleet.account import Account, examine_account
    from receipt_layoutlm.fleet.names import DEFAULT_FLEET

    table = connection.table_name() if connection.has_table() else None
    bucket = connection.default_bucket() if connection.has_bucket() else None
    return examine_account(Account(connection.region, fleet or DEFAULT_FLEET, table, bucket, Path("dist")))


def examine(platform: str, programs: Path, state: Path) -> list[Finding]:
    """Everything a local run needs, in the order in which it needs it. Installs and starts nothing."""
    return [
        python_finding(sys.version_info[:3]),
        system_finding(platform),
        *(package_finding(name, "missing", TRAIN_EXTRA) for name in TRAIN_PACKAGES),
        device_finding([sys.executable, "-c", DEVICE_PROBE]),
        weights_finding(),
        dynamodb_finding(platform, programs),
        s3_finding(platform, programs),
        package_finding("Faker", "warn", f"{local_engines.INSTALL_EXTRA}, for `dataset import sample`"),
        disk_finding("state folder", state),
        disk_finding("work folder", Path(DEFAULT_WORK_DIR)),
    ]


def as_text(findings: list[Finding]) -> str:
    """One line a finding, the advice below it; coloured on a terminal only."""
    lines = []
    for each in findings:
        lines.append(f"{click.style(f'{each.state:8}', fg=COLOURS[each.state])}{each.name:14}  {each.found}")
        lines += [f"{'':24}-> {each.advice}"] if each.advice else []
    return "\n".join(lines)


def python_finding(running: tuple[int, ...]) -> Finding:
    """Python itself."""
    found = ".".join(map(str, running))
    if running[:2] < OLDEST_PYTHON:
        return Finding("Python", "missing", found, f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return Finding("Python", "ok", found)


def system_finding(platform: str) -> Finding:
    """The operating system: --local needs one with POSIX processes."""
    if platform.startswith("win32"):
        return Finding("system", "missing", platform, "control side only: use a real AWS account, or WSL for --local")
    return Finding("system", "ok", platform)


def package_finding(name: str, absent: State, advice: str) -> Finding:
    """A package by its metadata, without importing it; `absent` is how bad it is when it is not there."""
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, absent, "not installed", advice)


def device_finding(probe: list[str]) -> Finding:
    """Where training would compute: what torch says in a process of its own, which may take seconds to load."""
    try:
        shown = subprocess.run(probe, capture_output=True, text=True, timeout=DEVICE_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return Finding("device", "warn", "unknown", f"torch took more than {DEVICE_SECONDS} s to load")
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("device", "missing", "unknown", f"torch does not load: {reason}")
    device = shown.stdout.strip()
    if device == "cpu" and shutil.which("nvidia-smi"):
        return Finding("device", "warn", "cpu", "this machine has an NVIDIA driver: install a CUDA build of torch")
    return Finding("device", "ok", device)


def weights_finding() -> Finding:
    """The packaged MiniLM weights, which need no hub."""
    from receipt_layoutlm.minilm import WeightsError, find_minilm

    try:
        return Finding("weights", "ok", f"minilm in {find_minilm()}")
    except WeightsError as error:
        return Finding("weights", "missing", "minilm is not usable", str(error))


def dynamodb_finding(platform: str, programs: Path) -> Finding:
    """dynoxide, or npm to fetch it with, or its stand-in."""
    if platform not in DYNOXIDE_INTEGRITY:
        return _stand_in("DynamoDB", f"no dynoxide for {platform}", "stop it with `local down`", platform, programs)
    binary = local_engines.dynoxide_path(platform, programs)
    if binary.is_file():
        return Finding("DynamoDB", "ok", f"dynoxide in {binary.parent}")
    if npm := shutil.which("npm"):
        return Finding("DynamoDB", "ok", f"dynoxide is fetched at first use through {npm}")
    return _stand_in("DynamoDB", "no npm to fetch dynoxide", "install Node.js", platform, programs)


def s3_finding(platform: str, programs: Path) -> Finding:
    """SeaweedFS, or its stand-in."""
    try:
        program, found = local_engines.SEAWEEDFS.find(platform, programs)
        return Finding("S3", "ok", f"SeaweedFS {found} in {program[0]}")
    except EngineUnavailable as error:
        return _stand_in("S3", "no SeaweedFS", str(error), platform, programs)


def _stand_in(name: str, reason: str, advice: str, platform: str, programs: Path) -> Finding:
    try:
        found = local_engines.MINISTACK.find(platform, programs)[1]
    except EngineUnavailable as error:
        return Finding(name, "missing", reason, f"{advice}; or, less durable: {error}")
    return Finding(name, "warn", f"{reason}: ministack {found} stands in, kill -9 loses its state", advice)


def disk_finding(name: str, folder: Path) -> Finding:
    """Room where a folder is, or will be."""
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIGABYTE:.1f} GB free for {folder}"
    if not os.access(existing, os.W_OK):
        return Finding(name, "missing", f"{existing} is not writable", "choose another folder")
    if free < TIGHT_BYTES:
        return Finding(
            name, "missing" if free < TOO_SMALL_BYTES else "warn", found, "make room: a checkpoint takes 0.3 GB"
        )
    return Finding(name, "ok", found)
