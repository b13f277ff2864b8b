"""Cancelling a request, wherever it is, by whoever may."""

from __future__ import annotations

import asyncio

import pytest
from eventually import eventually

from router.errors import Cancelled, Refusal
from router.store.admission import Admission
from router.store.fleet import FleetStore
from router.store.state import Phase
from router.store.ticket import Ticket

LONG = 60.0


@pytest.fixture
async def holder(fleet_store: FleetStore) -> str:
    return await fleet_store.take_lock("r1", LONG) or ""


async def _line(store: FleetStore) -> list[str]:
    return [request.id for request in (await store.snapshot(["m"])).line]


@pytest.mark.parametrize("caller", [None, "h1"], ids=["admin", "owner"])
async def test_one_who_waits_is_out_of_the_line_at_once(
    gateway: Admission, fleet_store: FleetStore, holder: str, caller: str | None
) -> None:
    ticket = Ticket("m", caller="h1")
    waiting = asyncio.create_task(gateway.acquire(ticket, limit=None, bound=LONG))
    await eventually(lambda: _line(fleet_store), "it waits")
    assert await fleet_store.cancel(ticket.id, ["m"], caller) == "waiting"
    assert await _line(fleet_store) == []
    with pytest.raises(Cancelled):
        await waiting
    assert await fleet_store.cancel(ticket.id, ["m"], caller) == ""
    gateway.end(ticket)
    (ended,) = [each async for each in fleet_store.history()]
    assert (ended.granted, ended.completed) == (None, False)


@pytest.mark.parametrize("caller", [None, "h1"], ids=["admin", "owner"])
async def test_one_that_runs_is_cut_by_its_worker_and_holds_its_lease_until_then(
    gateway: Admission, fleet_store: FleetStore, holder: str, caller: str | None
) -> None:
    await fleet_store.move(holder, "m", list(Phase), Phase.READY, event="test")
    told: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
    ticket = Ticket("m", caller="h1", cut=told.set_result)
    await gateway.acquire(ticket, limit=None, bound=LONG)
    assert await fleet_store.cancel(ticket.id, ["other", "m"], caller) == "running"
    async with asyncio.timeout(LONG):
        assert isinstance(await told, Cancelled)
    assert [lease.id for lease in await fleet_store.leases(["m"])] == [ticket.id]
    gateway.end(ticket)


@pytest.mark.parametrize("phase", [Phase.ASLEEP, Phase.READY])
@pytest.mark.parametrize("caller", ["h2", ""], ids=["another", "nobody"])
async def test_nobody_cancels_the_requests_of_others(
    gateway: Admission, fleet_store: FleetStore, holder: str, phase: Phase, caller: str
) -> None:
    await fleet_store.move(holder, "m", list(Phase), phase, event="test")
    ticket = Ticket("m", caller="h1")
    asked = asyncio.create_task(gateway.acquire(ticket, limit=None, bound=LONG))

    async def there() -> bool:
        return bool(await _line(fleet_store) or await fleet_store.leases(["m"]))

    await eventually(there, "it is there")
    assert await fleet_store.cancel(ticket.id, ["m"], caller) == ""
    assert await there()
    asked.cancel()
    gateway.end(ticket)
