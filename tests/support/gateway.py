"""A gateway between a client and an engine: real HTTP, which forwards or answers in the engine's place."""

import contextlib
import http.client
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.support.serving import serving

HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive")


@dataclass(frozen=True)
class Answer:
    """What a gateway says instead of the engine. A HEAD request gets no body."""

    status: int
    body: bytes = b"<html><head><title>Gateway</title></head><body>come again</body></html>"
    media_type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()


PAGES = (
    *(Answer(status) for status in (200, 400, 403, 404, 408, 429, 500, 502, 503, 504, 521)),
    *(Answer(status, headers=(("Location", "http://portal.example/"),)) for status in (301, 302, 307, 308)),
    Answer(200, b"", "text/plain"),
    Answer(200, b'{"login": "needed"}', "application/json"),
    Answer(200, b"[1, 2]", "application/json"),
    Answer(200, b"null", "application/x-amz-json-1.0"),
    Answer(200, b"\xff\xfe<", "application/xml"),
    Answer(204, b""),
    Answer(502, b'{"message": "Internal server error"}', "application/json", (("x-amzn-RequestId", "an-api-gateway"),)),
    Answer(502, b'["no document"]', "application/json"),
)


@dataclass
class Gateway:
    """`answers` are given to the next requests; the others go to the engine. `seen` counts all requests."""

    engine: str
    answers: deque[Answer] = field(default_factory=deque)
    seen: int = 0
    endpoint: str = ""

    def answer(self, answer: Answer, *, times: int = 1) -> None:
        self.answers.extend([answer] * times)

    def reply(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.seen += 1
        answer = self.answers.popleft() if self.answers else self._forward(request, body)
        request.send_response_only(answer.status)
        named = {name.lower() for name, _ in answer.headers}
        headers = [*answer.headers, *([] if "content-type" in named else [("Content-Type", answer.media_type)])]
        if answer.status != 204 and "content-length" not in named:
            headers.append(("Content-Length", str(len(answer.body))))
        for name, value in headers:
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD" and answer.status != 204:
            request.wfile.write(answer.body)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.engine).netloc)
        connection.request(request.command, request.path, body, dict(request.headers.items()))
        with contextlib.closing(connection):
            reply = connection.getresponse()
            headers = tuple((name, value) for name, value in reply.getheaders() if name.lower() not in HOP_BY_HOP)
            return Answer(reply.status, reply.read(), "application/octet-stream", headers)


@contextlib.contextmanager
def gateway_to(engine: str) -> Iterator[Gateway]:
    """A gateway on a port of its own inside the block."""
    gateway = Gateway(engine)

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            gateway.reply(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up is none."""

    server = Server(("127.0.0.1", 0), Front)
    gateway.endpoint = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield gateway


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.status} {page.media_type}")
"""A test for each answer of a gateway."""
