"""Serves on a thread of its own while a block runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Accept connections until the block ends, then close."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)  # s between looks at the end
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
