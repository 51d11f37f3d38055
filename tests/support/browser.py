"""A headless Chromium: pages as a person sees them, driven over its debugging pipe, or tried by a script in a frame."""

import base64
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGE_SECONDS: Final = 60.0
_QUIET: Final = ("--headless", "--no-sandbox", "--disable-gpu")
_OPTIONS: Final = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")


class Browser:
    """One page. Its size and its colours are those of `look`."""

    def __init__(self, asks: int, answers: int) -> None:
        self._asks, self._answers = asks, answers
        self._numbers = itertools.count(1)
        self._buffer = b""
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

    def look(self, width: int, height: int, colours: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", size)
        self._call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": colours}]})

    def open(self, url: str) -> None:
        self._call("Page.navigate", {"url": "about:blank"})  # else a change after the # loads nothing
        self._call("Page.navigate", {"url": url})

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self._call("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true. The page says when: each poll asks it."""
        until = time.monotonic() + PAGE_SECONDS
        asked = f"new Promise(done => setTimeout(() => done({expression}), 100))"
        while not (value := self.value(asked)):
            assert time.monotonic() < until, f"not within {PAGE_SECONDS} s: {expression}\n{self.text()}"
        return value

    def wait_for_text(self, text: str) -> None:
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(text)})")

    def text(self) -> str:
        return str(self.value("document.body.innerText"))

    def click(self, expression: str) -> None:
        """Click the element that an expression yields, once it is there."""
        self.wait_for(f"!!({expression})")
        self.value(f"({expression}).click()")

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"]))

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number, session = next(self._numbers), getattr(self, "_session", None)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._asks, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._answers, 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile folder. It reads its fd 3 and writes its fd 4."""
    assert PROGRAM is not None
    there, asks = os.pipe()
    answers, back = os.pipe()
    command = [PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", 'exec "${@:3}" 3<&"$1" 4>&"$2"', "bash", str(there), str(back), *command],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(there, back),
    )
    for end in (there, back):
        os.close(end)
    try:
        yield Browser(asks, answers)
    finally:
        process.terminate()
        process.wait(30)
        for end in (asks, answers):
            os.close(end)


def tried_in_frame(page: str, script: str, folder: Path, width: int, height: int) -> dict[str, Any]:
    """What a script finds in a page inside a frame of this size.

    Its function `run` is called once the page is there, and stores an object as JSON in `document.body.dataset.found`.
    """
    assert PROGRAM is not None
    frame = f'width="{width}" height="{height}" style="border:0" srcdoc="{html.escape(page)}" onload="run()"'
    (folder / "page.html").write_text(f"<body><iframe {frame}></iframe><script>{script}</script></body>")
    done = subprocess.run(
        [PROGRAM, *_QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    match = re.search(r'data-found="([^"]*)"', done.stdout)
    assert match is not None, done.stdout[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found
