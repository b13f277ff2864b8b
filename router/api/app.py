"""The routes. Every call but /healthz must show the token that the gateway and the router share through Redis."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from router import metrics, scheduler
from router.api.views import ActionView, ModelsView, ModelView, RequestsView, gpu_views, model_view, request_views
from router.config import Config
from router.controller import Controller
from router.errors import EngineError, RuntimeUnavailable, StoreUnavailable
from router.runtimes.base import Runtime
from router.scheduler import Snapshot
from router.store.connection import ANSWER_TIMEOUT
from router.store.fleet import FleetStore
from router.store.state import FleetState, Phase

#: Headers between the gateway and the router.
TOKEN_HEADER = "X-Hearth-Token"  # noqa: S105 - a header's name
ROLE_HEADER = "X-Hearth-Role"
CALLER_HEADER = "X-Hearth-Caller"

#: Seconds for which Redis is asked to wait for the next event. Longer than an answer may take, the stream would end.
_EVENT_BLOCK = ANSWER_TIMEOUT / 2
_KEEPALIVE_ROUNDS = 20


class Action(StrEnum):
    """What an admin can ask of a model."""

    WAKE = "wake"
    SLEEP = "sleep"
    TOUCH = "touch"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with. token: what a gateway must show, if Redis has no other."""

    config: Config
    store: FleetStore
    controller: Controller
    runtime: Runtime
    token: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the gateway says. key: the hash of their key."""

    key: str
    admin: bool


def create_app(services: Services) -> FastAPI:
    """The router's ASGI application."""
    app = FastAPI(title="Hearth router", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.include_router(_open)
    app.include_router(_lifecycle)

    @app.exception_handler(StoreUnavailable)
    @app.exception_handler(RuntimeUnavailable)
    async def away(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "2"})

    return app


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _caller(
    services: Annotated[Services, Depends(_services)],
    token: Annotated[str, Header(alias=TOKEN_HEADER)] = "",
    role: Annotated[str, Header(alias=ROLE_HEADER)] = "",
    caller: Annotated[str, Header(alias=CALLER_HEADER)] = "",
) -> Caller:
    # asked for each time: Redis may have lost it, and a gateway or another router may have made a new one
    known = await services.store.share_api_token(services.token)
    if not hmac.compare_digest(token.encode(), known.encode()):
        raise HTTPException(403, "The router answers its gateway only; ask there.")
    return Caller(caller, role == "admin")


def _admin(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if not caller.admin:
        raise HTTPException(403, "This needs the admin key.")
    return caller


_open = APIRouter()
_lifecycle = APIRouter(prefix="/lifecycle", dependencies=[Depends(_caller)])
ServicesHere = Annotated[Services, Depends(_services)]
CallerHere = Annotated[Caller, Depends(_caller)]


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


@_open.get("/metrics")
async def prometheus(services: ServicesHere, _: CallerHere) -> PlainTextResponse:
    """Prometheus text format."""
    text = metrics.render(await _state(services), services.config)
    return PlainTextResponse(text, media_type=metrics.CONTENT_TYPE)


@_lifecycle.get("/models")
async def list_models(services: ServicesHere, caller: CallerHere) -> ModelsView:
    """Every model with a lifecycle."""
    state = await _state(services)
    expected = _expected(services, state)
    return ModelsView(
        now=state.now,
        trouble=services.controller.trouble,
        acting=services.controller.lock.may_act,
        gpus=gpu_views(services.config, state),
        models=[_view(services, state, name, expected, caller) for name in services.config.models],
    )


@_lifecycle.get("/models/{name:path}/logs")
async def read_logs(
    name: str,
    services: ServicesHere,
    _: Annotated[Caller, Depends(_admin)],
    lines: Annotated[int, Query(ge=1, le=5000)] = 100,
) -> PlainTextResponse:
    """The last lines of the model's engine."""
    spec = services.config.models.get(name)
    if spec is None:
        raise HTTPException(404, f"There is no model {name!r} with a lifecycle.")
    try:
        return PlainTextResponse("".join(f"{line}\n" for line in await services.runtime.logs(spec, lines)))
    except EngineError as error:
        raise HTTPException(404, str(error)) from error


@_lifecycle.get("/requests")
async def list_requests(services: ServicesHere, caller: CallerHere) -> RequestsView:
    """What runs and what waits: everybody's for an admin, one's own for others."""
    state = await _state(services)
    leases = await services.store.leases(services.config.models)
    views = request_views(leases, state.line, _expected(services, state), state.now)
    owners = {lease.id: lease.caller for lease in leases} | {request.id: request.caller for request in state.line}
    return RequestsView(requests=[view for view in views if caller.admin or owners[view.id] == caller.key])


@_lifecycle.get("/events")
async def stream_events(
    request: Request,
    services: ServicesHere,
    _: CallerHere,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
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
                yield ": nothing new\n\n"

    return StreamingResponse(frames(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@_lifecycle.post("/models/{name:path}/{action}")
async def act(
    name: str,
    action: Action,
    services: ServicesHere,
    _: Annotated[Caller, Depends(_admin)],
    force: bool = False,
) -> ActionView:
    """Ask something of a model; the controller does it as soon as it can. force: sleep without waiting for requests."""
    if name not in services.config.models:
        raise HTTPException(404, f"There is no model {name!r} with a lifecycle.")
    model = (await _state(services)).models[name]
    now = await services.store.now_ms()
    awake = model.phase in (Phase.READY, Phase.DRAINING)
    fields: dict[str, str | int]
    match action:
        case Action.WAKE if model.phase is Phase.READY:
            fields, message = {"last_used": now}, "It is awake already."
        case Action.WAKE:
            fields = {"wanted": now, "sleep": "", "retry_at": 0}
            message = "It will be woken as soon as there is room."
        case Action.SLEEP if model.phase in (Phase.ASLEEP, Phase.FAILED):
            fields, message = {"wanted": ""}, "It is asleep already."
        case Action.SLEEP:
            fields = {"sleep": "force" if force else "drain", "wanted": ""}
            message = "It is being stopped." if force else "It will sleep when its running requests are finished."
        case Action.TOUCH if awake:
            fields, message = {"last_used": now}, "Its idle time begins again."
        case Action.TOUCH:
            raise HTTPException(409, f"Model {name!r} is {model.phase}; wake it instead.")
        case Action.PIN:
            fields, message = {"pinned": 1}, "It is never stopped for idleness now."
        case _:
            fields, message = {"pinned": 0, "last_used": now}, "Its idle timeout counts again, from now."
    await services.store.ask(name, fields, event=f"asked-{action}")
    return ActionView(model=name, action=action, message=message)


def _frame(event: dict[str, str]) -> str:
    body = {key: value for key, value in event.items() if key != "id"}
    body["at"] = float(body.get("at", 0)) / 1000  # type: ignore[assignment]
    return f"id: {event['id']}\nevent: {event.get('event', '')}\ndata: {json.dumps(body)}\n\n"


async def _state(services: Services) -> FleetState:
    return await services.store.snapshot(list(services.config.models))


def _expected(services: Services, state: FleetState) -> dict[str, float | None]:
    room = {name: gpu.room for name, gpu in services.config.settings.gpus.items()}
    return scheduler.forecast(Snapshot(services.config.models, room, state, scheduler.LIVE))


def _view(
    services: Services, state: FleetState, name: str, expected: dict[str, float | None], caller: Caller
) -> ModelView:
    waiting = sum(request.model == name for request in state.line)
    return model_view(
        services.config.models[name], state.models[name], waiting, expected.get(name), state.now, admin=caller.admin
    )
