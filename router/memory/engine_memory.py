"""What starts and stops do with measured memory: learn what a load takes, wait until a stop has given it back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from router.config import ModelSpec
from router.errors import MemoryUnknown
from router.memory import usage
from router.memory.gauge import MemoryGauge
from router.memory.ledger import Ledger, Load, Release, Share
from router.memory.page_cache import PageCache
from router.memory.release import Reading, Verdict, verdict
from router.quantities import format_duration, format_size

log = logging.getLogger(__name__)

#: Pauses (s) between readings while memory comes back: the first, by how much each next one is longer, the longest.
_FIRST_PAUSE = 0.02
_GROWTH = 1.5
_LONGEST_PAUSE = 0.5
#: So many readings in a row that fail end the wait.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about memory that an admin should know. event: its name in the events."""

    event: str
    detail: str


class EngineMemory:
    """The memory of one router's engines. limit: seconds that a stop waits for its memory at most; 0: it does not."""

    def __init__(
        self,
        gauge: MemoryGauge,
        limit: float,
        page_cache: PageCache | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.gauge = gauge
        self.limit = limit
        self.page_cache = page_cache
        self.now = now
        self.sleep = sleep
        self.ledger = Ledger()
        self.loading: set[str] = set()  # models whose load has begun and not yet succeeded

    def load(self, spec: ModelSpec) -> Loading:
        """A load of this model begins, or is found under way. `end` must be called, whatever becomes of it."""
        self.loading.add(spec.name)
        return Loading(self, spec, self.ledger.begin_load(spec.gpus))

    async def stop(self, spec: ModelSpec, measured: int | None) -> Stopping:
        """A stop of this model begins: call it before its engine is told. measured: the use learned so far. `end` must
        be called, whatever becomes of it."""
        before = await self.readings(spec.gpus) if self.limit else {}
        share = Share(measured or spec.memory, measured is not None, known=spec.name not in self.loading)
        return Stopping(self, spec, self.ledger.begin_stop(before), share)

    def died(self, spec: ModelSpec) -> None:
        """The model's engine has ended by itself."""
        self.ledger.disturb(spec.gpus)

    async def readings(self, gpus: Sequence[str]) -> dict[str, int]:
        """Free bytes of those of the GPUs that are measured and can be read now."""
        found = {}
        for gpu in gpus:
            try:
                free = await self.gauge.free(gpu)
            except MemoryUnknown as error:
                log.warning("%s", error)
                continue
            if free is not None:
                found[gpu] = free
        return found


class Loading:
    """One load. `used` says what it took, when that can be said."""

    def __init__(self, memory: EngineMemory, spec: ModelSpec, load: Load) -> None:
        self._memory = memory
        self._spec = spec
        self._load = load
        self._before: dict[str, int] = {}

    async def make_ready(self) -> None:
        """The engine is about to be started: read what is free, after the page cache was dropped if that is set."""
        if self._memory.page_cache is not None:
            await self._memory.page_cache.make_room(self._spec.memory)
        self._before = await self._memory.readings(self._spec.gpus)

    async def used(self) -> int | None:
        """The engine is ready: bytes that it took per GPU; None when that cannot be said."""
        self._memory.loading.discard(self._spec.name)
        if not self._before or self._load.disturbed:
            return None
        after = await self._memory.readings(self._spec.gpus)
        return None if self._load.disturbed else usage.used(self._before, after)

    def end(self) -> None:
        """The load is over, however it went."""
        self._memory.ledger.end_load(self._load)


class Stopping:
    """One stop. `back` returns when its memory is there again."""

    def __init__(self, memory: EngineMemory, spec: ModelSpec, releases: dict[str, Release], share: Share) -> None:
        self._memory = memory
        self._spec = spec
        self._releases = releases
        self._share = share

    @property
    def measured(self) -> bool:
        """Whether any of its GPUs is; without, `back` returns at once."""
        return bool(self._releases)

    async def back(self, *, held: bool) -> Finding | None:
        """The engine is gone: wait until its memory is back, or that can no longer be expected. held: whether it ran
        when the stop began. Returns what went wrong, if anything; it has waited for no longer than the limit."""
        self._memory.loading.discard(self._spec.name)
        share = self._share if held else Share(0, measured=False, known=False)
        for release in self._releases.values():
            release.gone.append(share)
        finding: Finding | None = None
        began = self._memory.now()
        for gpu, release in self._releases.items():
            finding = await self._back_on(gpu, release, began) or finding
        return finding

    def end(self) -> None:
        """The stop is over, however it went."""
        self._memory.ledger.end_stop(self._releases)

    async def _back_on(self, gpu: str, release: Release, began: float) -> Finding | None:
        readings: list[Reading] = []
        pause, failed = _FIRST_PAUSE, 0
        while True:
            try:
                free = await self._memory.gauge.free(gpu)
            except MemoryUnknown as error:
                failed += 1
                if failed >= _TRIES:
                    return Finding("memory-unread", f"nobody knows whether its memory is back: {error}")
            else:
                if free is None:
                    return None  # it is not measured any more
                failed = 0
                readings.append(Reading(self._memory.now(), free))
                what = verdict(readings, release.expected, self._memory.limit - (readings[0].at - began))
                if what is Verdict.LATE:
                    return self._late(gpu, release, readings[-1])
                if what is not Verdict.WAIT:
                    log.info("GPU %s: memory %s after %s", gpu, what, format_duration(readings[-1].at - began))
                    return None
            await self._memory.sleep(pause)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def _late(self, gpu: str, release: Release, last: Reading) -> Finding:
        limit = format_duration(self._memory.limit)
        expected = release.expected
        if expected is None:
            return Finding("memory-late", f"the free memory of GPU {gpu} still rises after {limit}; going on")
        came = format_size(max(0, last.free - expected.before))
        return Finding(
            "memory-late",
            f"only {came} of about {format_size(expected.use)} came back on GPU {gpu} within {limit}; going on",
        )
