"""The scripted runtime of the controller's tests keeps the same contract as the real ones."""

from __future__ import annotations

import asyncio

import fleet
import pytest
from fake_runtime import Engine, FakeRuntime, Machine
from runtime_contract import RuntimeContract

from router.config import ModelSpec
from router.runtimes.base import Runtime


class FakeBench:
    def __init__(self) -> None:
        self.machine = Machine()

    def spec(self, behaviour: str) -> ModelSpec:
        engine = self.machine.engines[behaviour] = Engine(
            exit_at_start=3 if behaviour == "failing" else None,
            stubborn=behaviour == "stubborn",
            missing=behaviour == "missing",
        )
        engine.lines = ()
        return fleet.spec(behaviour)

    def runtime(self) -> Runtime:
        return _Writing(self.machine)

    async def kill(self, spec: ModelSpec) -> None:
        self.machine.end(spec.name, 137)


class _Writing(FakeRuntime):
    """Engines that write what the contract's engine writes."""

    async def start(self, spec: ModelSpec) -> None:
        await super().start(spec)
        self.engine(spec.name).lines = (*(f"line {number}" for number in range(1, 31)), "up")
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> FakeBench:
    return FakeBench()


class TestFakeRuntime(RuntimeContract):
    pass
