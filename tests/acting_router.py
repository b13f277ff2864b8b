"""A controller with a store and a runtime of its own, started and stopped by a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from fake_runtime import FakeRuntime

from router.config import Config
from router.controller import Controller
from router.memory.engine_memory import EngineMemory
from router.memory.gauge import Gauges
from router.store.fleet import FleetStore


class ActingRouter:
    """A controller with its store and runtime; several can share a Redis."""

    def __init__(self, url: str, config: Config, runtime: FakeRuntime, memory: EngineMemory | None = None) -> None:
        self.store = FleetStore(url)
        self.runtime = runtime
        self.controller = Controller(
            config, self.store, runtime, runtime.probe, memory or EngineMemory(Gauges({}), limit=0)
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.controller.run())

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


StartRouter = Callable[..., ActingRouter]
