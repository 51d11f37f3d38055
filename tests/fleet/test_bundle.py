"""The archives that a fleet's machines and its scaler are made of, and how they reach the bucket."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from receipt_layoutlm.fleet.bundle import BundleError, find_wheel, make_bundle, make_scaler_zip, upload
from receipt_layoutlm.infra import template_path
from tests.support.stores import Store
from tests.test_architecture import PRODUCT, STORE, imports, sources

LOCKS = ("worker.lock", "scaler.lock")
OWN = {"receipt_layoutlm", "receipt_dynamo"}
OF_THE_IMAGE = {"torch"}  # what a machine's image brings, and no lock names
NOT_ON_A_MACHINE = ("inference", "local", "mlflow_store", "reports", "cli/mcp_server.py", "frames.py")
NAMED_OTHERWISE = {"yaml": "pyyaml", "dateutil": "python-dateutil"}  # packages whose module has another name
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
CALL = """
import sys
sys.path.insert(0, sys.argv[1])
import pydantic, pynamodb, receipt_dynamo, receipt_layoutlm.fleet.scaler.lambda_entry
print([each.__file__ for each in (pydantic, pynamodb, receipt_dynamo, receipt_layoutlm.fleet.scaler.lambda_entry)])
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The smallest file that passes for a wheel of this project."""
    path = tmp_path / "receipt_layoutlm-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("receipt_layoutlm/worker/worker.py", "")
    return path


def empty_lock(folder: Path) -> Path:
    """Packages that a machine would not miss: none."""
    lock = folder / "worker.lock"
    lock.write_text("# nothing\n")
    return lock


def entry_of(name: str) -> str:
    """One package of infra/worker.lock with its hashes."""
    entries = re.split(r"^(?=[a-z0-9])", template_path("worker.lock").read_text(), flags=re.MULTILINE)
    return next(each for each in entries if each.startswith(f"{name}=="))


@pytest.mark.engine
def test_a_bundle_holds_the_wheels_of_each_python_that_an_image_may_have(wheel: Path, tmp_path: Path) -> None:
    """regex comes for each Python apart, six for all of them."""
    lock = tmp_path / "small.lock"
    lock.write_text(entry_of("regex") + entry_of("six"))
    try:
        made = make_bundle(wheel, tmp_path / "out", lock=lock)
    except BundleError as error:
        pytest.skip(str(error))
    with tarfile.open(made) as archive:
        names = [name for name in archive.getnames() if name.startswith("wheels/")]

    assert len(names) == 3
    assert [sum(f"-cp{python}-" in name for name in names) for python in ("312", "313")] == [1, 1]


def test_no_package_of_a_machine_depends_on_its_pythons_version() -> None:
    """pip compares such a marker with the Python that it runs on, which is not the machine's when a bundle is made."""
    assert re.findall(r"^.* ; .*python_(?:full_)?version.*$", template_path("worker.lock").read_text(), re.M) == []


def test_a_bundle_holds_the_wheel_its_pins_and_the_scripts_under_its_own_hash(wheel: Path, tmp_path: Path) -> None:
    made = make_bundle(wheel, tmp_path / "out", lock=empty_lock(tmp_path))
    assert made.name == f"{hashlib.sha256(made.read_bytes()).hexdigest()}.tar.gz"
    with tarfile.open(made) as archive:
        archive.extractall(tmp_path / "there", filter="data")
    assert (tmp_path / "there" / wheel.name).read_bytes() == wheel.read_bytes()
    assert (tmp_path / "there" / "worker.lock").read_bytes() == empty_lock(tmp_path).read_bytes()
    assert (tmp_path / "there" / "bootstrap.sh").stat().st_mode & 0o100


def test_the_same_files_make_the_same_bundle_and_another_wheel_another(wheel: Path, tmp_path: Path) -> None:
    lock = empty_lock(tmp_path)
    first = make_bundle(wheel, tmp_path / "a", lock=lock)
    assert make_bundle(wheel, tmp_path / "b", lock=lock).name == first.name
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("receipt_layoutlm/more.py", "")
    assert make_bundle(wheel, tmp_path / "a", lock=lock).name != first.name


def test_other_files_than_a_wheel_of_this_project_are_refused_with_the_fix(tmp_path: Path) -> None:
    broken, other = tmp_path / "receipt_layoutlm-1-py3-none-any.whl", tmp_path / "other-1-py3-none-any.whl"
    broken.write_text("no zip")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("other/__init__.py", "")
    for path in (broken, other, tmp_path / "receipt_layoutlm-2-py3-none-any.whl"):
        with pytest.raises(BundleError, match="scripts/build_wheel"):
            make_bundle(path, tmp_path / "out")


def test_the_wheel_is_the_newest_built_one_else_the_one_that_was_installed(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_wheel(tmp_path) == wheel
    (tmp_path / "empty").mkdir()
    site = tmp_path / "site" / "receipt_layoutlm-0.1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: receipt-layoutlm\nVersion: 0.1.0\n")
    (site / "direct_url.json").write_text(json.dumps({"url": wheel.as_uri(), "archive_info": {}}))
    monkeypatch.syspath_prepend(str(site.parent))
    assert find_wheel(tmp_path / "empty") == wheel
    wheel.unlink()
    with pytest.raises(BundleError, match="scripts/build_wheel"):
        find_wheel(tmp_path / "empty")


def pinned(name: str) -> list[tuple[str, int]]:
    """Each package of a lock in infra/, and how many files it may come as."""
    entries = re.split(r"^(?=[a-z0-9])", template_path(name).read_text(), flags=re.MULTILINE)
    return [(each.partition("==")[0], each.count("--hash=")) for each in entries if "==" in each]


@pytest.mark.parametrize("name", LOCKS)
def test_every_pinned_package_has_a_wheel(name: str) -> None:
    """Machines and scaler build nothing (--only-binary :all:); a single file is a source archive without a wheel."""
    assert len(pinned(name)) > 5
    assert [package for package, files in pinned(name) if files < 2] == []


def test_a_machine_installs_all_that_the_code_imports() -> None:
    elsewhere = {package / room for room in NOT_ON_A_MACHINE for package in (STORE, PRODUCT)}
    run_there = [path for path in sources(STORE, PRODUCT) if not elsewhere & {path, *path.parents}]
    modules = {module for path in run_there for module, _line in imports(path)}
    foreign = modules - sys.stdlib_module_names - OWN - OF_THE_IMAGE

    assert {"boto3", "faker", "transformers"} <= foreign
    installed = {package for package, _files in pinned("worker.lock")}
    assert {NAMED_OTHERWISE.get(each, each.replace("_", "-")) for each in foreign} - installed == set()


@pytest.mark.engine
def test_an_archive_is_stored_once_below_its_hash(wheel: Path, tmp_path: Path, store: Store) -> None:
    bucket = store.bucket
    made = make_bundle(wheel, tmp_path, lock=empty_lock(tmp_path))
    assert upload(bucket, made) == upload(bucket, made)
    assert list(bucket.list_keys("wheels/")) == [f"wheels/{made.name}"]
    assert hashlib.sha256(bucket.get_bytes(f"wheels/{made.name}")).hexdigest() == made.name.removesuffix(".tar.gz")


@pytest.mark.engine
@pytest.mark.parametrize("is_as_long", [True, False])
def test_a_foreign_object_of_the_name_does_not_survive(
    wheel: Path, tmp_path: Path, store: Store, is_as_long: bool
) -> None:
    bucket, made = store.bucket, make_bundle(wheel, tmp_path, lock=empty_lock(tmp_path))
    bucket.put_bytes(b"x" * (made.stat().st_size if is_as_long else 9), f"wheels/{made.name}")

    upload(bucket, made)

    assert bucket.get_bytes(f"wheels/{made.name}") == made.read_bytes()


@pytest.mark.engine
def test_the_scalers_zip_holds_all_that_its_lambda_imports(tmp_path: Path) -> None:
    try:
        made = make_scaler_zip(tmp_path, python=HERE)
    except BundleError as error:
        pytest.skip(str(error))
    assert make_scaler_zip(tmp_path / "again", python=HERE).name == made.name
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path / "task")
    command = [sys.executable, "-c", CALL, str(tmp_path / "task")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path / "task")) == 4


def test_a_missing_package_of_the_scaler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "scaler.lock"
    lock.write_text("no-such-package-of-anybody==1.0 --hash=sha256:" + "0" * 64)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BundleError, match="no-such-package-of-anybody"):
        make_scaler_zip(tmp_path, lock=lock)
