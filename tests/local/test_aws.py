"""The embedded AWS, with its real engines: shared, durable, on loopback only, and honest about what it lacks."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from click.testing import CliRunner

from receipt_layoutlm.cli.local import local
from receipt_layoutlm.local import aws as local_aws
from receipt_layoutlm.local import door
from receipt_layoutlm.local import engines as local_engines
from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local import start as local_start
from receipt_layoutlm.local import state as local_state
from receipt_layoutlm.local.aws import LOCAL_BUCKET, LOCAL_TABLE, LocalAws
from receipt_layoutlm.local.engines import EngineName, EngineUnavailable, check_integrity, find_dynoxide
from receipt_layoutlm.local.keys import load_keys
from receipt_layoutlm.local.start import LocalPlatform
from receipt_layoutlm.local.state import EngineRecord, LocalAwsError
from receipt_layoutlm.paths import state_dir
from tests.support.stranger import STRANGER, needs_root

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.engine
KEY = {"PK": {"S": "JOB#1"}, "SK": {"S": "JOB"}}


@pytest.fixture
def folder() -> Path:
    """This test's state folder; conftest stops its engines afterwards."""
    return state_dir(os.environ)


@pytest.fixture(scope="module", autouse=True)
def _durable_engines() -> None:
    try:
        for engine in (local_engines.DYNOXIDE, local_engines.SEAWEEDFS):
            engine.find(local_engines.platform_key(), local_engines.programs_dir())
    except EngineUnavailable as error:
        pytest.skip(str(error))


def session() -> boto3.Session:
    """With the keys of this test's state folder."""
    keys = load_keys(state_dir(os.environ))
    assert keys is not None
    return boto3.Session(keys.access_key, keys.secret_key, region_name="us-east-1")


def dynamo_of(local: LocalAws) -> "DynamoDBClient":
    assert local.dynamodb_endpoint is not None
    return session().client("dynamodb", endpoint_url=local.dynamodb_endpoint)


def s3_of(local: LocalAws) -> "S3Client":
    assert local.s3_endpoint is not None
    return session().client("s3", endpoint_url=local.s3_endpoint)


def store(local: LocalAws) -> None:
    dynamo_of(local).put_item(TableName=LOCAL_TABLE, Item=KEY)
    s3_of(local).put_object(Bucket=LOCAL_BUCKET, Key="runs/1", Body=b"weights" * 100_000)


def assert_stored(local: LocalAws) -> None:
    assert dynamo_of(local).get_item(TableName=LOCAL_TABLE, Key=KEY, ConsistentRead=True)["Item"] == KEY
    assert s3_of(local).get_object(Bucket=LOCAL_BUCKET, Key="runs/1")["Body"].read() == b"weights" * 100_000


def pids(folder: Path) -> dict[EngineName, int]:
    return {each.name: each.pid for each in local_aws.local_status(folder).engines if each.pid is not None}


def kill(folder: Path) -> None:
    """kill -9 every engine and wait until each is gone."""
    for record in local_state.load_records(folder).engines.values():
        if record.pid is not None:
            os.kill(record.pid, signal.SIGKILL)
            assert local_process.wait_until(functools.partial(is_gone, record), 10)


def is_gone(record: EngineRecord) -> bool:
    return not local_start.is_alive(record)


def listening_addresses(pid: int) -> set[str]:
    """Hexadecimal local addresses on which a process listens."""
    inodes = {str(each.readlink())[8:-1] for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    tables = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {row[1].partition(":")[0] for row in tables if row[3] == "0A" and row[9] in inodes}


def run_python(code: str, environ: Mapping[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=dict(environ), stdout=subprocess.PIPE, text=True
    )


def test_up_twice_is_one_start_and_down_ends_it(folder: Path) -> None:
    first = local_aws.start_engines(folder)
    began = pids(folder)
    second = local_aws.start_engines(folder)

    assert (second, pids(folder)) == (first, began)
    assert set(began) == {"dynoxide", "seaweedfs"}
    assert dynamo_of(first).list_tables()["TableNames"] == [LOCAL_TABLE]
    assert [each["Name"] for each in s3_of(first).list_buckets()["Buckets"]] == [LOCAL_BUCKET]
    assert local_aws.local_status(folder).state_bytes > 1000

    assert local_aws.stop_engines(folder) == ("dynoxide", "seaweedfs")
    assert pids(folder) == {}
    assert local_aws.stop_engines(folder) == ()


def test_data_and_ports_survive_kill_9_of_the_engines(folder: Path) -> None:
    before = local_aws.start_engines(folder)
    store(before)

    kill(folder)
    after = local_aws.start_engines(folder)

    assert after == before
    assert_stored(after)


def test_data_survive_when_their_ports_are_taken_meanwhile(folder: Path) -> None:
    before = local_aws.start_engines(folder)
    store(before)
    local_aws.stop_engines(folder)
    taken = [record.ports[0] for record in local_state.load_records(folder).engines.values()]
    squatters = [socket.create_server(("127.0.0.1", port)) for port in taken]
    try:
        after = local_aws.start_engines(folder)
    finally:
        for each in squatters:
            each.close()

    assert after != before
    assert_stored(after)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_engines_listen_on_loopback_only(folder: Path) -> None:
    local_aws.start_engines(folder)
    for name, pid in pids(folder).items():
        assert listening_addresses(pid) == {"0100007F"}, name


def test_s3_starts_only_when_it_is_needed(folder: Path) -> None:
    variables = local_aws.start_for(os.environ, "dynamodb", "runs")
    assert set(pids(folder)) == {"dynoxide"}
    assert "AWS_ENDPOINT_URL_S3" not in variables

    variables = local_aws.start_for(os.environ, "s3", "artifacts")
    assert set(pids(folder)) == {"dynoxide", "seaweedfs"}
    assert {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB"} <= set(variables)


def test_two_processes_at_once_end_with_one_engine(folder: Path) -> None:
    code = (
        "import pathlib, sys; from receipt_layoutlm.local import aws as local_aws;"
        "print(local_aws.start_engines(pathlib.Path(sys.argv[1]), ['dynamodb']).dynamodb_endpoint)"
    )
    children = [run_python(code, os.environ, str(folder)) for _ in range(3)]
    endpoints = {child.communicate()[0] for child in children}

    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(endpoints) == 1
    doors = f"{door.MODULE}\0".encode(), str(folder).encode()
    running = [
        path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if all(word in _read(path) for word in doors)
    ]
    assert running == [str(pids(folder)["dynoxide"])]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_engines_outlive_a_killed_caller(folder: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from receipt_layoutlm.local import aws as local_aws;"
        "local_aws.start_engines(pathlib.Path(sys.argv[1]), ['dynamodb']); os.kill(0, signal.SIGKILL)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], start_new_session=True)
    assert child.wait() == -signal.SIGKILL

    began = pids(folder)
    assert set(began) == {"dynoxide"}
    local_aws.start_engines(folder, ["dynamodb"])
    assert pids(folder) == began


def test_a_pid_that_now_belongs_to_another_process_is_no_engine(folder: Path) -> None:
    local_aws.start_engines(folder, ["dynamodb"])
    kill(folder)
    records = local_state.load_records(folder)
    stale = records.engines["dynoxide"].model_copy(update={"pid": os.getpid()})
    local_state.save_records(folder, records.with_engine("dynoxide", stale))

    assert pids(folder) == {}
    assert local_aws.stop_engines(folder) == ()  # and this process is still here to say so
    local_aws.start_engines(folder, ["dynamodb"])
    assert pids(folder)["dynoxide"] != os.getpid()


def test_an_engine_that_does_not_come_up_shows_the_end_of_its_log(folder: Path) -> None:
    (folder / "dynoxide").mkdir(parents=True)
    (folder / "dynoxide" / "dynamodb.sqlite").write_bytes(b"not a database" * 1000)

    with pytest.raises(LocalAwsError, match=r"dynoxide 1.2.1 ended at once(?s:.*)not a valid SQLite database"):
        local_aws.start_engines(folder, ["dynamodb"])
    assert pids(folder) == {}


def test_where_no_binary_exists_the_stand_in_says_so_in_one_line_and_works(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    machine = LocalPlatform("linux-riscv64", tmp_path / "programs", said.append)

    local = local_aws.start_engines(folder, machine=machine)
    store(local)
    local_aws.start_engines(folder, machine=machine)

    assert [line.partition(";")[0] for line in said] == ["dynoxide is not published for linux-riscv64"]
    assert "kill -9" in said[0]
    assert "\n" not in said[0]
    assert set(pids(folder)) == {"ministack", "seaweedfs"}
    for name, pid in pids(folder).items():
        assert listening_addresses(pid) == {"0100007F"}, name
    local_aws.stop_engines(folder)
    assert_stored(local_aws.start_engines(folder, machine=machine))


def test_data_are_never_left_behind_for_an_empty_stand_in(folder: Path, tmp_path: Path) -> None:
    local_aws.start_engines(folder, ["dynamodb"])
    local_aws.stop_engines(folder)
    with pytest.raises(LocalAwsError, match="written by dynoxide"):
        local_aws.start_engines(folder, ["dynamodb"], LocalPlatform("linux-riscv64", tmp_path))


def test_the_variables_lead_a_child_past_profile_proxy_and_keys_of_the_user(folder: Path) -> None:
    hostile = {
        **os.environ,
        "AWS_PROFILE": "work",
        "AWS_SESSION_TOKEN": "expired",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "intranet",
    }
    child = {**hostile, **local_aws.start_for(hostile, "dynamodb", LOCAL_TABLE)}
    child |= local_aws.start_for(hostile, "s3", LOCAL_BUCKET)
    code = (
        "import boto3, json;"
        "tables = boto3.client('dynamodb').list_tables()['TableNames'];"
        "buckets = [each['Name'] for each in boto3.client('s3').list_buckets()['Buckets']];"
        "print(json.dumps([tables, buckets, boto3.client('sts').meta.endpoint_url]))"
    )
    output = run_python(code, child).communicate()[0]

    assert json.loads(output) == [[LOCAL_TABLE], [LOCAL_BUCKET], "http://127.0.0.1:9"]
    assert child["no_proxy"] == child["NO_PROXY"] == "intranet,127.0.0.1"


def test_the_state_is_its_users_alone_from_the_first_byte(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        local_aws.start_engines(folder)
    finally:
        os.umask(before)
    open_to_others = [
        path.relative_to(folder)
        for path in (folder, *folder.iterdir())
        if path.lstat().st_mode & 0o077 and path.exists()
    ]
    assert open_to_others == []
    assert (folder / "dynoxide" / "dynamodb.sqlite").stat().st_mode & 0o077 == 0


@needs_root
@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_the_state_of_another_user_is_one_line_and_no_traceback(folder: Path, command: str) -> None:
    folder.mkdir()
    os.chown(folder, STRANGER, STRANGER)
    result = CliRunner().invoke(local, [command])
    os.chown(folder, 0, 0)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: the state folder {folder} belongs to 12345, not to root: "
        "set LAYOUTLM_STATE_DIR to a folder of your own\n"
    )


def test_purge_deletes_what_engines_stored_and_nothing_else(folder: Path) -> None:
    local_aws.start_engines(folder, ["dynamodb"])
    (folder / "notes.txt").write_text("mine")
    (folder / "work" / ".attempts").mkdir(parents=True)

    local_aws.purge(folder)

    assert not (folder / "dynoxide").exists() and not (folder / "work").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    local_aws.start_engines(folder, ["dynamodb"])


def test_windows_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalAwsError, match="needs Linux or macOS") as refusal:
        local_aws.start_engines(folder, machine=LocalPlatform("win32-x64", tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_tarball_that_is_not_the_pinned_one_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "dynoxide.tgz").write_bytes(b"something else")
    with pytest.raises(EngineUnavailable, match="it was not used"):
        check_integrity(tmp_path / "dynoxide.tgz", local_engines.DYNOXIDE_INTEGRITY["linux-x64"])


def test_without_npm_the_text_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match=r"install Node\.js"):
        find_dynoxide("linux-x64", tmp_path)


def test_the_state_folder_is_the_variables_else_the_platforms(tmp_path: Path) -> None:
    assert state_dir({"LAYOUTLM_STATE_DIR": str(tmp_path)}) == tmp_path
    assert state_dir({}).name == "layoutlm"


def test_the_commands(folder: Path) -> None:
    boto3.setup_default_session()  # the one before has the settings of other tests
    call = CliRunner().invoke
    assert "no engine is running" in call(local, ["status"]).output
    assert call(local, ["down"]).output == "nothing was running\n"
    assert call(local, ["up"]).exit_code == 0

    shown = json.loads(call(local, ["status", "--json"]).output)
    assert [each["name"] for each in shown["engines"] if each["running"]] == ["dynoxide", "seaweedfs"]
    assert shown["state_dir"] == str(folder)

    assert call(local, ["down", "--purge"], input="n\n").exit_code == 1
    assert set(pids(folder)) == {"dynoxide", "seaweedfs"}  # the answer was no, so nothing happened
    assert call(local, ["down", "--yes"]).exit_code == 2
    assert call(local, ["down", "--purge", "--yes"]).exit_code == 0
    assert local_aws.local_status(folder).engines == ()
