"""What the store keeps of callers (open requests, pauses, lines, limits), and what the router learns from it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eventually import eventually
from redis.asyncio import Redis

from router.errors import Fenced, LineFull, ModelFailed
from router.learning import Learning
from router.scheduling import gaps
from router.store import keys
from router.store.admission import Admission
from router.store.fleet import FleetStore
from router.store.state import CallerState, Observation, Phase
from router.store.ticket import LineLimits, Ticket

pytestmark = pytest.mark.store

LONG = 60.0


class Place:
    """One model, a router by hand, and one gateway worker."""

    def __init__(self, store: FleetStore, gateway: Admission, redis: Any) -> None:
        self.store, self.gateway, self.redis = store, gateway, redis
        self.holder = ""
        self.tasks: list[asyncio.Task[None]] = []

    async def move(self, target: Phase, model: str = "m", **fields: Any) -> None:
        assert await self.store.move(self.holder, model, list(Phase), target, event="test", **fields)

    async def callers(self) -> dict[str, CallerState]:
        return dict((await self.store.snapshot(["m"])).models["m"].callers)

    def ask(self, caller: str = "ada", limits: LineLimits | None = None, **more: Any) -> Ticket:
        ticket = Ticket(more.pop("model", "m"), caller=caller, **more)
        task = asyncio.create_task(self.gateway.acquire(ticket, limit=None, bound=LONG, limits=limits))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.tasks.append(task)
        return ticket

    async def served(self, caller: str = "ada") -> Ticket:
        ticket = self.ask(caller)
        await eventually(lambda: ticket.leased)
        return ticket

    async def waiting(self, count: int) -> list[str]:
        async def there() -> bool:
            return len((await self.store.snapshot(["m"])).line) == count

        await eventually(there)
        return [request.id for request in (await self.store.snapshot(["m"])).line]

    async def end(self, ticket: Ticket, *, completed: bool = True) -> None:
        before = await self.redis.xlen(keys.REQUESTS)
        ticket.completed = completed
        self.gateway.end(ticket)

        async def over() -> bool:
            return bool(await self.redis.xlen(keys.REQUESTS) == before + 1)

        await eventually(over)

    async def observations(self) -> list[Observation]:
        return await self.store.take_observations(self.holder, gaps.HORIZON, ["m"])


@pytest.fixture
async def place(fleet_store: FleetStore, gateway: Admission, redis_url: str) -> AsyncIterator[Place]:
    redis = Redis.from_url(redis_url, decode_responses=True)
    place = Place(fleet_store, gateway, redis)
    place.holder = await fleet_store.take_lock("r1", LONG) or ""
    await place.move(Phase.READY)
    yield place
    for task in place.tasks:
        task.cancel()
    await asyncio.gather(*place.tasks, return_exceptions=True)
    await redis.aclose()


async def test_a_caller_is_open_until_its_last_request_ends(place: Place) -> None:
    first, second = await place.served(), await place.served()
    assert await place.callers() == {"ada": CallerState(None, 2)}
    await place.end(first)
    assert await place.callers() == {"ada": CallerState(None, 1)}
    await place.end(second)
    (state,) = (await place.callers()).values()
    assert state.in_flight == 0
    assert state.last_end is not None


async def test_a_request_that_waits_is_no_pause(place: Place) -> None:
    await place.end(await place.served())
    await place.move(Phase.DRAINING)
    place.ask()
    (waiting,) = await place.waiting(1)
    assert await place.callers() == {"ada": CallerState(None, 0)}
    assert [seen.kind for seen in await place.observations()] == ["service", "pause"]
    await place.move(Phase.READY)
    assert await place.store.grant(place.holder, "m", [waiting]) == 1
    assert await place.callers() == {"ada": CallerState(None, 1)}


async def served_elsewhere_after_a_wait(place: Place, caller: str) -> Ticket:
    """Its request for another model, which runs after it has waited."""
    ticket = place.ask(caller, model="other")
    (waiting,) = await place.waiting(1)
    await place.move(Phase.READY, "other")
    assert await place.store.grant(place.holder, "other", [waiting]) == 1
    await eventually(lambda: ticket.leased)
    return ticket


async def test_a_pause_that_holds_a_swap_says_that_the_caller_had_gone(place: Place) -> None:
    await place.end(await place.served())
    await place.end(await served_elsewhere_after_a_wait(place, "ada"))
    await place.served()
    pauses = [seen for seen in await place.observations() if seen.kind == "pause"]
    assert pauses == [Observation("m", "ada", "pause", math.inf)]


async def test_who_is_back_before_its_other_request_has_ended_was_not_gone(place: Place) -> None:
    """Two programs that share a key."""
    await place.end(await place.served())
    other = await served_elsewhere_after_a_wait(place, "ada")
    await place.end(await place.served())
    await place.end(other)
    (pause,) = [seen for seen in await place.observations() if seen.kind == "pause"]
    assert pause.seconds < gaps.HORIZON


async def test_a_wait_elsewhere_before_the_pause_changes_nothing(place: Place) -> None:
    await place.end(await served_elsewhere_after_a_wait(place, "ada"))
    await place.end(await place.served())
    await place.served()
    (pause,) = [seen for seen in await place.observations() if seen.kind == "pause"]
    assert pause.seconds < gaps.HORIZON


async def test_others_who_waited_elsewhere_change_nothing(place: Place) -> None:
    await place.end(await place.served("ada"))
    await place.end(await served_elsewhere_after_a_wait(place, "bob"))
    await place.served("ada")
    (pause,) = [seen for seen in await place.observations() if seen.kind == "pause"]
    assert pause.seconds < gaps.HORIZON


async def test_whoever_leaves_the_line_is_forgotten(place: Place) -> None:
    await place.move(Phase.DRAINING)
    ticket = place.ask()
    await place.waiting(1)
    await place.end(ticket, completed=False)
    assert await place.callers() == {}
    assert await place.redis.keys("hearth:line*") == []


async def test_refusals_end_requests(place: Place) -> None:
    await place.move(Phase.DRAINING)
    place.ask("ada")
    place.ask("bob")
    await place.waiting(2)
    await place.store.fail(
        place.holder, "m", ModelFailed("broke", model="m"), error="broke", first=0.1, longest=1, stopped=True
    )
    await place.waiting(0)
    assert await place.redis.hgetall(keys.callers("m")) == {}
    assert await place.redis.keys("hearth:line*") == []


async def test_a_dead_worker_takes_its_requests_along(place: Place, redis_url: str, short_lives: None) -> None:
    other = Admission(redis_url, worker="w2")
    await other.start()
    leased, waiting = Ticket("m", caller="bob"), Ticket("m", caller="bob")
    await other.acquire(leased, limit=None, bound=LONG)
    await place.move(Phase.DRAINING)
    task = asyncio.create_task(other.acquire(waiting, limit=None, bound=LONG))
    await place.waiting(1)
    assert await place.callers() == {"bob": CallerState(None, 1)}
    await other._loops.close()  # it dies: no goodbye

    async def voided() -> bool:
        return await place.store.void_dead_workers() > 0

    await eventually(voided)
    assert await place.callers() == {}
    assert await place.redis.keys("hearth:line*") == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await other.close()


async def test_asking_twice_counts_once(place: Place) -> None:
    """A connection that breaks before the answer makes the client ask again."""
    ticket = await place.served()
    await place.gateway._admit(ticket, LONG, LineLimits())
    assert await place.callers() == {"ada": CallerState(None, 1)}
    await place.end(ticket)
    assert (await place.callers())["ada"].last_end is not None


async def test_redis_forgets_and_the_worker_tells_it_again(place: Place) -> None:
    await place.served()
    await place.move(Phase.DRAINING)
    place.ask()
    await place.waiting(1)
    await place.redis.flushall()
    await place.gateway._register(place.gateway._generation)
    place.holder = await place.store.take_lock("r2", LONG) or ""
    await place.move(Phase.DRAINING)
    assert await place.callers() == {"ada": CallerState(None, 1)}
    assert await place.redis.hgetall("hearth:line:callers") == {"ada": "1"}


# --- limits


async def test_the_line_of_a_model_is_limited(place: Place) -> None:
    await place.move(Phase.DRAINING)
    for number in range(2):
        place.ask(f"caller {number}", LineLimits(model=2))
        await place.waiting(number + 1)
    await place.store.set_fields("m", {"expected_in": 41_000})
    with pytest.raises(LineFull, match="2 requests wait for model 'm'") as refused:
        await place.gateway.acquire(Ticket("m", caller="x"), limit=None, bound=LONG, limits=LineLimits(model=2))
    assert (refused.value.status, refused.value.retry_after) == (429, 41.0)
    place.ask("x", LineLimits(model=3))
    assert len(await place.waiting(3)) == 3


async def test_the_places_of_a_caller_are_limited(place: Place) -> None:
    await place.move(Phase.DRAINING)
    place.ask("ada", LineLimits(caller=1))
    await place.waiting(1)
    with pytest.raises(LineFull, match="1 requests wait with this key"):
        await place.gateway.acquire(Ticket("m", caller="ada"), limit=None, bound=LONG, limits=LineLimits(caller=1))
    place.ask("bob", LineLimits(caller=1))
    first, _ = await place.waiting(2)
    await place.end(next(ticket for ticket in place.gateway._tickets.values() if ticket.id == first))
    place.ask("ada", LineLimits(caller=1))
    await place.waiting(2)


async def test_a_key_at_its_limit_is_told_when_one_of_its_places_is_free(place: Place) -> None:
    await place.move(Phase.DRAINING)
    place.ask("ada")
    await place.waiting(1)
    await place.store.set_fields("m", {"expected_in": 41_000})
    await place.store.set_fields("other", {"expected_in": 3_000})
    with pytest.raises(LineFull) as refused:
        await place.gateway.acquire(Ticket("other", caller="ada"), limit=None, bound=LONG, limits=LineLimits(caller=1))
    assert (refused.value.expected_seconds, refused.value.retry_after) == (3.0, 41.0)


async def test_a_limit_of_parallel_requests_is_kept_by_both_sides(place: Place) -> None:
    limits = LineLimits(parallel=2)
    first, second = place.ask(limits=limits), place.ask(limits=limits)
    await eventually(lambda: first.leased and second.leased)
    place.ask(limits=limits)
    place.ask(limits=limits)
    ids = await place.waiting(2)
    assert await place.store.grant(place.holder, "m", ids, 2) == 0
    await place.end(first)
    late = place.ask(limits=limits)  # there is a place, but others wait for it
    assert late.id in await place.waiting(3)
    assert await place.store.grant(place.holder, "m", ids, 2) == 1
    assert len(await place.waiting(2)) == 2


# --- residency


async def test_a_residency_begins_when_the_engine_has_loaded(place: Place) -> None:
    async def ready_at() -> float:
        return (await place.store.snapshot(["m"])).models["m"].ready_at

    began = await ready_at()
    await place.move(Phase.DRAINING)
    await place.move(Phase.READY)
    assert await ready_at() == began
    await place.move(Phase.STARTING)
    await asyncio.sleep(0.002)  # the clock counts milliseconds
    await place.move(Phase.READY)
    assert await ready_at() > began


# --- what is learned


async def test_what_ended_is_recorded(place: Place) -> None:
    await place.end(await place.served())
    await place.move(Phase.DRAINING)
    ticket = place.ask("bob")
    await place.waiting(1)
    await place.end(ticket, completed=False)
    rows = [fields for _, fields in await place.redis.xrange(keys.REQUESTS)]
    assert [(row["model"], row["caller"], row["completed"]) for row in rows] == [("m", "ada", "1"), ("m", "bob", "0")]
    answered, gone = rows
    assert int(answered["joined"]) <= int(answered["granted"]) <= int(answered["ended"])
    assert gone["granted"] == ""
    assert int(gone["joined"]) <= int(gone["ended"])


async def test_observations_are_taken_once(place: Place) -> None:
    await place.end(await place.served())
    assert (await place.store.snapshot(["m"])).observations == 1
    assert [(seen.model, seen.caller, seen.kind) for seen in await place.observations()] == [("m", "ada", "service")]
    assert await place.observations() == []
    assert (await place.store.snapshot(["m"])).observations == 0


async def test_a_caller_that_stays_away_is_gone(place: Place) -> None:
    await place.end(await place.served())
    await place.observations()
    long_ago = round((await place.store.now_ms()) - 1000 * gaps.HORIZON - 1000)
    await place.redis.hset(keys.callers("m"), "ada", f"0|0|{long_ago}")
    assert await place.observations() == [Observation("m", "ada", "pause", math.inf)]
    assert await place.callers() == {}


async def test_pauses_and_services_are_learned_and_kept(place: Place) -> None:
    learning = Learning(place.store, ["m"])
    await learning.load()
    for seconds in (2000, 2100, -1):
        await place.redis.rpush(keys.OBSERVED, json.dumps(["m", "ada", "pause", seconds]))
    for seconds in (4000, 4400):
        await place.redis.rpush(keys.OBSERVED, json.dumps(["m", "ada", "service", seconds]))
    await place.redis.rpush(keys.OBSERVED, json.dumps(["unknown", "ada", "pause", 1]))
    await place.served()
    await learning.take(place.holder, await place.store.snapshot(["m"]))

    again = Learning(place.store, ["m"])
    await again.load()
    for knows in (learning, again):
        model = knows.enrich(await place.store.snapshot(["m"])).models["m"]
        assert sum(model.gaps[:-1]) == pytest.approx(2, rel=0.1), "two short pauses"
        assert model.gaps[-1] == 1, "and one without end"
        assert sum(model.callers["ada"].gaps) == pytest.approx(3, rel=0.1)
        assert model.service_seconds == pytest.approx(4.12)
        assert model.longest_service == pytest.approx(4.4)


async def test_only_the_acting_router_takes_observations(place: Place) -> None:
    await place.end(await place.served())
    with pytest.raises(Fenced):
        await place.store.take_observations("somebody:1", gaps.HORIZON, ["m"])
    assert (await place.store.snapshot(["m"])).observations == 1


async def test_callers_that_were_not_heard_of_for_long_are_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.learning._CALLERS", 3)
    learning = Learning(place.store, ["m"])
    await learning.load()
    for caller in ("a", "b", "c", "a", "d"):
        await place.redis.rpush(keys.OBSERVED, json.dumps(["m", caller, "pause", 1000]))
    await learning.take(place.holder, await place.store.snapshot(["m"]))
    assert set(await place.store.pauses("m")) == {"", "a", "c", "d"}
