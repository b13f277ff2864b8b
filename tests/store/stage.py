"""One machine with a router that acts on it: what tests of the controller ask of both, and see of them."""

from __future__ import annotations

import asyncio
from typing import Any

import fleet
from acting_router import ActingRouter, StartRouter
from eventually import eventually
from fake_runtime import Engine, FakeRuntime, Machine

from router.errors import ServiceUnavailable
from router.store import keys
from router.store.admission import Admission
from router.store.fleet import FleetStore
from router.store.state import ModelState, Phase
from router.store.ticket import Ticket

A, B = fleet.spec("a", 6), fleet.spec("b", 6)
SMALL = fleet.spec("small", 3)
SPECS = (A, B, SMALL)
LONG = 60.0


class Stage:
    """One machine with its engines, the gateway's callers and the fleet's state."""

    def __init__(self, machine: Machine, gateway: Admission, store: FleetStore, start_router: StartRouter) -> None:
        self.machine = machine
        self.gateway = gateway
        self.store = store
        self.start_router = start_router

    async def router(self, *specs: Any, **settings: Any) -> ActingRouter:
        specs = specs or SPECS
        for each in specs:
            self.machine.engines.setdefault(each.name, Engine())
        router = self.start_router(fleet.config(*specs, **settings), FakeRuntime(self.machine))
        await eventually(lambda: self.gateway._redis.hget(keys.ROUTER, "seen"), "some router acts")
        return router

    def ask(self, model: str, limit: float | None = None) -> Call:
        return Call(self.gateway, model, limit)

    async def ask_until_served(self, model: str) -> Call:
        """Ask again while the router has not noticed yet that the trouble is over."""
        while True:
            call = self.ask(model)
            try:
                return await call.granted()
            except ServiceUnavailable:
                call.end()
                await asyncio.sleep(0.05)

    async def model(self, name: str) -> ModelState:
        return (await self.store.snapshot([name])).models[name]

    async def until(self, name: str, phase: Phase) -> ModelState:
        async def there() -> bool:
            return (await self.model(name)).phase is phase

        await eventually(there, f"{name} is {phase}")
        return await self.model(name)

    async def in_line(self, count: int) -> None:
        async def there() -> bool:
            return len((await self.store.snapshot([])).line) == count

        await eventually(there, f"{count} in line")

    async def events(self, kind: str, model: str) -> int:
        found = await self.store.events("-", count=1000)
        return sum(each["event"] == kind and each["model"] == model for each in found)

    async def until_event(self, kind: str, model: str) -> None:
        async def there() -> bool:
            return await self.events(kind, model) > 0

        await eventually(there, f"{kind} of {model}")


class Call:
    """One request on its way."""

    def __init__(self, gateway: Admission, model: str, limit: float | None) -> None:
        self.ticket = Ticket(model)
        self._gateway = gateway
        self.task = asyncio.create_task(gateway.acquire(self.ticket, limit=limit, bound=LONG))

    async def granted(self) -> Call:
        async with asyncio.timeout(20):
            await self.task
        return self

    def end(self) -> None:
        self.task.cancel()
        self._gateway.end(self.ticket)
