"""When models stop by themselves, and what an admin can ask of them."""

from __future__ import annotations

import pytest
from observer import Observer, first_line, lines, until

pytestmark = pytest.mark.e2e


async def test_an_idle_model_stops(hearth: Observer) -> None:
    assert (await hearth.chat("idle")).status_code == 200
    await hearth.until_phase("idle", "asleep")
    assert hearth.stack.engine_process("idle") is None


async def test_the_idle_time_counts_from_the_end_of_a_long_stream(hearth: Observer) -> None:
    timeout = (await hearth.model("idle"))["idle_timeout"]
    async with hearth.event_log() as events:
        async with hearth.stream("idle", max_tokens=900) as stream:  # at least 3 s, three times the idle timeout
            rest = [line async for line in lines(stream) if line.startswith("data:")]
        assert rest[-1] == "data: [DONE]"

        async def stopped() -> bool:
            return any(event["event"] == "stopped" and event["model"] == "idle" for event in events)

        await until(stopped, "the event of the stop")
    told = {event["event"]: event for event in events if event["model"] == "idle"}
    assert told["stopping"]["detail"] == "idle"
    generating = 900 / hearth.stack.models["idle"].tokens_per_second
    assert told["stopping"]["at"] - told["ready"]["at"] >= generating + timeout


async def test_touch_begins_the_idle_time_again(hearth: Observer) -> None:
    await hearth.wake("patient")
    first = (await hearth.model("patient"))["stops_at"]
    assert (await hearth.act("patient", "touch")).status_code == 200
    second = (await hearth.model("patient"))["stops_at"]
    assert second > first
    assert (await hearth.chat("patient")).status_code == 200
    await hearth.until_no_requests()
    assert (await hearth.model("patient"))["stops_at"] > second, "as the end of a request does"
    await hearth.sleep("patient")
    assert (await hearth.act("patient", "touch")).status_code == 409


async def test_a_pinned_model_is_not_stopped_for_idleness(hearth: Observer) -> None:
    await hearth.wake("idle")
    assert (await hearth.act("idle", "pin")).status_code == 200
    view = await hearth.model("idle")
    assert (view["pinned"], view["stops_at"]) == (True, None)
    now = (await hearth.router.get("/lifecycle/models")).json()["now"]

    async def long_past() -> bool:
        return bool((await hearth.router.get("/lifecycle/models")).json()["now"] > now + 2 * view["idle_timeout"])

    await until(long_past, "twice its idle time has passed")
    assert (await hearth.phases())["idle"] == "ready"
    assert (await hearth.act("idle", "unpin")).status_code == 200
    await hearth.until_phase("idle", "asleep")


async def test_wake_and_sleep(hearth: Observer) -> None:
    await hearth.sleep("small")
    answer = await hearth.act("small", "wake")
    assert answer.status_code == 200
    assert answer.json()["model"] == "small"
    await hearth.until_phase("small", "ready")
    assert (await hearth.act("small", "sleep")).status_code == 200
    await hearth.until_phase("small", "asleep")
    assert hearth.stack.engine_process("small") is None


async def test_sleep_lets_what_runs_finish(hearth: Observer) -> None:
    await hearth.wake("left")
    async with hearth.stream("left", max_tokens=60) as stream:
        await first_line(stream, "data:")
        assert (await hearth.act("left", "sleep")).status_code == 200
        await hearth.until_phase("left", "draining")
        rest = [line async for line in lines(stream) if line.startswith("data:")]
        assert rest[-1] == "data: [DONE]"
        assert len(rest) >= 60
    await hearth.until_phase("left", "asleep")


async def test_sleep_by_force_cuts_what_runs(hearth: Observer) -> None:
    await hearth.wake("left")
    await hearth.engines["left"].faults("stall-mid-stream=3")
    async with hearth.stream("left", max_tokens=60) as stream:
        await first_line(stream, "data:")
        assert (await hearth.act("left", "sleep", force=True)).status_code == 200
        rest = [line async for line in lines(stream)]
        assert any('"error"' in line for line in rest), "the caller is told"
    await hearth.until_phase("left", "asleep")


async def test_actions_on_what_does_not_exist(hearth: Observer) -> None:
    assert (await hearth.act("nothing", "wake")).status_code == 404
    assert (await hearth.act("small", "explode")).status_code in (404, 422)
    assert (await hearth.act("../small", "wake")).status_code in (404, 405)
