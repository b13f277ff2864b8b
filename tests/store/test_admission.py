"""The gateway's side of the store on a real Redis; a test plays the router."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from eventually import eventually
from redis_server import RedisServer

from router.errors import CallerLimit, ClientGone, ModelFailed, ServiceUnavailable, StoreUnavailable, WaitBoundExceeded
from router.store import admission as admission_module
from router.store import keys
from router.store.admission import Admission
from router.store.fleet import FleetStore
from router.store.state import Phase
from router.store.ticket import Ticket

LONG = 60.0


class Acting:
    """A router by hand: it holds the lock and writes what a test tells it."""

    def __init__(self, store: FleetStore) -> None:
        self.store = store
        self.holder = ""

    async def take(self, name: str = "r1") -> None:
        self.holder = await self.store.take_lock(name, LONG) or ""
        assert self.holder

    async def move(self, model: str, target: Phase, **fields: Any) -> bool:
        return await self.store.move(self.holder, model, list(Phase), target, event="test", **fields)

    async def line(self, model: str = "m") -> list[str]:
        return [request.id for request in (await self.store.snapshot([model])).line]

    async def leases(self, model: str = "m") -> set[str]:
        return {lease.id for lease in await self.store.leases([model])}

    async def in_line(self, count: int) -> list[str]:
        async def there() -> bool:
            return len(await self.line()) == count

        await eventually(there, f"{count} in line")
        return await self.line()

    async def fail(self, model: str = "m", first: float = 5.0) -> float:
        refusal = ModelFailed("it broke", model=model, phase="failed", log=("last line",))
        return await self.store.fail(
            self.holder, model, refusal, error="it broke", first=first, longest=600.0, stopped=True
        )


@pytest.fixture
async def acting(fleet_store: FleetStore) -> Acting:
    acting = Acting(fleet_store)
    await acting.take()
    return acting


def ask(gateway: Admission, ticket: Ticket, limit: float | None = None, bound: float = LONG) -> asyncio.Task[None]:
    return asyncio.create_task(gateway.acquire(ticket, limit=limit, bound=bound))


async def test_ready_model_is_had_at_once(gateway: Admission, acting: Acting) -> None:
    await acting.move("m", Phase.READY)
    ticket = Ticket("m", caller="hash", alias="me", stream=True)
    await gateway.acquire(ticket, limit=0, bound=LONG)
    assert ticket.leased
    (lease,) = await acting.store.leases(["m"])
    assert (lease.id, lease.caller, lease.alias, lease.worker, lease.stream) == (ticket.id, "hash", "me", "w1", True)
    assert gateway.leases == 1
    gateway.end(ticket)
    await eventually(lambda: no_leases(acting), "the lease ends")


async def no_leases(acting: Acting) -> bool:
    return not await acting.leases()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
async def test_model_that_is_not_ready_is_waited_for(gateway: Admission, acting: Acting, phase: Phase) -> None:
    await acting.move("m", phase)
    ticket = Ticket("m")
    waiting = ask(gateway, ticket)
    assert await acting.in_line(1) == [ticket.id]
    assert gateway.waiting == 1
    place = await gateway.place(ticket)
    assert (place.phase, place.position, place.expected_seconds) == (phase, 1, None)
    assert await acting.store.grant(acting.holder, "m", [ticket.id]) == 0, "not before it is ready"
    await acting.move("m", Phase.READY)
    assert await acting.store.grant(acting.holder, "m", [ticket.id]) == 1
    await waiting
    assert await acting.leases() == {ticket.id}
    assert await acting.line() == []
    gateway.end(ticket)


async def test_order_of_the_line_is_the_order_of_joining(gateway: Admission, acting: Acting) -> None:
    tickets = [Ticket("m") for _ in range(5)]
    waiting = []
    for count, ticket in enumerate(tickets, start=1):
        waiting.append(ask(gateway, ticket))
        await acting.in_line(count)
        await asyncio.sleep(0.002)  # the line's order is by the millisecond
    assert await acting.line() == [ticket.id for ticket in tickets]
    assert (await gateway.place(tickets[3])).position == 4
    gateway.end(tickets[1])
    await acting.in_line(4)
    assert (await gateway.place(tickets[3])).position == 3
    for task in waiting:
        task.cancel()


async def test_who_joins_after_the_router_has_looked_is_told_what_holds_for_newcomers(
    gateway: Admission, acting: Acting
) -> None:
    early, late = Ticket("m"), Ticket("m")
    tasks = [ask(gateway, early)]
    await acting.in_line(1)
    now = (await acting.store.snapshot(["m"])).now
    told = {"at_most_at": round(now * 1000) + 50_000, "at_most_in": 90_000, "told_to": math.ceil(now * 1000)}
    await acting.store.set_fields("m", told)
    await asyncio.sleep(0.002)  # the line's order is by the millisecond
    tasks.append(ask(gateway, late))
    await acting.in_line(2)
    at_most = [(await gateway.place(ticket)).at_most_seconds for ticket in (early, late, Ticket("m"))]
    assert at_most[0] is not None
    assert at_most[0] <= 50.0
    assert at_most[1:] == [90.0, 90.0]
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(("limit", "bound", "kind"), [(0.05, LONG, CallerLimit), (None, 0.05, WaitBoundExceeded),
                                                      (9.0, 0.05, WaitBoundExceeded)])  # fmt: skip
async def test_wait_has_a_limit(
    gateway: Admission, acting: Acting, limit: float | None, bound: float, kind: type[Exception]
) -> None:
    ticket = Ticket("m")
    await acting.store.set_fields("m", {"expected_in": 42_000})
    with pytest.raises(kind) as caught:
        await gateway.acquire(ticket, limit=limit, bound=bound)
    refusal: Any = caught.value
    assert (refusal.position, refusal.expected_seconds, refusal.retry_after) == (1, 42.0, 42.0)
    gateway.end(ticket)
    await acting.in_line(0)


async def test_who_does_not_wait_is_refused_and_wakes_nothing(gateway: Admission, acting: Acting) -> None:
    with pytest.raises(CallerLimit) as caught:
        await gateway.acquire(Ticket("m"), limit=0, bound=LONG)
    assert caught.value.phase == "asleep"
    assert await acting.line() == []


async def test_who_does_not_wait_wakes_nothing_also_when_the_worker_was_forgotten(
    gateway: Admission, acting: Acting, redis_url: str
) -> None:
    await gateway._redis.delete(keys.worker("w1"))
    joined: list[Any] = []
    original = gateway._register

    async def register(generation: int) -> None:
        await original(generation)
        joined.append(await acting.line())

    gateway._register = register  # type: ignore[method-assign]
    with pytest.raises(CallerLimit):
        await gateway.acquire(Ticket("m"), limit=0, bound=LONG)
    assert joined == [[]]


async def test_cooling_model_is_refused_at_once_with_the_reason(gateway: Admission, acting: Acting) -> None:
    assert await acting.fail(first=5.0) == 5.0
    with pytest.raises(ModelFailed, match="it broke") as caught:
        await gateway.acquire(Ticket("m"), limit=None, bound=LONG)
    assert caught.value.log == ("last line",)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 5
    assert await acting.line() == []


async def test_failed_model_whose_time_has_come_is_waited_for(gateway: Admission, acting: Acting) -> None:
    await acting.fail(first=0.0)
    waiting = ask(gateway, Ticket("m"))
    await acting.in_line(1)
    waiting.cancel()


async def test_failure_is_told_to_all_who_wait_for_that_model_and_to_no_others(
    gateway: Admission, acting: Acting
) -> None:
    tasks = [ask(gateway, Ticket("m")) for _ in range(3)]
    other = ask(gateway, Ticket("other"))
    await acting.in_line(4)
    await acting.fail()
    for task in tasks:
        with pytest.raises(ModelFailed, match="it broke") as caught:
            await task
        assert caught.value.log == ("last line",)
        assert caught.value.retry_after == 5.0
    assert not other.done()
    other.cancel()


async def test_cooldown_grows_up_to_its_longest(acting: Acting) -> None:
    refusal = ModelFailed("no")
    delays = [
        await acting.store.fail(acting.holder, "m", refusal, error="e", first=2.0, longest=9.0, stopped=True)
        for _ in range(5)
    ]
    assert delays == [2.0, 4.0, 8.0, 9.0, 9.0]
    for _ in range(60):
        delay = await acting.store.fail(acting.holder, "m", refusal, error="e", first=2.0, longest=9.0, stopped=True)
    assert delay == 9.0
    state = (await acting.store.snapshot(["m"])).models["m"]
    assert state.failures == 65
    assert state.retry_at > state.since


@pytest.mark.parametrize("phase", [Phase.ASLEEP, Phase.READY, Phase.STARTING])
async def test_trouble_of_the_runtime_refuses_only_what_needs_it(
    gateway: Admission, acting: Acting, phase: Phase
) -> None:
    await acting.store.set_trouble(acting.holder, "Docker is away")
    await acting.move("m", phase)
    ticket = Ticket("m")
    asking = ask(gateway, ticket)
    if phase is Phase.ASLEEP:
        with pytest.raises(ServiceUnavailable, match="Docker is away"):
            await asking
    elif phase is Phase.READY:
        await asking
    else:
        await acting.in_line(1)
        asking.cancel()
    gateway.end(ticket)


async def test_without_a_router_only_what_is_awake_answers(
    gateway: Admission, acting: Acting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await acting.move("awake", Phase.READY)
    monkeypatch.setattr(admission_module, "ROUTER_PATIENCE", 0.001)
    await asyncio.sleep(0.01)  # the router's last sign of life is older than that now
    await gateway.acquire(Ticket("awake"), limit=None, bound=LONG)
    with pytest.raises(ServiceUnavailable, match="router is not running"):
        await gateway.acquire(Ticket("m"), limit=None, bound=LONG)


async def test_client_that_has_gone_ends_the_wait(gateway: Admission, acting: Acting) -> None:
    ticket = Ticket("m")
    waiting = ask(gateway, ticket)
    await acting.in_line(1)
    gateway.abandon(ticket)
    with pytest.raises(ClientGone):
        await waiting
    gateway.end(ticket)
    await acting.in_line(0)


async def test_200_callers_of_a_cold_model_get_one_lease_each(gateway: Admission, acting: Acting) -> None:
    tickets = [Ticket("m") for _ in range(200)]
    tasks = [ask(gateway, ticket) for ticket in tickets]
    line = await acting.in_line(200)
    await acting.move("m", Phase.READY)
    assert await acting.store.grant(acting.holder, "m", line) == 200
    assert await acting.store.grant(acting.holder, "m", line) == 0, "once each"
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)
    assert await acting.leases() == {ticket.id for ticket in tickets}
    assert gateway.leases == 200
    for ticket in tickets:
        gateway.end(ticket)
    await eventually(lambda: no_leases(acting))
    assert (gateway.leases, gateway.waiting) == (0, 0)


async def test_end_is_idempotent_and_remembers_when(gateway: Admission, acting: Acting) -> None:
    await acting.move("m", Phase.READY)
    ticket, other = Ticket("m"), Ticket("m")
    await gateway.acquire(ticket, limit=None, bound=LONG)
    await gateway.acquire(other, limit=None, bound=LONG)
    ticket.completed = True
    before = (await acting.store.snapshot(["m"])).models["m"]
    for _ in range(3):
        gateway.end(ticket)

    async def ended() -> bool:
        return await acting.leases() == {other.id}

    await eventually(ended)
    after = (await acting.store.snapshot(["m"])).models["m"]
    assert after.in_flight == 1
    assert after.last_used >= before.last_used
    gateway.end(other)


async def test_request_that_ended_before_its_grant_gets_no_lease(gateway: Admission, acting: Acting) -> None:
    ticket = Ticket("m")
    waiting = ask(gateway, ticket)
    line = await acting.in_line(1)
    waiting.cancel()
    gateway.end(ticket)
    await acting.in_line(0)
    await acting.move("m", Phase.READY)
    assert await acting.store.grant(acting.holder, "m", line) == 0
    assert await acting.leases() == set()


@pytest.mark.parametrize("phase", [Phase.READY, Phase.ASLEEP])
async def test_cancellation_while_redis_is_asked_leaves_nothing_behind(
    gateway: Admission, acting: Acting, phase: Phase
) -> None:
    """The question is on its way when its caller goes: the lease or place that comes of it ends all the same."""
    await acting.move("m", phase)
    original = gateway._scripts.run
    arrives = asyncio.Event()
    on_its_way: list[asyncio.Task[Any]] = []

    async def run(name: str, *arguments: Any) -> Any:
        async def arrive() -> Any:
            await arrives.wait()
            return await original(name, *arguments)

        if name != "admit":
            return await original(name, *arguments)
        on_its_way.append(asyncio.create_task(arrive()))  # what has been sent cannot be called back
        return await asyncio.shield(on_its_way[-1])

    gateway._scripts.run = run  # type: ignore[method-assign]
    ticket = Ticket("m")
    task = ask(gateway, ticket)
    await eventually(lambda: on_its_way)
    task.cancel()
    gateway.end(ticket)
    await asyncio.sleep(0.1)  # an end that does not wait for its question is told now
    arrives.set()
    await on_its_way[0]

    async def nothing_left() -> bool:
        return not await acting.leases() and not await acting.line()

    await eventually(nothing_left)


async def test_grants_are_delivered_after_the_inbox_connection_was_lost(gateway: Admission, acting: Acting) -> None:
    ticket = Ticket("m")
    waiting = ask(gateway, ticket)
    await acting.in_line(1)
    await acting.move("m", Phase.READY)
    await gateway._redis.client_kill_filter(_type="normal", skipme=True)  # also the one that listens for grants
    await acting.store.grant(acting.holder, "m", [ticket.id])
    await gateway._redis.client_kill_filter(_type="normal", skipme=True)
    async with asyncio.timeout(20):
        await waiting
    gateway.end(ticket)


@pytest.mark.usefixtures("short_lives")
async def test_leases_and_places_of_a_dead_worker_are_void(redis_url: str, acting: Acting) -> None:
    dead, alive = Admission(redis_url, "dead"), Admission(redis_url, "alive")
    for each in (dead, alive):
        await each.start()
    await acting.move("m", Phase.READY)
    mine = Ticket("m")
    await dead.acquire(Ticket("m"), limit=None, bound=LONG)
    await alive.acquire(mine, limit=None, bound=LONG)
    waiting = [ask(dead, Ticket("asleep")), ask(alive, Ticket("asleep"))]
    await acting.in_line(2)
    assert await acting.store.void_dead_workers() == 0
    await dead._loops.close()  # what a killed process does

    async def voided() -> bool:
        return await acting.store.void_dead_workers() == 2

    await eventually(voided)
    assert await acting.leases() == {mine.id}
    assert len(await acting.line()) == 1
    for task in waiting:
        task.cancel()
    for each in (dead, alive):
        await each.close()
    assert await acting.leases() == set(), "a worker that says goodbye takes its leases along"


@pytest.mark.usefixtures("short_lives")
async def test_worker_that_was_thought_dead_gets_its_leases_back(gateway: Admission, acting: Acting) -> None:
    await acting.move("m", Phase.READY)
    ticket = Ticket("m")
    await gateway.acquire(ticket, limit=None, bound=LONG)
    await gateway._redis.delete(keys.worker("w1"))
    assert await acting.store.void_dead_workers() in (0, 1)

    async def back() -> bool:
        return await acting.leases() == {ticket.id}

    await eventually(back)
    gateway.end(ticket)


async def test_register_counts_leases_of_models_that_the_store_has_forgotten(redis_url: str, acting: Acting) -> None:
    """The leases of a worker that dies right after Redis lost its data are found and voided."""
    worker = Admission(redis_url, "w")
    await worker.start()
    await acting.move("m", Phase.READY)
    await worker.acquire(Ticket("m"), limit=None, bound=LONG)
    await worker._redis.flushall()
    await worker._register(worker._generation)
    assert len(await acting.leases()) == 1
    await worker.close()
    assert await acting.leases() == set()


# --- Redis away


async def test_request_without_redis_is_refused_in_two_seconds(gateway: Admission, redis_server: RedisServer) -> None:
    redis_server.kill()
    async with asyncio.timeout(10):  # a hang fails; the real limits are those of the connection
        with pytest.raises(StoreUnavailable):
            await gateway.acquire(Ticket("m"), limit=None, bound=LONG)
        with pytest.raises(StoreUnavailable):
            await gateway.place(Ticket("m"))


async def test_request_at_a_frozen_redis_is_refused(gateway: Admission, redis_server: RedisServer) -> None:
    redis_server.freeze()
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await gateway.acquire(Ticket("m"), limit=None, bound=LONG)


@pytest.mark.parametrize("harm", [RedisServer.kill, RedisServer.freeze])
async def test_those_who_wait_hear_that_redis_is_away(
    gateway: Admission, acting: Acting, redis_server: RedisServer, harm: Callable[[RedisServer], None]
) -> None:
    tickets = [Ticket("m") for _ in range(3)]
    tasks = [ask(gateway, ticket) for ticket in tickets]
    await acting.in_line(3)
    harm(redis_server)
    async with asyncio.timeout(10):
        for task in tasks:
            with pytest.raises(ServiceUnavailable, match="Redis is away"):
                await task


async def test_a_slow_moment_of_redis_is_borne(
    gateway: Admission,
    acting: Acting,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One heartbeat without an answer is not enough, however long it took."""
    monkeypatch.setattr(admission_module, "REDIS_PATIENCE", 0.0)
    ticket = Ticket("m")
    waiting = ask(gateway, ticket)
    await acting.in_line(1)
    redis_server.freeze()
    await eventually(lambda: "Redis does not answer" in caplog.text)
    redis_server.thaw()
    await acting.move("m", Phase.READY)
    await acting.store.grant(acting.holder, "m", [ticket.id])
    async with asyncio.timeout(20):
        await waiting
    gateway.end(ticket)


async def test_short_absence_of_redis_is_borne(gateway: Admission, acting: Acting, redis_server: RedisServer) -> None:
    ticket = Ticket("m")
    waiting = ask(gateway, ticket)
    await acting.in_line(1)
    redis_server.kill()
    redis_server.start()
    assert await acting.in_line(1) == [ticket.id]
    await acting.move("m", Phase.READY)
    await acting.store.grant(acting.holder, "m", [ticket.id])
    async with asyncio.timeout(20):
        await waiting
    gateway.end(ticket)


async def test_ends_while_redis_was_away_are_told_when_it_is_back(
    gateway: Admission, acting: Acting, redis_server: RedisServer
) -> None:
    await acting.move("m", Phase.READY)
    ended, living = Ticket("m"), Ticket("m")
    await gateway.acquire(ended, limit=None, bound=LONG)
    await gateway.acquire(living, limit=None, bound=LONG)
    redis_server.kill()
    gateway.end(ended)
    redis_server.start()

    async def told() -> bool:
        return await acting.leases() == {living.id}

    await eventually(told)
    gateway.end(living)


async def test_leases_and_places_are_back_after_redis_lost_its_data(
    gateway: Admission, acting: Acting, redis_server: RedisServer
) -> None:
    await acting.move("m", Phase.READY)
    ended, living = Ticket("m"), Ticket("m")
    await gateway.acquire(ended, limit=None, bound=LONG)
    await gateway.acquire(living, limit=None, bound=LONG)
    tasks = []
    for count in range(1, 4):
        await asyncio.sleep(0.002)  # the line's order is by the millisecond
        tasks.append(ask(gateway, Ticket("asleep")))
        await acting.in_line(count)
    order = await acting.line()
    redis_server.kill()
    redis_server.lose_data()
    gateway.end(ended)
    redis_server.start()

    async def restored() -> bool:
        return await acting.leases() == {living.id} and await acting.line() == order

    await eventually(restored)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    gateway.end(living)


async def test_question_that_reaches_redis_after_its_request_has_ended_changes_nothing(
    gateway: Admission, acting: Acting, redis_server: RedisServer
) -> None:
    """Redis hangs, callers get their 503 and go; then it answers everything that was on its way, in any order."""
    await acting.move("m", Phase.READY)
    redis_server.freeze()
    tickets = [Ticket("m") for _ in range(20)]
    tasks = [ask(gateway, ticket) for ticket in tickets]
    async with asyncio.timeout(10):
        for task, ticket in zip(tasks, tickets, strict=True):
            with pytest.raises(StoreUnavailable):
                await task
            gateway.end(ticket)
    redis_server.thaw()
    await eventually(lambda: gateway._registered and not gateway._ended)
    # what may still be on its way carries an older generation
    answer = await gateway._scripts.run("admit", "late", "m", "w1", "{}", 1000, 1000, gateway._generation - 1)
    assert answer == ["lost"]
    await gateway._scripts.run(
        "register", "w1", 1000, gateway._generation - 1, "lease", "late", "m", 1, '{"worker": "w1"}'
    )
    await eventually(lambda: no_leases(acting))


async def test_worker_starts_without_redis_and_serves_when_it_is_there(redis_server: RedisServer) -> None:
    url = redis_server.url
    redis_server.kill()
    gateway = Admission(url)
    await gateway.start()
    with pytest.raises(StoreUnavailable):
        await gateway.acquire(Ticket("m"), limit=None, bound=LONG)
    redis_server.start()
    store = FleetStore(url)
    acting = Acting(store)
    await acting.take()
    await acting.move("m", Phase.READY)
    ticket = Ticket("m")
    await gateway.acquire(ticket, limit=None, bound=LONG)
    gateway.end(ticket)
    await eventually(lambda: no_leases(acting))
    await gateway.close()
    await store.close()
