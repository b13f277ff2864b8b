"""What Redis answers when it cannot do something now is an outage like any other, and it passes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from eventually import eventually

from router.errors import StoreUnavailable
from router.store.admission import Admission
from router.store.connection import Client, connect
from router.store.fleet import FleetStore
from router.store.loops import Loops
from router.store.state import Phase
from router.store.ticket import Ticket


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    """The server itself; afterwards it is a master with all the memory that it wants again."""
    client = connect(redis_url)
    yield client
    await client.replicaof("NO", "ONE")
    await client.config_set("maxmemory", 0)
    await client.aclose()


async def test_redis_without_memory_is_away(gateway: Admission, fleet_store: FleetStore, redis: Client) -> None:
    await redis.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="cannot do this now"):
        await fleet_store.note("m", "event", "detail")
    ticket = Ticket("m")
    with pytest.raises(StoreUnavailable, match="cannot do this now"):
        await gateway.acquire(ticket, limit=None, bound=5.0)
    gateway.end(ticket)


async def test_worker_outlives_a_redis_that_only_reads_for_a_while(
    gateway: Admission, fleet_store: FleetStore, redis: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Its heartbeat is refused and its blocking read broken off; afterwards a request that waits hears its verdict."""
    caplog.set_level(logging.INFO)
    await redis.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreUnavailable):
        await fleet_store.note("m", "event", "detail")
    await eventually(lambda: "cannot do this now" in caplog.text, "the heartbeat has been refused")
    await redis.replicaof("NO", "ONE")
    await eventually(lambda: "Redis is back" in caplog.text)

    holder = await fleet_store.take_lock("r", 60.0)
    assert holder
    ticket = Ticket("m")
    waiting = asyncio.create_task(gateway.acquire(ticket, limit=None, bound=60.0))
    await eventually(lambda: gateway.waiting)
    await fleet_store.move(holder, "m", [Phase.ASLEEP], Phase.READY, event="ready")

    async def granted() -> bool:
        return await fleet_store.grant(holder, "m", [ticket.id]) == 1

    await eventually(granted)
    await waiting
    gateway.end(ticket)
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]


async def test_loop_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("nobody expected this")

    loops = Loops()
    loops.start("owner", work=work)
    await eventually(lambda: "owner-work has failed" in caplog.text)
    await loops.close()


async def test_loop_that_is_closed_is_not(caplog: pytest.LogCaptureFixture) -> None:
    loops = Loops()
    loops.start("owner", work=asyncio.Event().wait)
    await loops.close()
    assert not caplog.records
