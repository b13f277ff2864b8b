"""A router acting on a scripted runtime, through the real store, for real callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import fleet
import pytest
from eventually import eventually
from fake_runtime import Engine, FakeRuntime
from redis_server import RedisServer
from stage import LONG, SMALL, SPECS, B, Stage

from router.errors import ModelFailed, ModelNeverFits, ServiceUnavailable
from router.runtimes.base import Started
from router.settings import Cooldown, Role
from router.store.state import Phase

# --- starting


async def test_many_callers_of_a_cold_model_cause_one_start(stage: Stage) -> None:
    await stage.router()
    calls = [stage.ask("a") for _ in range(100)]
    for call in calls:
        await call.granted()
    assert stage.machine.count("start", "a") == 1
    assert (await stage.model("a")).in_flight == 100
    assert (await stage.model("a")).load_seconds is not None
    for call in calls:
        call.end()


async def test_engine_that_ends_while_it_loads_fails_all_callers_at_once_with_exit_code_and_log(stage: Stage) -> None:
    await stage.router()
    stage.machine.engines["a"] = Engine(ready=False, lines=("loading", "no such file"))
    calls = [stage.ask("a") for _ in range(5)]
    await stage.until("a", Phase.STARTING)
    await eventually(lambda: stage.machine.engines["a"].running)
    stage.machine.end("a", 3)
    for call in calls:
        with pytest.raises(ModelFailed, match="exit code 3") as caught:
            await call.granted()
        assert caught.value.log == ("loading", "no such file")
        assert caught.value.retry_after
        call.end()
    state = await stage.model("a")
    assert (state.phase, state.failures, state.log) == (Phase.FAILED, 1, ("loading", "no such file"))
    assert "exit code 3" in state.error


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (Engine(exit_at_start=1), "exit code 1"),
        (Engine(exit_at_start=137, out_of_memory=True), "for want of memory"),
        (Engine(missing=True), "there is no container a"),
    ],
)
async def test_reason_of_a_failed_start_is_told(stage: Stage, engine: Engine, said: str) -> None:
    await stage.router()
    stage.machine.engines["a"] = engine
    call = stage.ask("a")
    with pytest.raises(ModelFailed, match=said):
        await call.granted()
    call.end()


async def test_start_that_takes_too_long_fails_and_the_engine_is_stopped(stage: Stage) -> None:
    slow = fleet.spec("slow", start_timeout=0.15)
    await stage.router(slow)
    stage.machine.engines["slow"] = Engine(ready=False)
    call = stage.ask("slow")
    with pytest.raises(ModelFailed, match="not healthy within"):
        await call.granted()
    call.end()
    await stage.until("slow", Phase.FAILED)
    assert not stage.machine.running


async def test_cooldown_grows_and_a_request_in_it_is_refused_at_once(stage: Stage) -> None:
    await stage.router(cooldown=Cooldown(first=0.05, longest=600.0))
    stage.machine.engines["a"] = Engine(exit_at_start=1)
    delays = []
    for failures in range(1, 4):
        call = stage.ask("a")
        with pytest.raises(ModelFailed) as caught:
            await call.granted()
        call.end()
        if (await stage.model("a")).failures < failures:  # still cooling from the last time
            continue
        state = await stage.model("a")
        delays.append(state.retry_at - state.since)
        again = stage.ask("a")
        with pytest.raises(ModelFailed, match="left alone") as caught:
            await again.granted()
        assert caught.value.retry_after is not None
        again.end()

        async def cooled() -> bool:
            return (await stage.store.snapshot(["a"])).now >= (await stage.model("a")).retry_at

        await eventually(cooled)
    assert delays == pytest.approx([0.05, 0.1, 0.2], abs=0.002)
    stage.machine.engines["a"].exit_at_start = None
    call = await stage.ask("a").granted()
    call.end()


async def test_failed_model_is_woken_by_an_admin_before_its_time(stage: Stage) -> None:
    await stage.router()
    stage.machine.engines["a"] = Engine(exit_at_start=1)
    call = stage.ask("a")
    with pytest.raises(ModelFailed):
        await call.granted()
    call.end()
    stage.machine.engines["a"].exit_at_start = None
    await stage.store.ask("a", {"wanted": await stage.store.now_ms(), "sleep": "", "retry_at": 0}, "asked-wake")
    await stage.until("a", Phase.READY)


# --- making room


async def test_models_that_do_not_fit_take_turns_and_nobody_is_cut_off(stage: Stage) -> None:
    await stage.router()
    first = await stage.ask("a").granted()
    second = stage.ask("b")
    await stage.until("a", Phase.DRAINING)
    third = stage.ask("a")
    await stage.in_line(2)
    assert stage.machine.running == {"a"}
    first.end()
    await second.granted()
    assert stage.machine.running == {"b"}
    second.end()
    await third.granted()
    assert stage.machine.running == {"a"}
    third.end()
    assert all(not {"a", "b"} <= overlap for overlap in stage.machine.overlaps)


async def test_start_that_nobody_waits_for_is_broken_off_when_the_room_is_needed(stage: Stage) -> None:
    await stage.router()
    stage.machine.engines["a"] = Engine(ready=False)
    stage.machine.engines["a"].may_start.clear()
    call = stage.ask("a")
    await eventually(lambda: stage.machine.count("start", "a"), "its start is under way")
    call.end()
    await stage.in_line(0)
    other = stage.ask("b")
    await stage.until("a", Phase.STOPPING)
    assert stage.machine.count("stop", "a") == 0, "the stop waits for the start that is on its way"
    stage.machine.engines["a"].may_start.set()
    await other.granted()
    assert stage.machine.running == {"b"}
    assert all(not {"a", "b"} <= overlap for overlap in stage.machine.overlaps)
    other.end()


async def test_engine_that_does_not_stop_keeps_its_place(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.operations._STOP_RETRY", 0.01)
    await stage.router()
    (await stage.ask("a").granted()).end()
    stage.machine.engines["a"].stop_fails = 3
    call = await stage.ask("b").granted()
    assert stage.machine.count("stop", "a") == 4
    assert all(not {"a", "b"} <= overlap for overlap in stage.machine.overlaps)
    call.end()


async def test_utility_starts_by_itself_gives_way_and_comes_back(stage: Stage) -> None:
    utility = fleet.spec("utility", 2, Role.UTILITY)
    alone = fleet.spec("alone", 2, Role.EXCLUSIVE, idle_timeout=0.05)
    await stage.router(utility, alone)
    await stage.until("utility", Phase.READY)
    (await stage.ask("alone").granted()).end()
    assert stage.machine.running == {"alone"}
    await stage.until("utility", Phase.READY)
    assert stage.machine.running == {"utility"}, "the other was idle for long enough"


async def test_utility_put_to_sleep_stays_asleep_until_it_is_wanted(stage: Stage) -> None:
    await stage.router(fleet.spec("utility", 2, Role.UTILITY), SMALL)
    await stage.until("utility", Phase.READY)
    await stage.store.ask("utility", {"sleep": "drain", "wanted": ""}, "asked-sleep")
    await stage.until("utility", Phase.ASLEEP)
    (await stage.ask("small").granted()).end()
    assert stage.machine.running == {"small"}
    (await stage.ask("utility").granted()).end()
    assert (await stage.model("utility")).sleep == ""


async def test_engine_put_to_sleep_and_then_started_by_hand_runs(stage: Stage) -> None:
    await stage.router()
    (await stage.ask("a").granted()).end()
    await stage.store.ask("a", {"sleep": "drain", "wanted": ""}, "asked-sleep")
    await stage.until("a", Phase.ASLEEP)
    stage.machine.begin("a")
    await stage.until("a", Phase.READY)
    assert stage.machine.count("stop", "a") == 1, "the old wish is not held against it"


# --- stopping


async def test_idle_model_stops_after_its_timeout_from_the_end_of_the_last_request(stage: Stage) -> None:
    await stage.router(fleet.spec("a", idle_timeout=0.2))
    call = await stage.ask("a").granted()
    await asyncio.sleep(0.3)  # longer than the timeout, which does not count while a request runs
    assert (await stage.model("a")).phase is Phase.READY
    call.end()
    await stage.until("a", Phase.ASLEEP)
    stopping = [each for each in await stage.store.events("-", count=50) if each["event"] == "stopping"]
    state = await stage.model("a")
    assert [each["detail"] for each in stopping] == ["idle"]
    assert int(stopping[0]["at"]) / 1000 >= state.last_used + 0.2
    assert not stage.machine.running


async def test_pinned_model_is_not_stopped_for_idleness_and_unpinned_it_is(stage: Stage) -> None:
    await stage.router(fleet.spec("a", idle_timeout=0.1), SMALL)
    await stage.store.ask("a", {"pinned": 1}, "asked-pin")
    (await stage.ask("a").granted()).end()
    (await stage.ask("small").granted()).end()
    await asyncio.sleep(0.2)
    assert (await stage.model("a")).phase is Phase.READY
    await stage.store.ask("a", {"pinned": 0}, "asked-unpin")
    await stage.until("a", Phase.ASLEEP)


async def test_touch_begins_the_idle_time_again(stage: Stage) -> None:
    await stage.router(fleet.spec("a", idle_timeout=0.4))
    (await stage.ask("a").granted()).end()
    touched = 0
    for _ in range(6):
        await asyncio.sleep(0.1)
        touched = await stage.store.now_ms()
        await stage.store.ask("a", {"last_used": touched}, "asked-touch")
    assert (await stage.model("a")).phase is Phase.READY
    await stage.until("a", Phase.ASLEEP)
    (stopping,) = [each for each in await stage.store.events("-", count=50) if each["event"] == "stopping"]
    assert int(stopping["at"]) >= touched + 400


async def test_sleep_waits_for_running_requests_and_force_does_not(stage: Stage) -> None:
    await stage.router()
    call = await stage.ask("a").granted()
    await stage.store.ask("a", {"sleep": "drain", "wanted": ""}, "asked-sleep")
    await stage.until("a", Phase.DRAINING)
    assert stage.machine.running == {"a"}
    await stage.store.ask("a", {"sleep": "force", "wanted": ""}, "asked-sleep")
    await stage.until("a", Phase.ASLEEP)
    assert not stage.machine.running
    call.end()


async def test_drain_limit_ends_what_does_not_end(stage: Stage) -> None:
    await stage.router(fleet.spec("a", 6, drain_timeout=0.2), B)
    hanging = await stage.ask("a").granted()
    other = await stage.ask("b").granted()
    assert stage.machine.running == {"b"}
    hanging.end()
    other.end()


async def test_wake_without_a_request(stage: Stage) -> None:
    await stage.router()
    await stage.store.ask("a", {"wanted": await stage.store.now_ms(), "sleep": ""}, "asked-wake")
    state = await stage.until("a", Phase.READY)
    assert state.wanted is None


# --- engines that surprise


@pytest.mark.parametrize("proven", [False, True])
async def test_ready_engine_that_dies(stage: Stage, monkeypatch: pytest.MonkeyPatch, proven: bool) -> None:
    monkeypatch.setattr("router.operations.PROVEN_AFTER", 0.0 if proven else 60.0)
    await stage.router()
    call = await stage.ask("a").granted()
    stage.machine.engines["a"].lines = ("CUDA error",)
    stage.machine.end("a", 1)
    state = await stage.until("a", Phase.ASLEEP if proven else Phase.FAILED)
    assert "exit code 1" in state.error
    assert state.log == ("CUDA error",)
    assert state.failures == (0 if proven else 1)
    call.end()


async def test_engine_that_dies_in_the_moment_it_becomes_ready_is_not_taken_for_ready(stage: Stage) -> None:
    """Its end is heard while the start is being written down."""
    router = await stage.router()
    original = router.store.move

    async def move(holder: str, model: str, source: Any, target: Phase, **rest: Any) -> bool:
        if target is Phase.READY and stage.machine.engines[model].running:
            stage.machine.end(model, 1)
            await asyncio.sleep(0.05)  # it is heard now
        return await original(holder, model, source, target, **rest)

    router.store.move = move  # type: ignore[method-assign]
    call = stage.ask("a")
    await stage.until("a", Phase.FAILED)
    call.end()


@pytest.mark.parametrize("fits", [True, False])
async def test_engine_started_by_hand_is_adopted_when_it_fits_and_stopped_when_not(stage: Stage, fits: bool) -> None:
    await stage.router()
    call = await stage.ask("a").granted()
    name = "small" if fits else "b"
    stage.machine.begin(name)
    stage.machine.engines[name].started_at = time.time() - 3600
    await stage.until_event("adopted", name)
    await stage.until(name, Phase.READY if fits else Phase.ASLEEP)
    assert stage.machine.running == ({"a", "small"} if fits else {"a"})
    assert (await stage.model(name)).load_seconds is None, "nobody saw how long it loaded"
    call.end()


async def test_engine_restarted_by_hand_is_not_taken_for_ready_until_it_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.router()
    call = await stage.ask("a").granted()
    engine = stage.machine.engines["a"]
    engine.ready = False
    engine.started_at = time.time() + 5
    stage.machine.tell(Started("a"))
    await stage.until("a", Phase.STARTING)
    engine.ready = True
    await stage.until("a", Phase.READY)
    call.end()


# --- routers that come and go


async def test_router_ends_when_it_is_cancelled_and_gives_the_lock_back(stage: Stage) -> None:
    router = await stage.router()
    await stage.until_event("router-acting", "")
    await eventually(lambda: router.controller.lock.may_act)
    await router.stop()
    assert await stage.store.take_lock("next", LONG) is not None


async def test_second_router_stands_by_and_takes_over_what_runs_what_loads_and_the_line(stage: Stage) -> None:
    first = await stage.router()
    call = await stage.ask("small").granted()
    stage.machine.engines["a"] = Engine(ready=False)
    loading, waiting = stage.ask("a"), stage.ask("b")
    await stage.in_line(2)
    await eventually(lambda: stage.machine.engines["a"].running)
    second = await stage.router()
    await asyncio.sleep(0.05)
    assert not second.controller.lock.may_act
    await first.stop()
    await eventually(lambda: second.controller.lock.may_act)
    await stage.in_line(2)
    assert (await stage.model("small")).phase is Phase.READY
    stage.machine.engines["a"].ready = True
    await loading.granted()
    assert stage.machine.count("start", "a") == 1
    assert stage.machine.count("start", "small") == 1
    assert not waiting.task.done()
    loading.end()
    await waiting.granted()
    for each in (call, waiting):
        each.end()


async def test_line_survives_a_restart_of_the_router_with_a_slow_runtime(stage: Stage) -> None:
    """Nobody is refused because the new router has not asked the runtime yet."""
    first = await stage.router()
    stage.machine.engines["a"].may_start.clear()
    calls = [stage.ask("a"), stage.ask("b")]
    await stage.in_line(2)
    await eventually(lambda: stage.machine.count("start", "a"))
    stage.machine.engines["a"].may_start.set()
    await first.stop()
    runtime = FakeRuntime(stage.machine)
    slow = asyncio.Event()
    original = runtime.watch

    async def watch() -> AsyncIterator[Any]:
        await slow.wait()
        async for event in original():
            yield event

    runtime.watch = watch  # type: ignore[method-assign]
    second = stage.start_router(fleet.config(*SPECS), runtime)
    await eventually(lambda: second.controller.lock.may_act)
    third = stage.ask("small")
    await stage.in_line(3)
    await asyncio.sleep(0.1)
    assert not any(call.task.done() for call in calls)
    slow.set()
    await calls[0].granted()
    await third.granted()
    for call in (*calls, third):
        call.end()


async def test_stop_that_another_router_began_is_finished(stage: Stage) -> None:
    first = await stage.router()
    (await stage.ask("a").granted()).end()
    stage.machine.engines["a"].may_stop.clear()
    call = stage.ask("b")
    await eventually(lambda: stage.machine.count("stop", "a"))
    await first.stop()
    assert (await stage.model("a")).phase is Phase.STOPPING
    stage.machine.engines["a"].may_stop.set()
    await stage.router()
    await call.granted()
    assert stage.machine.running == {"b"}
    call.end()


async def test_engine_that_died_while_no_router_looked(stage: Stage) -> None:
    first = await stage.router()
    call = await stage.ask("a").granted()
    await first.stop()
    stage.machine.end("a", 9)
    await stage.router()
    await stage.until("a", Phase.FAILED)
    call.end()


async def test_only_one_of_two_routers_acts(stage: Stage) -> None:
    routers = [await stage.router(), await stage.router()]
    (await stage.ask("a").granted()).end()
    assert [router.controller.lock.may_act for router in routers].count(True) == 1
    assert stage.machine.count("start", "a") == 1


async def test_router_that_lost_its_lock_stops_acting(stage: Stage) -> None:
    router = await stage.router()
    await eventually(lambda: router.controller.lock.may_act)
    await stage.gateway._redis.set("hearth:gpu:lock", "other:1")
    call = stage.ask("a")
    await eventually(lambda: not router.controller.lock.may_act)
    assert stage.machine.count("start", "a") == 0
    await stage.gateway._redis.delete("hearth:gpu:lock")
    await call.granted()
    call.end()


# --- the runtime or Redis away


async def test_runtime_away_refuses_those_who_wait_and_starts_nothing(stage: Stage) -> None:
    await stage.router()
    running = await stage.ask("small").granted()
    stage.machine.lose("Docker is away")

    async def known() -> bool:
        return bool(await stage.gateway._redis.hget("hearth:router", "trouble"))

    await eventually(known)
    call = stage.ask("a")
    with pytest.raises(ServiceUnavailable, match="Docker is away"):
        await call.granted()
    call.end()
    await (await stage.ask("small").granted()).granted()
    assert stage.machine.count("start", "a") == 0
    stage.machine.regain()

    async def over() -> bool:
        return not await known()

    await eventually(over)
    (await stage.ask("a").granted()).end()
    running.end()


async def test_runtime_that_cannot_be_asked_at_a_start_refuses_those_who_wait_though_no_event_told(
    stage: Stage,
) -> None:
    await stage.router()
    await stage.until_event("router-acting", "")
    (await stage.ask("small").granted()).end()
    stage.machine.away = "Docker hangs"
    call = stage.ask("a")
    with pytest.raises(ServiceUnavailable, match="Docker hangs"):
        await call.granted()
    call.end()
    stage.machine.away = ""
    (await stage.ask_until_served("a")).end()


async def test_runtime_away_at_the_router_s_start_is_told(stage: Stage) -> None:
    stage.machine.away = "Docker is away"
    await stage.router()
    call = stage.ask("a")
    with pytest.raises(ServiceUnavailable, match="Docker is away"):
        await call.granted()
    call.end()
    stage.machine.regain()

    async def over() -> bool:
        return not await stage.gateway._redis.hget("hearth:router", "trouble")

    await eventually(over)
    (await stage.ask("a").granted()).end()


@pytest.mark.parametrize("lose_data", [False, True])
async def test_redis_dies_and_comes_back(stage: Stage, redis_server: RedisServer, lose_data: bool) -> None:
    await stage.router()
    call = await stage.ask("a").granted()
    redis_server.kill()
    if lose_data:
        redis_server.lose_data()
    redis_server.start()
    await stage.until("a", Phase.READY)

    async def lease_is_back() -> bool:
        return (await stage.model("a")).in_flight == 1

    await eventually(lease_is_back)
    other = stage.ask("b")
    await stage.until("a", Phase.DRAINING)
    assert stage.machine.running == {"a"}
    assert stage.machine.count("start", "a") == 1
    assert stage.machine.count("stop", "a") == 0
    call.end()
    await other.granted()
    other.end()


async def test_model_that_the_router_does_not_know_is_refused(stage: Stage) -> None:
    await stage.router()
    call = stage.ask("unknown")
    with pytest.raises(ServiceUnavailable, match="restart both"):
        await call.granted()
    call.end()


async def test_model_larger_than_its_gpu_is_refused_and_not_started(stage: Stage) -> None:
    """No configuration has such a model among those that are served: this is the router's own guard."""
    await stage.router(fleet.spec("huge", 11))
    call = stage.ask("huge")
    with pytest.raises(ModelNeverFits, match="'huge' needs more memory than its GPU has"):
        await call.granted()
    call.end()
    assert await stage.events("starting", "huge") == 0


async def test_expected_seconds_are_told(stage: Stage) -> None:
    await stage.router()
    await stage.store.set_fields("a", {"load_ms": 30_000})
    stage.machine.engines["a"] = Engine(ready=False)
    call = stage.ask("a")
    await stage.until("a", Phase.STARTING)

    async def expected() -> bool:
        seconds = (await stage.gateway.place(call.ticket)).expected_seconds
        return seconds is not None and 20 < seconds <= 30

    await eventually(expected)
    call.end()
