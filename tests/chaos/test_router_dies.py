"""The router is killed and comes back: nothing that could live is cut, and no place in line is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from observer import Observer, first_line, lines, until
from stack import Part, Stack

pytestmark = pytest.mark.chaos


async def test_a_ready_model_answers_while_the_router_is_away(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("small")
    async with hearth.stream("small", max_tokens=40) as stream:
        await first_line(stream, "data:")
        stack.router.kill()
        assert (await hearth.chat("small")).status_code == 200
        assert [line async for line in lines(stream) if line][-1] == "data: [DONE]"
    health = await hearth.http.get("/healthz")
    assert (health.status_code, health.json()["router"], health.json()["redis"]) == (503, "down", "up")
    assert (await hearth.http.get("/lifecycle/models")).status_code == 503
    starts = stack.starts("small")
    stack.router.start()
    stack.until_up()
    assert (await hearth.chat("small")).status_code == 200
    assert stack.starts("small") == starts, "the engine was adopted"


async def test_those_who_wait_keep_their_places(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("left")
    await hearth.engines["left"].faults("stall-mid-stream=3")
    served: list[int] = []

    async def ask(number: int, model: str) -> None:
        async with hearth.stream(model, max_tokens=2) as stream:
            await first_line(stream, "data:")
            served.append(number)
            async for _ in lines(stream):
                pass

    async with hearth.stream("left") as stream:
        await first_line(stream, "data:")
        asked = []
        for number, model in enumerate(["right", "left"], start=1):
            asked.append(asyncio.create_task(ask(number, model)))
            await hearth.until_waiting(number)
        line = [row["id"] for row in await hearth.requests() if row["state"] == "waiting"]
        stack.router.kill()
        stack.router.start()
        stack.until_up()
        assert [row["id"] for row in await hearth.requests() if row["state"] == "waiting"] == line
        assert (await hearth.model("left"))["in_flight"] == 1
        assert (await hearth.phases())["left"] == "draining", "what runs is still finished first"
        await hearth.engines["left"].clear_faults()
    await asyncio.gather(*asked)
    assert served == [1, 2]


async def test_a_start_goes_on_under_the_next_router(hearth: Observer, stack: Stack) -> None:
    stack.set_options("small", "--load-seconds 4")
    starts = len(stack.starts("small"))
    asked = asyncio.create_task(hearth.chat("small"))

    async def started() -> bool:
        return len(stack.starts("small")) == starts + 1

    await until(started, "the engine runs")
    stack.router.kill()
    stack.set_options("small")
    stack.router.start()
    assert (await asked).status_code == 200
    assert len(stack.starts("small")) == starts + 1
    process = stack.engine_process("small")
    assert process is not None
    assert stack.starts("small")[-1] == str(process.pid)


async def test_an_engine_that_died_meanwhile_is_noticed(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("small")
    process = stack.engine_process("small")
    assert process is not None
    stack.router.kill()
    process.kill()
    stack.router.start()
    stack.until_up()
    await hearth.until_phase("small", "asleep", "failed")
    await hearth.wake("small")
    assert (await hearth.chat("small")).status_code == 200


async def test_engines_outlive_a_router_that_is_asked_to_stop(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("small")
    process = stack.engine_process("small")
    stack.router.stop()
    assert process == stack.engine_process("small") is not None
    assert (await hearth.chat("small")).status_code == 200
    stack.router.start()
    stack.until_up()
    assert (await hearth.phases())["small"] == "ready"
    assert process == stack.engine_process("small")


# --- two routers


@pytest.fixture
async def second(hearth: Observer, stack: Stack) -> AsyncIterator[Part]:
    """Another router on the same Redis and the same engines. The first acts."""
    part = stack.another_router("second")
    part.start()
    yield part
    part.stop()


async def until_says(stack: Stack, name: str, state: str) -> None:
    async def says() -> bool:
        return await stack.router_state(name) == state

    await until(says, f"the {name} router is {state}")


async def test_only_one_of_two_routers_acts(hearth: Observer, stack: Stack, second: Part) -> None:
    await until_says(stack, "second", "standing by")
    async with hearth.event_log() as events:
        for model in ("left", "right", "left"):
            assert (await hearth.chat(model, max_tokens=2)).status_code == 200
        assert await stack.router_state("router") == "acting"
        assert await stack.router_state("second") == "standing by"
    assert [event for event in events if event["event"] == "router-acting"] == []
    assert [event["model"] for event in events if event["event"] == "starting"] == ["left", "right", "left"]


async def test_the_second_takes_over_when_the_first_is_killed(hearth: Observer, stack: Stack, second: Part) -> None:
    await until_says(stack, "second", "standing by")
    await hearth.wake("left")
    starts = stack.starts("left")
    stack.router.kill()
    asked = asyncio.create_task(hearth.chat("right", max_tokens=2))
    await until_says(stack, "second", "acting")
    assert (await asked).status_code == 200
    assert stack.starts("left") == starts
    stack.router.start()
    await until_says(stack, "router", "standing by")


async def test_a_frozen_router_does_nothing_when_it_thaws(hearth: Observer, stack: Stack, second: Part) -> None:
    await until_says(stack, "second", "standing by")
    await hearth.wake("left")
    stack.router.freeze()
    await until_says(stack, "second", "acting")
    assert (await hearth.chat("right", max_tokens=2)).status_code == 200
    stack.router.thaw()
    await until_says(stack, "router", "standing by")
    assert await stack.router_state("second") == "acting"
    assert await hearth.phases() | {"left": "asleep", "right": "ready"} == await hearth.phases()
