"""What the dashboard shows, read once for all who look: a picture of the fleet, made anew when something has changed.

Nothing is read while nobody looks. While somebody does, the fleet is read right after each event, and a few times a
second besides, since a request that runs at once makes no event; never more often than a slow machine can bear.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from router.api.access import Caller, Services
from router.api.views import gpu_views, model_views
from router.errors import StoreUnavailable
from router.memory.gauge import free_now
from router.store.connection import ANSWER_TIMEOUT
from router.store.state import Lease, Waiting

#: Seconds between two readings: at least, and at most when nothing is heard.
SHORTEST = 0.1
LONGEST = 0.2
#: A reading may take this part of the time, half of it while events come: with many requests in line it takes longer,
#: and comes less often.
_SHARE = 0.25
#: Seconds for which Redis is asked to wait for the next event.
_BLOCK = ANSWER_TIMEOUT / 2
#: Seconds until another try while Redis is away.
_AWAY_PAUSE = 0.5

#: Requests of each kind (running, waiting) that one who looks is shown; the others are counted.
MOST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Picture:
    """One reading. models and gpus: views as JSON, by name. away: why there is nothing to show, if so.
    last_event: id of the newest event."""

    number: int
    now: float = 0.0
    away: str = ""
    status: str = "{}"
    models: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    gpus: str = "[]"
    leases: list[Lease] = field(default_factory=list)
    line: tuple[Waiting, ...] = ()
    expected: Mapping[str, float | None] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    last_event: str = "0-0"

    def requests(self, caller: Caller) -> dict[str, Any]:
        """What runs and what waits, as far as this caller may see it: rows, and how many there are. Times are unix
        seconds on Redis's clock, so a row changes only when its request moves."""
        running = [lease for lease in self.leases if caller.admin or lease.caller == caller.key]
        waiting = [
            (place, each) for place, each in enumerate(self.line, start=1) if caller.admin or each.caller == caller.key
        ]
        return {
            "running": len(running),
            "waiting": len(waiting),
            "rows": [
                {"id": each.id, "model": each.model, "position": 0, "since": each.since, "alias": each.alias}
                for each in running[:MOST_ROWS]
            ]
            + [
                {
                    "id": each.id,
                    "model": each.model,
                    "position": place,
                    "since": each.joined,
                    "alias": each.alias,
                    "expected_seconds": self.expected.get(each.model),
                    "at_most_seconds": self.at_most.get(each.model),
                }
                for place, each in waiting[:MOST_ROWS]
            ],
        }


class Feed:
    """Pictures for all who look. The task that reads runs from the first `looking` until the last has left."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._picture = Picture(0)
        self._changed = asyncio.Condition()
        self._looking = 0
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """While inside, `newer` gives pictures."""
        self._looking += 1
        if self._reader is None or self._reader.done():
            self._picture = Picture(0)  # nobody takes it for news; the old one would show the past
            self._reader = asyncio.create_task(self._read(), name="dashboard-feed")
        try:
            yield
        finally:
            self._looking -= 1
            if not self._looking and self._reader is not None:
                reader, self._reader = self._reader, None
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    async def newer(self, than: int, limit: float) -> Picture | None:
        """The first picture with a higher number; None after `limit` seconds without one. Raises what the reading has
        ended with, if it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit), self._changed:
                await self._changed.wait_for(lambda: self._picture.number > than)
                return self._picture
        if self._reader is not None and self._reader.done():
            self._reader.result()
        return None

    async def _read(self) -> None:
        last_event, store = "0-0", self._services.store
        while True:
            began = time.monotonic()
            try:
                last_event = await store.last_event()
                await self._show(await self._picture_now(last_event))
                took = time.monotonic() - began
                await asyncio.sleep(max(SHORTEST, took))
                await store.events(last_event, block=min(max(LONGEST - SHORTEST, took / _SHARE), _BLOCK), count=1)
            except StoreUnavailable as error:
                await self._show(Picture(self._picture.number + 1, away=str(error), last_event=last_event))
                await asyncio.sleep(_AWAY_PAUSE)

    async def _show(self, picture: Picture) -> None:
        async with self._changed:
            self._picture = picture
            self._changed.notify_all()

    async def _picture_now(self, last_event: str) -> Picture:
        services = self._services
        config, controller = services.config, services.controller
        state = await services.store.snapshot(list(config.models))
        leases = await services.store.leases(config.models)
        outlook = controller.outlook(state)
        expected = {name: None if seconds is None else round(seconds) for name, seconds in outlook.expected.items()}
        views = {view.name: view for view in model_views(config, state, outlook, admin=True)}
        free = await free_now(services.gauge, config.settings.gpus)
        return Picture(
            number=self._picture.number + 1,
            now=state.now,
            status=json.dumps({"trouble": controller.trouble, "acting": controller.lock.may_act}),
            models={
                name: json.dumps(
                    view.model_dump(exclude={"log"})
                    | {"expected_seconds": expected[name], "at_most_seconds": round(outlook.at_most[name])}
                )
                for name, view in views.items()
            },
            logs={name: json.dumps(view.log) for name, view in views.items()},
            gpus=json.dumps([view.model_dump() for view in gpu_views(config, state, free)]),
            leases=leases,
            line=state.line,
            expected=expected,
            at_most={name: round(seconds) for name, seconds in outlook.waiting_at_most.items()},
            last_event=last_event,
        )
