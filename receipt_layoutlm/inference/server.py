"""HTTP server of a model: POST a scan or words, get the fields. Starlette's errors and ours are JSON, {"error": text}.

A request is held in memory up to the limit, written under a name of our own for the readers of files, and removed.
"""

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.extraction import Extraction

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException, MultiPartParser
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ImportError as error:
    raise UserError(f"{error.name} not installed: pip install 'receipt-layoutlm[serve]'") from error

Read = Callable[[Path, Callable[[], None]], list[Extraction]]
"""Reads the pages of a file; the callback is called before each page and batch, and may raise to stop."""

MEGABYTE: Final = 1_000_000
MULTIPART: Final = "multipart/form-data"
WORDS: Final = "application/json"
LONGEST_NAME: Final = 100
MOST_CONNECTIONS: Final = 32
BODY: Final = {
    "required": True,
    "content": {
        WORDS: {"schema": {"type": "object", "description": "words, boxes; as docs/data.md has them"}},
        MULTIPART: {
            "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}},
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a request: its body in bytes, its time in seconds, and how many are read at a time; others wait."""

    most_bytes: int
    seconds: float
    at_once: int = 1


class Pages(BaseModel):
    """The answer: a page of the schema that `predict --json` has, for each page of the scan."""

    pages: list[Extraction]


class Health(BaseModel):
    """status is ok when requests are answered."""

    status: str = "ok"
    model: str
    """SHA-256 of the weights."""
    labels: tuple[str, ...]


class Problem(BaseModel):
    """The answer to a request that cannot be served."""

    error: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client sent: the name by which answers call it, and whether it is words or a scan."""

    name: str
    content: bytes
    is_words: bool


class _OutOfTime(UserError):
    """Raised between two pages or windows of a request that has no time left."""


def create_app(read: Read, model: str, labels: Sequence[str], limits: Limits, hosts: Sequence[str]) -> FastAPI:
    """The application. hosts: names in the Host header that are answered, ("*",) for all.

    On loopback the names keep web pages of others from reaching the server through their own name (DNS rebinding).
    """
    app = FastAPI(title="receipt-layoutlm", description="Fields of receipts from scans or words.")
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(UserError, _unreadable)
    app.add_exception_handler(500, _failed)
    slots = asyncio.Semaphore(limits.at_once)
    problems = {status: {"model": Problem} for status in (400, 408, 413, 422, 500, 503, 504)}

    async def health() -> Health:
        """Whether the server is up, and its model."""
        return Health(model=model, labels=tuple(labels))

    async def extract(request: Request) -> Pages:
        """Read the fields of a scan or PDF (raw, or as the only file of a form) or of words as JSON."""
        deadline = time.monotonic() + limits.seconds
        upload = await _received(request, limits)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await slots.acquire()
        except TimeoutError as error:
            raise HTTPException(503, f"busy for {limits.seconds:g} s: try again later") from error
        try:
            return Pages(pages=await run_in_threadpool(_extracted, read, upload, deadline))
        except _OutOfTime as error:
            raise HTTPException(504, f"not done in {limits.seconds:g} s: send fewer pages at a time") from error
        finally:
            slots.release()

    app.add_api_route("/health", health)
    app.add_api_route("/extract", extract, methods=["POST"], responses=problems, openapi_extra={"requestBody": BODY})
    return app


async def _received(request: Request, limits: Limits) -> Upload:
    """The body of a request, within the limits of size and time. Raises HTTPException."""
    too_large = f"the request is larger than {limits.most_bytes / MEGABYTE:g} MB"
    stated = request.headers.get("content-length", "0")
    if not (stated.isascii() and stated.isdigit()) or int(stated) > limits.most_bytes:
        raise HTTPException(413, too_large)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.most_bytes:
                    raise HTTPException(413, too_large)
    except TimeoutError as error:
        raise HTTPException(408, f"the request did not arrive in {limits.seconds:g} s") from error
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload = await _file_of_form(request, bytes(body)) if kind == MULTIPART else Upload("", bytes(body), kind == WORDS)
    if not upload.content:
        raise HTTPException(400, "the request is empty: send a scan, a PDF, or words as JSON")
    return upload


async def _file_of_form(request: Request, body: bytes) -> Upload:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, chunks(), max_files=1, max_fields=10).parse()
    except (MultiPartException, KeyError) as error:
        raise HTTPException(
            400, f"the form cannot be read: {getattr(error, 'message', 'it has no boundary')}"
        ) from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise HTTPException(400, "the form has no file: send one, as curl does with -F file=@receipt.jpg")
        name = files[0].filename or ""
        is_words = files[0].content_type == WORDS or name.lower().endswith((".json", ".jsonl"))
        return Upload(name[:LONGEST_NAME], await files[0].read(), is_words)
    finally:
        await form.close()


def _extracted(read: Read, upload: Upload, deadline: float) -> list[Extraction]:
    """The pages of an upload, named as the client named them. Raises UserError, _OutOfTime."""

    def check() -> None:
        if time.monotonic() > deadline:
            raise _OutOfTime

    with tempfile.TemporaryDirectory(prefix="layoutlm-serve-") as folder:
        path = Path(folder) / ("upload.json" if upload.is_words else "upload")
        path.write_bytes(upload.content)
        name = upload.name or path.name
        try:
            pages = read(path, check)
        except _OutOfTime:
            raise
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from error
    return [
        page.model_copy(update={"source": name, "page_id": page.page_id.replace(path.name, name, 1)}) for page in pages
    ]


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _unreadable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 422)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"the server failed ({type(error).__name__}): its log has the reason"}, 500)


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM."""
    config = uvicorn.Config(app, server_header=False, limit_concurrency=MOST_CONNECTIONS)
    uvicorn.Server(config).run(sockets=[listener])
