"""The outermost layer of the gateway: one scope for each request, from its first byte until the client has its answer.

LiteLLM's hooks cannot end a lease on every path (a client that leaves before the first token fires none of them), so
the lease belongs to this scope, and the scope's end ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, unquote

from plugins.answer import Answer, Message
from plugins.request_checks import Fault, check_body, check_kind, takes_json
from router.errors import Refusal
from router.store.admission import Admission
from router.store.key_ring import Key
from router.store.ticket import Ticket

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_WAIT_HEADER = b"x-hearth-max-wait"

#: Seconds that LiteLLM gets to notice that the client has gone, before its work is cancelled.
GONE_GRACE = 0.4

#: Seconds for which the rest of a refused body is read.
LINGER = 0.5

#: LiteLLM forwards these to engines without calling its hooks, so nothing would hold the engine for them.
_PAST_THE_HOOKS = ("/vllm/",)
_NOT_SERVED = Fault("This address is not served here; use the ones under /v1.", status=404, type="not_found_error")

#: The reference stack's address form, answered by LiteLLM under another name.
_MODEL_IN_PATH = re.compile(r"/v1/(?P<model>.+)/chat/completions")


class RequestScope:
    """What the gateway knows of one request. id: what logs and traces call it, and the store, by its ticket."""

    def __init__(self, admission: Admission, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
        self.admission = admission
        self.answer = answer
        self.headers = headers
        self.id = uuid.uuid4().hex
        self.gone = asyncio.Event()
        self.ticket: Ticket | None = None
        self.key: Key | None = None  # of the ring; None for the master key, and where LiteLLM's database has the keys
        self.refused = ""  # the type of the refusal that it was answered with
        self.still_allowed: Callable[[], Awaitable[None]] | None = None  # raises when not; asked after a wait
        self.at_end: list[Callable[[], None]] = []
        self._cutting: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self._app_task = asyncio.current_task()
        self.cancelled_the_app = False

    def header(self, name: bytes) -> str | None:
        """The first header of this (lower case) name."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def leave(self) -> None:
        """The client has gone: whatever waits for this request stops waiting."""
        self.gone.set()
        if self.ticket is not None:
            self.admission.abandon(self.ticket)

    def cut(self, refusal: Refusal) -> None:
        """Somebody has cancelled the request while it runs: its client hears why, and the work on it ends."""
        if self._cutting is None and not self.answer.complete:
            self._cutting = asyncio.create_task(self._cut(refusal))

    async def _cut(self, refusal: Refusal) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GONE_GRACE):  # a client that does not read is told nothing
                    await self.answer.cut(refusal)
        finally:
            self._told.set()
        self.leave()
        await self.cancel_the_app()

    async def cancel_the_app(self) -> None:
        """End LiteLLM's work on it, once it has had a moment to notice that nobody is there."""
        await asyncio.sleep(GONE_GRACE)
        self.cancelled_the_app = True
        if self._app_task is not None:
            self._app_task.cancel()

    async def close(self) -> None:
        """Called by the app's own task at its end, after which it can no longer be cancelled from here."""
        self._app_task = None
        if self._cutting is not None:
            await self._told.wait()
            self._cutting.cancel()

    def end(self) -> None:
        """The request is over: its lease or its place in the line ends."""
        if self.ticket is not None:
            self.ticket.completed = self.answer.complete and not self.gone.is_set()
            self.admission.end(self.ticket)
            self._log_end(self.ticket)
        for due in self.at_end:
            due()
        self.at_end.clear()

    def _log_end(self, ticket: Ticket) -> None:
        """One line for each request of a model, with what it was and not with what was in it."""
        outcome = self.refused or ("completed" if ticket.completed else "cut_short")
        took = None if ticket.started is None else round(time.monotonic() - ticket.started, 3)
        waited = None if ticket.waited is None else round(ticket.waited, 3)
        fields = {"request_id": self.id, "model": ticket.model, "key_alias": ticket.alias}
        log.info("request", extra={**fields, "outcome": outcome, "waited_seconds": waited, "seconds": took})


_current: ContextVar[RequestScope | None] = ContextVar("hearth_request_scope", default=None)


def current_scope() -> RequestScope | None:
    """The scope of the request that this code runs for; None for LiteLLM's own background work."""
    return _current.get()


class RequestScopes:
    """ASGI middleware around LiteLLM. max_body: bytes; keepalive_interval: seconds."""

    def __init__(self, app: App, admission: Admission, *, max_body: int, keepalive_interval: float) -> None:
        self._app = app
        self._admission = admission
        self._max_body = max_body
        self._keepalive_interval = keepalive_interval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PAST_THE_HOOKS):
            await refuse(Answer(send, scope["path"], self._keepalive_interval), _NOT_SERVED, receive)
            return
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if match := _MODEL_IN_PATH.fullmatch(scope["path"]):
            path = f"/engines/{match['model']}/chat/completions"
            scope = {**scope, "path": path, "raw_path": quote(unquote(path)).encode()}
        answer = Answer(send, scope["path"], self._keepalive_interval)
        request = RequestScope(self._admission, answer, scope["headers"])
        length = request.header(b"content-length")
        if length is not None and length.isdecimal() and int(length) > self._max_body:
            await refuse(answer, _too_large(self._max_body), receive)
            return
        if fault := check_kind(scope["path"], request.header(b"content-type")):
            await refuse(answer, fault, receive)
            return
        body = _Body(request, receive, self._max_body, scope["path"])
        token = _current.set(request)
        try:
            await self._run(scope, request, body)
        finally:
            _current.reset(token)
            request.end()
            await request.close()
            await body.close()
            await answer.close()

    async def _run(self, scope: Scope, request: RequestScope, body: _Body) -> None:
        try:
            await self._app(scope, body.receive, request.answer.send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not request.cancelled_the_app or task is None:
                raise
            task.uncancel()  # the client is gone; nobody is left to hear of it
        if body.fault is not None:
            await refuse(request.answer, body.fault, body.rest)


class _Body:
    """The receiving side: hands the body on, then watches for the client to leave while nobody else listens.

    A JSON body is handed on in one piece, once it has been checked.
    """

    def __init__(self, request: RequestScope, receive: Receive, max_body: int, path: str) -> None:
        self._request = request
        self._receive = receive
        self._max_body = max_body
        self._path = path
        self._taken = 0
        self._whole: bytearray | None = bytearray() if takes_json(path) else None
        self._watch: asyncio.Task[None] | None = None
        self.fault: Fault | None = None
        self.rest: Receive | None = receive  # until the body has come whole

    async def receive(self) -> Message:
        if self.fault is not None:
            return {"type": "http.disconnect"}
        if self._watch is not None:
            await self._request.gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive_part()
        while self._whole is not None and message.get("more_body", False):
            message = await self._receive_part()
        if message["type"] == "http.disconnect":
            return message
        if self._whole is not None:
            message["body"] = bytes(self._whole)
            if fault := check_body(self._path, message["body"]):
                return self._refuse(fault)
        if not message.get("more_body", False):
            self._watch = asyncio.create_task(self._watch_client())
        return message

    async def _receive_part(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._request.leave()
            return message
        if not message.get("more_body", False):
            self.rest = None
        part = message.get("body", b"")
        self._taken += len(part)
        if self._taken > self._max_body:
            return self._refuse(_too_large(self._max_body))
        if self._whole is not None:
            self._whole += part
        return message

    def _refuse(self, fault: Fault) -> Message:
        """To the app it looks as if the client had gone; whatever it answers to that is not sent."""
        self.fault = fault
        self._request.leave()
        self._request.answer.mute()
        return {"type": "http.disconnect"}

    async def _watch_client(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._request.answer.complete:
            return
        self._request.leave()
        await self._request.cancel_the_app()

    async def close(self) -> None:
        """End the watch. Called by the app's own task, after which it can no longer be cancelled from here."""
        if self._watch is not None and not self._watch.done():
            self._watch.cancel()


async def refuse(answer: Answer, fault: Fault, rest: Receive | None) -> None:
    """Tell the client what is wrong with its request. rest: receives what the client is still sending; it is dropped
    for a moment, since closing a connection on unread data would destroy the answer on its way."""
    await answer.refuse(fault.status, fault.type, fault.message, fault.param)
    if rest is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await rest()).get("more_body", False):
                    pass
    await answer.finish()


def _too_large(limit: int) -> Fault:
    return Fault(
        f"The request body is larger than {limit} bytes. Send less, or raise max_body.",
        status=413,
        type="request_too_large",
    )
