"""Two models that do not fit together take turns. The engines themselves notice any instant at which both run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from observer import Observer, first_line, lines, until

from router.store import keys

pytestmark = pytest.mark.e2e

_HOLDING = {"starting", "ready", "draining", "stopping"}


@pytest.fixture
async def events(hearth: Observer) -> AsyncIterator[list[dict[str, Any]]]:
    """Both models begin asleep. In the end: at no instant did both hold memory, by the events and by the engines."""
    for name in ("left", "right"):
        await hearth.sleep(name)
    async with hearth.event_log() as seen:
        yield seen
        await hearth.until_no_requests()
        await hearth.sleep("left")
        await hearth.sleep("right")
        ((_, last),) = await hearth.redis.xrevrange(keys.EVENTS, count=1)

        async def all_seen() -> bool:
            return bool(seen) and seen[-1]["at"] * 1000 == float(last["at"]) and seen[-1]["event"] == last["event"]

        await until(all_seen, "the last event, so that none is missing before it")
    for name in ("left", "right"):
        assert "overlap" not in hearth.stack.starts(name)
    held: set[str] = set()
    for event in seen:
        if event["model"] in ("left", "right") and "phase" in event:
            (held.add if event["phase"] in _HOLDING else held.discard)(event["model"])
        assert held != {"left", "right"}, seen


async def test_a_swap_lets_the_running_stream_finish(hearth: Observer, events: list[dict[str, Any]]) -> None:
    await hearth.wake("left")
    async with hearth.stream("left", max_tokens=100) as stream:
        await first_line(stream, "data:")
        other = asyncio.create_task(hearth.chat("right"))
        await hearth.until_phase("left", "draining")
        (waiting,) = [request for request in await hearth.requests() if request["state"] == "waiting"]
        assert (waiting["model"], waiting["position"]) == ("right", 1)
        rest = [line async for line in lines(stream) if line.startswith("data:")]
        assert rest[-1] == "data: [DONE]"
        assert len(rest) >= 99
    assert (await other).status_code == 200
    assert await hearth.phases() | {"left": "asleep", "right": "ready"} == await hearth.phases()


async def test_whoever_has_waited_longest_is_next(hearth: Observer, events: list[dict[str, Any]]) -> None:
    await hearth.wake("left")
    served: list[str] = []

    async def ask(name: str, model: str) -> None:
        async with hearth.stream(model, max_tokens=2) as stream:
            await first_line(stream, "data:")
            served.append(name)
            async for _ in lines(stream):
                pass

    async with hearth.stream("left", max_tokens=200) as stream:
        await first_line(stream, "data:")
        asked = []
        for number, (name, model) in enumerate(
            [("1 right", "right"), ("2 left", "left"), ("3 right", "right"), ("4 left", "left")], start=1
        ):
            asked.append(asyncio.create_task(ask(name, model)))
            await hearth.until_waiting(number)
            await hearth.until_phase("left", "draining")  # before that, a request for it would not have to wait
        async for _ in lines(stream):
            pass
    await asyncio.gather(*asked)
    # the third shares the turn of the first: it does not overtake anybody of another model by that
    assert [name for name in served if name in ("1 right", "2 left")] == ["1 right", "2 left"]
    assert served.index("2 left") < served.index("4 left") or served[-2:] == ["4 left", "2 left"]
    assert set(served[:2]) == {"1 right", "3 right"}


async def test_models_that_take_turns_never_run_together(hearth: Observer, events: list[dict[str, Any]]) -> None:
    asked = [asyncio.create_task(hearth.chat(name, max_tokens=2)) for _ in range(3) for name in ("left", "right")]
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    for name in ("right", "left"):
        assert (await hearth.chat(name, max_tokens=2)).status_code == 200
    assert {event["model"] for event in events if event["event"] == "ready"} >= {"left", "right"}


async def test_a_model_on_another_gpu_is_left_alone(hearth: Observer, events: list[dict[str, Any]]) -> None:
    await hearth.wake("small")
    await hearth.wake("left")
    assert (await hearth.chat("right", max_tokens=2)).status_code == 200
    assert (await hearth.phases())["small"] == "ready"


async def test_an_engine_that_ignores_sigterm_is_killed_before_the_next_starts(
    hearth: Observer, events: list[dict[str, Any]]
) -> None:
    hearth.stack.set_options("left", "--fault ignore-sigterm")
    await hearth.wake("left")
    assert (await hearth.chat("right", max_tokens=2)).status_code == 200
    assert hearth.stack.engine_process("left") is None
