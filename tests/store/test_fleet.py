"""The router's side of the store: the lock, fencing, the guards of each script, and reading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from eventually import eventually

from router.errors import Fenced, ModelFailed, ServiceUnavailable, StoreUnavailable
from router.gpu_lock import GpuLock
from router.store import keys
from router.store.admission import Admission
from router.store.connection import connect
from router.store.fleet import FleetStore
from router.store.state import Phase
from router.store.ticket import Ticket

LONG = 60.0


async def holder_of(store: FleetStore, name: str = "r1") -> str:
    holder = await store.take_lock(name, LONG)
    assert holder is not None
    return holder


async def test_one_router_holds_the_lock(fleet_store: FleetStore) -> None:
    one, two = GpuLock(fleet_store, "one"), GpuLock(fleet_store, "two")
    assert await one.take()
    assert not await two.take()
    assert one.may_act
    assert not two.may_act
    assert await one.keep()
    await one.drop()
    assert await two.take()


async def test_lock_of_a_dead_router_is_free_after_its_life(fleet_store: FleetStore) -> None:
    first = await fleet_store.take_lock("one", 0.05)

    async def taken() -> str | None:
        return await fleet_store.take_lock("two", LONG)

    await eventually(taken)
    assert first is not None
    assert not await fleet_store.keep_lock(first, LONG), "it is too late for the first"


async def test_router_takes_its_own_lock_again_with_a_new_token(fleet_store: FleetStore) -> None:
    """But a router whose name only begins the same does not."""
    first = await holder_of(fleet_store, "one")
    assert await fleet_store.take_lock("on", LONG) is None
    second = await holder_of(fleet_store, "one")
    assert int(second.split(":")[1]) > int(first.split(":")[1])
    assert not await fleet_store.keep_lock(first, LONG)


async def test_token_grows_also_when_redis_has_lost_its_data(fleet_store: FleetStore, redis_url: str) -> None:
    tokens = []
    redis = connect(redis_url)
    for _ in range(4):
        tokens.append(int((await holder_of(fleet_store, "one")).split(":")[1]))
        await asyncio.sleep(0.002)
        await redis.flushall()
    await redis.aclose()
    assert tokens == sorted(set(tokens))


Write = Callable[[FleetStore, str, str], Awaitable[object]]


async def _move(store: FleetStore, holder: str, request: str) -> object:
    return await store.move(holder, "m", list(Phase), Phase.STOPPING, event="late", fields={"failures": 9})


async def _grant(store: FleetStore, holder: str, request: str) -> object:
    return await store.grant(holder, "m", [request])


async def _refuse(store: FleetStore, holder: str, request: str) -> object:
    return await store.refuse(holder, ServiceUnavailable("late"), [request])


async def _fail(store: FleetStore, holder: str, request: str) -> object:
    return await store.fail(holder, "m", ModelFailed("late"), error="late", first=1, longest=9, stopped=True)


async def _trouble(store: FleetStore, holder: str, request: str) -> object:
    return await store.set_trouble(holder, "late")


@pytest.mark.parametrize("write", [_move, _grant, _refuse, _fail, _trouble])
async def test_late_holder_changes_nothing(
    fleet_store: FleetStore, gateway: Admission, redis_url: str, write: Write
) -> None:
    late = await holder_of(fleet_store, "one")
    ticket = Ticket("m")
    waiting = asyncio.create_task(gateway.acquire(ticket, limit=None, bound=LONG))
    await eventually(lambda: gateway._redis.zcard(keys.LINE))
    await fleet_store.move(late, "m", list(Phase), Phase.READY, event="test")
    await fleet_store.drop_lock(late)
    for successor in ("nobody", "two"):
        if successor == "two":
            await holder_of(fleet_store, "two")
        redis = connect(redis_url)
        before = {key: await redis.dump(key) for key in await redis.keys("hearth:*") if ":worker" not in key}
        with pytest.raises(Fenced):
            await write(fleet_store, late, ticket.id)
        with pytest.raises(Fenced):
            await write(fleet_store, "", ticket.id)
        after = {key: await redis.dump(key) for key in await redis.keys("hearth:*") if ":worker" not in key}
        await redis.aclose()
        assert after == before, successor
    assert not waiting.done()
    waiting.cancel()


async def test_move_asks_for_the_phase_it_knows(fleet_store: FleetStore) -> None:
    holder = await holder_of(fleet_store)
    assert not await fleet_store.move(holder, "m", [Phase.READY, Phase.STARTING], Phase.DRAINING, event="e")
    assert await fleet_store.move(holder, "m", [Phase.ASLEEP], Phase.STARTING, event="e", fields={"sleep": "drain"})
    state = (await fleet_store.snapshot(["m"])).models["m"]
    assert (state.phase, state.sleep) == (Phase.STARTING, "drain")
    assert state.since > 0


async def test_stop_of_an_idle_model_is_not_done_once_it_has_a_request(
    fleet_store: FleetStore, gateway: Admission
) -> None:
    """The request came between the router's look and its move."""
    holder = await holder_of(fleet_store)
    await fleet_store.move(holder, "m", [Phase.ASLEEP], Phase.READY, event="e")
    ticket = Ticket("m")
    await gateway.acquire(ticket, limit=None, bound=LONG)
    assert not await fleet_store.move(holder, "m", [Phase.READY], Phase.STOPPING, event="e", idle=True)
    assert (await fleet_store.snapshot(["m"])).models["m"].phase is Phase.READY
    gateway.end(ticket)

    async def stopped() -> bool:
        return await fleet_store.move(holder, "m", [Phase.READY], Phase.STOPPING, event="e", idle=True)

    await eventually(stopped)


async def test_snapshot_reads_models_and_the_line_in_order(fleet_store: FleetStore, gateway: Admission) -> None:
    await holder_of(fleet_store)
    tasks = []
    for name in ("x", "y", "x"):
        ticket = Ticket(name, caller="c", alias="a", stream=True)
        tasks.append(asyncio.create_task(gateway.acquire(ticket, limit=None, bound=LONG)))
        count = len(tasks)

        async def joined(count: int = count) -> bool:
            return await gateway._redis.zcard(keys.LINE) == count

        await eventually(joined)
        await asyncio.sleep(0.002)
    state = await fleet_store.snapshot(["x", "unknown"])
    assert [request.model for request in state.line] == ["x", "y", "x"]
    assert [request.joined for request in state.line] == sorted(request.joined for request in state.line)
    assert (state.line[0].caller, state.line[0].alias, state.line[0].stream) == ("c", "a", True)
    assert state.models["unknown"].phase is Phase.ASLEEP
    assert state.now >= state.line[-1].joined
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize("name", ["constructor", "../x", "a|b", "a:b", "ü ☃", "a\nb", "__proto__", '"', "%s"])
async def test_any_name_is_a_name(fleet_store: FleetStore, gateway: Admission, name: str) -> None:
    holder = await holder_of(fleet_store)
    await fleet_store.move(holder, name, [Phase.ASLEEP], Phase.READY, event="e", detail=name)
    ticket = Ticket(name, alias=name, caller=name)
    await gateway.acquire(ticket, limit=None, bound=LONG)
    (lease,) = await fleet_store.leases([name])
    assert (lease.model, lease.alias) == (name, name)
    gateway.end(ticket)


async def test_nudges_come_for_what_the_router_must_see(fleet_store: FleetStore, gateway: Admission) -> None:
    holder = await holder_of(fleet_store)
    heard: list[int] = []

    async def listen() -> None:
        async for _ in fleet_store.nudges():
            heard.append(1)

    listening = asyncio.create_task(listen())
    await eventually(lambda: heard, "it starts with one")
    heard.clear()
    ticket = Ticket("m")
    waiting = asyncio.create_task(gateway.acquire(ticket, limit=None, bound=LONG))
    await eventually(lambda: heard, "a request joins the line")
    await fleet_store.move(holder, "m", [Phase.ASLEEP], Phase.READY, event="e")
    await fleet_store.grant(holder, "m", [ticket.id])
    await waiting
    await fleet_store.move(holder, "m", [Phase.READY], Phase.DRAINING, event="e")
    heard.clear()
    gateway.end(ticket)
    await eventually(lambda: heard, "the last request of a draining model ends")
    heard.clear()
    await fleet_store.ask("m", {"pinned": 1}, event="asked-pin")
    await eventually(lambda: heard, "an admin asks for something")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_events_are_read_from_where_one_left_off(fleet_store: FleetStore) -> None:
    holder = await holder_of(fleet_store)
    for _ in range(3):
        await fleet_store.move(holder, "m", list(Phase), Phase.STARTING, event="again", detail="d")
    (last,) = await fleet_store.events("-", count=1)
    assert (last["event"], last["model"], last["detail"], last["phase"]) == ("again", "m", "d", "starting")
    assert [each["event"] for each in await fleet_store.events("-", count=2)] == ["again", "again"]
    assert await fleet_store.events(last["id"]) == []
    assert await fleet_store.events(last["id"], block=0.01) == []
    waiting = asyncio.create_task(fleet_store.events(last["id"], block=0.7))
    await fleet_store.move(holder, "m", list(Phase), Phase.READY, event="new")
    found = await waiting or await fleet_store.events(last["id"])
    assert [each["event"] for each in found] == ["new"]


async def test_those_who_listen_keep_nobody_waiting(fleet_store: FleetStore, redis_url: str) -> None:
    """Each holds a connection for as long as nothing happens; what decides has its own."""
    watching = connect(redis_url)

    async def listen() -> None:
        while True:
            await fleet_store.events("$", block=0.7)

    async def most_listen() -> bool:
        return bool((await watching.info("clients"))["blocked_clients"] >= 90)

    listeners = [asyncio.create_task(listen()) for _ in range(100)]
    await eventually(most_listen, "a hundred listen")
    assert (await fleet_store.snapshot(["m"])).line == ()
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    await watching.aclose()


async def test_token_between_gateways_and_routers_is_made_once(fleet_store: FleetStore, gateway: Admission) -> None:
    token = await fleet_store.api_token()
    assert len(token) >= 32
    assert await gateway.api_token() == token == await fleet_store.api_token()


async def test_an_empty_token_is_none(fleet_store: FleetStore, gateway: Admission) -> None:
    await gateway._redis.set(keys.API_TOKEN, "")
    for store in (fleet_store, gateway):
        with pytest.raises(StoreUnavailable, match="token"):
            await store.api_token()
