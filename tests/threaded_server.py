"""An HTTP server for a test, on 127.0.0.1 and in threads of its own."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # for tests that connect many times at once


class ThreadedServer:
    """Use as a context, after `listen`. url: its address, without a slash at the end."""

    url: str

    def listen(self, handler: type[BaseHTTPRequestHandler]) -> None:
        """Take a port; requests are answered within the context."""
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
