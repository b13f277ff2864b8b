"""What every runtime does: the same tests on real containers, on real processes, and on the scripted runtime."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
from eventually import eventually

from router.config import ModelSpec
from router.errors import EngineMissing
from router.runtimes.base import Exited, Regained, Runtime, RuntimeEvent, Started

#: The engine of the contract: writes thirty lines and "up", and ends with 0 when it is told to; `stubborn` does not
#: listen, and `failing` ends with 3 by itself.
ENGINE = """
import signal, sys
for number in range(1, 31):
    print("line", number, flush=True)
if sys.argv[1] == "failing":
    sys.exit(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "stubborn" else lambda *_: sys.exit(0))
print("up", flush=True)
while True:
    signal.pause()
"""


class Bench(Protocol):
    """Engines for one test."""

    def spec(self, behaviour: str) -> ModelSpec:
        """A model with an engine that is "obedient", "stubborn", "failing" or "missing"; nothing runs yet."""

    def runtime(self) -> Runtime:
        """A new runtime that knows the specs made so far."""

    async def kill(self, spec: ModelSpec) -> None:
        """End the engine with SIGKILL, from outside."""


class Watcher:
    """Collects what a runtime tells."""

    def __init__(self, runtime: Runtime) -> None:
        self.events: list[RuntimeEvent] = []
        self._task = asyncio.create_task(self._collect(runtime))

    async def _collect(self, runtime: Runtime) -> None:
        async for event in runtime.watch():
            self.events.append(event)

    async def heard(self, event: RuntimeEvent) -> None:
        await eventually(lambda: event in self.events, f"{event} in {self.events}")

    async def heard_kind(self, kind: type[RuntimeEvent]) -> None:
        await eventually(lambda: any(isinstance(event, kind) for event in self.events), f"{kind.__name__} is told")

    async def end(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@contextlib.asynccontextmanager
async def watching(runtime: Runtime) -> AsyncIterator[Watcher]:
    """A watcher that has heard that the runtime answers."""
    watcher = Watcher(runtime)
    try:
        await eventually(lambda: watcher.events, "the first event")
        yield watcher
    finally:
        await watcher.end()


async def started(runtime: Runtime, spec: ModelSpec) -> None:
    """Start the engine and wait until it has written "up"."""
    await runtime.start(spec)

    async def up() -> bool:
        return "up" in await runtime.logs(spec, 50)

    await eventually(up)


class RuntimeContract:
    """Subclasses bring a fixture `bench`."""

    async def test_start_stop_and_what_is_known_of_it(self, bench: Bench) -> None:
        spec = bench.spec("obedient")
        runtime = bench.runtime()
        before = await runtime.inspect(spec)
        assert not before.running
        await started(runtime, spec)
        running = await runtime.inspect(spec)
        assert running.running
        assert running.exit_code is None
        assert running.started_at is not None
        await runtime.start(spec)
        assert await runtime.inspect(spec) == running, "starting what runs does nothing"
        await runtime.stop(spec)
        stopped = await runtime.inspect(spec)
        assert (stopped.running, stopped.exit_code, stopped.out_of_memory) == (False, 0, False)
        await runtime.stop(spec)
        await started(runtime, spec)
        again = await runtime.inspect(spec)
        assert again.started_at is not None
        assert again.started_at > running.started_at

    async def test_stop_ends_an_engine_that_does_not_listen(self, bench: Bench) -> None:
        spec = bench.spec("stubborn")
        runtime = bench.runtime()
        await started(runtime, spec)
        await runtime.stop(spec)
        stopped = await runtime.inspect(spec)
        assert (stopped.running, stopped.exit_code) == (False, 137)

    async def test_first_it_tells_that_it_answers_then_what_happens(self, bench: Bench) -> None:
        spec, other = bench.spec("obedient"), bench.spec("failing")
        runtime = bench.runtime()
        async with watching(runtime) as watcher:
            assert watcher.events == [Regained()]
            await started(runtime, spec)
            await watcher.heard(Started(spec.name))
            await runtime.stop(spec)
            await watcher.heard(Exited(spec.name, 0))
            await started(runtime, spec)
            await bench.kill(spec)
            await watcher.heard(Exited(spec.name, 137))
            await runtime.start(other)
            await watcher.heard(Exited(other.name, 3))
            assert (await runtime.inspect(other)).exit_code == 3

    async def test_exit_code_of_an_engine_that_ends_at_once_is_known_at_once(self, bench: Bench) -> None:
        spec = bench.spec("failing")
        runtime = bench.runtime()
        await runtime.start(spec)

        async def ended() -> bool:
            return not (await runtime.inspect(spec)).running

        await eventually(ended)
        assert (await runtime.inspect(spec)).exit_code == 3

    async def test_logs_are_the_last_lines_oldest_first(self, bench: Bench) -> None:
        spec = bench.spec("obedient")
        runtime = bench.runtime()
        assert await runtime.logs(spec, 5) == ()
        await started(runtime, spec)
        assert await runtime.logs(spec, 3) == ("line 29", "line 30", "up")
        await runtime.stop(spec)
        assert (await runtime.logs(spec, 1))[0] == "up", "they outlive the engine"

    async def test_missing_engine(self, bench: Bench) -> None:
        spec = bench.spec("missing")
        runtime = bench.runtime()
        with pytest.raises(EngineMissing):
            await runtime.start(spec)

    async def test_engine_outlives_its_runtime_and_the_next_one_takes_it_over(self, bench: Bench) -> None:
        spec = bench.spec("obedient")
        first = bench.runtime()
        async with watching(first):
            await started(first, spec)
            known = await first.inspect(spec)
        await first.close()
        second = bench.runtime()
        assert await second.inspect(spec) == known
        async with watching(second) as watcher:
            await second.start(spec)
            assert await second.inspect(spec) == known, "it runs already"
            await second.stop(spec)
            await watcher.heard_kind(Exited)
        assert not (await second.inspect(spec)).running

    async def test_end_of_an_engine_that_was_taken_over_is_told(self, bench: Bench) -> None:
        spec = bench.spec("obedient")
        first = bench.runtime()
        await started(first, spec)
        await first.close()
        second = bench.runtime()
        await second.inspect(spec)
        async with watching(second) as watcher:
            await bench.kill(spec)
            await watcher.heard_kind(Exited)
