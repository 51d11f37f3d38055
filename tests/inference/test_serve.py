"""layoutlm-cli serve: the answers are those of predict, and no request can harm the server."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from receipt_layoutlm import Extractor
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.extraction import Extraction
from tests.support.commands import run
from tests.support.scans import text_of, write_pdf
from tests.support.tiny import tiny_pages

MISSING = [module for module in ("fastapi", "uvicorn", "python_multipart", "httpx") if find_spec(module) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra serve is not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def extractor(model: Path) -> Extractor:
    return Extractor.load(model)


@pytest.fixture(scope="module")
def words() -> bytes:
    page = tiny_pages(3)[2]
    return json.dumps({"id": "first", "words": page.words, "boxes": page.boxes}).encode()


def client(
    read: Callable[[Path, Callable[[], None]], list[Extraction]], most_bytes: int = 100_000, seconds: float = 30.0
) -> Any:
    from fastapi.testclient import TestClient

    from receipt_layoutlm.inference.server import Limits, create_app

    app = create_app(read, "digest", ("DATE",), Limits(most_bytes, seconds), ("testserver",))
    return TestClient(app, raise_server_exceptions=False)


def test_words_get_the_pages_that_predict_prints(extractor: Extractor, words: bytes, tmp_path: Path) -> None:
    answer = client(extractor.read).post("/extract", content=words, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    (tmp_path / "words.json").write_bytes(words)
    (expected,) = extractor.read(tmp_path / "words.json")
    assert answer.json() == {"pages": [{**expected.model_dump(mode="json"), "source": "upload.json"}]}
    assert expected.entities


def test_a_pdf_is_read_raw_and_from_a_form_under_its_own_name(extractor: Extractor, tmp_path: Path) -> None:
    pdf = write_pdf(tmp_path / "a.pdf", [text_of("total 3.50", 20, 300), text_of("shop a", 20, 300)]).read_bytes()
    server = client(extractor.read)
    raw = server.post("/extract", content=pdf).json()["pages"]
    form = server.post("/extract", files={"file": ("../../etc/r.pdf", pdf)}).json()["pages"]
    assert [(page["page"], page["source"], page["page_id"]) for page in raw] == [
        (1, "upload", "upload"),
        (2, "upload", "upload#2"),
    ]
    assert [page["page_id"] for page in form] == ["../../etc/r.pdf", "../../etc/r.pdf#2"]  # a name, never a path
    assert [page["words"] for page in form] == [page["words"] for page in raw]


def test_the_description_names_both_routes_and_the_schema_of_pages(extractor: Extractor) -> None:
    server = client(extractor.read)
    assert server.get("/health").json() == {"status": "ok", "model": "digest", "labels": ["DATE"]}
    described = server.get("/openapi.json").json()
    assert described["paths"].keys() == {"/health", "/extract"}
    assert described["components"]["schemas"]["Extraction"]["properties"].keys() == Extraction.model_fields.keys()
    assert described["paths"]["/extract"]["post"]["requestBody"]["content"].keys() >= {"multipart/form-data"}
    assert server.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        ({"content": b""}, 400, "the request is empty"),
        ({"content": b"neither"}, 422, "upload"),
        ({"content": b"x" * 100_001}, 413, "larger than 0.1 MB"),
        ({"content": iter([b"x" * 60_000] * 2)}, 413, "larger than 0.1 MB"),  # without a stated length
        ({"content": b"{}", "headers": {"content-type": "application/json"}}, 422, "upload.json"),
        ({"content": b"[" * 90_000, "headers": {"content-type": "application/json"}}, 422, "upload.json"),
        ({"data": {"file": "/etc/passwd"}}, 422, "upload"),
        ({"files": {"file": ("a.jpg", b"")}}, 400, "the request is empty"),
        ({"files": [("file", ("a", b"1")), ("file", ("b", b"2"))]}, 400, "Too many files"),
        ({"content": b"--", "headers": {"content-type": "multipart/form-data"}}, 400, "the form cannot be read"),
        ({"content": b"--", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "the form"),
        ({"files": {"file": ("bad.json", b'{"words": 3}')}}, 422, "bad.json"),
    ],
)
def test_a_bad_request_gets_a_json_error(extractor: Extractor, sent: dict[str, Any], status: int, reason: str) -> None:
    answer = client(extractor.read).post("/extract", **sent)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert reason in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]


def test_other_routes_and_methods_get_json_errors_too(extractor: Extractor) -> None:
    server = client(extractor.read)
    for answer, status in ((server.get("/etc/passwd"), 404), (server.get("/extract"), 405)):
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_a_foreign_host_name_is_refused(extractor: Extractor) -> None:
    assert client(extractor.read).get("/health", headers={"host": "evil.example"}).status_code == 400


def test_a_request_that_takes_too_long_is_stopped_and_the_next_one_answered() -> None:
    stopped = []

    def endless(path: Path, check_stop: Callable[[], None]) -> list[Extraction]:
        try:
            while path.read_bytes() == b"slow":
                check_stop()
        except UserError:
            stopped.append(path)
            raise
        return []

    server = client(endless, seconds=0.2)
    answer = server.post("/extract", content=b"slow")
    assert (answer.status_code, answer.json()["error"][:15]) == (504, "not done in 0.2")
    assert not stopped[0].parent.exists()
    assert server.post("/extract", content=b"quick").json() == {"pages": []}


def test_a_request_that_waits_too_long_for_another_is_told_to_come_back() -> None:
    entered, leave = threading.Event(), threading.Event()

    def held(path: Path, _: Callable[[], None]) -> list[Extraction]:
        entered.set()
        assert leave.wait(30)
        return []

    with client(held, seconds=0.3) as server:
        answers = []
        first = threading.Thread(target=lambda: answers.append(server.post("/extract", content=b"1")))
        first.start()
        assert entered.wait(30)
        assert server.get("/health").status_code == 200  # answered meanwhile
        second = server.post("/extract", content=b"2")
        leave.set()
        first.join(30)
    assert (second.status_code, second.json()["error"][:4]) == (503, "busy")
    assert answers[0].status_code == 200


def test_a_fault_of_the_server_is_a_json_error_without_its_text() -> None:
    def broken(path: Path, _: Callable[[], None]) -> list[Extraction]:
        raise ZeroDivisionError(f"secret in {path}")

    answer = client(broken).post("/extract", content=b"1")
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert "secret" not in answer.json()["error"]


@contextmanager
def served(*arguments: str, cache: Path) -> Iterator[str]:
    """The address of a running `serve`, which ends by Ctrl-C."""
    program = f"import sys; sys.argv[1:] = {['serve', *arguments, '--port', '0']!r}\n"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{program}from receipt_layoutlm.cli import main; main()"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAYOUTLM_CACHE_DIR": str(cache)},
    )
    try:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("serving at "):
                yield line.split()[2]
                break
        else:
            pytest.fail("it ended before it served")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


@pytest.mark.engine
def test_the_command_serves_on_loopback_keeps_nothing_and_ends_by_ctrl_c(
    model: Path, words: bytes, tmp_path: Path
) -> None:
    with served("--model", str(model), "--max-megabytes", "0.001", cache=tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/extract", words, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["pages"][0]["page_id"] == "first"
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(urllib.request.Request(f"{address}/extract", words * 30), timeout=30)
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(model: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--model", str(model), "--port", str(taken.getsockname()[1]))
    assert done.exit_code == 1
    assert "give another --host or --port" in done.output
