"""The one function behind every read: what it waits for, for how long, and what it raises."""

from collections.abc import Callable

import pytest

from receipt_dynamo import DynamoClient, NoAccess, StoreUnavailable, TableNotFound
from receipt_dynamo.reads import READ_PATIENCE_SECONDS
from tests.support.wire import Patience, Wire

ID = "07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab"
READS: dict[str, tuple[str, Callable[[DynamoClient], object]]] = {
    "one job": ("GetItem", lambda client: client.get_job(ID)),
    "a list": ("Query", lambda client: client.list_jobs_by_status("succeeded")),
    "the newest event": ("Query", lambda client: client.last_event_at(ID)),
}
THROTTLES = ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded")


@pytest.fixture
def client() -> DynamoClient:
    return DynamoClient("a-table", endpoint_url="http://127.0.0.1:9")


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("code", THROTTLES)
def test_a_throttled_read_waits_some_seconds_with_jitter(
    client: DynamoClient, wire: Wire, name: str, code: str
) -> None:
    patience, (operation, read) = Patience(client), READS[name]
    wire.refuse(operation, code, times=1000)
    with pytest.raises(StoreUnavailable, match=code):
        read(client)
    assert sum(patience.waits[:-1]) < READ_PATIENCE_SECONDS <= sum(patience.waits)
    assert len(set(patience.waits)) == len(patience.waits) > 4
    assert all(wait <= bound for wait, bound in zip(patience.waits, (0.1, 0.2, 0.4, 0.8), strict=False))


@pytest.mark.engine
def test_a_list_is_complete_after_some_throttles(table_name: str, dynamo_endpoint: str) -> None:
    client = DynamoClient(table_name, endpoint_url=dynamo_endpoint)
    wire, patience = Wire(client), Patience(client)
    wire.refuse("Query", "ProvisionedThroughputExceededException", times=5)
    assert client.list_jobs_by_status("succeeded") == []
    assert len(patience.waits) >= 2


def test_a_table_without_a_connection_is_reported_at_once(client: DynamoClient) -> None:
    patience = Patience(client)
    with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*check the network, and the region"):
        client.list_jobs_by_status("succeeded")
    assert patience.waits == []


STEPS = {
    "ExpiredTokenException": "renew the credentials",
    "UnrecognizedClientException": "check AWS_ACCESS_KEY_ID",
    "InvalidSignatureException": "AWS_SECRET_ACCESS_KEY, and the clock",
    "MissingAuthenticationTokenException": "aws configure",
    "AccessDeniedException": "layoutlm-cli doctor",
    "ResourceNotFoundException": "check its name .* and the region",
}


@pytest.mark.parametrize("code", STEPS)
def test_an_error_of_credentials_is_of_one_class_and_names_the_next_step(
    client: DynamoClient, wire: Wire, code: str
) -> None:
    wire.refuse("Query", code)
    with pytest.raises(NoAccess, match=f"a-table.*{STEPS[code]}") as failure:
        client.list_jobs_by_status("succeeded")
    assert isinstance(failure.value, TableNotFound) == (code == "ResourceNotFoundException")


def test_without_any_credentials_the_error_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NoAccess, match=r"Unable to locate credentials.*aws configure.*--local"):
        DynamoClient("a-table").list_jobs_by_status("succeeded")


def test_an_unknown_profile_or_a_region_that_is_none_is_of_that_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoAccess, match="name an AWS region"):
        DynamoClient("a-table", region="no region")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NoAccess, match=r"nobody.*check AWS_PROFILE"):
        DynamoClient("a-table")
