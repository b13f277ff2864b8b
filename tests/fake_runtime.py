"""A runtime whose engines do what a test says. It is held to the real ones by the same contract tests."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from router.config import ModelSpec
from router.errors import EngineMissing, EngineStopFailed, RuntimeUnavailable
from router.runtimes.base import Exited, Instance, Lost, Regained, RuntimeEvent, Started


@dataclass
class Engine:
    """One engine. ready: whether it answers its health probe. exit_at_start: it ends so at once, out of memory or not.
    stubborn: ends only when killed."""

    ready: bool = True
    exit_at_start: int | None = None
    out_of_memory: bool = False
    stubborn: bool = False
    missing: bool = False
    stop_fails: int = 0
    lines: tuple[str, ...] = ()
    running: bool = False
    exit_code: int | None = None
    started_at: float | None = None
    may_start: asyncio.Event = field(default_factory=lambda: _set(asyncio.Event()))
    may_stop: asyncio.Event = field(default_factory=lambda: _set(asyncio.Event()))


def _set(event: asyncio.Event) -> asyncio.Event:
    event.set()
    return event


class Machine:
    """What runs, whoever watches; several runtimes can look at one machine."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self.calls: list[tuple[str, str]] = []
        self.listeners: list[asyncio.Queue[RuntimeEvent]] = []
        self.away = ""
        self.overlaps: list[set[str]] = []
        self.room: dict[str, set[str]] = {}

    def tell(self, event: RuntimeEvent) -> None:
        for listener in self.listeners:
            listener.put_nowait(event)

    @property
    def running(self) -> set[str]:
        return {name for name, engine in self.engines.items() if engine.running}

    def count(self, call: str, name: str) -> int:
        return self.calls.count((call, name))

    def begin(self, name: str) -> None:
        engine = self.engines[name]
        engine.running, engine.exit_code, engine.started_at = True, None, time.time()
        self.overlaps.append(self.running)
        self.tell(Started(name))
        if engine.exit_at_start is not None:
            self.end(name, engine.exit_at_start)

    def end(self, name: str, code: int) -> None:
        engine = self.engines[name]
        engine.running, engine.exit_code = False, code
        self.tell(Exited(name, code, engine.out_of_memory))

    def lose(self, reason: str) -> None:
        self.away = reason
        self.tell(Lost(reason))

    def regain(self) -> None:
        self.away = ""
        self.tell(Regained())


class FakeProbe:
    """Healthy while the engine runs and is ready."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.probes = itertools.count()

    async def healthy(self, url: str) -> bool:
        next(self.probes)
        name = url.removeprefix("http://").split(".")[0]
        engine = self._machine.engines[name]
        return engine.running and engine.ready


class FakeRuntime:
    """A Runtime on a Machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.probe = FakeProbe(machine)

    def engine(self, name: str) -> Engine:
        return self.machine.engines[name]

    def _ask(self, call: str, spec: ModelSpec) -> Engine:
        self.machine.calls.append((call, spec.name))
        if self.machine.away:
            raise RuntimeUnavailable(self.machine.away)
        engine = self.machine.engines.setdefault(spec.name, Engine())
        if engine.missing:
            raise EngineMissing(f"there is no container {spec.container}")
        return engine

    async def start(self, spec: ModelSpec) -> None:
        engine = self._ask("start", spec)
        await engine.may_start.wait()
        if not engine.running:
            self.machine.begin(spec.name)

    async def stop(self, spec: ModelSpec) -> None:
        engine = self._ask("stop", spec)
        await engine.may_stop.wait()
        if engine.stop_fails:
            engine.stop_fails -= 1
            raise EngineStopFailed("it does not end")
        if engine.running:
            self.machine.end(spec.name, 137 if engine.stubborn else 0)

    async def inspect(self, spec: ModelSpec) -> Instance:
        engine = self._ask("inspect", spec)
        return Instance(engine.running, engine.exit_code, engine.out_of_memory, engine.started_at)

    async def logs(self, spec: ModelSpec, lines: int) -> tuple[str, ...]:
        return self._ask("logs", spec).lines[-lines:]

    async def watch(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self.machine.listeners.append(queue)
        try:
            yield Lost(self.machine.away) if self.machine.away else Regained()
            while True:
                yield await queue.get()
        finally:
            self.machine.listeners.remove(queue)

    async def close(self) -> None:
        pass
