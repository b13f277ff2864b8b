"""A memory gauge over a scripted machine: what runs holds its memory, and what a test says holds it for longer."""

from __future__ import annotations

import asyncio

from fake_runtime import Machine

from router.errors import MemoryUnknown


class FakeGauge:
    """total: bytes of the one GPU. takes: what each engine takes while it runs. lingering: engines that have run and
    whose memory does not come back before the test takes them out. broken: why nothing can be read."""

    def __init__(self, machine: Machine, total: int, takes: dict[str, int]) -> None:
        self._machine = machine
        self.total = total
        self.takes = takes
        self.lingering: set[str] = set()
        self.broken = ""
        self.readings = 0

    async def free(self, gpu: str) -> int:
        self.readings += 1
        if self.broken:
            raise MemoryUnknown(self.broken)
        ever = {name for call, name in self._machine.calls if call == "start"}
        held = self._machine.running | (self.lingering & ever)
        free = self.total - sum(self.takes.get(name, 0) for name in held)
        self._machine.calls.append((f"read {free}", gpu))
        return free


class Clock:
    """Seconds that pass only while somebody sleeps, and then at once; with `stopped`, not even then."""

    def __init__(self) -> None:
        self.stopped = False
        self._now = 1000.0

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if not self.stopped:
            self._now += seconds
        await asyncio.sleep(0)
