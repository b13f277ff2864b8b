"""A router that starts before its Redis waits for it, and says so."""

from __future__ import annotations

import asyncio

import pytest
from eventually import eventually
from redis_server import RedisServer

from router.__main__ import share_token
from router.store.fleet import FleetStore


async def test_router_tells_what_it_waits_for(
    fleet_store: FleetStore, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    waiting = asyncio.create_task(share_token(fleet_store))
    await eventually(lambda: "waiting for Redis: Redis does not answer" in caplog.text)
    redis_server.start()
    await waiting
    assert caplog.text.count("waiting for Redis") == 1
