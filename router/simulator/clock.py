"""The simulated clock: events in the order of their time, and for the same time as they were set."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

#: After so many events somebody who watches is told.
_TOLD = 2000


class Clock:
    """now: seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` at `time`, or now if that has passed."""
        self._count += 1
        heapq.heappush(self._events, (max(time, self.now), self._count, action, arguments))

    def run(self, watch: Callable[[], None]) -> None:
        """Until no event is left. watch: called now and then."""
        events, count = self._events, 0
        while events:
            self.now, _, action, arguments = heapq.heappop(events)
            action(*arguments)
            count += 1
            if count % _TOLD == 0:
                watch()
