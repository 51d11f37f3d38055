"""What passes by itself is tried again for as long as the caller says; the rest says what to do."""

import logging
import random
from collections.abc import Callable

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from receipt_layoutlm.storage.errors import NotStored, StorageError, StorageUnavailable, explained, keep_trying


def answer(code: str, status: int = 400) -> ClientError:
    response = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


def meaning(error: Exception) -> StorageError:
    with pytest.raises(StorageError) as raised, explained("the-bucket", "the/key"):
        raise error
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        *(answer("SlowDown", 503), answer("InternalError", 500), answer("503", 503), answer("Unheard", 502)),
        *(answer("RequestTimeout"), answer("Throttling"), answer("ThrottlingException"), answer("BadDigest")),
        *(answer("XAmzContentChecksumMismatch"), answer("ConditionalRequestConflict", 409)),
        *(ReadTimeoutError(endpoint_url="x"), ConnectTimeoutError(endpoint_url="x")),
        EndpointConnectionError(endpoint_url="x"),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        SSLError(endpoint_url="x", error=OSError("EOF occurred in violation of protocol")),
    ],
    ids=str,
)
def test_trouble_that_passes_by_itself_is_told_apart(error: Exception) -> None:
    assert isinstance(meaning(error), StorageUnavailable)
    assert "s3://the-bucket/the/key" in str(meaning(error))


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (answer("NoSuchBucket", 404), "create it or name another with --bucket"),
        (answer("AccessDenied", 403), "allow s3:ListBucket"),
        (answer("403", 403), "allow s3:ListBucket"),
        (answer("ExpiredToken"), "renew"),
        (answer("PermanentRedirect", 301), "--region"),
        (answer("RequestTimeTooSkewed", 403), "clock"),
        (answer("EntityTooLarge"), "EntityTooLarge"),
        (NoCredentialsError(), "credentials"),
        (SSLError(endpoint_url="x", error=OSError("CERTIFICATE_VERIFY_FAILED")), "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=str,
)
def test_trouble_that_stays_comes_with_its_fix(error: Exception, fix: str) -> None:
    found = meaning(error)
    assert not isinstance(found, StorageUnavailable)
    assert fix in str(found)


def test_an_object_that_is_not_there_has_its_own_error() -> None:
    assert isinstance(meaning(answer("NoSuchKey", 404)), NotStored)
    assert isinstance(meaning(answer("404", 404)), NotStored)


class Patience:
    """Waits without waiting; `waits` lists them in seconds and is the clock."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return sum(self.waits)

    def keep_trying(self, action: Callable[[], str], give_up: Callable[[], bool]) -> str:
        return keep_trying(action, give_up, self.waits.append, random.Random(0), self.monotonic)


def failing(times: int, error: StorageError) -> Callable[[], str]:
    left = iter(range(times))

    def action() -> str:
        if next(left, None) is None:
            return "done"
        raise error

    return action


def test_an_action_is_repeated_until_it_passes() -> None:
    patience = Patience()

    assert patience.keep_trying(failing(3, StorageUnavailable("busy")), lambda: False) == "done"
    assert len(patience.waits) == 3


def test_the_waits_are_random_under_a_bound_that_doubles_to_a_minute() -> None:
    patience = Patience()
    patience.keep_trying(failing(200, StorageUnavailable("busy")), lambda: False)

    bounds = [min(2.0**number, 60.0) for number in range(200)]
    assert all(0 <= wait <= bound for wait, bound in zip(patience.waits, bounds, strict=True))
    assert max(patience.waits) > 50
    assert min(patience.waits[10:]) < 10


def test_trouble_that_stays_is_raised_at_once() -> None:
    patience = Patience()

    with pytest.raises(StorageError, match="denied"):
        patience.keep_trying(failing(1, StorageError("denied")), lambda: False)
    assert patience.waits == []


def test_who_gives_up_gets_the_last_trouble() -> None:
    patience = Patience()

    with pytest.raises(StorageUnavailable, match="busy"):
        patience.keep_trying(failing(99, StorageUnavailable("busy")), lambda: patience.monotonic() > 30)
    assert sum(patience.waits[:-1]) <= 30 < sum(patience.waits)


def test_a_stop_during_the_wait_ends_it_without_another_try() -> None:
    stopped: list[float] = []

    with pytest.raises(StorageUnavailable):
        keep_trying(failing(1, StorageUnavailable("x")), lambda: bool(stopped), stopped.append, random.Random(0))
    assert len(stopped) == 1


def test_long_trouble_is_logged_once_and_then_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience()
    with caplog.at_level(logging.WARNING):
        patience.keep_trying(failing(40, StorageUnavailable("s3://b/k: busy")), lambda: False)

    assert caplog.messages[0] == "s3://b/k: busy; trying again"
    minutes = patience.monotonic() / 60
    assert minutes / 2 <= len(caplog.messages) <= minutes + 1
