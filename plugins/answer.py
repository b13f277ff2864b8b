"""The sending side of one request: LiteLLM's answer with our headers, and SSE comments until it begins.

A comment commits the status 200. If LiteLLM then answers with an error, the error travels inside the stream, in the
form that the clients of that address expect.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from plugins.request_checks import is_for_a_model
from router.errors import Refusal

Message = MutableMapping[str, Any]
#: Gives the text of the next comment.
Comment = Callable[[], Awaitable[str]]

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Answer:
    """Owns `send` of one request. interval: seconds of silence after which a streaming caller gets a comment."""

    def __init__(self, send: Callable[[Message], Awaitable[None]], path: str, interval: float) -> None:
        self._send = send
        self._path = path
        self._interval = interval
        self._headers: list[tuple[bytes, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._commenting: asyncio.Task[None] | None = None
        self._begun = False  # LiteLLM's answer has begun
        self._committed = False  # we have sent the status, for the sake of a comment
        self._late_error: bytearray | None = None
        self._zipped = False
        self._held: Message | None = None  # the head of an error whose form is not known yet
        self._muted = False
        self.complete = False

    def set_headers(self, headers: dict[str, str]) -> None:
        """Headers for the answer, whatever it will be."""
        self._headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]

    def mute(self) -> None:
        """LiteLLM's answer is not wanted any more; ours follows."""
        self._muted = True

    # --- comments

    def keep_alive(self, comment: Comment) -> None:
        """From now on, and until the answer begins, send `comment` whenever the interval has passed."""
        if self._timer is None and not self._begun:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick, comment)

    def _tick(self, comment: Comment) -> None:
        self._timer = None
        self._commenting = asyncio.create_task(self._comment(comment))

    async def _comment(self, comment: Comment) -> None:
        text = await comment()
        if self._begun or self._muted:
            return
        if not self._committed:
            self._committed = True
            headers = [*_STREAM_HEADERS, *self._headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        body = f": {text}\n\n".encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self.keep_alive(comment)

    async def _end_comments(self) -> None:
        self._begun = True
        if self._timer is not None:
            self._timer.cancel()
        if self._commenting is not None and not self._commenting.done():
            await asyncio.wait([self._commenting])  # a comment on its way is not torn apart

    # --- LiteLLM's answer

    async def send(self, message: Message) -> None:
        """ASGI send, as LiteLLM sees it."""
        if self._muted:
            return
        if message["type"] == "http.response.start":
            await self._end_comments()
            if not self._committed:
                message["headers"] = [*message.get("headers", []), *self._headers]
                if message["status"] >= 400 and is_for_a_model(self._path):
                    self._held, self._late_error = message, bytearray()
                else:
                    await self._send(message)
            elif message["status"] >= 400:
                self._late_error = bytearray()
            self._zipped = (b"content-encoding", b"gzip") in message.get("headers", [])
            return
        if message["type"] == "http.response.body":
            last = not message.get("more_body", False)
            if self._late_error is not None:
                self._late_error += message.get("body", b"")
                if last:
                    await self._send_error(bytes(self._late_error))
            else:
                await self._send(message)
            self.complete = self.complete or last
            return
        await self._send(message)

    async def _send_error(self, body: bytes) -> None:
        if self._zipped:
            body = gzip.decompress(body)
        if self._held is None:
            body = error_in_stream(body, self._path)
        else:
            body = in_openai_form(body, self._held["status"], self._path)
            kept = [pair for pair in self._held["headers"] if pair[0] not in (b"content-length", b"content-encoding")]
            self._held["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
            await self._send(self._held)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        """Answer in LiteLLM's stead; `finish` ends the exchange."""
        self._muted = True
        await self._end_comments()
        body = error_body({"message": message, "type": kind, "param": param, "code": str(status)}, self._path)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self) -> None:
        """The end of a refusal."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def close(self) -> None:
        """Nothing is sent any more."""
        self._muted = True
        if self._timer is not None:
            self._timer.cancel()
        if self._commenting is not None and not self._commenting.done():
            self._commenting.cancel()


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    """The headers that tell a refused caller where it stands. Retry-After: whole seconds, rounded up, at least 1."""
    headers = {"X-Hearth-Model": refusal.model, "X-Hearth-Phase": refusal.phase}
    if refusal.position is not None:
        headers["X-Hearth-Position"] = str(refusal.position)
    if refusal.expected_seconds is not None:
        headers["X-Hearth-Expected-Seconds"] = f"{refusal.expected_seconds:.0f}"
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, -int(-refusal.retry_after // 1)))
    return {name: value for name, value in headers.items() if value}


def error_body(error: dict[str, Any], path: str) -> bytes:
    """The body of an error answer on `path`."""
    return json.dumps({"type": "error", "error": error} if path.endswith("/messages") else {"error": error}).encode()


def in_openai_form(body: bytes, status: int, path: str) -> bytes:
    """An error body as it is, or, when it is the web framework's own ({"detail": ...}), in OpenAI's form."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return body
    if isinstance(detail, list):  # one entry for each wrong part
        detail = "; ".join(f"{'.'.join(map(str, entry.get('loc', ())))}: {entry.get('msg', '')}" for entry in detail)
    kind = "invalid_request_error" if status < 500 else "internal_server_error"
    return error_body({"message": str(detail), "type": kind, "param": None, "code": str(status)}, path)


def error_in_stream(body: bytes, path: str) -> bytes:
    """An error body of LiteLLM as the last events of a stream on `path`."""
    try:
        parsed = json.loads(body)
        error = parsed.get("error") or parsed.get("detail") or parsed
    except (ValueError, AttributeError):
        error = body.decode("utf-8", "replace")
    if not isinstance(error, dict):
        error = {"message": str(error), "type": "internal_server_error", "param": None, "code": "500"}
    if path.endswith("/messages"):
        detail = {"type": error.get("type") or "api_error", "message": error.get("message", "")}
        return _event({"type": "error", "error": detail}, "error")
    if path.endswith("/responses"):
        detail = {key: error.get(key) for key in ("code", "message", "param")}
        return _event({"type": "error", "sequence_number": 0, **detail}, "error")
    return _event({"error": error}) + b"data: [DONE]\n\n"


def _event(data: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()
