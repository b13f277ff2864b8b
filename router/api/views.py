"""What the API says of models and requests, as Pydantic models: the contract with the CLI and other clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, Field

from router.catalogue import Card
from router.config import Config, ModelSpec
from router.memory.usage import Declaration, declaration
from router.scheduler import Outlook, Wish, warm
from router.store.state import EndedRequest, FleetState, Lease, ModelState, Phase, Waiting


class WarmView(BaseModel):
    """Why a model is to be kept warm: preload, default or schedule. until: when that ends by itself, if it does."""

    reason: str
    until: float | None


class ModelView(BaseModel):
    """One model. Times are unix seconds on Redis's clock, spans seconds, memory bytes per GPU.

    stops_at: when it will stop if nobody uses it. expected_seconds: until it would answer a request made now.
    at_most_seconds: the same, when everything takes as long as it ever did.
    log: the last lines of a failed engine, for admins only.
    measured_memory: learned bytes per GPU that it really takes. declaration: what that says of `memory`.
    warm: why it is to run although nobody asks for it.
    """

    name: str
    phase: Phase
    since: float
    in_flight: int
    waiting: int
    gpus: list[str]
    memory: int
    role: str
    pinned: bool
    idle_timeout: float
    stops_at: float | None
    expected_seconds: float | None
    at_most_seconds: float
    load_seconds: float | None
    unload_seconds: float | None
    service_seconds: float | None = None
    failures: int
    retry_at: float | None
    error: str
    log: list[str] = []
    measured_memory: int | None = None
    declaration: Declaration = Declaration.UNKNOWN
    warm: WarmView | None = None


class GpuView(BaseModel):
    """One GPU, in bytes. memory: all of it. room: what models may claim, which is that less the reserve. claimed: what
    those which are awake claim now. free: what is free by measurement; None when it is not measured."""

    name: str
    room: int
    claimed: int
    memory: int = 0
    reserve: int = 0
    free: int | None = None


class ModelsView(BaseModel):
    """All models and GPUs, and what keeps the router from acting, if anything does."""

    now: float
    trouble: str
    acting: bool
    gpus: list[GpuView] = []
    models: list[ModelView]


class CatalogueView(BaseModel):
    """What is known of every model, also of those that are not served."""

    cards: list[Card]


class RequestView(BaseModel):
    """One request that runs (position 0) or waits (1 is next). seconds: for how long so far. alias: the key's name."""

    id: str
    model: str
    state: str
    position: int
    seconds: float
    alias: str
    stream: bool
    expected_seconds: float | None = None
    at_most_seconds: float | None = None


class RequestsView(BaseModel):
    """What runs and what waits, as far as the caller may see it."""

    requests: list[RequestView]


class EndedRequestView(BaseModel):
    """One request of the past, a line of the history. Times are unix seconds; granted: None when it never ran.
    caller: the hash of its key. completed: whether it ran to its end."""

    model: str
    caller: str
    joined: float = Field(allow_inf_nan=False)
    granted: float | None = Field(allow_inf_nan=False)
    ended: float = Field(allow_inf_nan=False)
    completed: bool


class ActionView(BaseModel):
    """What an action did, for people."""

    model: str
    action: str
    message: str


def model_views(config: Config, state: FleetState, outlook: Outlook, *, admin: bool) -> list[ModelView]:
    """Every model in the configuration's order; the engines' log lines only for an admin."""
    waiting = Counter(request.model for request in state.line)
    wishes = warm(config.settings, config.models, state).wishes
    return [
        model_view(spec, state.models[name], waiting[name], outlook, wishes.get(name), state.now, admin=admin)
        for name, spec in config.models.items()
    ]


def model_view(
    spec: ModelSpec,
    state: ModelState,
    waiting: int,
    outlook: Outlook,
    wish: Wish | None,
    now: float,
    *,
    admin: bool,
) -> ModelView:
    """The view of one model; the engine's log lines only for an admin."""
    idles = state.phase is Phase.READY and not state.in_flight and not state.pinned and spec.idle_timeout > 0
    idle_at = state.last_used + spec.idle_timeout if idles and spec.role != "utility" else None
    if idle_at is not None and wish is not None:
        idle_at = None if wish.until is None else max(idle_at, wish.until)
    return ModelView(
        name=spec.name,
        phase=state.phase,
        since=state.since,
        in_flight=state.in_flight,
        waiting=waiting,
        gpus=list(spec.gpus),
        memory=spec.memory,
        role=spec.role,
        pinned=state.pinned,
        idle_timeout=spec.idle_timeout,
        stops_at=idle_at,
        expected_seconds=outlook.expected[spec.name],
        at_most_seconds=outlook.at_most[spec.name],
        load_seconds=state.load_seconds,
        unload_seconds=state.unload_seconds,
        service_seconds=state.service_seconds,
        failures=state.failures,
        retry_at=state.retry_at if state.phase is Phase.FAILED and state.retry_at > now else None,
        error=state.error,
        log=list(state.log) if admin else [],
        measured_memory=state.measured_memory,
        declaration=declaration(spec.memory, state.measured_memory),
        warm=None if wish is None else WarmView(reason=wish.reason, until=wish.until),
    )


def ended_request_view(request: EndedRequest) -> EndedRequestView:
    """The line of the history for one request."""
    return EndedRequestView(
        model=request.model,
        caller=request.caller,
        joined=request.joined,
        granted=request.granted,
        ended=request.ended,
        completed=request.completed,
    )


def gpu_views(config: Config, state: FleetState, free: Mapping[str, int | None]) -> list[GpuView]:
    """Each GPU with what is claimed of it now. free: by measurement, for each GPU that is measured."""
    awake = [
        config.models[name] for name, model in state.models.items() if model.phase not in (Phase.ASLEEP, Phase.FAILED)
    ]
    return [
        GpuView(
            name=name,
            room=gpu.room,
            claimed=sum(spec.memory for spec in awake if name in spec.gpus),
            memory=gpu.memory,
            reserve=gpu.reserve,
            free=free.get(name),
        )
        for name, gpu in config.settings.gpus.items()
    ]


def request_views(leases: list[Lease], line: tuple[Waiting, ...], outlook: Outlook, now: float) -> list[RequestView]:
    """Running requests, then the line in its order."""
    running = [
        RequestView(
            id=lease.id,
            model=lease.model,
            state="running",
            position=0,
            seconds=max(0.0, now - lease.since),
            alias=lease.alias,
            stream=lease.stream,
        )
        for lease in leases
    ]
    waiting = [
        RequestView(
            id=request.id,
            model=request.model,
            state="waiting",
            position=position,
            seconds=max(0.0, now - request.joined),
            alias=request.alias,
            stream=request.stream,
            expected_seconds=outlook.expected.get(request.model),
            at_most_seconds=outlook.waiting_at_most.get(request.model),
        )
        for position, request in enumerate(line, start=1)
    ]
    return running + waiting
