"""Both sides of the store on the test's Redis, and a router that acts on a scripted runtime."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fake_runtime import FakeRuntime
from router.config import Config
from router.controller import Controller
from router.store import admission as admission_module
from router.store.admission import Admission, Ticket
from router.store.fleet import FleetStore

Acquire = Callable[..., Awaitable[Ticket]]


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


class Router:
    """A controller with its store and runtime; several can share a Redis."""

    def __init__(self, url: str, config: Config, runtime: FakeRuntime) -> None:
        self.store = FleetStore(url)
        self.runtime = runtime
        self.controller = Controller(config, self.store, runtime, runtime.probe)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.controller.run())

    @property
    def ended(self) -> bool:
        return self._task is None or self._task.done()

    async def stop(self) -> None:
        """End it as a signal does; raises what it failed with."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.store.close()

    async def crash(self) -> None:
        """End it without giving the lock back."""
        self.controller.lock.holder = ""
        await self.stop()


StartRouter = Callable[[Config, FakeRuntime], Router]


@pytest.fixture
async def start_router(redis_url: str) -> AsyncIterator[StartRouter]:
    routers: list[Router] = []

    def start(config: Config, runtime: FakeRuntime) -> Router:
        router = Router(redis_url, config, runtime)
        routers.append(router)
        router.start()
        return router

    yield start
    for router in routers:
        await router.stop()
