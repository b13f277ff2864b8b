"""Redis is killed, loses its data, or stands still: clients hear of it in time, streams go on, and all recovers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from observer import Observer, first_line, lines, until
from stack import Stack

from router.store import keys

pytestmark = pytest.mark.chaos

#: Clients hear within 2 s that Redis is away; a busy machine gets half a second more.
_TOLD_WITHIN = 2.5


def kill(stack: Stack) -> None:
    stack.redis.kill()


def freeze(stack: Stack) -> None:
    stack.redis.freeze()


def start(stack: Stack) -> None:
    stack.redis.start()


def thaw(stack: Stack) -> None:
    stack.redis.thaw()


ways = pytest.mark.parametrize(("away", "back"), [(kill, start), (freeze, thaw)], ids=["killed", "frozen"])


@ways
async def test_a_new_request_is_refused_in_time_and_a_stream_goes_on(
    hearth: Observer, stack: Stack, away: Callable[[Stack], None], back: Callable[[Stack], None]
) -> None:
    await hearth.wake("small")
    async with hearth.stream("small", max_tokens=200) as stream:
        await first_line(stream, "data:")
        away(stack)
        for model in ("small", "left"):
            async with asyncio.timeout(_TOLD_WITHIN):
                answer = await hearth.chat(model)
            assert answer.status_code == 503
            assert answer.json()["error"]["type"] == "service_unavailable"
            assert int(answer.headers["retry-after"]) >= 1
        back(stack)
        seen = [line async for line in lines(stream) if line.startswith("data:")]
        assert seen[-1] == "data: [DONE]"
        assert len(seen) >= 199
    await hearth.until_recovered()
    await hearth.until_phase("small", "ready")
    await hearth.until_no_requests()
    assert (await hearth.chat("small")).status_code == 200
    assert (await hearth.chat("left")).status_code == 200


@ways
async def test_the_leases_of_running_streams_are_there_again(
    hearth: Observer, stack: Stack, away: Callable[[Stack], None], back: Callable[[Stack], None]
) -> None:
    await hearth.wake("left")
    await hearth.engines["left"].faults("stall-mid-stream=3")
    engine = stack.engine_process("left")
    async with hearth.stream("left") as one, hearth.stream("left") as two:
        for stream in (one, two):
            await first_line(stream, "data:")
        away(stack)
        assert (await hearth.chat("left")).status_code == 503
        back(stack)
        await hearth.until_recovered()
        await hearth.until_phase("left", "ready")

        async def both() -> bool:
            return (await hearth.model("left"))["in_flight"] == 2

        await until(both, "both streams have their leases again")
        asked = asyncio.create_task(hearth.chat("right", max_tokens=2))
        await hearth.until_phase("left", "draining")
        assert engine == stack.engine_process("left") is not None, "the streams hold their engine"
        assert await hearth.engines["left"].running() == 2
    assert (await asked).status_code == 200


@ways
async def test_those_who_wait_are_told(
    hearth: Observer, stack: Stack, away: Callable[[Stack], None], back: Callable[[Stack], None]
) -> None:
    stack.set_options("small", "--fault never-ready")
    streams: list[dict[str, str]] = [{}, {"X-Hearth-Loading": "reasoning"}]
    asked = [asyncio.create_task(hearth.chat("small")) for _ in range(6)]
    asked += [asyncio.create_task(hearth.chat("small", stream=True, headers=headers)) for headers in streams]
    await hearth.until_waiting(len(asked))
    away(stack)
    async with asyncio.timeout(_TOLD_WITHIN):
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers[: -len(streams)]} == {503}
    assert all("Redis is away" in answer.text for answer in answers)
    stack.set_options("small")
    back(stack)
    await hearth.until_recovered()
    await hearth.sleep("small")
    answer = await hearth.chat("small")
    assert answer.status_code == 200, answer.text


async def test_what_ends_while_redis_is_away_is_ended_when_it_is_back(hearth: Observer, stack: Stack) -> None:
    await hearth.wake("small")
    async with hearth.stream("small", max_tokens=10) as stream:
        await first_line(stream, "data:")
        stack.redis.freeze()
        assert [line async for line in lines(stream) if line][-1] == "data: [DONE]"
    stack.redis.thaw()
    await hearth.until_no_requests()
    assert await hearth.redis.hlen(keys.leases("small")) == 0


async def test_health_says_that_redis_is_away(hearth: Observer, stack: Stack) -> None:
    stack.redis.kill()

    async def told() -> bool:
        answer = await hearth.http.get("/healthz")
        return answer.status_code == 503 and answer.json()["redis"] == "down"

    await until(told, "the health check says that Redis is down")
    stack.redis.start()
    await hearth.until_recovered()
