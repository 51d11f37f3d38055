"""The requests of one Bucket: counted with their bodies, refused, or applied with their reply lost.

Works through botocore's events, so that nothing of the clients is replaced.
"""

import io
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from urllib3 import HTTPResponse

from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import keep_trying

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Fault = Callable[[AWSPreparedRequest], AWSResponse | None]
T = TypeVar("T")
WITH_BODY = ("PutObject", "UploadPart")


@dataclass
class S3Wire:
    """`sent` names every HTTP request, `headers` all their headers, in lower case; `accepted` counts the bytes of the
    bodies that the bucket took, by key."""

    bucket: Bucket
    sent: list[str] = field(default_factory=list)
    headers: set[str] = field(default_factory=set)
    accepted: Counter[str] = field(default_factory=Counter)
    _faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.bucket.raw.meta.events.register_first("before-send.s3", self._before_send)
        self.bucket.raw.meta.events.register_first("needs-retry.s3", _retry_at_once)

    def counted(self) -> Counter[str]:
        """Requests by operation since the last call of this."""
        found = Counter(self.sent)
        self.sent.clear()
        return found

    def refuse(self, operation: str, code: str, status: int, *, times: int = 1, ending: str = "") -> None:
        """Answer the next requests, of keys with this ending, with an error instead of sending them."""
        self._faults += [(operation, ending, lambda request: _error_response(request, code, status))] * times

    def refuse_every_second(self, operation: str, code: str, status: int, *, times: int = 1000) -> None:
        for _ in range(times):
            self.refuse(operation, code, status)
            self.let_pass(operation)

    def let_pass(self, operation: str, *, times: int = 1, ending: str = "") -> None:
        """Send the next requests as they are; what is asked for afterwards applies to the ones after them."""
        self._faults += [(operation, ending, lambda _request: None)] * times

    def lose_reply(self, operation: str, *, times: int = 1, ending: str = "") -> None:
        """Let the next requests through and lose their replies."""
        self._faults += [(operation, ending, _send_and_lose)] * times

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        key = request.url.partition("?")[0]
        with self._lock:  # parts come from several threads
            self.sent.append(operation)
            self.headers |= {name.lower() for name in request.headers}
            fault = self._next_fault(operation, key)
        reply = fault(request) if fault is not None and fault is not _send_and_lose else None
        if reply is None and operation in WITH_BODY:
            self._count(request, key.rpartition("/")[2])
        return fault(request) if fault is _send_and_lose else reply

    def _next_fault(self, operation: str, key: str) -> Fault | None:
        for index, (wanted, ending, fault) in enumerate(self._faults):
            if wanted == operation and key.endswith(ending):
                del self._faults[index]
                return fault
        return None

    def _count(self, request: AWSPreparedRequest, name: str) -> None:
        with self._lock:
            self.accepted[name] += int(request.headers["Content-Length"])


def _retry_at_once(
    attempts: int, response: tuple[AWSResponse, object] | None, caught_exception: Exception | None, **_: object
) -> int | None:
    # botocore's own repetitions, without their random waits
    failed = caught_exception is not None or (response is not None and response[0].status_code >= 500)
    return 0 if failed and attempts < 5 else None


def _error_response(request: AWSPreparedRequest, code: str, status: int) -> AWSResponse:
    document = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    raw = HTTPResponse(body=io.BytesIO(document.encode()), preload_content=False)
    return AWSResponse(request.url, status, {"x-amz-request-id": "ANSWERED"}, raw)


def _send_and_lose(request: AWSPreparedRequest) -> AWSResponse:
    reply = URLLib3Session().send(request)
    assert reply.status_code < 300, reply.text
    raise ReadTimeoutError(endpoint_url=request.url)


def in_the_end(action: Callable[[], T]) -> T:
    """Repeat an action until the bucket is no longer unavailable, without waiting."""
    return keep_trying(action, lambda: False, lambda _seconds: None, random.Random(0))


def open_uploads(client: "S3Client", bucket: str) -> list[str]:
    """Keys with an unfinished multipart upload."""
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
