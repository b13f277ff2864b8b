"""Starts and stops with measured memory: the next start waits for it, what a model takes is learned, and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fleet
import pytest
from acting_router import ActingRouter, StartRouter
from eventually import eventually
from fake_gauge import Clock, FakeGauge
from fake_runtime import Engine, FakeRuntime, Machine

from router.memory.engine_memory import EngineMemory
from router.memory.page_cache import PageCache
from router.store.fleet import FleetStore
from router.store.state import ModelState, Phase

GIB = 2**30
TOTAL = 10 * GIB
A, B, SMALL = fleet.spec("a", 6 * GIB), fleet.spec("b", 6 * GIB), fleet.spec("small", 3 * GIB)
TAKES = {"a": 6 * GIB, "b": 6 * GIB, "small": 3 * GIB}


class Box:
    """A machine whose memory is measured, and a router that acts on it."""

    def __init__(self, store: FleetStore, start_router: StartRouter) -> None:
        self.machine = Machine()
        self.gauge = FakeGauge(self.machine, TOTAL, dict(TAKES))
        self.clock = Clock()
        self.store = store
        self._start_router = start_router

    def router(self, *specs: Any, page_cache: PageCache | None = None, limit: float = 30.0) -> ActingRouter:
        specs = specs or (A, B, SMALL)
        for each in specs:
            self.machine.engines.setdefault(each.name, Engine())
        memory = EngineMemory(self.gauge, limit, page_cache, now=self.clock.now, sleep=self.clock.sleep)
        return self._start_router(fleet.config(*specs, room=TOTAL), FakeRuntime(self.machine), memory)

    async def model(self, name: str) -> ModelState:
        return (await self.store.snapshot([name])).models[name]

    async def until(self, name: str, phase: Phase) -> ModelState:
        async def there() -> bool:
            return (await self.model(name)).phase is phase

        await eventually(there, f"{name} is {phase}")
        return await self.model(name)

    async def want(self, name: str) -> None:
        await self.store.ask(name, {"wanted": await self.store.now_ms(), "sleep": ""}, "asked-wake")

    async def wake(self, name: str) -> ModelState:
        await self.want(name)
        return await self.until(name, Phase.READY)

    async def send_to_sleep(self, name: str) -> None:
        await self.store.ask(name, {"sleep": "drain", "wanted": ""}, "asked-sleep")

    async def events(self, *kinds: str) -> list[tuple[str, str, str]]:
        """Kind, model and detail of the events of these kinds, oldest first."""
        found = await self.store.events("-", count=1000)
        return [(each["event"], each["model"], each.get("detail", "")) for each in found if each["event"] in kinds]

    async def read_on(self, count: int = 20) -> None:
        """Until so many more readings were made."""
        goal = self.gauge.readings + count
        await eventually(lambda: self.gauge.readings >= goal, "the gauge is read")


@pytest.fixture
async def box(fleet_store: FleetStore, start_router: StartRouter) -> AsyncIterator[Box]:
    box = Box(fleet_store, start_router)
    yield box
    for engine in box.machine.engines.values():
        engine.may_start.set()
        engine.may_stop.set()


# --- after a stop


async def test_next_start_comes_only_after_the_memory_is_back(box: Box) -> None:
    box.router()
    await box.wake("a")
    box.clock.stopped = True
    box.gauge.lingering = {"a"}
    await box.want("b")
    await eventually(lambda: not box.machine.running, "its engine is gone")
    await box.read_on()
    assert (await box.model("a")).phase is Phase.STOPPING
    assert box.machine.count("start", "b") == 0
    box.gauge.lingering.clear()
    await box.until("b", Phase.READY)
    calls = box.machine.calls
    stopped = calls.index(("stop", "a"))
    assert calls.index((f"read {TOTAL}", "0"), stopped) < calls.index(("start", "b"))
    assert [each[:2] for each in await box.events("stopping", "stopped", "starting")] == [
        ("starting", "a"),
        ("stopping", "a"),
        ("stopped", "a"),
        ("starting", "b"),
    ]
    assert await box.events("memory-late", "memory-unread") == []


async def test_memory_that_never_comes_back_is_told_and_does_not_hold_up_the_next_start(box: Box) -> None:
    box.router()
    await box.wake("a")
    box.gauge.lingering = {"a"}
    before = box.clock.now()
    await box.wake("b")
    assert await box.events("memory-late") == [
        ("memory-late", "a", "only 0 MiB of about 6.0 GiB came back on GPU 0 within 30s; going on")
    ]
    assert 30 <= box.clock.now() - before < 31


async def test_gauge_that_cannot_be_read_is_told_and_does_not_hold_up_the_next_start(box: Box) -> None:
    box.router()
    await box.wake("a")
    box.machine.engines["a"].may_stop.clear()
    await box.want("b")
    await eventually(lambda: box.machine.count("stop", "a"))
    box.gauge.broken = "the driver is gone"
    box.machine.engines["a"].may_stop.set()
    await box.until("b", Phase.READY)
    ((_, model, detail),) = await box.events("memory-unread")
    assert model == "a"
    assert "the driver is gone" in detail
    assert (await box.model("b")).measured_memory is None


async def test_gauge_that_fails_now_and_then_is_asked_again(box: Box) -> None:
    box.router()
    await box.wake("a")
    box.clock.stopped = True
    box.gauge.lingering = {"a"}
    await box.want("b")
    await eventually(lambda: not box.machine.running)
    original, answers = box.gauge.free, 0

    async def flaky(gpu: str) -> int:
        nonlocal answers
        answers += 1
        box.gauge.broken = "not now" if answers % 3 else ""
        return await original(gpu)

    box.gauge.free = flaky  # type: ignore[method-assign]
    await eventually(lambda: answers > 30)
    assert (await box.model("a")).phase is Phase.STOPPING
    box.gauge.lingering.clear()
    await box.until("a", Phase.ASLEEP)
    assert await box.events("memory-unread", "memory-late") == []


async def test_two_that_give_way_together_are_waited_for_together(box: Box) -> None:
    """The memory of the one must not be taken for that of the other."""
    box.router(A, SMALL, fleet.spec("large", 9 * GIB))
    await box.wake("a")
    await box.wake("small")
    box.clock.stopped = True
    box.gauge.lingering = {"small"}
    both = [box.machine.engines[name] for name in ("a", "small")]
    for engine in both:
        engine.may_stop.clear()
    await box.want("large")
    await eventually(lambda: box.machine.count("stop", "a") and box.machine.count("stop", "small"))
    for engine in both:
        engine.may_stop.set()
    await eventually(lambda: not box.machine.running)
    await box.read_on()
    assert box.machine.count("start", "large") == 0
    box.gauge.lingering.clear()
    await box.until("large", Phase.READY)
    assert await box.events("memory-late") == []


async def test_engine_that_had_not_finished_loading_is_not_expected_to_give_back_what_it_declares(box: Box) -> None:
    """Nobody knows how much it held; that no more comes is enough."""
    box.router()
    box.machine.engines["a"].ready = False
    box.gauge.takes["a"] = GIB // 10
    await box.want("a")
    await eventually(lambda: box.machine.running == {"a"})
    await box.send_to_sleep("a")
    before = box.clock.now()
    await box.until("a", Phase.ASLEEP)
    assert await box.events("memory-late") == []
    assert box.clock.now() - before < 5


async def test_stop_that_another_router_began_expects_nothing_of_an_engine_that_is_gone(box: Box) -> None:
    first = box.router()
    await box.wake("a")
    box.clock.stopped = True
    box.gauge.lingering = {"a"}
    await box.send_to_sleep("a")
    await eventually(lambda: not box.machine.running)
    await box.read_on()
    await first.stop()
    assert (await box.model("a")).phase is Phase.STOPPING
    box.gauge.lingering.clear()
    box.clock.stopped = False
    before = box.clock.now()
    box.router()
    await box.until("a", Phase.ASLEEP)
    assert await box.events("memory-late") == []
    assert box.clock.now() - before < 5


async def test_stop_while_another_loads_waits_only_until_no_more_comes(box: Box) -> None:
    box.router()
    await box.wake("a")
    box.machine.engines["small"].ready = False
    await box.want("small")
    await eventually(lambda: "small" in box.machine.running)
    box.machine.engines["a"].may_stop.clear()
    await box.send_to_sleep("a")
    await eventually(lambda: box.machine.count("stop", "a"))
    box.gauge.takes["small"] = 8 * GIB
    box.machine.engines["a"].may_stop.set()
    await box.until("a", Phase.ASLEEP)
    assert await box.events("memory-late") == []


async def test_without_a_limit_nothing_is_waited_for(box: Box) -> None:
    box.router(limit=0)
    await box.wake("a")
    box.clock.stopped = True
    box.gauge.lingering = {"a"}
    await box.wake("b")
    assert await box.events("memory-late") == []


# --- what a model takes


async def test_what_a_model_takes_is_learned(box: Box) -> None:
    box.router()
    box.gauge.takes["a"] = 5 * GIB
    assert (await box.wake("a")).measured_memory == 5 * GIB
    box.gauge.takes["a"] = 6 * GIB
    await box.send_to_sleep("a")
    await box.until("a", Phase.ASLEEP)
    measured = (await box.wake("a")).measured_memory
    assert measured is not None
    assert 5 * GIB < measured < 6 * GIB
    assert await box.events("memory-over") == []


async def test_load_beside_which_something_else_happened_teaches_nothing(box: Box) -> None:
    box.router()
    box.machine.engines["a"].ready = False
    await box.want("a")
    await eventually(lambda: box.machine.running == {"a"})
    assert (await box.wake("small")).measured_memory is None
    box.machine.engines["a"].ready = True
    assert (await box.until("a", Phase.READY)).measured_memory is None


async def test_load_beside_which_another_engine_died_teaches_nothing(box: Box) -> None:
    box.router()
    box.gauge.takes["a"] = GIB
    await box.wake("a")
    box.machine.engines["small"].ready = False
    await box.want("small")
    await eventually(lambda: "small" in box.machine.running)
    box.machine.end("a", 1)
    await box.until("a", Phase.FAILED)
    box.machine.engines["small"].ready = True
    assert (await box.until("small", Phase.READY)).measured_memory is None


async def test_engine_that_ran_already_teaches_nothing(box: Box) -> None:
    box.router()
    await eventually(lambda: box.machine.listeners)
    box.machine.begin("a")
    assert (await box.until("a", Phase.READY)).measured_memory is None


async def test_declaration_that_is_far_too_low_is_told_once_a_load(box: Box) -> None:
    box.router()
    box.gauge.takes["small"] = 5 * GIB
    await box.wake("small")

    async def told() -> bool:
        return bool(await box.events("memory-over"))

    await eventually(told)
    ((_, model, detail),) = await box.events("memory-over")
    assert model == "small"
    assert detail.startswith("it takes about 5.0 GiB of its GPU and declares 3.0 GiB; raise its memory")
    await box.send_to_sleep("small")
    await box.until("small", Phase.ASLEEP)
    await box.wake("small")

    async def told_again() -> bool:
        return len(await box.events("memory-over")) == 2

    await eventually(told_again)


async def test_declaration_that_was_put_right_is_not_complained_of(box: Box) -> None:
    """What was learned before knows of it late; the load itself shows it at once."""
    box.router()
    await box.store.set_fields("small", {"measured_memory": 9 * GIB})
    state = await box.wake("small")
    assert state.measured_memory is not None
    assert state.measured_memory > 5 * GIB
    await box.send_to_sleep("small")
    await box.until("small", Phase.ASLEEP)
    assert await box.events("memory-over") == []


# --- the page cache


async def test_page_cache_is_dropped_before_the_engine_is_started(box: Box, tmp_path: Path) -> None:
    class Cache(PageCache):
        async def make_room(self, size: int) -> bool:
            box.machine.calls.append((f"drop for {size}", "0"))
            return True

    box.router(page_cache=Cache(tmp_path / "nobody"))
    await box.wake("a")
    calls = [call for call in box.machine.calls if call[0] != "inspect"]
    assert calls[:3] == [(f"drop for {6 * GIB}", "0"), (f"read {TOTAL}", "0"), ("start", "a")]
