"""One inference request from arrival to end: checked, answered at the engine's pace, dropped with its client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from router.engine_simulator import faults as fault
from router.engine_simulator.answers import new_id
from router.engine_simulator.api_errors import RefusedError, error_document
from router.engine_simulator.body import Body
from router.engine_simulator.engine import ConnectionCutError, EngineDeadError, GenerationFailedError
from router.engine_simulator.generative import Prepared
from router.engine_simulator.pooling import Pooled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from router.engine_simulator.engine import Engine, Outcome, Record

_SSE: Final = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Inference:
    """An ASGI endpoint for one API. `prepare` reads the request; it raises RefusedError for what is not accepted."""

    def __init__(
        self, engine: Engine, prepare: Callable[[Request], Awaitable[Prepared | Pooled]], *, anthropic: bool = False
    ) -> None:
        self._engine = engine
        self._prepare = prepare
        self._anthropic = anthropic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and note it in the engine's list however it ends."""
        record = self._engine.begin(new_id("req-"), scope["path"])
        outcome: Outcome = "aborted"
        reason = "abort"
        try:
            outcome, reason = await self._handle(Request(scope, receive), record, send)
        except ClientDisconnect:
            pass
        finally:
            self._engine.end(record, outcome, reason)

    async def _handle(self, request: Request, record: Record, send: Send) -> tuple[Outcome, str]:
        if (directory := self._engine.options.keep_bodies) is not None:
            _keep(Path(directory, f"{record.id}.json"), await request.body())
        try:
            prepared = await self._prepare(request)
        except RefusedError as refusal:
            document = refusal.document(anthropic=self._anthropic)
            await JSONResponse(document, refusal.status)(request.scope, request.receive, send)
            return "error", "error"
        if self._engine.faults.get(fault.Http500):
            await _fail(send, "Internal server error")
            return "error", "error"
        answer = asyncio.create_task(self._answer(prepared, record, send), name=f"answer {record.id}")
        departure = asyncio.create_task(_departure(request.receive), name=f"departure {record.id}")
        try:
            await asyncio.wait((answer, departure), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            return "aborted", "abort"
        finally:
            for task in (answer, departure):
                task.cancel()
            await asyncio.gather(answer, departure, return_exceptions=True)

    async def _answer(self, prepared: Prepared | Pooled, record: Record, send: Send) -> tuple[Outcome, str]:
        if isinstance(prepared, Pooled):
            return await self._pooled(prepared, record, send)
        if prepared.stream:
            return await self._streamed(prepared, record, send)
        return await self._whole(prepared, record, send)

    async def _pooled(self, pooled: Pooled, record: Record, send: Send) -> tuple[Outcome, str]:
        try:
            async for _ in self._engine.steps(record, prompt_tokens=pooled.prompt_tokens, length=pooled.length):
                pass
        except ConnectionCutError:
            await _cut(send, pooled.document)
            return "error", "error"
        except (EngineDeadError, GenerationFailedError) as error:
            await _fail(send, str(error))
            return "error", "error"
        await _json(send, 200, pooled.document)
        return "completed", "stop"

    async def _whole(self, prepared: Prepared, record: Record, send: Send) -> tuple[Outcome, str]:
        draft, produced = prepared.draft, 0
        try:
            async for _ in self._engine.steps(
                record, prompt_tokens=draft.prompt_tokens, length=draft.length, width=len(draft.choices)
            ):
                produced += 1
        except ConnectionCutError:
            await _cut(send, prepared.shape.document(draft.reason, produced))
            return "error", "error"
        except (EngineDeadError, GenerationFailedError) as error:
            await _fail(send, str(error))
            return "error", "error"
        aborted = record.interruption.done()
        reason = "abort" if aborted else draft.reason
        await _json(send, 200, prepared.shape.document(reason, produced))
        return ("aborted" if aborted else "completed"), reason

    async def _streamed(self, prepared: Prepared, record: Record, send: Send) -> tuple[Outcome, str]:
        draft, shape, produced, opened = prepared.draft, prepared.shape, 0, prepared.shape.eager
        # The head goes out before the first token is due: so does vLLM's, even while it sleeps.
        await send({"type": "http.response.start", "status": 200, "headers": _SSE})
        await _push(send, shape.opening() if opened else [])
        try:
            async for index in self._engine.steps(
                record, prompt_tokens=draft.prompt_tokens, length=draft.length, width=len(draft.choices)
            ):
                await _push(send, shape.step(index) if opened else [*shape.opening(), *shape.step(index)])
                opened = True
                produced += 1
        except ConnectionCutError:
            return "error", "error"
        except (EngineDeadError, GenerationFailedError) as error:
            if (last := shape.failure(str(error))) is not None:
                await _push(send, last, end=True)
            return "error", "error"
        aborted = record.interruption.done()
        reason = "abort" if aborted else draft.reason
        await _push(send, [*(() if opened else shape.opening()), *shape.closing(reason, produced)], end=True)
        return ("aborted" if aborted else "completed"), reason


async def json_body(request: Request) -> Body:
    """The request's body as checked JSON."""
    return Body.read(request.headers.get("content-type", ""), await request.body())


def _keep(path: Path, body: bytes) -> None:
    path.write_bytes(body)


async def _departure(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _push(send: Send, events: list[str], *, end: bool = False) -> None:
    await send({"type": "http.response.body", "body": "".join(events).encode(), "more_body": not end})


async def _json(send: Send, status: int, document: dict[str, Any]) -> None:
    response = JSONResponse(document, status)
    await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": bytes(response.body)})


async def _fail(send: Send, message: str) -> None:
    await _json(send, 500, error_document(message, 500, "InternalServerError"))


async def _cut(send: Send, document: dict[str, Any]) -> None:
    """Send half of an answer. The server closes the connection when no more comes."""
    whole = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(whole)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": whole[: len(whole) // 2], "more_body": True})
