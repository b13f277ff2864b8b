"""The few addresses of Hugging Face's API that a download uses, over a directory of files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from threaded_server import ThreadedServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """gated: only for the token in `FakeHub.token`."""

    files: dict[str, bytes]
    gated: bool = False
    commit: str = COMMIT


@dataclass
class FakeHub(ThreadedServer):
    """breaks: by file, after how many bytes its connection breaks, once. asked: method, file and range of each request
    for a file's content."""

    repositories: dict[str, Repository]
    token: str = "hf_right"
    breaks: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    holding: dict[str, threading.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hub = self

        class Handler(_Handler):
            fake = hub

        self.listen(Handler)

    def __exit__(self, *_: object) -> None:
        for event in self.holding.values():
            event.set()
        super().__exit__()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._file("HEAD")

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not path.startswith("/api/models/"):
            self._file("GET")
            return
        parts = [unquote(part) for part in path.removeprefix("/api/models/").split("/")]
        name, revision = "/".join(parts[:2]), parts[3] if len(parts) > 3 else "main"
        repository = self.fake.repositories.get(name)
        if repository is None:
            self._error(404, "RepoNotFound")
        elif revision not in ("main", repository.commit):
            self._error(404, "RevisionNotFound")
        elif parts[2:3] == ["tree"]:
            self._json([_entry(path, data) for path, data in repository.files.items()])
        else:
            files = [{"rfilename": path, "size": len(data)} for path, data in repository.files.items()]
            self._json({"id": name, "modelId": name, "sha": repository.commit, "siblings": files, "private": False,
                        "gated": "auto" if repository.gated else False})  # fmt: skip

    def _file(self, method: str) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        repository, name = self.fake.repositories["/".join(parts[:2])], "/".join(parts[4:])
        self.fake.asked.append((method, name, self.headers.get("Range", "")))
        if repository.gated and self.headers.get("Authorization") != f"Bearer {self.fake.token}":
            self._error(401, "GatedRepo")
            return
        if name not in repository.files:
            self._error(404, "EntryNotFound")
            return
        data = repository.files[name]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        left = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(left)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if method == "HEAD":
            return
        cut = self.fake.breaks.pop(name, None)
        self.wfile.write(left[:cut])
        self.fake.sent[name] += len(left[:cut])
        if name in self.fake.holding:
            self.wfile.flush()
            self.fake.holding[name].wait(60)
        if cut is not None:
            self.close_connection = True

    def _json(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if path.endswith(".safetensors"):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry
