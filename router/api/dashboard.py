"""The dashboard's data: a stream of what has changed, for whoever has a key. Its page is router.api.page."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.responses import StreamingResponse

from router.api.access import Caller, CallerHere, ServicesHere, caller_here
from router.api.feed import Feed, Picture
from router.api.frames import EVENT_ID, NOTHING_NEW, frame, in_seconds
from router.store.fleet import FleetStore

#: Seconds after which a silent stream says that it is still there.
KEEPALIVE = 5.0
#: Seconds after which a stream ends and the page asks for another: the gateway looks at its key again.
LIFE = 300.0
#: Events of the past that a new page gets.
_RECENT = 200


def stream_routes(feed: Feed) -> APIRouter:
    """The stream, and the cancelling of requests."""
    routes = APIRouter(prefix="/lifecycle", dependencies=[Depends(caller_here)])

    @routes.get("/stream")
    async def stream(
        request: Request,
        services: ServicesHere,
        caller: CallerHere,
        last_event_id: Annotated[str, Header(alias="Last-Event-ID", pattern=EVENT_ID)] = "",
    ) -> StreamingResponse:
        """Server-sent events. `state`: what has changed of the models, GPUs and requests that this key may see.
        `happened`: each event of the fleet, with an id; the recent ones first, or those after Last-Event-ID.
        `away`: why there is no state now. `again`: the stream ends, and another may be asked for."""

        async def frames() -> AsyncIterator[str]:
            yield frame("hello", {"admin": caller.admin})
            looker = _Looker(caller, services.store, last_event_id)
            async with feed.looking():
                number, end = 0, time.monotonic() + LIFE
                while time.monotonic() < end and not await request.is_disconnected():
                    picture = await feed.newer(number, KEEPALIVE)
                    if picture is None:
                        yield NOTHING_NEW
                        continue
                    number = picture.number
                    async for each in looker.frames(picture):
                        yield each
                yield frame("again", {})

        return StreamingResponse(frames(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @routes.delete("/requests/{request_id}")
    async def cancel(request_id: str, services: ServicesHere, caller: CallerHere) -> dict[str, str]:
        """Cancel a request that waits or runs: anybody's for an admin, one's own for others."""
        whose = None if caller.admin else caller.key
        was = await services.store.cancel(request_id, services.config.models, whose)
        if not was:
            raise HTTPException(404, "There is no such request now; it may have ended.")
        said = "It is out of the line." if was == "waiting" else "It is being cut off."
        return {"id": request_id, "was": was, "message": said}

    return routes


class _Looker:
    """One who looks, and what they have been told already."""

    def __init__(self, caller: Caller, store: FleetStore, last_event: str) -> None:
        self._caller = caller
        self._store = store
        self._last_event = last_event
        self._told: dict[str, str] = {}

    async def frames(self, picture: Picture) -> AsyncIterator[str]:
        """What is new in this picture."""
        if picture.away:
            if self._is_news("away", picture.away):
                yield frame("away", {"detail": picture.away})
            return
        self._told.pop("away", None)
        # the events first: what they tell of has led to the state
        for event in await self._events(picture):
            yield frame("happened", in_seconds(event), event["id"])
        parts = self._parts(picture)
        if parts:
            yield f'event: state\ndata: {{"now": {picture.now}, {", ".join(parts)}}}\n\n'

    async def _events(self, picture: Picture) -> list[dict[str, str]]:
        if not self._last_event:
            found = await self._store.events("-", count=_RECENT)
        elif self._last_event != picture.last_event:
            found = await self._store.events(self._last_event, count=_RECENT)
        else:
            return []
        self._last_event = found[-1]["id"] if found else self._last_event or picture.last_event
        return found

    def _parts(self, picture: Picture) -> list[str]:
        parts = []
        models = [
            f"{json.dumps(name)}: {text}"
            for name, text in picture.models.items()
            if self._is_news(f"model {name}", text)
        ]
        if models:
            parts.append(f'"models": {{{", ".join(models)}}}')
        logs = [
            f"{json.dumps(name)}: {text}"
            for name, text in picture.logs.items()
            if self._caller.admin and self._is_news(f"log {name}", text)
        ]
        if logs:
            parts.append(f'"logs": {{{", ".join(logs)}}}')
        sections = {
            "status": picture.status,
            "gpus": picture.gpus,
            "requests": json.dumps(picture.requests(self._caller)),
        }
        return parts + [f'"{name}": {text}' for name, text in sections.items() if self._is_news(name, text)]

    def _is_news(self, what: str, text: str) -> bool:
        if self._told.get(what) == text:
            return False
        self._told[what] = text
        return True
