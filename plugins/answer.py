"""The sending side of one request: LiteLLM's answer with our headers, and signs of life in a stream until it begins.

The first sign of life commits the status 200. If LiteLLM then answers with an error, the error travels inside the
stream, in the form that the clients of that address expect.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from plugins.answer_forms import error_body, error_in_stream, in_openai_form
from plugins.request_checks import is_for_a_model
from router.errors import Refusal

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life in a stream. body: whole SSE events or comments; empty when there is nothing to say now.
    headers: for the head of the stream, if this is its first sign."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


#: Gives the next sign of life.
Signs = Callable[[], Awaitable[Sign]]

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Answer:
    """Owns `send` of one request. interval: seconds of silence after which a streaming caller gets a sign of life."""

    def __init__(self, send: Callable[[Message], Awaitable[None]], path: str, interval: float) -> None:
        self._send = send
        self.path = path
        self.interval = interval
        self._headers: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._signing: asyncio.Task[None] | None = None
        self._sending_sign = asyncio.Lock()
        self._begun = False  # LiteLLM's answer has begun
        self._committed = False  # we have sent the status, for the sake of a sign of life
        self._late_error: bytearray | None = None  # the body of an error so far; it is sent at its end, in our form
        self._zipped = False  # LiteLLM's answer is compressed
        self._streams: bool | None = None  # whether what has begun to be sent is a stream of events
        self._held: Message | None = None  # the head of an error whose form is not known yet
        self._muted = False  # what LiteLLM sends from now on is dropped
        self.complete = False  # LiteLLM's answer has been sent to its end

    def set_headers(self, headers: dict[str, str]) -> None:
        """Headers for the answer, whatever it will be, beside those already set."""
        self._headers = {**self._headers, **headers}

    def mute(self) -> None:
        """LiteLLM's answer is not wanted any more; ours follows."""
        self._muted = True

    # --- signs of life

    def keep_alive(self, signs: Signs, every: float | None = None) -> None:
        """From now on, and until the answer begins, ask `signs` every so many seconds (None: the interval), and send
        what it gives."""
        if self._timer is None and not self._begun:
            pause = self.interval if every is None else every
            self._timer = asyncio.get_running_loop().call_later(pause, self._tick, signs, every)

    def _tick(self, signs: Signs, every: float | None) -> None:
        self._timer = None
        self._signing = asyncio.create_task(self._sign(signs, every))

    async def _sign(self, signs: Signs, every: float | None) -> None:
        sign = await signs()
        async with self._sending_sign:
            if self._begun or self._muted:
                return
            if sign.body:
                if not self._committed:
                    self._committed = True
                    self._streams = True
                    headers = [*_STREAM_HEADERS, *_encoded({**self._headers, **sign.headers})]
                    await self._send({"type": "http.response.start", "status": 200, "headers": headers})
                await self._send({"type": "http.response.body", "body": sign.body, "more_body": True})
        self.keep_alive(signs, every)

    async def _end_signs(self) -> None:
        self._begun = True
        if self._timer is not None:
            self._timer.cancel()
        async with self._sending_sign:  # a sign on its way is not torn apart; any later one is not sent
            pass

    # --- LiteLLM's answer

    async def send(self, message: Message) -> None:
        """ASGI send, as LiteLLM sees it."""
        if self._muted:
            return
        if message["type"] == "http.response.start":
            await self._end_signs()
            if not self._committed:
                message["headers"] = [*message.get("headers", []), *_encoded(self._headers)]
                if message["status"] >= 400 and is_for_a_model(self.path):
                    self._held, self._late_error = message, bytearray()
                else:
                    self._streams = any(
                        name == b"content-type" and value.startswith(b"text/event-stream")
                        for name, value in message["headers"]
                    )
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
            body = error_in_stream(body, self.path)
        else:
            body = in_openai_form(body, self._held["status"], self.path)
            kept = [pair for pair in self._held["headers"] if pair[0] not in (b"content-length", b"content-encoding")]
            self._held["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
            await self._send(self._held)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        """Answer in LiteLLM's stead; `finish` ends the exchange."""
        self._muted = True
        await self._end_signs()
        body = error_body({"message": message, "type": kind, "param": param, "code": str(status)}, self.path)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def cut(self, refusal: Refusal) -> None:
        """End the exchange wherever it is, and say why; a stream says it in its last event. What is sent in one piece
        and has begun is as good as sent."""
        if self._streams is None:
            await self.refuse(refusal.status, refusal.type, refusal.message)
            await self.finish()
        elif self._streams:
            self._muted = True
            await self._end_signs()
            error = {"message": refusal.message, "type": refusal.type, "param": None, "code": str(refusal.status)}
            told = b"" if self._zipped else error_in_stream(json.dumps({"error": error}).encode(), self.path)
            await self._send({"type": "http.response.body", "body": told, "more_body": False})

    async def finish(self) -> None:
        """The end of a refusal."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def close(self) -> None:
        """Nothing is sent any more."""
        self._muted = True
        if self._timer is not None:
            self._timer.cancel()
        if self._signing is not None and not self._signing.done():
            self._signing.cancel()


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
