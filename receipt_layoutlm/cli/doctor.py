"""layoutlm-cli doctor: checks of this machine for local training, or of an AWS account for a fleet."""

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
from receipt_layoutlm.cli.output import PlaceOption, say
from receipt_layoutlm.fleet.check_result import CheckResult, State
from receipt_layoutlm.local import engines as local_engines
from receipt_layoutlm.local.engines import DYNOXIDE_INTEGRITY, EngineUnavailable
from receipt_layoutlm.paths import (
    STATE_ADVICE,
    WORK_ADVICE,
    given_work_dir,
    local_work_dir,
    state_dir,
    state_problem,
)

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
    "--fleet",
    cls=PlaceOption,
    envvar="LAYOUTLM_FLEET",
    metavar="NAME",
    show_envvar=True,
    help="Check the account for this fleet.",
)
@click.option("--bundle", "reference", metavar="JOB", help="Collect what somebody needs to help with a job.")
@click.option("--to", "target", type=click.Path(path_type=Path), help="File of --bundle (default: bundle-ID.zip).")
@click.option("--yes", is_flag=True, help="Write the bundle without asking; it is shown all the same.")
@store_options
def doctor(
    connection: Connection, as_json: bool, fleet: str | None, reference: str | None, target: Path | None, yes: bool
) -> None:
    """Check this machine, or your AWS account, and print the fixes; exit code 1 when something is missing.

    With a table, a bucket or a fleet (by flag or environment, and without --local), doctor checks the account:
    credentials, the fleet's stack, your rights to submit jobs and to deploy a fleet (simulated), the table's shape,
    the bucket, quotas for the fleet's instance types, and the wheel that `fleet deploy` would use. Otherwise it checks
    this machine for `layoutlm-cli --local train`.

    --bundle JOB shows command, config, state, timeline, events, log and versions of a job, and writes them into an
    archive once you confirm. It holds no secrets, and no words of pages.
    """
    if reference is not None:
        from receipt_layoutlm.cli.bundle import write_bundle

        write_bundle(connection, reference, target, yes)
        return
    if target or yes:
        raise click.UsageError("--to and --yes belong to --bundle JOB: add it, or leave them out")
    if not connection.is_local and (fleet or connection.has_table() or connection.has_bucket()):
        from receipt_layoutlm.fleet.account import Account, check_account
        from receipt_layoutlm.fleet.names import DEFAULT_FLEET

        table = connection.table_name() if connection.has_table() else None
        bucket = connection.default_bucket() if connection.has_bucket() else None
        name = fleet or DEFAULT_FLEET
        results = check_account(Account(connection.region, name, table, bucket, Path("dist"), connection.bucket_owner))
    else:
        results = check_machine(
            local_engines.platform_key(),
            local_engines.programs_dir(),
            state_dir(os.environ),
            given_work_dir(os.environ) or local_work_dir(os.environ),
        )
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=1))
    else:
        say(as_text(results))
    if any(result.state == "missing" for result in results):
        sys.exit(1)


def check_machine(platform: str, programs: Path, state: Path, work: Path) -> list[CheckResult]:
    """Check the requirements of a local run, in the order in which they are needed. Installs and starts nothing."""
    return [
        check_python(sys.version_info[:3]),
        check_system(platform),
        *(check_package(name, "missing", TRAIN_EXTRA) for name in TRAIN_PACKAGES),
        check_device([sys.executable, "-c", DEVICE_PROBE]),
        check_minilm(),
        check_dynamodb(platform, programs),
        check_s3(platform, programs),
        check_package("Faker", "warn", f"{local_engines.INSTALL_EXTRA}, which generates receipts"),
        check_state(state),
        check_disk("work folder", work, WORK_ADVICE),
    ]


def as_text(results: list[CheckResult]) -> str:
    """One line per result, its advice below it."""
    lines = []
    for result in results:
        lines.append(f"{result.state:9} {result.name:14}  {result.found}")
        lines += [f"{'':26}-> {result.advice}"] if result.advice else []
    return "\n".join(lines)


def check_python(running: tuple[int, ...]) -> CheckResult:
    """Check the version of Python."""
    found = ".".join(map(str, running))
    if running[:2] < OLDEST_PYTHON:
        return CheckResult("Python", "missing", found, f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return CheckResult("Python", "ok", found)


def check_system(platform: str) -> CheckResult:
    """Check the operating system: --local needs POSIX processes."""
    if platform.startswith("win32"):
        return CheckResult(
            "system", "missing", platform, "only the control side runs here: use an AWS account, or WSL for --local"
        )
    return CheckResult("system", "ok", platform)


def check_package(name: str, absent: State, advice: str) -> CheckResult:
    """Look up a package's version without importing it; `absent` is the state of a missing one."""
    try:
        return CheckResult(name, "ok", version(name))
    except PackageNotFoundError:
        return CheckResult(name, absent, "not installed", advice)


def check_device(probe: list[str]) -> CheckResult:
    """Ask torch for the training device, in a separate process because it may take seconds to load."""
    try:
        completed = subprocess.run(probe, capture_output=True, text=True, timeout=DEVICE_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return CheckResult("device", "warn", "unknown", f"torch took more than {DEVICE_SECONDS} s to load")
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return CheckResult("device", "missing", "unknown", f"torch does not load: {reason}")
    device = completed.stdout.strip()
    if device == "cpu" and shutil.which("nvidia-smi"):
        return CheckResult(
            "device",
            "warn",
            "cpu",
            "an NVIDIA driver is installed, but torch cannot use it: install a CUDA build of torch",
        )
    return CheckResult("device", "ok", device)


def check_minilm() -> CheckResult:
    """Check the packaged MiniLM weights, which need no hub."""
    from receipt_layoutlm.minilm import WeightsError, find_minilm

    try:
        return CheckResult("weights", "ok", f"minilm in {find_minilm()}")
    except WeightsError as error:
        return CheckResult("weights", "missing", "minilm is not usable", str(error))


def check_dynamodb(platform: str, programs: Path) -> CheckResult:
    """Check for dynoxide, npm to install it, or the fallback engine."""
    if platform not in DYNOXIDE_INTEGRITY:
        return _fallback(
            "DynamoDB", f"no dynoxide for {platform}", "stop it with `layoutlm-cli local down`", platform, programs
        )
    binary = local_engines.dynoxide_path(platform, programs)
    if binary.is_file():
        return CheckResult("DynamoDB", "ok", f"dynoxide in {binary.parent}")
    if npm := shutil.which("npm"):
        return CheckResult("DynamoDB", "ok", f"dynoxide is fetched at first use through {npm}")
    return _fallback("DynamoDB", "no npm to install dynoxide", "install Node.js", platform, programs)


def check_s3(platform: str, programs: Path) -> CheckResult:
    """Check for SeaweedFS, or the fallback engine."""
    try:
        program, found = local_engines.SEAWEEDFS.find(platform, programs)
        return CheckResult("S3", "ok", f"SeaweedFS {found} in {program[0]}")
    except EngineUnavailable as error:
        return _fallback("S3", "no SeaweedFS", str(error), platform, programs)


def _fallback(name: str, reason: str, advice: str, platform: str, programs: Path) -> CheckResult:
    try:
        found = local_engines.MINISTACK.find(platform, programs)[1]
    except EngineUnavailable as error:
        return CheckResult(name, "missing", reason, f"{advice}; or, less durable: {error}")
    return CheckResult(
        name, "warn", f"{reason}: ministack {found} is used instead, whose state is lost on kill -9", advice
    )


def check_state(folder: Path) -> CheckResult:
    """Check that the state folder is this user's own, if it exists, and its disk space."""
    if (problem := state_problem(folder)) is not None:
        return CheckResult("state folder", "missing", f"{folder} {problem}", STATE_ADVICE)
    return check_disk("state folder", folder, STATE_ADVICE)


def check_disk(name: str, folder: Path, advice: str) -> CheckResult:
    """Check the free disk space of a folder that exists, or will be created."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    free = shutil.disk_usage(existing).free
    found = f"{free / GIGABYTE:.1f} GB free for {folder}"
    if not os.access(existing, os.W_OK):
        return CheckResult(name, "missing", f"{existing} is not writable", advice)
    if free < TIGHT_BYTES:
        state: State = "missing" if free < TOO_SMALL_BYTES else "warn"
        return CheckResult(name, state, found, "free some disk space: a checkpoint takes 0.3 GB")
    return CheckResult(name, "ok", found)
