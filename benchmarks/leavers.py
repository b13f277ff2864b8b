"""Whether every lease ends when clients leave: requests of all kinds, most of whose clients go away at some moment.

Leases are counted from outside, by Redis's own notifications of changes: no part of Hearth does the counting. Three
simulated models share a GPU that has room for two, so that some clients leave while they wait for a swap.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import redis.asyncio

from benchmarks.kinds import KINDS, Kind
from benchmarks.outcome import Outcome, Row, options
from benchmarks.processes import free_port
from benchmarks.stack import Stack, configuration, model_entry, simulator
from router.store import keys

_MODELS = ("red", "green", "blue")
#: A client that leaves does so after up to so many seconds, at a random moment.
_LATEST = 0.8
_ANSWER_LIMIT = 180.0
#: Seconds within which a lease must end after its client has gone.
_LIMIT = 1.0
_SETTLE_LIMIT = 20.0


@dataclass
class Leases:
    """What Redis told of the changes to leases. most: at once."""

    begun: int = 0
    ended: int = 0
    most: int = 0

    def note(self, event: str) -> None:
        self.begun += event == "hset"
        self.ended += event == "hdel"
        self.most = max(self.most, self.begun - self.ended)


@dataclass
class Clients:
    """Who is there, and who went in the last `_LIMIT` seconds. overdue: the most leases that neither accounts for."""

    there: int = 0
    overdue: int = 0
    _gone: deque[float] = field(default_factory=deque)

    def leave(self) -> None:
        self.there -= 1
        self._gone.append(time.monotonic())

    async def compare(self, leases: Leases) -> None:
        """Compare them with the leases again and again, until cancelled."""
        while True:
            while self._gone and time.monotonic() - self._gone[0] > _LIMIT:
                self._gone.popleft()
            self.overdue = max(self.overdue, leases.begun - leases.ended - self.there - len(self._gone))
            await asyncio.sleep(0.02)


class Store:
    """The benchmark's own eyes on Redis."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url, decode_responses=True)
        self.leases = Leases()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """While inside, every change to leases is counted."""
        await self._redis.config_set("notify-keyspace-events", "Eh")
        async with self._redis.pubsub() as channel:
            await channel.psubscribe("__keyevent@0__:h*")
            await channel.get_message(timeout=5)  # the confirmation
            reading = asyncio.create_task(self._read(channel))
            try:
                yield
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        await self._redis.aclose()

    async def _read(self, channel: redis.asyncio.client.PubSub) -> None:
        async for message in channel.listen():
            if message["type"] == "pmessage" and message["data"].startswith(keys.leases("")):
                self.leases.note(message["channel"].rpartition(":")[2])

    async def held(self) -> int:
        """Leases and places in line at this moment."""
        counts = [await self._redis.hlen(keys.leases(model)) for model in _MODELS]
        return sum(counts) + int(await self._redis.zcard(keys.LINE))


async def _client(http: httpx.AsyncClient, kind: Kind, model: str, leave_after: float | None) -> str:
    """One request: its status, or `left` when its client went away before the end."""
    try:
        async with asyncio.timeout(leave_after), http.stream("POST", kind.path(model), **kind.content(model)) as answer:
            async for _ in answer.aiter_raw():
                pass
            return str(answer.status_code)
    except TimeoutError:
        return "left"
    except httpx.HTTPError as error:
        return type(error).__name__


@dataclass(frozen=True)
class Found:
    """settled: seconds from the last client to the end of the last lease and of the last work in an engine."""

    results: Counter[str]
    leases: Leases
    overdue: int
    settled: dict[str, float]


async def _measure(stack: Stack, ports: list[int], given: Settings) -> Found:
    generator = random.Random(given.seed)
    plans = [
        (
            KINDS[number % len(KINDS)],
            generator.choice(_MODELS),
            generator.uniform(0, _LATEST) if generator.random() < given.share else None,
        )
        for number in range(given.requests)
    ]
    generator.shuffle(plans)
    # the run ends with clients that leave, so that nobody's answer hides a lease that does not end
    leavers = [plan for plan in plans if plan[2] is not None][-given.at_once :]
    plans = [plan for plan in plans if plan not in leavers] + leavers
    store = Store(stack.redis_url)
    clients = Clients()
    results: Counter[str] = Counter()
    waiting = iter(plans)

    async def one_after_the_other(http: httpx.AsyncClient) -> None:
        for plan in waiting:
            clients.there += 1
            results[await _client(http, *plan)] += 1
            clients.leave()

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        store.watching(),
        httpx.AsyncClient(
            base_url=stack.url, headers=stack.headers, timeout=_ANSWER_LIMIT, limits=limits, trust_env=False
        ) as http,
    ):
        comparing = asyncio.create_task(clients.compare(store.leases))
        await asyncio.gather(*(one_after_the_other(http) for _ in range(given.at_once)))
        last_client = time.monotonic()
        settled: dict[str, float] = {}
        while len(settled) < 2 and time.monotonic() - last_client < _SETTLE_LIMIT:
            if "leases" not in settled and not await store.held():
                settled["leases"] = time.monotonic() - last_client
            if "engines" not in settled and not await _running(ports):
                settled["engines"] = time.monotonic() - last_client
            await asyncio.sleep(0.01)
        await asyncio.sleep(_LIMIT)  # a lease that begins late would show here
        if await store.held() or await _running(ports):
            settled.clear()
        comparing.cancel()
        await asyncio.gather(comparing, return_exceptions=True)
    return Found(results, store.leases, clients.overdue, settled)


async def _running(ports: list[int]) -> int:
    """Requests in the engines; one that sleeps has none."""
    running = 0
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        for port in ports:
            with contextlib.suppress(httpx.TransportError):
                running += (await client.get(f"http://127.0.0.1:{port}/_simulator/state")).json()["running"]
    return running


@dataclass(frozen=True, slots=True)
class Settings:
    """share: of the clients that leave, 0 to 1."""

    requests: int
    share: float
    at_once: int
    seed: int


def main() -> int:
    parser = options("leavers", __doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.6, help="of the clients that leave")
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    given = Settings(arguments.requests, arguments.share, arguments.at_once, arguments.seed)
    ports = [free_port() for _ in _MODELS]
    speed = ("--tokens-per-second", "100", "--answer-tokens", "20")
    entries = [
        model_entry(name, port, command=simulator(name, port, 0.3, *speed), memory="50GiB")
        for name, port in zip(_MODELS, ports, strict=True)
    ]
    began = time.monotonic()
    with Stack.running(configuration(entries, "process")) as stack:
        found = asyncio.run(_measure(stack, ports, given))
    leases, results = found.leases, found.results

    def settled_ms(what: str) -> float:
        return found.settled.get(what, float("inf")) * 1000

    rows = [
        Row.exactly("leases ended, of those begun", leases.ended, leases.begun),
        Row.exactly(f"leases left {_LIMIT:.0f} s after their client, at any moment", found.overdue, 0),
        Row.at_most("last lease or place in line ended, after the last client", settled_ms("leases"), 1000, "ms"),
        Row.at_most("nothing running in the engines, after the last client", settled_ms("engines"), 1000, "ms"),
        Row("requests", f"{given.requests} of {len(KINDS)} kinds, {given.at_once} at once"),
        Row("clients that left before their answer's end", str(results["left"])),
        Row("answers", ", ".join(f"{count} with {name}" for name, count in results.items() if name != "left")),
        Row("most leases at once", str(leases.most)),
        Row("all of it", f"{time.monotonic() - began:.0f} s"),
    ]
    raw = {
        "settings": vars(arguments) | {"out": ""},
        "results": dict(results),
        "leases": vars(leases),
        "overdue": found.overdue,
    }
    return Outcome("leavers", rows, raw).publish(arguments.out)


if __name__ == "__main__":
    sys.exit(main())
