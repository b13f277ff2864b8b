"""The router's side of the store.

Writes that steer anything carry the fencing token; a late one raises Fenced and changes nothing. Learned costs, what
callers are told and notes among the events go without.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from router.errors import Cancelled, Refusal
from router.store import keys
from router.store.api_token import shared_api_token
from router.store.connection import Scripts, connect, published, translated
from router.store.key_ring import KeyRing
from router.store.state import CallerState, EndedRequest, FleetState, Lease, ModelState, Observation, Phase, Waiting

#: Ended requests that are read from Redis at a time.
_HISTORY_PAGE = 1000
#: How many can listen for events at a time.
_LISTENERS = 128
#: The ids of a stream are the milliseconds of an entry and its number among those of the same one; this is the highest.
_LAST_ID = 2**64 - 1


class FleetStore:
    """Reads and writes of the fleet's state. All times that it takes and gives are seconds."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url)
        # who listens for events holds a connection for as long as nothing happens: never one that a decision needs
        self._listening = connect(redis_url, connections=_LISTENERS)
        self._scripts = Scripts(self._redis)
        self._url = redis_url
        self.key_ring = KeyRing(self._redis)

    async def close(self) -> None:
        """Close the connections. Raises StoreUnavailable when Redis is away."""
        await self._redis.aclose()
        await self._listening.aclose()

    # --- reading

    async def snapshot(self, models: Sequence[str]) -> FleetState:
        """One consistent read of `models` and the line. Raises StoreUnavailable."""
        now, states, line, observations = await self._scripts.run("snapshot", *models)
        return FleetState(
            now=int(now) / 1000,
            models={
                name: _model_state(states[3 * index], int(states[3 * index + 1]), states[3 * index + 2])
                for index, name in enumerate(models)
            },
            line=tuple(
                Waiting(id=line[index], joined=float(line[index + 1]) / 1000, **json.loads(line[index + 2]))
                for index in range(0, len(line), 3)
            ),
            observations=int(observations),
        )

    async def leases(self, models: Iterable[str]) -> list[Lease]:
        """All requests in flight, oldest first."""
        found: list[Lease] = []
        async with translated():
            for model in models:
                for lease_id, value in (await self._redis.hgetall(keys.leases(model))).items():
                    since, joined, entry = value.split("|", 2)
                    found.append(
                        Lease(id=lease_id, since=int(since) / 1000, joined=int(joined) / 1000, **json.loads(entry))
                    )
        return sorted(found, key=lambda lease: lease.since)

    async def nudges(self) -> AsyncIterator[None]:
        """Yields when the state has changed in a way that the controller must see, and once at the start.
        Raises StoreUnavailable when the connection ends."""
        redis = connect(self._url, connections=2)
        try:
            async for _ in published(redis, keys.NUDGE):
                yield
        finally:
            await redis.aclose()

    async def events(self, after: str, *, block: float | None = None, count: int = 100) -> list[dict[str, str]]:
        """Events after the stream id `after` ("-": the last `count`, oldest first), each with its id as `id`.
        With `block`, waits up to that many seconds for the next one."""
        async with translated():
            if after == "-":
                rows = list(reversed(await self._redis.xrevrange(keys.EVENTS, count=count)))
            elif block is None:
                rows = await self._redis.xrange(keys.EVENTS, min=f"({after}", count=count)
            else:
                answer = await self._listening.xread({keys.EVENTS: after}, count=count, block=max(1, int(block * 1000)))
                rows = answer[0][1] if answer else []
        return [{"id": event_id, **fields} for event_id, fields in rows]

    async def last_event(self) -> str:
        """The id of the newest event; "0-0" when there is none."""
        async with translated():
            rows = await self._redis.xrevrange(keys.EVENTS, count=1)
        return str(rows[0][0]) if rows else "0-0"

    async def history(self, since: float = 0.0) -> AsyncIterator[EndedRequest]:
        """The requests that ended after `since` and are still remembered, in the order of their ends."""
        after = "0-0" if since <= 0 else f"{int(since * 1000) - 1}-{_LAST_ID}"
        while rows := await self.ended_requests(after):
            for _, request in rows:
                yield request
            after = rows[-1][0]

    async def ended_requests(self, after: str) -> list[tuple[str, EndedRequest]]:
        """The next requests that ended after the stream id `after`, each with its id, in the order of their ends."""
        async with translated():
            rows = await self._redis.xrange(keys.REQUESTS, min=f"({after}", count=_HISTORY_PAGE)
        return [(row_id, _ended_request(fields)) for row_id, fields in rows]

    async def refusals(self) -> dict[tuple[str, str], int]:
        """How many requests have been turned away at once since Redis has its data, by model and reason."""
        async with translated():
            rows = await self._redis.hgetall(keys.REFUSALS)
        return {(model, reason): int(count) for (reason, _, model), count in
                ((name.partition(" "), count) for name, count in rows.items())}  # fmt: skip

    # --- the GPU lock

    async def take_lock(self, router: str, life: float) -> str | None:
        """The holder string when the lock was free, else None."""
        holder: str | None = await self._scripts.run("lock", "take", router, "", int(life * 1000))
        return holder

    async def keep_lock(self, holder: str, life: float) -> bool:
        """Let the lock live for `life` more seconds; False when it is no longer this holder's."""
        return bool(await self._scripts.run("lock", "keep", "", holder, int(life * 1000)))

    async def drop_lock(self, holder: str) -> bool:
        """Give the lock back; False when it was no longer this holder's."""
        return bool(await self._scripts.run("lock", "drop", "", holder, 0))

    # --- what the acting router writes

    async def grant(self, holder: str, model: str, ids: Sequence[str], parallel: int = 0) -> int:
        """Leases for these waiting requests, if the model is still ready, and not for more than `parallel` at a time
        (0: any number). Returns how many."""
        return int(await self._scripts.run("grant", holder, model, parallel, *ids))

    async def refuse(self, holder: str, refusal: Refusal, ids: Sequence[str]) -> int:
        """Take these requests out of the line and tell their callers why."""
        return int(await self._scripts.run("refuse", holder, json.dumps(_detail(refusal)), *ids))

    async def move(
        self,
        holder: str,
        model: str,
        source: Sequence[Phase],
        target: Phase,
        *,
        event: str,
        detail: str = "",
        idle: bool = False,
        fields: Mapping[str, str | int] | None = None,
    ) -> bool:
        """Change a model's phase if it is one of `source` (and, with `idle`, has no lease). True when it was done."""
        flat: list[str | int] = [part for pair in (fields or {}).items() for part in pair]
        done = await self._scripts.run("move", holder, model, ",".join(source), target, int(idle), event, detail, *flat)
        return bool(done)

    async def fail(
        self, holder: str, model: str, refusal: Refusal, *, error: str, first: float, longest: float, stopped: bool
    ) -> float:
        """Mark a model failed and tell everyone who waits for it. stopped: whether its engine is already gone.
        Returns the seconds until it may be tried again."""
        delay = await self._scripts.run(
            "fail",
            holder,
            model,
            error,
            json.dumps(refusal.log),
            json.dumps(_detail(refusal)),
            int(first * 1000),
            int(longest * 1000),
            Phase.FAILED if stopped else Phase.STOPPING,
        )
        return float(delay) / 1000

    async def void_dead_workers(self) -> int:
        """End the leases and places of gateway workers whose heartbeat has stopped. Returns how many."""
        return int(await self._scripts.run("void", ""))

    async def take_observations(self, holder: str, horizon: float, models: Sequence[str]) -> list[Observation]:
        """What was observed since the last call. Callers whose last request ended more than `horizon` seconds ago are
        gone: they are forgotten, and that is an infinite pause."""
        rows = await self._scripts.run("observed", holder, int(horizon * 1000), *models)
        found = []
        for model, caller, kind, milliseconds in map(json.loads, rows):
            found.append(Observation(model, caller, kind, milliseconds / 1000 if milliseconds >= 0 else math.inf))
        return found

    async def pauses(self, model: str) -> dict[str, tuple[float, ...]]:
        """The learned pauses of a model's callers, as router.scheduling.gaps keeps them; those of all under ""."""
        async with translated():
            rows = await self._redis.hgetall(keys.pauses(model))
        return {caller: tuple(json.loads(counts)) for caller, counts in rows.items()}

    async def set_pauses(self, model: str, known: Mapping[str, Sequence[float] | None]) -> None:
        """Write the learned pauses of these callers of a model; None forgets one."""
        kept = {caller: json.dumps([round(each, 3) for each in counts]) for caller, counts in known.items() if counts}
        forgotten = [caller for caller, counts in known.items() if not counts]
        async with translated(), self._redis.pipeline(transaction=True) as pipe:
            if kept:
                pipe.hset(keys.pauses(model), mapping=kept)
            if forgotten:
                pipe.hdel(keys.pauses(model), *forgotten)
            await pipe.execute()

    async def set_trouble(self, holder: str, reason: str) -> None:
        """Say why nothing can be woken now; empty when all is well."""
        await self._scripts.run("trouble", holder, reason)

    async def api_token(self) -> str:
        """What a gateway shows to routers. Raises StoreUnavailable."""
        return await shared_api_token(self._redis)

    async def set_fields(self, model: str, fields: Mapping[str, str | int]) -> None:
        """Learned costs and expectations: they steer nothing that could be harmed by a late write."""
        async with translated():
            await self._redis.hset(keys.model(model), mapping=dict(fields))

    async def note(self, model: str, event: str, detail: str) -> None:
        """Add something to the events that changes nothing."""
        async with translated():
            entry = {"event": event, "model": model, "at": await self.now_ms(), "detail": detail}
            await self._redis.xadd(keys.EVENTS, entry, maxlen=10_000)

    # --- what an admin asks for; the controller sees it in its next snapshot

    async def ask(self, model: str, fields: Mapping[str, str | int], event: str) -> None:
        """Record an admin's wish and nudge the controller."""
        async with translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.sadd(keys.PREFIX + "models", model)
            pipe.hset(keys.model(model), mapping=dict(fields))
            pipe.xadd(keys.EVENTS, {"event": event, "model": model, "at": await self.now_ms()}, maxlen=10_000)
            pipe.publish(keys.NUDGE, "1")
            await pipe.execute()

    async def cancel(self, request_id: str, models: Iterable[str], caller: str | None) -> str:
        """End a request: of this caller only, unless None. Returns where it was: "waiting", "running", or "" when there
        is none. One that runs is over when its gateway worker has cut it off."""
        why = Cancelled("The request was cancelled by its owner or an administrator.")
        detail, anybodys = json.dumps(_detail(why)), int(caller is None)
        return str(await self._scripts.run("cancel", request_id, caller or "", anybodys, detail, *models))

    async def now_ms(self) -> int:
        """Redis's clock in milliseconds."""
        async with translated():
            seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def ping(self) -> None:
        """Raises StoreUnavailable when Redis does not answer."""
        async with translated():
            await self._redis.ping()


def _detail(refusal: Refusal) -> dict[str, Any]:
    return {
        "kind": type(refusal).__name__,
        "message": refusal.message,
        "phase": refusal.phase,
        "retry_after": refusal.retry_after,
        "log": list(refusal.log),
    }


def _ended_request(fields: Mapping[str, str]) -> EndedRequest:
    granted = fields["granted"]
    return EndedRequest(
        model=fields["model"],
        caller=fields["caller"],
        joined=float(fields["joined"]) / 1000,
        granted=float(granted) / 1000 if granted else None,
        ended=float(fields["ended"]) / 1000,
        completed=fields["completed"] == "1",
        outcome=fields.get("outcome", ""),
    )


def _model_state(flat: Sequence[str], in_flight: int, callers: Sequence[str]) -> ModelState:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def seconds(name: str) -> float | None:
        value = fields.get(name)
        return float(value) / 1000 if value else None

    return ModelState(
        phase=Phase(fields.get("phase", Phase.ASLEEP)),
        since=seconds("since") or 0.0,
        in_flight=in_flight,
        last_used=seconds("last_used") or 0.0,
        pinned=fields.get("pinned") == "1",
        wanted=seconds("wanted"),
        sleep=fields.get("sleep", ""),
        failures=int(fields.get("failures", 0)),
        retry_at=seconds("retry_at") or 0.0,
        load_seconds=seconds("load_ms"),
        unload_seconds=seconds("unload_ms"),
        service_seconds=seconds("service_ms"),
        longest_load=seconds("longest_load_ms"),
        longest_unload=seconds("longest_unload_ms"),
        longest_service=seconds("longest_service_ms"),
        error=fields.get("error", ""),
        log=tuple(json.loads(fields.get("log") or "[]")),
        ready_at=seconds("ready_at") or 0.0,
        callers={name: _caller_state(value) for name, value in zip(callers[::2], callers[1::2], strict=True)},
        measured_memory=int(fields["measured_memory"]) if fields.get("measured_memory") else None,
    )


def _caller_state(value: str) -> CallerState:
    _, running, last_end = value.split("|")
    return CallerState(last_end=int(last_end) / 1000 if last_end else None, in_flight=int(running))
