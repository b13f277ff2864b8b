"""Both sides of the store on the test's Redis, and a router that acts on a scripted runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from acting_router import ActingRouter, StartRouter
from fake_runtime import FakeRuntime, Machine
from stage import Stage

from router.config import Config
from router.memory.engine_memory import EngineMemory
from router.store import admission as admission_module
from router.store.admission import Admission
from router.store.fleet import FleetStore


@pytest.fixture
async def fleet_store(redis_url: str) -> AsyncIterator[FleetStore]:
    store = FleetStore(redis_url)
    yield store
    await store.close()


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats in milliseconds, so that a dead worker is noticed soon."""
    monkeypatch.setattr(admission_module, "HEARTBEAT", 0.05)
    monkeypatch.setattr(admission_module, "WORKER_LIFE", 0.5)


@pytest.fixture
async def gateway(redis_url: str) -> AsyncIterator[Admission]:
    """One gateway worker."""
    admission = Admission(redis_url, worker="w1")
    await admission.start()
    yield admission
    await admission.close()


@pytest.fixture
async def start_router(redis_url: str) -> AsyncIterator[StartRouter]:
    routers: list[ActingRouter] = []

    def start(config: Config, runtime: FakeRuntime, memory: EngineMemory | None = None) -> ActingRouter:
        router = ActingRouter(redis_url, config, runtime, memory)
        routers.append(router)
        router.start()
        return router

    yield start
    for router in routers:
        await router.stop()


@pytest.fixture
async def stage(gateway: Admission, fleet_store: FleetStore, start_router: StartRouter) -> AsyncIterator[Stage]:
    stage = Stage(Machine(), gateway, fleet_store, start_router)
    yield stage
    for engine in stage.machine.engines.values():
        engine.may_start.set()
        engine.may_stop.set()
