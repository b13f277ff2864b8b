"""What the API says of models and requests, as Pydantic models: the contract with the CLI and other clients."""

from __future__ import annotations

from pydantic import BaseModel

from router.config import Config, ModelSpec
from router.store.state import FleetState, Lease, ModelState, Phase, Waiting


class ModelView(BaseModel):
    """One model. Times are unix seconds on Redis's clock, spans seconds, memory bytes per GPU.

    stops_at: when it will stop if nobody uses it. expected_seconds: until it would answer a request made now.
    log: the last lines of a failed engine, for admins only.
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
    load_seconds: float | None
    unload_seconds: float | None
    failures: int
    retry_at: float | None
    error: str
    log: list[str] = []


class GpuView(BaseModel):
    """One GPU. room: bytes that models may claim. claimed: bytes that those which are awake claim now."""

    name: str
    room: int
    claimed: int


class ModelsView(BaseModel):
    """All models and GPUs, and what keeps the router from acting, if anything does."""

    now: float
    trouble: str
    acting: bool
    gpus: list[GpuView] = []
    models: list[ModelView]


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


class RequestsView(BaseModel):
    requests: list[RequestView]


class ActionView(BaseModel):
    """What an action did, for people."""

    model: str
    action: str
    message: str


def model_view(
    spec: ModelSpec, state: ModelState, waiting: int, expected: float | None, now: float, *, admin: bool
) -> ModelView:
    """The view of one model; the engine's log lines only for an admin."""
    idles = state.phase is Phase.READY and not state.in_flight and not state.pinned and spec.idle_timeout > 0
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
        stops_at=state.last_used + spec.idle_timeout if idles and spec.role != "utility" else None,
        expected_seconds=expected,
        load_seconds=state.load_seconds,
        unload_seconds=state.unload_seconds,
        failures=state.failures,
        retry_at=state.retry_at if state.phase is Phase.FAILED and state.retry_at > now else None,
        error=state.error,
        log=list(state.log) if admin else [],
    )


def gpu_views(config: Config, state: FleetState) -> list[GpuView]:
    """Each GPU with what is claimed of it now."""
    awake = [
        config.models[name] for name, model in state.models.items() if model.phase not in (Phase.ASLEEP, Phase.FAILED)
    ]
    return [
        GpuView(
            name=name,
            room=gpu.room,
            claimed=sum(spec.memory for spec in awake if name in spec.gpus),
        )
        for name, gpu in config.settings.gpus.items()
    ]


def request_views(
    leases: list[Lease], line: tuple[Waiting, ...], expected: dict[str, float | None], now: float
) -> list[RequestView]:
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
            expected_seconds=expected.get(request.model),
        )
        for position, request in enumerate(line, start=1)
    ]
    return running + waiting
