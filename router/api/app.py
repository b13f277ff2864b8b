"""The routes. Every call but /healthz must show the token that the gateway and the router share through Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from router.api import keys
from router.api.access import AdminHere, CallerHere, Services, ServicesHere, caller_here
from router.api.actions import Action, asked
from router.api.dashboard import stream_routes
from router.api.feed import Feed
from router.api.frames import EVENT_ID, NOTHING_NEW, frame, in_seconds
from router.api.prometheus import prometheus_routes
from router.api.views import (
    ActionView,
    CatalogueView,
    ModelsView,
    RequestsView,
    ended_request_view,
    gpu_views,
    model_views,
    request_views,
)
from router.errors import EngineError, ModelNeverFits, RuntimeUnavailable, StoreUnavailable
from router.memory.gauge import free_now
from router.store.connection import ANSWER_TIMEOUT
from router.store.state import FleetState

#: Seconds for which Redis is asked to wait for the next event. Longer than an answer may take, the stream would end.
_EVENT_BLOCK = ANSWER_TIMEOUT / 2
#: After so many waits without an event (8 s) a stream says that it is still there.
_KEEPALIVE_ROUNDS = 20


def create_app(services: Services) -> FastAPI:
    """The router's ASGI application."""
    app = FastAPI(title="Hearth router", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.include_router(_open)
    app.include_router(prometheus_routes(services))
    app.include_router(keys.routes)
    app.include_router(_lifecycle)
    app.include_router(stream_routes(Feed(services)))

    @app.exception_handler(StoreUnavailable)
    @app.exception_handler(RuntimeUnavailable)
    async def away(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "2"})

    return app


def _unknown(services: Services, name: str) -> HTTPException:
    if name in services.config.oversized:
        never = ModelNeverFits.of(name)
        return HTTPException(never.status, never.message)
    reason = services.config.disabled.get(name)
    said = (
        f"The model {name!r} is disabled here: {reason}." if reason else f"There is no model {name!r} with a lifecycle."
    )
    return HTTPException(404, said)


_open = APIRouter()
_lifecycle = APIRouter(prefix="/lifecycle", dependencies=[Depends(caller_here)])


@_open.get("/healthz")
async def healthz(services: ServicesHere) -> JSONResponse:
    """What is up. 200 when this router can serve: Redis answers and it acts or stands by."""
    try:
        await services.store.ping()
        redis = "up"
    except StoreUnavailable:
        redis = "down"
    acting = services.controller.lock.may_act
    body = {
        "router": "acting" if acting else "standing by",
        "redis": redis,
        "runtime": (services.controller.trouble or "up") if acting else "not asked",
    }
    return JSONResponse(body, 200 if redis == "up" else 503)


@_lifecycle.get("/models")
async def list_models(services: ServicesHere, caller: CallerHere) -> ModelsView:
    """Every model with a lifecycle."""
    state = await _state(services)
    outlook = services.controller.outlook(state)
    return ModelsView(
        now=state.now,
        trouble=services.controller.trouble,
        acting=services.controller.lock.may_act,
        gpus=gpu_views(services.config, state, await free_now(services.gauge, services.config.settings.gpus)),
        models=model_views(services.config, state, outlook, admin=caller.admin),
    )


@_lifecycle.get("/catalogue")
async def read_catalogue(services: ServicesHere) -> CatalogueView:
    """What is known of every model, also of those that are not served."""
    return CatalogueView(cards=list(services.config.cards.values()))


@_lifecycle.get("/models/{name:path}/logs")
async def read_logs(
    name: str,
    services: ServicesHere,
    _: AdminHere,
    lines: Annotated[int, Query(ge=1, le=5000)] = 100,
) -> PlainTextResponse:
    """The last lines of the model's engine."""
    spec = services.config.models.get(name)
    if spec is None:
        raise _unknown(services, name)
    try:
        return PlainTextResponse("".join(f"{line}\n" for line in await services.runtime.logs(spec, lines)))
    except EngineError as error:
        raise HTTPException(404, str(error)) from error


@_lifecycle.get("/requests")
async def list_requests(services: ServicesHere, caller: CallerHere) -> RequestsView:
    """What runs and what waits: everybody's for an admin, one's own for others."""
    state = await _state(services)
    leases = await services.store.leases(services.config.models)
    views = request_views(leases, state.line, services.controller.outlook(state), state.now)
    owners = {lease.id: lease.caller for lease in leases} | {request.id: request.caller for request in state.line}
    return RequestsView(requests=[view for view in views if caller.admin or owners[view.id] == caller.key])


@_lifecycle.get("/events")
async def stream_events(
    request: Request,
    services: ServicesHere,
    _: CallerHere,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID", pattern=EVENT_ID)] = "",
    recent: Annotated[int, Query(ge=0, le=10_000)] = 20,
    follow: bool = True,
) -> StreamingResponse:
    """Server-sent events: the last `recent` ones, or those after Last-Event-ID, then what happens from now on."""

    async def frames() -> AsyncIterator[str]:
        after = last_event_id
        if not after:
            after = "0-0"
            for event in await services.store.events("-", count=max(recent, 1)):
                after = event["id"]
                if recent:
                    yield _frame(event)
        quiet = 0
        while follow and not await request.is_disconnected():
            events = await services.store.events(after, block=_EVENT_BLOCK)
            for event in events:
                after = event["id"]
                yield _frame(event)
            quiet = 0 if events else quiet + 1
            if quiet >= _KEEPALIVE_ROUNDS:
                quiet = 0
                yield NOTHING_NEW

    return StreamingResponse(frames(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@_lifecycle.get("/history")
async def stream_history(
    services: ServicesHere,
    _: AdminHere,
    seconds: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
) -> StreamingResponse:
    """JSON lines: the requests that ended in the last `seconds`, without it all that are remembered, oldest first."""
    since = 0.0 if seconds is None else max(0.0, await services.store.now_ms() / 1000 - seconds)

    requests = services.store.history(since)
    first = await anext(requests, None)  # here, so that a Redis that is away is an answer and not a broken stream

    async def lines() -> AsyncIterator[str]:
        if first is not None:
            yield ended_request_view(first).model_dump_json() + "\n"
        async for request in requests:
            yield ended_request_view(request).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


@_lifecycle.post("/models/{name:path}/{action}")
async def act(
    name: str,
    action: Action,
    services: ServicesHere,
    _: AdminHere,
    force: bool = False,
) -> ActionView:
    """Ask something of a model; the controller does it as soon as it can. force: sleep without waiting for requests."""
    if name not in services.config.models:
        raise _unknown(services, name)
    phase = (await _state(services)).models[name].phase
    wish = asked(action, phase, await services.store.now_ms(), force=force)
    if wish is None:
        raise HTTPException(409, f"Model {name!r} is {phase}; wake it instead.")
    await services.store.ask(name, wish.fields, event=f"asked-{action}")
    return ActionView(model=name, action=action, message=wish.message)


def _frame(event: dict[str, str]) -> str:
    body = in_seconds({key: value for key, value in event.items() if key != "id"})
    return frame(event.get("event", ""), body, event["id"])


async def _state(services: Services) -> FleetState:
    return await services.store.snapshot(list(services.config.models))
