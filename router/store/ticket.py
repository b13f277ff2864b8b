"""One request on its way through admission, and where it stands."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.errors import Refusal

#: Seconds after which a caller may try again whose model's load has never been measured.
_UNKNOWN_RETRY = 30.0


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's way through admission. caller: hash of its key. priority, share: its key's, see
    router.scheduling.fairness. cut: ends it while it runs, and says why. joined and started: monotonic seconds of its
    place in line and of its lease. joined_at: its place when it joined, 1 is next."""

    model: str
    caller: str = ""
    alias: str = ""
    stream: bool = False
    priority: int = 0
    share: float = 1.0
    cut: Callable[[Refusal], None] | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    entry: str = ""
    since: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    joined: float | None = None
    joined_at: int = 0
    started: float | None = None
    completed: bool = False
    timed_out: bool = False
    admitting: asyncio.Future[Any] | None = None
    verdict: asyncio.Future[Refusal | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def describe(self, worker: str) -> str:
        """What the store keeps of it."""
        return json.dumps(
            {
                "model": self.model,
                "worker": worker,
                "caller": self.caller,
                "alias": self.alias,
                "stream": self.stream,
                "priority": self.priority,
                "share": self.share,
            }
        )

    @property
    def leased(self) -> bool:
        """Whether it has got its lease; it may have ended since."""
        return self.started is not None

    @property
    def waited(self) -> float | None:
        """Seconds in line, so far or until its lease; None when it never had to wait."""
        if self.joined is None:
            return None
        return (time.monotonic() if self.started is None else self.started) - self.joined

    @property
    def standing(self) -> str:
        """What the store should know of it: "lease", "wait", or "" for nothing."""
        if self.leased or (self.verdict.done() and self.verdict.result() is None):
            return "lease"
        if self.verdict.done() or self.admitting is None or not self.admitting.done():
            return ""
        if self.admitting.cancelled() or self.admitting.exception() is not None:
            return ""
        return {"go": "lease", "wait": "wait"}.get(self.admitting.result()[0], "")


@dataclass(frozen=True, slots=True)
class LineLimits:
    """How many requests may be where; 0: any number. parallel: in flight on the model. model: in its line.
    caller: places of one caller in the line, whatever for."""

    parallel: int = 0
    model: int = 0
    caller: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands. position: 1 is next, 0 is not in line. expected_seconds and at_most_seconds: None when
    nothing is known."""

    phase: str
    position: int
    expected_seconds: float | None
    at_most_seconds: float | None = None

    @property
    def retry_after(self) -> float:
        """Seconds after which another try makes sense."""
        return _UNKNOWN_RETRY if self.expected_seconds is None else self.expected_seconds


def standing(ticket: Ticket, place: Place) -> dict[str, Any]:
    """What a refusal tells of where its request stood."""
    return {
        "model": ticket.model,
        "phase": place.phase,
        "position": place.position or None,
        "expected_seconds": place.expected_seconds,
        "at_most_seconds": place.at_most_seconds,
        "retry_after": place.retry_after,
    }
