"""A gateway and its one engine as `hearth soak` meets them: what each counts, refuses and cuts short."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from threaded_server import ThreadedServer


@dataclass
class FakeGateway(ThreadedServer):
    """tokens: the engine's count of a text. template: tokens that its chat template adds. context: what it takes,
    prompt and answer together. rules: what the gateway's request rules take of the prompt, by their own count; None is
    all. shortened: to how many tokens they cut the limit of streamed answers; None is not at all. asked: bodies."""

    tokens: Callable[[str], int]
    template: int = 30
    context: int = 4096
    rules: tuple[Callable[[str], int], int] | None = None
    shortened: int | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        gateway = self

        class Handler(_Handler):
            fake = gateway

        self.listen(Handler)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeGateway
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        fake, body = self.fake, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.asked.append(body)
        text, most = body["messages"][0]["content"], body["max_tokens"]
        if fake.rules is not None and fake.rules[0](text) > fake.rules[1]:
            self._send(400, {"error": {"message": "the context of the rules", "code": "context_length_exceeded"}})
            return
        headers = {"X-Hearth-Model": "m"}
        if fake.shortened is not None and body.get("stream"):
            most = min(most, fake.shortened)
            headers["X-Hearth-Changed"] = f"max_tokens={most}"
        prompt = fake.tokens(text) + fake.template
        if prompt + most > fake.context:
            self._send(400, {"error": {"message": "the context of the engine", "code": "400"}}, headers)
            return
        usage = {"prompt_tokens": prompt, "completion_tokens": most}
        if not body.get("stream"):
            choice = {"message": {"content": "x"}, "finish_reason": "length"}
            self._send(200, {"choices": [choice], "usage": usage}, headers)
            return
        chunk = {"choices": [{"delta": {"content": "x"}, "finish_reason": "length"}]}
        events = [json.dumps(chunk), json.dumps({"choices": [], "usage": usage}), "[DONE]"]
        self._write(200, "".join(f"data: {event}\n\n" for event in events), headers)

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._write(status, json.dumps(document), headers or {})

    def _write(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(text))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())
