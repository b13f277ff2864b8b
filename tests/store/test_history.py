"""The requests that ended: how the store reads them, and who gets them through the API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fleet import config, spec

from router.api.access import Services
from router.api.app import create_app
from router.api.protocol import CALLER_HEADER, ROLE_HEADER, TOKEN_HEADER
from router.simulator.replay import read_records
from router.store import fleet as fleet_module
from router.store import keys
from router.store.connection import Client, connect
from router.store.fleet import FleetStore
from router.store.state import EndedRequest


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def end(redis: Client, ended: int, granted: int | str = "", **fields: Any) -> None:
    """What the store's script writes when a request is over; times in milliseconds."""
    values = {"model": "small", "caller": "h1", "joined": ended - 5000, "granted": granted, "ended": ended,
              "completed": 1 if granted else 0}  # fmt: skip
    same = await redis.xrange(keys.REQUESTS, min=str(ended), max=str(ended))
    await redis.xadd(keys.REQUESTS, values | fields, id=f"{ended}-{len(same)}")


@pytest.fixture
async def api(fleet_store: FleetStore) -> AsyncIterator[httpx.AsyncClient]:
    services = Services(config(spec("small")), fleet_store, cast("Any", SimpleNamespace()), cast("Any", None))
    headers = {TOKEN_HEADER: await fleet_store.api_token(), ROLE_HEADER: "admin", CALLER_HEADER: "h1"}
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://router", headers=headers) as client:
        yield client


async def test_ended_requests_as_they_were(fleet_store: FleetStore, redis: Client) -> None:
    await end(redis, 10_000, 7_500)
    await end(redis, 12_000, caller="h2")
    assert [each async for each in fleet_store.history()] == [
        EndedRequest("small", "h1", 5.0, 7.5, 10.0, completed=True),
        EndedRequest("small", "h2", 7.0, None, 12.0, completed=False),
    ]


async def test_history_is_read_in_pages_from_a_time_on(
    fleet_store: FleetStore, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_HISTORY_PAGE", 2)
    for ended in (1000, 2000, 2000, 3000, 4000, 5000):
        await end(redis, ended, 900)
    assert [each.ended async for each in fleet_store.history()] == [1.0, 2.0, 2.0, 3.0, 4.0, 5.0]
    assert [each.ended async for each in fleet_store.history(2.0)] == [2.0, 2.0, 3.0, 4.0, 5.0]
    assert [each.ended async for each in fleet_store.history(5.001)] == []


async def test_api_gives_lines_that_can_be_replayed(api: httpx.AsyncClient, redis: Client) -> None:
    await end(redis, 10_000, 7_500)
    await end(redis, 12_000)
    answer = await api.get("/lifecycle/history")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert json.loads(answer.text.splitlines()[0]) == {
        "model": "small", "caller": "h1", "joined": 5.0, "granted": 7.5, "ended": 10.0, "completed": True
    }  # fmt: skip
    assert [each.granted for each in read_records(answer.content.splitlines(), "the API")] == [7.5, None]


async def test_api_gives_the_last_seconds(api: httpx.AsyncClient, redis: Client, fleet_store: FleetStore) -> None:
    now = await fleet_store.now_ms()
    await end(redis, now - 500_000, now - 500_100)
    await end(redis, now - 1000, now - 1100)
    assert len((await api.get("/lifecycle/history")).text.splitlines()) == 2
    assert len((await api.get("/lifecycle/history", params={"seconds": 100})).text.splitlines()) == 1


async def test_api_gives_nothing_of_an_empty_history(api: httpx.AsyncClient) -> None:
    answer = await api.get("/lifecycle/history")
    assert (answer.status_code, answer.text) == (200, "")


async def test_history_is_for_admins(api: httpx.AsyncClient, redis: Client) -> None:
    await end(redis, 10_000, 7_500)
    assert (await api.get("/lifecycle/history", headers={ROLE_HEADER: "user"})).status_code == 403
    assert (await api.get("/lifecycle/history", headers={TOKEN_HEADER: "other"})).status_code == 403


async def test_seconds_that_make_no_sense_are_refused(api: httpx.AsyncClient) -> None:
    for seconds in ("0", "-1", "soon", "inf"):
        assert (await api.get("/lifecycle/history", params={"seconds": seconds})).status_code == 422
