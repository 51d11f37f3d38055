"""A fake of EC2's instance metadata (IMDSv2 only) on loopback: tokens, identity, spot notices, role credentials."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.serving import serving

TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
ROLE = "the-worker-role"


def stamp(moment: datetime) -> str:
    """As EC2 writes times: to the second, with a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def credentials() -> str:
    """Keys of the instance's role, for boto3."""
    now = datetime.now(UTC)
    return json.dumps(
        {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": "ASIAFAKEFAKEFAKEFAKE",
            "SecretAccessKey": "a-secret-of-the-role",
            "Token": "a-session-token-of-the-role",
            "LastUpdated": stamp(now),
            "Expiration": stamp(now + timedelta(hours=6)),
        }
    )


def new_paths() -> dict[str, str]:
    """A spot instance that nobody wants to take away."""
    return {
        "instance-id": "i-0123456789abcdef0",
        "instance-type": "g5.xlarge",
        "instance-life-cycle": "spot",
        "placement/region": "eu-west-1",
        "placement/availability-zone": "eu-west-1b",
        "autoscaling/target-lifecycle-state": "InService",
        "iam/security-credentials/": ROLE,
        f"iam/security-credentials/{ROLE}": credentials(),
    }


@dataclass
class Imds:
    """What the fake answers, and what it was asked. A path that is not in `paths` is a 404."""

    endpoint: str = ""
    paths: dict[str, str] = field(default_factory=new_paths)
    monotonic: Callable[[], float] = time.monotonic
    is_broken: bool = False  # every answer is a 500
    tokens: dict[str, float] = field(default_factory=dict)  # valid ones, and until when
    tokens_given: int = 0
    refused: int = 0  # answers with 401
    asked: threading.Event = field(default_factory=threading.Event)  # somebody looked for a notice

    def interrupt(self, deadline: datetime, action: str = "terminate") -> None:
        self.paths["spot/instance-action"] = json.dumps({"action": action, "time": stamp(deadline)})

    def recommend_rebalance(self, at: datetime) -> None:
        self.paths["events/recommendations/rebalance"] = json.dumps({"noticeTime": stamp(at)})

    def token(self, seconds: str | None) -> tuple[int, str]:
        if seconds is None or not seconds.isdigit() or not 1 <= int(seconds) <= 21_600:
            return 400, "Bad Request"
        self.tokens_given += 1
        token = uuid.uuid4().hex
        self.tokens[token] = self.monotonic() + int(seconds)
        return 200, token

    def answer(self, path: str, token: str | None) -> tuple[int, str]:
        if self.is_broken:
            return 500, "Internal Server Error"
        if self.tokens.get(token or "", float("-inf")) <= self.monotonic():
            self.refused += 1
            return 401, "Unauthorized"
        found = self.paths.get(path.removeprefix("/latest/meta-data/"))
        return (404, "Not Found") if found is None else (200, found)


class _Answers(BaseHTTPRequestHandler):
    imds: Imds  # set by `serve`

    def do_PUT(self) -> None:
        seconds = self.headers.get(TTL_HEADER)
        is_token = self.path == "/latest/api/token" and not self.imds.is_broken
        status, text = self.imds.token(seconds) if is_token else (500 if self.imds.is_broken else 404, "")
        self._reply(status, text, {TTL_HEADER: seconds or ""} if status == 200 else {})

    def do_GET(self) -> None:
        self._reply(*self.imds.answer(self.path, self.headers.get(TOKEN_HEADER)), {})
        if self.path.endswith("/rebalance"):
            self.imds.asked.set()

    def _reply(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""


@contextmanager
def serve() -> Iterator[Imds]:
    """The fake, answering on a free port of loopback for as long as the block lasts."""
    imds = Imds()
    answers = type("_Answers", (_Answers,), {"imds": imds})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    imds.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield imds
