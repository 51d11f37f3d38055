"""The requests of one DynamoClient: counted, refused, or applied with their reply lost.

Works through botocore's events, so that nothing of the client is replaced.
"""

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from urllib3 import HTTPResponse

from receipt_dynamo import DynamoClient
from receipt_dynamo.reads import Reader
from receipt_dynamo.writes import Writer

Fault = Callable[[AWSPreparedRequest], AWSResponse | None]

# so many replies are lost
twice = pytest.mark.parametrize("times", [1, 2], ids=["botocore retries", "the writer retries"])


@dataclass
class Wire:
    """`sent` names every HTTP request, botocore's own retries included; `bodies` are their JSON documents."""

    client: DynamoClient
    sent: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    _faults: list[tuple[str, Fault]] = field(default_factory=list)

    def __post_init__(self) -> None:
        events = self.client.raw.meta.events
        events.register_first("provide-client-params.dynamodb", _ask_for_capacity)
        events.register_first("before-send.dynamodb", self._before_send)
        events.register_first("needs-retry.dynamodb", retry_at_once)
        events.register_first("after-call.dynamodb", self._after_call)

    def counted(self) -> Counter[str]:
        """Requests by operation since the last call of this."""
        found = Counter(self.sent)
        self.sent.clear()
        return found

    def refuse(self, operation: str, code: str, *, reasons: tuple[str, ...] = (), times: int = 1) -> None:
        """Answer the next requests with an error instead of sending them."""
        document = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code}
        if reasons:
            document["CancellationReasons"] = [{"Code": reason} for reason in reasons]  # type: ignore[assignment]
        self._faults += [(operation, lambda request: _error_response(request, document))] * times

    def let_pass(self, operation: str, *, times: int) -> None:
        """Send the next requests as they are; what is asked for afterwards applies to the ones after them."""
        self._faults += [(operation, lambda _request: None)] * times

    def lose_reply(self, operation: str, *, times: int = 1) -> None:
        """Let the next requests through and lose their replies."""
        self._faults += [(operation, _send_and_lose)] * times

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.sent.append(operation)
        self.bodies.append(json.loads(request.body or b"{}"))
        for index, (wanted, fault) in enumerate(self._faults):
            if wanted == operation:
                del self._faults[index]
                return fault(request)
        return None

    def _after_call(self, parsed: dict[str, Any], **_: object) -> None:
        self.replies.append(parsed)


def _ask_for_capacity(params: dict[str, Any], **_: object) -> dict[str, Any]:
    return {**params, "ReturnConsumedCapacity": "TOTAL"}


def retry_at_once(
    attempts: int, response: tuple[AWSResponse, dict[str, Any]] | None, caught_exception: Exception | None, **_: object
) -> int | None:
    # botocore's own second attempt, without its random wait
    code = "" if response is None else response[1].get("Error", {}).get("Code", "")
    is_retried = caught_exception is not None or code in ("ThrottlingException", "TransactionInProgressException")
    is_retried |= response is not None and response[0].status_code >= 500
    return 0 if is_retried and attempts == 1 else None


def _error_response(request: AWSPreparedRequest, document: dict[str, Any]) -> AWSResponse:
    raw = HTTPResponse(body=io.BytesIO(json.dumps(document).encode()), preload_content=False)
    return AWSResponse(request.url, 400, {"x-amzn-requestid": "ANSWERED"}, raw)


def _send_and_lose(request: AWSPreparedRequest) -> AWSResponse:
    URLLib3Session().send(request)
    raise ReadTimeoutError(endpoint_url=request.url)


class Patience:
    """A monotonic clock that only the waits of a writer or a reader move. `waits` lists them, in seconds."""

    def __init__(self, client: DynamoClient) -> None:
        self.waits: list[float] = []
        client.writer = Writer(client.raw, client.table_name, monotonic=self._monotonic, sleep=self.waits.append)
        client.reader = Reader(client.raw, client.table_name, monotonic=self._monotonic, sleep=self.waits.append)

    def _monotonic(self) -> float:
        return sum(self.waits)
