"""What stands for the gateway in the tests of remote use: a program for a container, with Python's own library only.

A streamed answer goes on, and a question is answered, only when another request says so: nothing here is timed.

usage: python3 remote_gateway.py ADDRESS PORT...
"""

from __future__ import annotations

import http.server
import json
import sys
import threading

arrived, left, go_on = threading.Event(), threading.Event(), threading.Event()
#: GET: answers when that has happened. POST /v1/embeddings lets the stream go on.
HAPPENS = {"/v1/models/arrived": arrived, "/v1/models/left": left}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if (event := HAPPENS.get(self.path)) is not None:
            event.wait()
        self.answer()

    def do_POST(self) -> None:
        unread = int(self.headers["Content-Length"])
        while unread and (part := self.rfile.read(min(unread, 2**20))):
            unread -= len(part)
        if self.path == "/v1/chat/completions":
            self.stream()
        elif self.path == "/v1/completions":  # a model that sleeps until its client has left
            arrived.set()
            if not self.connection.recv(1):
                left.set()
            self.close_connection = True
        else:
            go_on.set()
            self.answer()

    def answer(self) -> None:
        body = json.dumps({"port": self.server.server_address[1], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b": waiting\n\n")
        go_on.wait()
        self.chunk(b"data: awake\n\n")
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    for port in sys.argv[2:]:
        server = http.server.ThreadingHTTPServer((sys.argv[1], int(port)), Handler)
        threading.Thread(target=server.serve_forever).start()
