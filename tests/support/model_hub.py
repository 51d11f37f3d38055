"""A fake of the model hub on loopback: what huggingface_hub asks of it to learn of a model and to download it."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.serving import serving


@dataclass
class Model:
    """The files of each revision; the last one is the default branch."""

    revisions: dict[str, dict[str, bytes]]
    licence: str | None = "mit"


@dataclass
class ModelHub:
    endpoint: str = ""
    models: dict[str, Model] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)  # paths of files that were fetched


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    hub = ModelHub()

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            if found := re.fullmatch(r"/api/models/(.+?)/tree/([^/]+)", path):
                self._tree(found[1], found[2])
            elif found := re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path):
                self._info(found[1], found[2])
            elif found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
                self._file(found[1], found[2], found[3])
            else:
                self._send(200 if path == "/" else 404, b"", {})

        def _info(self, name: str, revision: str | None) -> None:
            model = hub.models.get(name)
            commit = None if model is None else _commit(model, revision)
            if model is None or commit is None:
                code = "RepoNotFound" if model is None else "RevisionNotFound"
                return self._send(404, b"", {"X-Error-Code": code})
            files = [{"rfilename": each} for each in model.revisions[commit]]
            card = {} if model.licence is None else {"cardData": {"license": model.licence}}
            document = {"id": name, "sha": commit, "siblings": files, "tags": [], **card}
            return self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

        def _tree(self, name: str, revision: str) -> None:
            files = hub.models[name].revisions[revision]
            rows = [{"type": "file", "path": path, "size": len(files[path]), "oid": path} for path in files]
            self._send(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, revision: str, file: str) -> None:
            content = hub.models[name].revisions.get(revision, {}).get(file)
            if content is None:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision})
            if self.command == "GET":
                hub.downloads.append(f"{name}/{revision}/{file}")
            tag = hashlib.sha256(content).hexdigest()
            return self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": revision})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield hub


def _commit(model: Model, revision: str | None) -> str | None:
    if revision in (None, "main"):
        return list(model.revisions)[-1]
    return revision if revision in model.revisions else None
