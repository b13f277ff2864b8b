"""The gateway's side of the store: a request asks for its model, waits for it, and ends.

One `Admission` serves one gateway worker. It owns the worker's heartbeat, its inbox of verdicts, and the list of
requests that have to be ended in Redis, so that a lease ends however its request did, also when Redis was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections import deque
from dataclasses import replace
from typing import Any

from router.errors import (
    REFUSALS,
    CallerLimit,
    ClientGone,
    LineFull,
    ModelFailed,
    Refusal,
    ServiceUnavailable,
    StoreUnavailable,
    WaitBoundExceeded,
)
from router.store import keys
from router.store.api_token import shared_api_token
from router.store.connection import Scripts, connect, translated
from router.store.loops import Loops
from router.store.ticket import LineLimits, Place, Ticket, standing

log = logging.getLogger(__name__)

#: Seconds between heartbeats, and after how many without one a worker's leases are void.
HEARTBEAT = 0.3
WORKER_LIFE = 10.0
#: Seconds that a heartbeat may take. Those who wait hear within 2 s that Redis is away: after two in a row without an
#: answer, since the first alone may be a slow moment, of Redis or of this process.
_BEAT_TIMEOUT = 0.6
#: Seconds that Redis may be away before requests that wait are refused.
REDIS_PATIENCE = 1.1
#: Seconds for which no router may have acted before requests that would need one are refused.
ROUTER_PATIENCE = 30.0
#: Seconds for which Redis is asked to wait for the next verdict, and between two tries while it is away.
_INBOX_BLOCK = 1.0
_RETRY_PAUSE = 0.2
#: How often a request is asked for whose worker Redis does not know (any more); it registers again before each try.
_ADMIT_TRIES = 3
#: What the script `end` gets in place of a running time: the request did not run to its end; its wait limit has passed.
_NOT_COMPLETED, _TIMED_OUT = -1, -2


class Admission:
    """Admission of requests for one gateway worker; `start` before use, `close` at the end."""

    def __init__(self, redis_url: str, worker: str | None = None) -> None:
        self.worker = worker or uuid.uuid4().hex[:12]
        self._redis = connect(redis_url)
        self._pulse = connect(
            redis_url, answer_timeout=_BEAT_TIMEOUT, connections=1
        )  # a heartbeat never queues behind requests
        self._inbox = connect(redis_url, answer_timeout=_INBOX_BLOCK + 1.0, connections=2)
        self._scripts = Scripts(self._redis)
        self._tickets: dict[str, Ticket] = {}
        self._ended: deque[Ticket] = deque()
        self._something_ended = asyncio.Event()
        self._suspicion = asyncio.Event()
        self._loops = Loops()
        self._last_verdict = "0-0"
        # A call of `admit` that timed out here may still be on its way to Redis. Carried out after the end of its
        # request, it would leave a lease that nobody ends. So after every failure the worker registers with a new
        # generation, and the scripts ignore calls of an older one; only then are the ends told that are due. The lock
        # keeps an end from overtaking a registration that still names its request.
        self._generation = 0
        self._registered = False
        self._in_order = asyncio.Lock()

    async def start(self) -> None:
        """Start the worker's own tasks. Works without Redis too: requests then get 503 until it is there."""
        with contextlib.suppress(StoreUnavailable):
            await self._register(self._generation)
        self._loops.start("admission", heartbeat=self._beat, inbox=self._listen, ends=self._end_all)

    async def close(self) -> None:
        """Say goodbye: what this worker still holds is void."""
        await self._loops.close()
        with contextlib.suppress(StoreUnavailable):
            await self._scripts.run("void", self.worker)
        for client in (self._redis, self._pulse, self._inbox):
            await client.aclose()

    @property
    def leases(self) -> int:
        """Requests of this worker that hold a lease now."""
        return sum(ticket.leased for ticket in self._tickets.values())

    @property
    def waiting(self) -> int:
        """Requests of this worker that wait now."""
        return len(self._tickets) - self.leases

    async def acquire(
        self, ticket: Ticket, *, limit: float | None, bound: float, limits: LineLimits | None = None
    ) -> None:
        """Return once the ticket has a lease on its model.

        limit: seconds that the caller is willing to wait (0: not at all; None: as long as it takes).
        bound: seconds that the configuration allows. limits: of the line.
        Raises a Refusal; StoreUnavailable when Redis is away. Whatever happens, `end` must be called afterwards.
        """
        patience = bound if limit is None else min(limit, bound)
        ticket.entry = ticket.entry or ticket.describe(self.worker)
        self._tickets[ticket.id] = ticket
        for _ in range(_ADMIT_TRIES):
            generation = self._generation
            answer = await self._admit(ticket, patience, limits or LineLimits())
            if answer[0] != "lost":
                break
            await self._register(generation)
        match answer:
            case ["go"]:
                ticket.started = time.monotonic()
                return
            case ["wait", position]:
                ticket.joined, ticket.joined_at = time.monotonic(), int(position)
                await self._wait(ticket, patience, by_caller=limit is not None and limit <= bound)
                return
        raise await self._refusal(ticket, answer)

    async def _admit(self, ticket: Ticket, patience: float, limits: LineLimits) -> list[Any]:
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
                ticket.caller,
                limits.parallel,
                limits.model,
                limits.caller,
            )
        )
        ticket.admitting.add_done_callback(self._note_failure)
        answer: list[Any] = await asyncio.shield(ticket.admitting)
        return answer

    async def _wait(self, ticket: Ticket, patience: float, *, by_caller: bool) -> None:
        """Return once the ticket has its lease. patience: seconds. by_caller: whether that is the caller's own limit.
        Raises the Refusal."""
        try:
            async with asyncio.timeout(patience):
                refusal = await asyncio.shield(ticket.verdict)
        except TimeoutError:
            ticket.timed_out = True
            place = await self.place(ticket)
            kind: type[Refusal] = WaitBoundExceeded
            why = "the longest wait that this server allows has passed; ask again later"
            if by_caller:
                kind = CallerLimit
                why = "the wait limit of this request has passed; ask again, or allow a longer wait"
            raise kind(f"Model {ticket.model!r} is {place.phase}: {why}.", **standing(ticket, place)) from None
        if refusal is not None:
            raise refusal
        ticket.started = time.monotonic()

    async def _refusal(self, ticket: Ticket, answer: list[Any]) -> Refusal:
        """What `admit` answers (see admit.lua) when it gives neither a lease nor a place in the line."""
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
            case ["busy", phase, position]:
                here = replace(await self.place(ticket), phase=str(phase), position=int(position))
                return CallerLimit(
                    f"Model {model!r} is {phase} and this request does not wait. Ask again, or allow a wait.",
                    **standing(ticket, here),
                )
            case ["full", whose, count, *lines]:
                who = f"for model {model!r}" if whose == "model" else "with this key"
                told = standing(ticket, await self.place(ticket))
                # what the key waits for may be other models, and there is no place before one of those is served
                told["retry_after"] = min([(await self._place(ticket.id, line)).retry_after for line in lines])
                return LineFull(
                    f"{count} requests wait {who} already, which is the limit. Ask again when some of them are done.",
                    **told,
                )
        raise StoreUnavailable(f"Redis gave an answer that makes no sense to this gateway: {answer!r}")

    async def place(self, ticket: Ticket) -> Place:
        """Where the ticket stands now. Raises StoreUnavailable."""
        return await self._place(ticket.id, ticket.model)

    async def _place(self, request: str, model: str) -> Place:
        phase, *numbers = await self._scripts.run("place", request, model)
        position, expected, at_most = map(int, numbers)
        return Place(
            str(phase),
            position,
            expected / 1000 if expected >= 0 else None,
            at_most / 1000 if at_most >= 0 else None,
        )

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
        """What proves to the router that a call comes from a gateway. Raises StoreUnavailable."""
        return await shared_api_token(self._redis)

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
                ran = (
                    int((now - ticket.started) * 1000)
                    if ticket.started is not None and ticket.completed
                    else _NOT_COMPLETED
                )
                arguments += [ticket.id, ticket.model, _TIMED_OUT if ticket.timed_out else ran]
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
        if ticket is None:
            return
        if fields["verdict"] == "cut":
            if ticket.cut is not None:
                ticket.cut(_refusal_of(ticket, fields["detail"]))
            return
        if ticket.verdict.done():
            return
        ticket.verdict.set_result(None if fields["verdict"] == "go" else _refusal_of(ticket, fields["detail"]))

    async def _beat(self) -> None:
        away_since, unanswered = 0.0, 0
        while True:
            asked = time.monotonic()
            try:
                async with translated():
                    known = await self._pulse.pexpire(keys.worker(self.worker), int(WORKER_LIFE * 1000))
                if not known or not self._registered:
                    self._registered = False
                    await self._register(self._generation)
                if unanswered:
                    log.info("Redis is back")
                unanswered = 0
            except StoreUnavailable as error:
                if not unanswered:
                    log.warning("%s", error)
                    away_since = asked
                unanswered += 1
                now = time.monotonic()
                if unanswered > 1 and now - away_since >= REDIS_PATIENCE:
                    self._give_up_waiting()
                await asyncio.sleep(max(0.0, asked + _RETRY_PAUSE - now))  # nothing after a timeout, which took longer
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


def _refusal_of(ticket: Ticket, told: str) -> Refusal:
    detail = json.loads(told)
    kind = REFUSALS.get(detail.pop("kind", ""), ServiceUnavailable)
    detail["log"] = tuple(detail.get("log") or ())
    return kind(model=ticket.model, **detail)
