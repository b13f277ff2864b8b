"""The gateway's side of the store: a request asks for its model, waits for it, and ends.

One `Admission` serves one gateway worker. It owns the worker's heartbeat, its inbox of verdicts, and the list of
requests that have to be ended in Redis, so that a lease ends however its request did, also when Redis was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from router.errors import (
    REFUSALS,
    CallerLimit,
    ClientGone,
    ModelFailed,
    Refusal,
    ServiceUnavailable,
    StoreUnavailable,
    WaitBoundExceeded,
)
from router.store import keys
from router.store.connection import Scripts, connect, translated

log = logging.getLogger(__name__)

#: Seconds between heartbeats, and after how many without one a worker's leases are void.
HEARTBEAT = 2.0
WORKER_LIFE = 10.0
#: Seconds that waiting requests bear with a Redis that is away, and all requests with a router that is.
REDIS_PATIENCE = 1.5
ROUTER_PATIENCE = 30.0
_INBOX_BLOCK = 1.0
_RETRY_PAUSE = 0.2
#: Seconds after which a caller may try again whose model's load has never been measured.
_UNKNOWN_RETRY = 30.0
_ADMIT_TRIES = 3


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's way through admission. caller: hash of its key. started: monotonic seconds of its lease."""

    model: str
    caller: str = ""
    alias: str = ""
    stream: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    entry: str = ""
    since: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    started: float | None = None
    completed: bool = False
    admitting: asyncio.Future[Any] | None = None
    verdict: asyncio.Future[Refusal | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def leased(self) -> bool:
        return self.started is not None

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
class Place:
    """Where a request stands. position: 1 is next, 0 is not in line. expected_seconds: None when nothing is known."""

    phase: str
    position: int
    expected_seconds: float | None

    @property
    def retry_after(self) -> float:
        """Seconds after which another try makes sense."""
        return _UNKNOWN_RETRY if self.expected_seconds is None else self.expected_seconds


class Admission:
    """Admission of requests for one gateway worker; `start` before use, `close` at the end."""

    def __init__(self, redis_url: str, worker: str | None = None) -> None:
        self.worker = worker or uuid.uuid4().hex[:12]
        self._redis = connect(redis_url)
        self._inbox = connect(redis_url, answer_timeout=_INBOX_BLOCK + 1.0, connections=2)
        self._scripts = Scripts(self._redis)
        self._tickets: dict[str, Ticket] = {}
        self._ended: deque[Ticket] = deque()
        self._something_ended = asyncio.Event()
        self._suspicion = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_verdict = "0-0"
        # A question that timed out may still reach Redis, after the end of its request. So the worker registers anew
        # after every failure, with a new generation: the store ignores questions of an older one, and the ends that
        # are due are told after that. The lock keeps an end from overtaking a registration that names its request.
        self._generation = 0
        self._registered = False
        self._in_order = asyncio.Lock()

    async def start(self) -> None:
        """Start the worker's own tasks. Works without Redis too: requests then get 503 until it is there."""
        with contextlib.suppress(StoreUnavailable):
            await self._register(self._generation)
        loops = {"heartbeat": self._beat, "inbox": self._listen, "ends": self._end_all}
        self._tasks = [asyncio.create_task(loop(), name=f"admission-{name}") for name, loop in loops.items()]

    async def close(self) -> None:
        """Say goodbye: what this worker still holds is void."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self._scripts.run("void", self.worker)
        await self._redis.aclose()
        await self._inbox.aclose()

    @property
    def leases(self) -> int:
        """Requests of this worker that hold a lease now."""
        return sum(ticket.leased for ticket in self._tickets.values())

    @property
    def waiting(self) -> int:
        """Requests of this worker that wait now."""
        return len(self._tickets) - self.leases

    async def acquire(self, ticket: Ticket, *, limit: float | None, bound: float) -> None:
        """Return once the ticket has a lease on its model.

        limit: seconds that the caller is willing to wait (0: not at all; None: as long as it takes).
        bound: seconds that the configuration allows. Raises a Refusal; StoreUnavailable when Redis is away.
        Whatever happens, `end` must be called afterwards.
        """
        patience = bound if limit is None else min(limit, bound)
        if not ticket.entry:
            ticket.entry = json.dumps(
                {
                    "model": ticket.model,
                    "worker": self.worker,
                    "caller": ticket.caller,
                    "alias": ticket.alias,
                    "stream": ticket.stream,
                }
            )
        self._tickets[ticket.id] = ticket
        for _ in range(_ADMIT_TRIES):
            generation = self._generation
            answer = await self._admit(ticket, patience)
            if answer[0] != "lost":
                break
            await self._register(generation)
        match answer:
            case ["go"]:
                ticket.started = time.monotonic()
                return
            case ["wait", _]:
                await self._wait(ticket, patience, by_caller=limit is not None and limit <= bound)
                return
        raise await self._refusal(ticket, answer)

    async def _admit(self, ticket: Ticket, patience: float) -> list[Any]:
        # A caller that is cancelled here must not leave a lease: the question is asked to its end, and `end` waits.
        ticket.admitting = asyncio.ensure_future(
            self._scripts.run(
                "admit",
                ticket.id,
                ticket.model,
                self.worker,
                ticket.entry,
                int(patience * 1000),
                int(ROUTER_PATIENCE * 1000),
                self._generation,
            )
        )
        ticket.admitting.add_done_callback(self._note_failure)
        answer: list[Any] = await asyncio.shield(ticket.admitting)
        return answer

    async def _wait(self, ticket: Ticket, patience: float, *, by_caller: bool) -> None:
        try:
            async with asyncio.timeout(patience):
                refusal = await asyncio.shield(ticket.verdict)
        except TimeoutError:
            place = await self.place(ticket)
            kind, why = (
                (CallerLimit, "the wait limit of this request has passed; ask again, or allow a longer wait")
                if by_caller
                else (
                    WaitBoundExceeded,
                    "the longest wait that this server allows has passed; ask again later",
                )
            )
            raise kind(
                f"Model {ticket.model!r} is {place.phase}: {why}.",
                model=ticket.model,
                phase=place.phase,
                position=place.position or None,
                expected_seconds=place.expected_seconds,
                retry_after=place.retry_after,
            ) from None
        if refusal is not None:
            raise refusal
        ticket.started = time.monotonic()

    async def _refusal(self, ticket: Ticket, answer: list[Any]) -> Refusal:
        model = ticket.model
        match answer:
            case ["cooling", milliseconds, error, log_lines]:
                return ModelFailed(
                    f"Model {model!r} failed: {error}. It is left alone for a while; try again then.",
                    model=model,
                    phase="failed",
                    retry_after=int(milliseconds) / 1000,
                    log=tuple(json.loads(log_lines)),
                )
            case ["away", "router"]:
                return ServiceUnavailable(
                    "The router is not running, so no model can be woken. Models that are awake still answer.",
                    model=model,
                    retry_after=5.0,
                )
            case ["away", reason]:
                return ServiceUnavailable(
                    f"Model {model!r} cannot be woken now: {reason}.", model=model, retry_after=5.0
                )
            case ["busy", phase, place]:
                here = await self.place(ticket)
                return CallerLimit(
                    f"Model {model!r} is {phase} and this request does not wait. Ask again, or allow a wait.",
                    model=model,
                    phase=str(phase),
                    position=int(place),
                    expected_seconds=here.expected_seconds,
                    retry_after=here.retry_after,
                )
        raise StoreUnavailable(f"unexpected answer from the store: {answer!r}")

    async def place(self, ticket: Ticket) -> Place:
        """Where the ticket stands now. Raises StoreUnavailable."""
        phase, position, expected = await self._scripts.run("place", ticket.id, ticket.model)
        return Place(str(phase), int(position), int(expected) / 1000 if int(expected) >= 0 else None)

    def abandon(self, ticket: Ticket) -> None:
        """The client has gone: a wait for this ticket ends with ClientGone. `end` is still due."""
        if not ticket.verdict.done():
            gone = ClientGone("The client has closed its connection.", model=ticket.model)
            ticket.verdict.set_result(gone)

    def end(self, ticket: Ticket) -> None:
        """The request is over. Never fails and never blocks: the store hears of it as soon as it can."""
        if self._tickets.pop(ticket.id, None) is not None:
            self._ended.append(ticket)
            self._something_ended.set()

    async def api_token(self) -> str:
        """What proves to the router that a call comes from a gateway. Made here if Redis has none (any more)."""
        async with translated():
            token: str | None = await self._redis.get(keys.API_TOKEN)
            if token is None:
                await self._redis.set(keys.API_TOKEN, secrets.token_urlsafe(32), nx=True)
                token = await self._redis.get(keys.API_TOKEN)
        return token or ""

    # --- the worker's own tasks

    async def _end_all(self) -> None:
        while True:
            await self._something_ended.wait()
            self._something_ended.clear()
            batch = [self._ended.popleft() for _ in range(min(len(self._ended), 500))]
            for ticket in batch:
                if ticket.admitting is not None:
                    await asyncio.wait([ticket.admitting])
            now = time.monotonic()
            arguments: list[str | int] = []
            for ticket in batch:
                ran = int((now - ticket.started) * 1000) if ticket.started is not None and ticket.completed else -1
                arguments += [ticket.id, ticket.model, ran]
            try:
                async with self._in_order:
                    if not self._registered:
                        await self._register_now()
                    await self._scripts.run("end", *arguments)
            except StoreUnavailable:
                self._ended.extendleft(reversed(batch))
                self._suspicion.set()
                await asyncio.sleep(_RETRY_PAUSE)
            if self._ended:
                self._something_ended.set()

    async def _listen(self) -> None:
        inbox = keys.inbox(self.worker)
        while True:
            try:
                async with translated():
                    answer = await self._inbox.xread(
                        {inbox: self._last_verdict}, count=500, block=int(_INBOX_BLOCK * 1000)
                    )
            except StoreUnavailable:
                self._suspicion.set()
                await asyncio.sleep(_RETRY_PAUSE)
                continue
            for _, messages in answer or []:
                for message_id, fields in messages:
                    self._last_verdict = message_id
                    self._deliver(fields)

    def _deliver(self, fields: dict[str, str]) -> None:
        ticket = self._tickets.get(fields["id"])
        if ticket is None or ticket.verdict.done():
            return
        if fields["verdict"] == "go":
            ticket.verdict.set_result(None)
            return
        detail = json.loads(fields["detail"])
        kind = REFUSALS.get(detail.pop("kind", ""), ServiceUnavailable)
        detail["log"] = tuple(detail.get("log") or ())
        ticket.verdict.set_result(kind(model=ticket.model, **detail))

    async def _beat(self) -> None:
        away_since: float | None = None
        while True:
            try:
                async with translated():
                    known = await self._redis.pexpire(keys.worker(self.worker), int(WORKER_LIFE * 1000))
                if not known or not self._registered:
                    self._registered = False
                    await self._register(self._generation)
                if away_since is not None:
                    log.info("Redis is back")
                away_since = None
            except StoreUnavailable as error:
                now = time.monotonic()
                if away_since is None:
                    log.warning("%s", error)
                    away_since = now
                if now - away_since >= REDIS_PATIENCE:
                    self._give_up_waiting()
                await asyncio.sleep(_RETRY_PAUSE)
                continue
            self._suspicion.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._suspicion.wait()

    def _give_up_waiting(self) -> None:
        for ticket in self._tickets.values():
            if not ticket.leased and not ticket.verdict.done():
                ticket.verdict.set_result(
                    ServiceUnavailable("Redis is away; try again in a moment.", model=ticket.model, retry_after=2.0)
                )

    def _note_failure(self, question: asyncio.Future[Any]) -> None:
        if not question.cancelled() and question.exception() is not None:
            self._registered = False
            self._suspicion.set()

    async def _register(self, generation: int) -> None:
        """Register, unless somebody else has done it since `generation`."""
        async with self._in_order:
            if not self._registered or self._generation == generation:
                await self._register_now()

    async def _register_now(self) -> None:
        """Tell Redis of this worker and of all that it holds: at the start, after a failure, after Redis lost data."""
        self._generation += 1
        self._registered = False
        arguments: list[str | int] = []
        for ticket in self._tickets.values():
            if ticket.standing:
                arguments += [ticket.standing, ticket.id, ticket.model, ticket.since, ticket.entry]
        await self._scripts.run("register", self.worker, int(WORKER_LIFE * 1000), self._generation, *arguments)
        self._registered = True
