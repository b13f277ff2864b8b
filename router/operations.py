"""Starting and stopping one engine: the steps that take time, each written to the store when it is done.

An operation may be cancelled at any point (the lock is lost, the router stops). It leaves its phase as it is, and the
next router takes it up from there: starting what runs and stopping what is stopped do nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from router.config import Config, ModelSpec
from router.errors import (
    EngineError,
    EngineMissing,
    EngineStartFailed,
    EngineStopFailed,
    ModelFailed,
    RuntimeUnavailable,
)
from router.gpu_lock import GpuLock
from router.memory import usage
from router.memory.engine_memory import EngineMemory, Finding
from router.quantities import format_duration, format_size
from router.readiness import Probe, until_healthy
from router.runtimes.base import Instance, Runtime
from router.scheduling import costs
from router.store.fleet import FleetStore
from router.store.state import ModelState, Phase

log = logging.getLogger(__name__)

#: Lines of an engine's log kept with its failure.
LOG_LINES = 20
#: A model that was ready for this long (s) and then ends has not failed to start.
PROVEN_AFTER = 60.0
_STOP_RETRY = 5.0
#: What a load that has used up its start_timeout while nobody watched still gets (s): enough to answer a probe.
_LAST_CHANCE = 5.0
#: The clocks of Redis and of the runtime are read at different moments (s).
_CLOCK_SLACK = 1.0


@dataclass(slots=True)
class Operation:
    """A start or stop under way. exited: set when the engine may have ended, so that it is looked at."""

    kind: Phase
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Operations:
    """Carries out starts and stops. on_trouble hears when the runtime cannot be asked."""

    def __init__(
        self,
        config: Config,
        store: FleetStore,
        lock: GpuLock,
        runtime: Runtime,
        probe: Probe,
        memory: EngineMemory,
        on_trouble: Callable[[str], None],
    ) -> None:
        self._config = config
        self._store = store
        self._lock = lock
        self._runtime = runtime
        self._probe = probe
        self._memory = memory
        self._on_trouble = on_trouble

    async def start(self, spec: ModelSpec, state: ModelState, operation: Operation) -> None:
        """From starting to ready, or to failed. Its phase is `starting` already."""
        began = time.monotonic()
        load = self._memory.load(spec)
        try:
            instance = await self._runtime.inspect(spec)
            loading_for = _loading_for(instance, state)
            began -= loading_for
            async with asyncio.timeout(max(spec.start_timeout - loading_for, min(spec.start_timeout, _LAST_CHANCE))):
                if not instance.running:
                    await load.make_ready()
                    if not self._lock.may_act:
                        return
                    await self._start_engine(spec)
                await self._until_ready(spec, operation, loading_for)
        except TimeoutError:
            limit = format_duration(spec.start_timeout)
            await self.fail(spec, f"it was not healthy within {limit} of its start", stopped=False)
        except RuntimeUnavailable as error:
            self._on_trouble(str(error))
        except EngineError as error:
            await self.fail(spec, str(error), stopped=True)
        else:
            took = time.monotonic() - began
            used = await load.used()
            fields: dict[str, str | int] = {"wanted": "", "error": "", "log": "[]"}
            if loading_for or not instance.running:  # else it was there before: nobody saw it load
                fields |= _learned("load", state.load_seconds, state.longest_load, took)
            if used is not None:
                fields["measured_memory"] = usage.learned(state.measured_memory, used)
            await self._store.move(
                self._lock.holder,
                spec.name,
                [Phase.STARTING],
                Phase.READY,
                event="ready",
                detail=f"after {format_duration(took)}",
                fields=fields,
            )
            if used is not None and (finding := _excess(spec, state, used)):
                await self._tell(spec, finding)
        finally:
            load.end()

    async def _start_engine(self, spec: ModelSpec) -> None:
        """Start it, to the end also when cancelled: a start under way must not overtake the stop that comes next."""
        starting = asyncio.ensure_future(self._runtime.start(spec))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            if not starting.cancelled():
                starting.exception()  # seen: the next holder reads from the runtime what became of it
            raise

    async def _until_ready(self, spec: ModelSpec, operation: Operation, loading_for: float) -> None:
        """Return when the engine is healthy. Raises EngineStartFailed when it ends first."""
        healthy = asyncio.ensure_future(until_healthy(self._probe, spec.health_url, loading_for))
        try:
            while not healthy.done():
                operation.exited.clear()
                with contextlib.suppress(RuntimeUnavailable):
                    instance = await self._runtime.inspect(spec)
                    if not instance.running:
                        raise EngineStartFailed(f"it ended while it loaded ({describe_exit(instance)})")
                exited = asyncio.ensure_future(operation.exited.wait())
                try:
                    await asyncio.wait({healthy, exited}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    exited.cancel()
            healthy.result()  # a probe that has failed has seen nothing healthy
        finally:
            healthy.cancel()

    async def stop(self, spec: ModelSpec, state: ModelState) -> None:
        """From stopping to asleep, or to failed when the stop ends a start that failed; its memory is back then, as far
        as that can be told. `state` is the one at the beginning of the stop."""
        began = time.monotonic()
        stopping = await self._memory.stop(spec, state.measured_memory)
        try:
            held = stopping.measured and await self._runs(spec)
            if not await self._stop_engine(spec):
                return
            if finding := await stopping.back(held=held):
                await self._tell(spec, finding)
        finally:
            stopping.end()
        took = time.monotonic() - began
        await self._store.move(
            self._lock.holder,
            spec.name,
            [Phase.STOPPING],
            Phase.FAILED if state.retry_at > state.since else Phase.ASLEEP,
            event="stopped",
            detail=f"after {format_duration(took)}",
            fields=_learned("unload", state.unload_seconds, state.longest_unload, took),
        )

    async def _runs(self, spec: ModelSpec) -> bool:
        """Whether it certainly runs now."""
        with contextlib.suppress(RuntimeUnavailable, EngineMissing):
            return (await self._runtime.inspect(spec)).running
        return False

    async def _stop_engine(self, spec: ModelSpec) -> bool:
        """Stop it, however often that takes. Returns whether it is gone; else somebody else has to go on."""
        while True:
            if not self._lock.may_act:
                return False
            try:
                await self._runtime.stop(spec)
            except EngineMissing:
                return True
            except RuntimeUnavailable as error:
                self._on_trouble(str(error))
                return False
            except EngineStopFailed as error:  # it still holds its memory, so it stays "stopping"
                log.error("%s: %s; trying again in %s", spec.name, error, format_duration(_STOP_RETRY))
                await asyncio.sleep(_STOP_RETRY)
            else:
                return True

    async def ended(self, spec: ModelSpec, state: ModelState, now: float) -> None:
        """An engine that was ready is gone by itself. now: seconds on the store's clock."""
        self._memory.died(spec)
        with contextlib.suppress(RuntimeUnavailable, EngineMissing):
            instance = await self._runtime.inspect(spec)
            if instance.running:
                return
            lived = now - state.since
            why = f"it ended by itself ({describe_exit(instance)})"
            if lived < PROVEN_AFTER:
                await self.fail(spec, f"{why}, {format_duration(lived)} after it was ready", stopped=True)
                return
            log.warning("%s: %s", spec.name, why)
            await self._store.move(
                self._lock.holder,
                spec.name,
                [Phase.READY, Phase.DRAINING],
                Phase.ASLEEP,
                event="died",
                detail=why,
                fields={"error": why, "log": json.dumps(await self._last_lines(spec)), "failures": 0, "sleep": ""},
            )

    async def fail(self, spec: ModelSpec, why: str, *, stopped: bool) -> None:
        """Tell everyone who waits, and let the model cool down."""
        log.error("%s failed: %s", spec.name, why)
        refusal = ModelFailed(
            f"Model {spec.name!r} could not be started: {why}.",
            model=spec.name,
            phase=Phase.FAILED,
            log=await self._last_lines(spec),
        )
        cooldown = self._config.settings.cooldown
        await self._store.fail(
            self._lock.holder,
            spec.name,
            refusal,
            error=why,
            first=cooldown.first,
            longest=cooldown.longest,
            stopped=stopped,
        )

    async def _tell(self, spec: ModelSpec, finding: Finding) -> None:
        """Let admins know, in the log and in the events."""
        log.warning("%s: %s", spec.name, finding.detail)
        await self._store.note(spec.name, finding.event, finding.detail)

    async def _last_lines(self, spec: ModelSpec) -> tuple[str, ...]:
        try:
            return await self._runtime.logs(spec, LOG_LINES)
        except (RuntimeUnavailable, EngineError):
            return ()


def describe_exit(instance: Instance) -> str:
    """How an engine ended, for people. vLLM ends with code 0 also when its core has crashed, so 0 is no good news."""
    if instance.out_of_memory:
        return "killed for want of memory"
    if instance.exit_code is None:
        return "exit code unknown"
    return f"exit code {instance.exit_code}"


def _excess(spec: ModelSpec, state: ModelState, used: int) -> Finding | None:
    """What to say when a load took far more than the model declares. The last load alone does not count, because other
    programs may have taken memory during it, nor does the average alone, which knows of a change of settings late."""
    measured = min(used, usage.learned(state.measured_memory, used))
    if usage.declaration(spec.memory, measured) is not usage.Declaration.TOO_LOW:
        return None
    return Finding(
        "memory-over",
        f"it takes about {format_size(measured)} of its GPU and declares {format_size(spec.memory)}; raise its memory "
        "in the configuration, or let its engine take less",
    )


def _loading_for(instance: Instance, state: ModelState) -> float:
    """Seconds since this load began; 0 for an engine that runs for other reasons and is only taken over."""
    if not instance.running or instance.started_at is None or instance.started_at < state.since - _CLOCK_SLACK:
        return 0.0
    return max(0.0, time.time() - instance.started_at)


def _learned(what: str, average: float | None, longest: float | None, measured: float) -> dict[str, str | int]:
    """The store's fields (milliseconds) for what a load or unload takes, after one more measurement."""
    return {
        f"{what}_ms": round(1000 * costs.average(average, measured)),
        f"longest_{what}_ms": math.ceil(1000 * costs.longest(longest, measured)),
    }
