"""Who does not have the keys of the state folder is refused at every port of the embedded AWS."""

import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from receipt_dynamo import DynamoClient, NoAccess
from receipt_dynamo.local_table import find_local_table, local_session
from receipt_layoutlm.local import aws, door, engines, keys, start, state
from receipt_layoutlm.local.keys import LocalKeys
from receipt_layoutlm.paths import STATE_VARIABLE, state_dir
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import AccessDenied

PATHS = (
    *("/", "/layoutlm-local", "/layoutlm-local?list-type=2", "/layoutlm-local/.layoutlm-ready", "/buckets/"),
    *("/dir/status", "/dir/assign", "/vol/status", "/vol/vacuum", "/cluster/status", "/ui/index.html", "/stats/disk"),
    *("/debug/pprof/", "/metrics", "/admin", "/api/tables"),
)
STRANGER = Credentials("local", "local-secret")  # the keys of earlier versions, which everybody knows
BODY = b'{"TableName": "layoutlm-local"}'


@pytest.fixture
def folder() -> Path:
    return state_dir(os.environ)


@pytest.fixture
def running(folder: Path) -> aws.LocalAws:
    try:
        return aws.start_engines(folder)
    except engines.EngineUnavailable as error:
        pytest.skip(str(error))


def ports(folder: Path) -> Iterator[tuple[str, int]]:
    """Every port that a process of an engine listens on, as this machine sees it."""
    for name, record in state.load_records(folder).engines.items():
        assert record.pid is not None
        for process in (main := psutil.Process(record.pid), *main.children(recursive=True)):
            yield from ((name, each.laddr.port) for each in process.net_connections() if each.status == "LISTEN")


def answers(port: int, path: str, context: ssl.SSLContext | None) -> int:
    """HTTP status, or 0 where no request gets through."""
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    connection = kind("127.0.0.1", port, timeout=5, **({"context": context} if context else {}))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


@pytest.mark.engine
def test_every_port_refuses_a_client_without_the_keys(folder: Path, running: aws.LocalAws) -> None:
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    found = set(ports(folder))
    assert len(found) > 10  # SeaweedFS has ten
    for name, port in found:
        statuses = {answers(port, path, context) for path in PATHS for context in (None, stranger)}
        assert all(status == 0 or status >= 400 for status in statuses), (name, port, statuses)


@pytest.mark.engine
def test_table_and_bucket_refuse_the_keys_that_everybody_knew(running: aws.LocalAws) -> None:
    given = {"aws_access_key_id": STRANGER.access_key, "aws_secret_access_key": STRANGER.secret_key}
    once = Config(retries={"total_max_attempts": 1})
    table = boto3.client("dynamodb", endpoint_url=running.dynamodb_endpoint, config=once, **given)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        table.list_tables()
    bucket = boto3.client("s3", endpoint_url=running.s3_endpoint, config=once, **given)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        bucket.list_objects_v2(Bucket=aws.LOCAL_BUCKET)


@pytest.mark.engine
def test_other_keys_are_refused_at_once_and_the_right_ones_named(
    running: aws.LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the product's own clients too, which wait for answers of a gateway."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", STRANGER.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STRANGER.secret_key)
    with pytest.raises(NoAccess, match=r"sign with the keys of keys\.json"):
        DynamoClient(aws.LOCAL_TABLE, endpoint_url=running.dynamodb_endpoint).list_jobs()
    with pytest.raises(AccessDenied):
        Bucket(aws.LOCAL_BUCKET, endpoint_url=running.s3_endpoint).get_bytes("x")


@pytest.mark.engine
def test_the_server_behind_the_door_is_in_no_network_that_others_reach(folder: Path, running: aws.LocalAws) -> None:
    if (problem := door.isolation_problem()) is not None:
        pytest.skip(problem)
    assert [each.locked for each in aws.local_status(folder).engines] == [True, True]
    told = re.findall(r"listening on http://127\.0\.0\.1:(\d+)", (folder / "dynoxide.log").read_text())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(told[-1])), 2)


@pytest.mark.engine
def test_the_keys_are_drawn_for_each_folder_and_are_its_users_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mine, other = keys.make_keys(tmp_path), keys.make_keys(tmp_path / "other")
    assert mine.secret_key != other.secret_key
    assert mine.access_key != other.access_key
    assert (tmp_path / keys.KEYS).stat().st_mode & 0o077 == 0
    assert mine.secret_key not in repr(mine)
    keys.write_security(tmp_path)
    for name in (keys.SECURITY, keys.CERTIFICATE):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, name
    assert sorted(path.name for path in tmp_path.glob("door*")) == [keys.CERTIFICATE]


@pytest.mark.engine
def test_a_folder_of_an_earlier_version_keeps_its_data_and_gets_keys(folder: Path, running: aws.LocalAws) -> None:
    client = local_session(find_local_table({STATE_VARIABLE: str(folder)})).create_client(
        "dynamodb", region_name="us-east-1", endpoint_url=running.dynamodb_endpoint
    )
    row = {"PK": {"S": "JOB#1"}, "SK": {"S": "JOB"}}
    client.put_item(TableName=aws.LOCAL_TABLE, Item=row)
    before = keys.load_keys(folder)
    for path in (folder / keys.KEYS, folder / "seaweedfs" / keys.SECURITY, folder / "seaweedfs" / keys.CERTIFICATE):
        path.unlink()

    after = aws.start_engines(folder)

    assert keys.load_keys(folder) not in (before, None)
    table = find_local_table({STATE_VARIABLE: str(folder)})
    client = local_session(table).create_client(
        "dynamodb", region_name="us-east-1", endpoint_url=after.dynamodb_endpoint
    )
    assert client.get_item(TableName=aws.LOCAL_TABLE, Key=row)["Item"] == row
    aws.reclaim(folder)
    assert all(map(start.is_alive, state.load_records(folder).engines.values()))


# signatures


def request_of(credentials: Credentials, stamp: datetime | None = None) -> AWSRequest:
    target = {"X-Amz-Target": "DynamoDB_20120810.DescribeTable", "Host": "127.0.0.1:1"}
    request = AWSRequest("POST", "http://127.0.0.1:1/", target, BODY)
    auth = SigV4Auth(credentials, "dynamodb", "us-east-1")
    if stamp is None:
        auth.add_auth(request)
        return request
    request.context["timestamp"] = request.headers["X-Amz-Date"] = stamp.strftime("%Y%m%dT%H%M%SZ")
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    names = auth.signed_headers(auth.headers_to_sign(request))
    scope = f"{credentials.access_key}/{auth.credential_scope(request)}"
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    )
    return request


def opens(request: AWSRequest, body: bytes = BODY, path: str = "/", without: str = "") -> bool:
    headers = http.client.HTTPMessage()
    for name, value in request.headers.items():
        if name != without:
            headers[name] = value
    return door.Lock("mine", "secret").opens("POST", path, headers, body)


MINE = Credentials("mine", "secret")


def test_a_request_that_is_signed_with_the_keys_passes() -> None:
    assert opens(request_of(MINE))
    assert opens(request_of(MINE, datetime.now(UTC)))


@pytest.mark.parametrize("credentials", [Credentials("mine", "guessed"), Credentials("other", "secret"), STRANGER])
def test_other_keys_do_not_pass(credentials: Credentials) -> None:
    assert not opens(request_of(credentials))


def test_a_signature_is_of_one_body_one_path_and_a_quarter_of_an_hour() -> None:
    assert not opens(request_of(MINE), body=BODY + b" ")
    assert not opens(request_of(MINE), path="/other")
    for minutes in (-16, 16):
        assert not opens(request_of(MINE, datetime.now(UTC) + timedelta(minutes=minutes)))


@pytest.mark.parametrize("without", ["Authorization", "X-Amz-Date", "Host", "X-Amz-Target"])
def test_a_request_that_lacks_a_signed_header_does_not_pass(without: str) -> None:
    assert not opens(request_of(MINE), without=without)


def test_a_damaged_file_of_keys_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / keys.KEYS).write_text("{")
    with pytest.raises(state.LocalAwsError, match="local down"):
        keys.load_keys(tmp_path)
    assert isinstance(keys.make_keys(tmp_path), LocalKeys)
