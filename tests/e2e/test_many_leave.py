"""A mixed crowd of which most leave at some moment: in the end everything that was taken has been given back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from addresses import ALL, CHAT, Address
from observer import Observer, until

from router.store import keys

pytestmark = pytest.mark.e2e

REQUESTS = 300
AT_ONCE = 40
SEED = 20_250_719


@contextlib.asynccontextmanager
async def lease_counts(hearth: Observer) -> AsyncIterator[Counter[str]]:
    """How many leases have begun (`hset`) and ended (`hdel`), as Redis itself notifies of them."""
    await hearth.redis.config_set("notify-keyspace-events", "Kh")
    counts: Counter[str] = Counter()
    async with hearth.redis.pubsub() as channel:
        await channel.psubscribe(f"__keyspace@0__:{keys.leases('*')}")

        async def count() -> None:
            async for message in channel.listen():
                if message["type"] == "pmessage":
                    counts[message["data"]] += 1

        task = asyncio.create_task(count())
        try:
            yield counts
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await hearth.redis.config_set("notify-keyspace-events", "")


async def ask(hearth: Observer, chance: random.Random) -> str:
    """One request of a random kind. Returns how it went for its client."""
    address: Address = chance.choice(ALL)
    model = chance.choice(["small", "wild/a", "faulty", "idle"])
    stream = address.streams and chance.random() < 0.6
    leaves_after = chance.uniform(0, 0.8) if chance.random() < 0.6 else None
    uploads_slowly = chance.random() < 0.05
    more: dict[str, Any] = {"stream": True} if stream else {}
    if address.streams:
        more[address.tokens] = chance.choice([2, 20, 400])
    request = address.request(hearth.http, model, **more)
    if uploads_slowly:
        leaves_after = leaves_after or 0.1
        request = half_uploaded(hearth)
    try:
        async with asyncio.timeout(leaves_after):
            answer = await hearth.http.send(request)
    except TimeoutError:
        return "left"
    except httpx.RemoteProtocolError:
        return "cut"
    return str(answer.status_code)


def half_uploaded(hearth: Observer) -> httpx.Request:
    async def content() -> AsyncIterator[bytes]:
        yield b'{"model": "small", "messages": ['
        await asyncio.Event().wait()

    return hearth.http.build_request("POST", CHAT.path, content=content(), headers={"Content-Type": "application/json"})


async def test_as_many_leases_end_as_begin(hearth: Observer) -> None:
    for name in ("small", "wild/*", "faulty"):
        await hearth.wake(name)
    await hearth.engines["faulty"].faults("error-mid-stream=10")
    chance = random.Random(SEED)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(own: random.Random) -> str:
        async with places:
            return await ask(hearth, own)

    async with lease_counts(hearth) as counts:
        asked = [asyncio.create_task(one(random.Random(chance.random()))) for _ in range(REQUESTS)]
        outcomes = Counter(await asyncio.gather(*asked))
        await hearth.until_no_requests()

        async def balanced() -> bool:
            return counts["hset"] == counts["hdel"]

        await until(balanced, f"as many leases have ended as begun: {counts}")
    assert counts["hset"] > REQUESTS / 3
    assert outcomes["left"] > REQUESTS / 4
    assert outcomes["200"] > REQUESTS / 10
    assert await hearth.redis.zcard(keys.LINE) == 0
    assert await hearth.redis.hlen(keys.WAITING) == 0
    ended: Counter[str] = Counter()
    for name in ("small", "wild/*", "faulty"):
        ended.update(row["outcome"] for row in await hearth.engines[name].requests())
        assert (await hearth.model(name))["in_flight"] == 0
    assert ended["running"] == 0
    assert ended["aborted"] > 0
