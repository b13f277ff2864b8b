"""Starts the parts, brings back those that end, and stops them one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from router.quantities import format_duration
from router.supervisor.child import Child, Part, last_lines, rotate
from router.supervisor.failures import PartFailed

#: Seconds that a part gets to come up. LiteLLM alone takes half a minute on a slow machine.
START_LIMIT = 180.0
LOG_LINES = 20
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
#: A part that ran for this long (s) is started again without a longer delay.
_PROVEN_AFTER = 60.0


class Observer(Protocol):
    """Who is told what happens. Nothing that it does may fail."""

    def begin(self, part: str, doing: str) -> None:
        """Something that takes a while has begun."""

    def finish(self, part: str, outcome: str) -> None:
        """It is done."""

    def tell(self, text: str) -> None:
        """One line for people."""


def restart_delay(failures: int) -> float:
    """Seconds before a part is started again, after `failures` short lives in a row."""
    return min(_FIRST_DELAY * 2.0 ** min(failures, 30), _LONGEST_DELAY)


class Supervision:
    """Owns the children."""

    def __init__(self, parts: Sequence[Part], observer: Observer) -> None:
        self._children = {part.name: Child(part) for part in parts}
        self._observer = observer

    async def start(self) -> None:
        """All parts at once; returns when all can be used. Raises PartFailed; then the others still run."""
        tasks = [asyncio.create_task(self._first_start(child)) for child in self._children.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def keep(self) -> None:
        """Start again what ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for child in self._children.values():
                group.create_task(self._keep(child), name=f"keep-{child.part.name}")

    async def stop(self, name: str) -> None:
        """Stop one part; `keep` must not run any more."""
        child = self._children[name]
        if not child.running:
            return
        self._observer.begin(name, "stopping")
        await child.stop()
        self._observer.finish(name, "stopped")

    def kill(self) -> None:
        """End all parts at once; their `stop` returns then."""
        for child in self._children.values():
            child.kill()

    async def _first_start(self, child: Child) -> None:
        part = child.part
        self._observer.begin(part.name, "starting")
        rotate(part.log)
        try:
            await child.start()
            async with asyncio.timeout(START_LIMIT):
                ready = await child.until_ready()
        except OSError as error:  # TimeoutError is one
            late = isinstance(error, TimeoutError)
            why = f"it is not up after {format_duration(START_LIMIT)}" if late else str(error)
            raise PartFailed(part.name, why, last_lines(part.log, LOG_LINES)) from error
        if not ready:
            raise PartFailed(part.name, child.describe_end(), last_lines(part.log, LOG_LINES))
        self._observer.finish(part.name, "up")

    async def _keep(self, child: Child) -> None:
        part, failures, began = child.part, 0, time.monotonic()
        while True:
            await child.wait()
            failures = 0 if time.monotonic() - began >= _PROVEN_AFTER else failures
            delay = restart_delay(failures)
            failures += 1
            self._observer.tell(
                f"{part.name} has ended ({child.describe_end()}); it is started again in {format_duration(delay)}. "
                f"Its log: {part.log}"
            )
            await asyncio.sleep(delay)
            began = time.monotonic()
            try:
                await child.start()
            except OSError as error:
                self._observer.tell(f"{part.name} cannot be started: {error}")
                continue
            if await child.until_ready():
                self._observer.tell(f"{part.name} is up again.")
